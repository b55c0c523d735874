"""Held-out recordings as virtual cameras see them, fixed by the protocols' seed."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from mpm_model.learning.batches import observe
from mpm_model.learning.counted import counted_uniform
from mpm_model.pose.virtual_camera import DRAWS_PER_CAMERA, VirtualCameraConfig, draw_cameras
from pipelines.windows_table import Windows

PROTOCOL_SEED = 230617201
"""Published with the protocols: cameras, masks, noise and untrained networks are drawn from it."""
CAMERAS_PER_RECORDING = 4


@dataclass(frozen=True)
class View:
    """A recording as one camera saw it."""

    joints_cam_m: Float[np.ndarray, "N J 3"]
    is_valid: Bool[np.ndarray, "N J"]
    keypoints_px: Float[np.ndarray, "N J 2"]
    confidence: Float[np.ndarray, "N J"]
    width_px: int
    height_px: int


def view_id(name: str) -> Int[np.ndarray, "1"]:
    """What a recording's cameras and noise are counted from: the first 63 bits of its name's SHA-256."""
    return np.array([int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1])


def held_out_views(windows: Windows) -> Iterator[tuple[str, int, View]]:
    """Every recording, seen by every camera of the protocol: its name, the camera's number, the view.

    Cameras are counted from the protocol's seed, the recording's name and the number of the camera.
    """
    for name, joints_world_m, is_valid in recordings_of(windows):
        world, valid = torch.from_numpy(joints_world_m)[None], torch.from_numpy(is_valid)[None]
        for view in range(CAMERAS_PER_RECORDING):
            drawn = counted_uniform(
                "protocol/lifting",
                seed=PROTOCOL_SEED,
                epoch=view,
                sample_ids=view_id(name),
                count=DRAWS_PER_CAMERA,
            )
            camera = draw_cameras(torch.from_numpy(drawn).float(), world, valid, VirtualCameraConfig())
            keypoints_px, joints_cam_m, is_hidden = observe(world, valid, camera)
            yield (
                name,
                view,
                View(
                    joints_cam_m=joints_cam_m[0].numpy(),
                    is_valid=is_valid,
                    keypoints_px=keypoints_px[0].numpy(),
                    confidence=(~is_hidden[0]).numpy().astype(np.float32),
                    width_px=int(camera.width_px[0]),
                    height_px=int(camera.height_px[0]),
                ),
            )


def recordings_of(
    windows: Windows,
) -> Iterator[tuple[str, Float[np.ndarray, "N J 3"], Bool[np.ndarray, "N J"]]]:
    """Recordings put together from their overlapping windows, by name; frames no window holds split them."""
    names = np.char.add(np.char.add(windows.dataset, "/"), windows.recording)
    length = windows.joints_world_m.shape[1]
    for name in np.unique(names):
        rows = np.flatnonzero(names == name)
        rows = rows[np.argsort(windows.start_frame[rows])]
        starts = windows.start_frame[rows]
        # A window that begins after the last one's end begins a new piece.
        breaks = np.flatnonzero(np.diff(starts) > length) + 1
        for piece in np.split(np.arange(len(rows)), breaks):
            frames = starts[piece[-1]] + length - starts[piece[0]]
            joints_world_m = np.zeros((frames, *windows.joints_world_m.shape[2:]), np.float32)
            is_valid = np.zeros((frames, windows.joints_world_m.shape[2]), bool)
            for row, start in zip(rows[piece], starts[piece] - starts[piece[0]], strict=True):
                joints_world_m[start : start + length] = windows.joints_world_m[row]
                is_valid[start : start + length] = windows.is_valid[row]
            yield f"{name}@{starts[piece[0]]}", joints_world_m, is_valid
