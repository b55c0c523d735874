"""Files in the public layout of Human3.6M with a made-up person, for tests."""

from pathlib import Path

import numpy as np
from made_up_people import make_track

from pipelines.protocols.h36m_files import KEPT_JOINTS

SYMMETRY = [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]]
FRAMES = {"Walking": 12, "Walking 1": 20, "Sitting": 8}


def world_joints(frames: int) -> np.ndarray:
    """(frames, 32, 3): the made-up person stands in the middle of the hall; joints nobody keeps hold 99."""
    joints_m = make_track(frames=frames).joints_rel_m
    raw_m = np.full((frames, 32, 3), 99, np.float32)
    raw_m[:, KEPT_JOINTS] = np.stack([joints_m[..., 0], joints_m[..., 2], 0.9 - joints_m[..., 1]], axis=-1)
    return raw_m


def write_files(folder: Path, *, source: str = "gt", extra_frames: int = 3, **metadata: object) -> list[Path]:
    """The two files; the 2D is `extra_frames` longer and says nothing true."""
    rng = np.random.default_rng(0)
    joints = {
        subject: {action: world_joints(frames) for action, frames in FRAMES.items()}
        for subject in ("S1", "S9", "S11")
    }
    keypoints = {
        subject: {
            action: [rng.uniform(300, 700, (len(each) + extra_frames, 17, 2)) for _ in range(4)]
            for action, each in actions.items()
        }
        for subject, actions in joints.items()
    }
    described = {"layout_name": "h36m", "num_joints": 17, "keypoints_symmetry": SYMMETRY} | metadata
    paths = [folder / "data_3d_h36m.npz", folder / f"data_2d_h36m_{source}.npz"]
    np.savez_compressed(paths[0], positions_3d=np.array(joints, dtype=object))
    np.savez_compressed(
        paths[1],
        positions_2d=np.array(keypoints, dtype=object),
        metadata=np.array(described, dtype=object),
    )
    return paths
