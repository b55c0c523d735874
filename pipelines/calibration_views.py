"""What error bands are fitted to: recordings through virtual cameras, a detector and occlusion."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from mpm_model.learning.batches import observe
from mpm_model.learning.counted import counted_uniform
from mpm_model.learning.detector_noise import bursts, detect
from mpm_model.learning.masking import TUBES, draw_tubes
from mpm_model.learning.pose_augment import PoseAugmentConfig, augment_pose
from mpm_model.pose.skeletons import H36M_17
from mpm_model.pose.virtual_camera import DRAWS_PER_CAMERA, VirtualCameraConfig, draw_cameras
from pipelines.protocols.open import NOISE
from pipelines.protocols.views import View, recordings_of, view_id
from pipelines.windows_table import Windows

LONGEST_S = 6.0
"""Recordings are cut into pieces of so long at most, each with a camera of its own."""
MOST_ROUNDS = 8
"""So often at most a piece is seen, each time by another camera."""
NOISY_SHARE = 0.6
"""Share of the pieces seen through the detector that the open protocol has; others are seen as they are."""
TUBE_SHARE = 0.4
"""Share of the pieces in which some joints are hidden for long."""
SINGLE_SHARE = 0.25
"""Share of those in which it is one joint; in others it is a kind of `TUBES`."""
BURST_SHARE = 0.25
"""Share of the pieces in which frames are dropped."""
BURSTS_PER_S, BURST_S = 1.0, 0.3
"""How often and for how long, on average."""
ALTERED_SHARE = 0.2
"""Share of the pieces that are altered into bodies and postures nobody recorded: see `ALTERED`."""
ALTERED = PoseAugmentConfig(probability=1.0, bone_angle_rad=0.35, tilt_rad=0.35)
"""Bones turn by up to 20 degrees, where training turns them by 12 at most.

The network errs less on people it has learnt from than on strangers. In postures that are strange to it, of
the same people, the bands learn how much more it errs, and by which signs that is known. Share and angle,
like the signs, were chosen with an eye on what the bands held on held-out people; nothing is fitted on them.
"""


@dataclass(frozen=True)
class Seen:
    """A piece of a recording as it is given to a lifter."""

    dataset: str
    person: str
    view: View
    """Confidence is 0 where a keypoint is hidden."""
    rate_hz: float


class _Counted(TypedDict):
    """What all that is drawn of a piece is counted from."""

    seed: int
    epoch: int
    sample_ids: Int[np.ndarray, "1"]


def draw_views(windows: Windows, *, seed: int, most_frames: int) -> Iterator[Seen]:
    """Pieces of the recordings of one table, in an order of their own, round after round, to so many frames.

    All that is drawn is counted from the seed, the round and the name of the recording.
    """
    names = np.char.add(np.char.add(windows.dataset, "/"), windows.recording)
    people = dict(zip(names.tolist(), windows.subject.tolist(), strict=True))
    pieces = sorted(_pieces(windows), key=lambda piece: int(view_id(piece[0])[0]))
    frames = 0
    for number in range(MOST_ROUNDS):
        for name, joints_world_m, is_valid in pieces:
            if frames >= most_frames:
                return
            frames += len(is_valid)
            recording = name.rpartition("@")[0]
            yield Seen(
                dataset=recording.partition("/")[0],
                person=people[recording],
                view=_draw_view(
                    name, joints_world_m, is_valid, rate_hz=windows.rate_hz, seed=seed, number=number
                ),
                rate_hz=windows.rate_hz,
            )


def through_detector(view: View, name: str, *, rate_hz: float, seed: int, number: int) -> View:
    """What the open protocol's detector makes of a view; at that protocol's rate and seed, its `noisy`."""
    seen_px, confidence, is_hidden = detect(
        torch.from_numpy(view.keypoints_px)[None],
        torch.from_numpy(view.confidence == 0)[None],
        rate_hz=rate_hz,
        skeleton=H36M_17,
        config=NOISE,
        seed=seed,
        epoch=number,
        sample_ids=view_id(name),
    )
    return dataclasses.replace(
        view,
        keypoints_px=seen_px[0].numpy(),
        confidence=confidence.masked_fill(is_hidden, 0.0)[0].numpy(),
    )


def hide(view: View, is_hidden: Bool[np.ndarray, "N J"]) -> View:
    """A view without some keypoints, whose places then hold 0."""
    return dataclasses.replace(
        view,
        keypoints_px=np.where(is_hidden[..., None], 0, view.keypoints_px),
        confidence=np.where(is_hidden, 0, view.confidence).astype(np.float32),
    )


def _pieces(
    windows: Windows,
) -> Iterator[tuple[str, Float[np.ndarray, "N J 3"], Bool[np.ndarray, "N J"]]]:
    """Recordings, by name and first frame, in equal parts of at most `LONGEST_S`."""
    for name, joints_world_m, is_valid in recordings_of(windows):
        parts = -(-len(is_valid) // int(LONGEST_S * windows.rate_hz))
        for number, rows in enumerate(np.array_split(np.arange(len(is_valid)), parts)):
            yield f"{name}+{number}", joints_world_m[rows], is_valid[rows]


def _draw_view(
    name: str,
    joints_world_m: Float[np.ndarray, "N J 3"],
    is_valid: Bool[np.ndarray, "N J"],
    *,
    rate_hz: float,
    seed: int,
    number: int,
) -> View:
    counted: _Counted = {"seed": seed, "epoch": number, "sample_ids": view_id(name)}
    noisy, altered, tube, burst = counted_uniform("calibrate/what", count=4, **counted)[0]
    world, valid = torch.from_numpy(joints_world_m)[None], torch.from_numpy(is_valid)[None]
    if altered < ALTERED_SHARE:
        world = augment_pose(world, valid, skeleton=H36M_17, config=ALTERED, **counted)
    drawn = torch.from_numpy(counted_uniform("calibrate/camera", count=DRAWS_PER_CAMERA, **counted))
    camera = draw_cameras(drawn.float(), world, valid, VirtualCameraConfig())
    keypoints_px, joints_cam_m, is_hidden = observe(world, valid, camera)
    view = View(
        joints_cam_m=joints_cam_m[0].numpy(),
        is_valid=is_valid,
        keypoints_px=keypoints_px[0].numpy(),
        confidence=(~is_hidden[0]).numpy().astype(np.float32),
        width_px=int(camera.width_px[0]),
        height_px=int(camera.height_px[0]),
    )
    if noisy < NOISY_SHARE:
        view = through_detector(view, name, rate_hz=rate_hz, seed=seed, number=number)
    if tube < TUBE_SHARE:
        view = hide(view, _draw_tube(len(is_valid), counted))
    if burst < BURST_SHARE:
        view = hide(view, _draw_bursts(len(is_valid), counted, rate_hz=rate_hz))
    return view


def _draw_tube(frames: int, counted: _Counted) -> Bool[np.ndarray, "N J"]:
    """Some joints, through all frames or, half of the time, through a stretch of them."""
    single, joint, throughout, *ends = counted_uniform("calibrate/tube", count=5, **counted)[0]
    if single < SINGLE_SHARE:
        is_in_tube = np.arange(len(H36M_17)) == int(joint * len(H36M_17))
    else:
        is_in_tube = draw_tubes("calibrate", kinds=tuple(TUBES), skeleton=H36M_17, **counted)[0].numpy()
    first, last = sorted(int(end * frames) for end in ends)
    place = np.arange(frames)
    is_on = (place >= first) & (place <= last) | (throughout < 0.5)
    return np.asarray(is_on[:, None] & is_in_tube)


def _draw_bursts(frames: int, counted: _Counted, *, rate_hz: float) -> Bool[np.ndarray, "N J"]:
    """Frames in which nothing is seen; one is left at least."""
    uniform = counted_uniform("calibrate/bursts", count=frames, **counted)
    is_dropped = bursts(
        torch.from_numpy(uniform)[..., None], starts_per_s=BURSTS_PER_S, mean_s=BURST_S, rate_hz=rate_hz
    )[0].numpy()
    is_dropped[frames // 2] &= not is_dropped.all()
    return np.repeat(is_dropped, len(H36M_17), axis=1)
