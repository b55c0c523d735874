"""Windows of a made-up person, for tests of protocols."""

import numpy as np
from made_up_people import make_track

from pipelines.windows_table import Windows

FRAMES = 81


def make_windows(frames: int = FRAMES) -> Windows:
    """A made-up person who swings arms and legs, world space; one recording."""
    joints_m = make_track(frames=frames).joints_rel_m
    joints_world_m = np.stack([joints_m[..., 0], joints_m[..., 2], 1 - joints_m[..., 1]], axis=-1)[None]
    text = {"dataset": "made", "subject": "up", "action": "swing", "recording": "one", "split": "test"}
    return Windows(
        ids=np.arange(1),
        joints_world_m=joints_world_m.astype(np.float32),
        is_valid=np.ones((1, frames, 17), dtype=bool),
        start_frame=np.zeros(1, dtype=int),
        rate_hz=50.0,
        **{name: np.array([value]) for name, value in text.items()},
    )
