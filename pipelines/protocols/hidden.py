"""What the protocols hide of a recording: the same for everybody, counted from the protocols' seed."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool

from mpm_model.learning.counted import counted_uniform
from mpm_model.learning.masking import LIMBS, draw_tubes
from mpm_model.pose.skeleton import Skeleton
from pipelines.protocols.views import PROTOCOL_SEED, view_id

DROPPED_SHARE = 0.3
"""Share of the frames that are dropped."""
BURST_S = 0.5
"""Length of a burst of dropped frames."""


def hidden_limbs(skeleton: Skeleton) -> Iterator[tuple[str, Bool[np.ndarray, "J"]]]:
    """Each of the four limbs by name, True at its joints."""
    for limb, joints in LIMBS.items():
        is_hidden = np.zeros(len(skeleton), dtype=bool)
        is_hidden[skeleton.select(*joints)] = True
        yield limb, is_hidden


def three_random_joints(name: str, camera: int, skeleton: Skeleton) -> Bool[np.ndarray, "J"]:
    """Three joints of one view of a recording, never the root."""
    is_hidden: np.ndarray = draw_tubes(
        "protocol",
        seed=PROTOCOL_SEED,
        epoch=camera,
        sample_ids=view_id(name),
        kinds=("random_3",),
        skeleton=skeleton,
    )[0].numpy()
    return is_hidden


def dropped_frames(
    name: str, camera: int, *, frames: int, rate_hz: float
) -> Iterator[tuple[str, Bool[np.ndarray, "N"]]]:
    """Frames of one view that are lost: each by itself, and half a second at a time.

    Of `frames` frames `round(DROPPED_SHARE * frames)` go in either way, but for rounding within a burst: the
    recording is cut into equal stretches, and a burst lies somewhere in each. One frame is left at least.
    """
    uniform = counted_uniform(
        "protocol/frames", seed=PROTOCOL_SEED, epoch=camera, sample_ids=view_id(name), count=2 * frames
    )[0]
    dropped = min(round(DROPPED_SHARE * frames), frames - 1)
    yield "30 % of frames, one by one", uniform[:frames].argsort().argsort() < dropped
    bursts = max(1, round(dropped / (BURST_S * rate_hz)))
    edges = np.round(np.linspace(0, frames, bursts + 1)).astype(int)
    lengths = np.diff(np.round(np.linspace(0, dropped, bursts + 1)).astype(int))
    is_dropped = np.zeros(frames, dtype=bool)
    for start, stop, length, place in zip(edges, edges[1:], lengths, uniform[frames:], strict=False):
        first = start + int(place * (stop - start - length + 1))
        is_dropped[first : first + length] = True
    yield f"30 % of frames, {BURST_S:g} s at a time", is_dropped
