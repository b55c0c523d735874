"""Where a lifted person is: a root path, a size and a direction that is up, as far as anything says so."""

import math
from dataclasses import dataclass, replace

import numpy as np

from mpm_model.errors import refuse
from mpm_model.pose.focal_length import FIELD_OF_VIEW_RAD, FOCAL_ERROR, find_focal_px
from mpm_model.pose.intrinsics import Intrinsics
from mpm_model.pose.root_path import CARRIED_S, FEWEST_SEEN, root_path
from mpm_model.pose.stature import stature_m
from mpm_model.pose.upright import up_direction
from pipelines.intrinsics_file import read_intrinsics as read_intrinsics
from pipelines.poses_table import PoseTrack

HEIGHTS_M = (0.5, 2.6)
"""Body heights that are taken for one."""


@dataclass(frozen=True, kw_only=True)
class Placing:
    """What is known of the camera and the person."""

    intrinsics: Intrinsics | None = None
    """Of the camera that saw the keypoints."""
    height_m: float | None = None
    """The person's stature: it makes the pose, and so the path, metres of this person."""
    is_upright: bool = False
    """Whether up is looked for; the camera must stand still."""

    def __post_init__(self) -> None:
        low_m, high_m = HEIGHTS_M
        if self.height_m is not None and not low_m <= self.height_m <= high_m:
            refuse("placing", [f"height_m must be in {low_m}..{high_m} metres, got {self.height_m:g}"])

    @property
    def needs_whole_track(self) -> bool:
        """Whether a piece of a track would be placed otherwise: size, focal length and up are the track's."""
        return self.height_m is not None or self.is_upright

    @property
    def context_s(self) -> float:
        """How much of the track on either side a piece needs, to be placed as the whole is."""
        return 0.0 if self.intrinsics is None else CARRIED_S


def place(pose: PoseTrack, placing: Placing) -> tuple[PoseTrack, tuple[str, ...]]:
    """The pose with its path and up in the camera's axes, scaled to a stated height, and what was assumed.

    With intrinsics the path is solved; with a height alone the focal length is looked for first, which takes
    the image's size. With neither the pose stays relative to the pelvis. Nothing here fails for want of
    something to see: what cannot be had is None, and a note says so.
    """
    notes = []
    if placing.height_m is not None:
        pose, note = _scaled(pose, placing.height_m)
        notes.append(note)
    weight = np.where(pose.is_observed, pose.confidence, 0.0)
    intrinsics, note = _camera(pose, weight, placing)
    notes.append(note)
    if intrinsics is not None:
        root_cam_m = root_path(
            pose.joints_rel_m, pose.keypoints_px, weight, time_s=pose.time_s, intrinsics=intrinsics
        )
        pose = replace(pose, root_cam_m=root_cam_m.astype(np.float32))
    if placing.is_upright:
        pose, note = _upright(pose)
        notes.append(note)
    return pose, tuple(notes)


def _scaled(pose: PoseTrack, height_m: float) -> tuple[PoseTrack, str]:
    measured_m = stature_m(pose.joints_rel_m, pose.skeleton)
    scale = height_m / measured_m
    scaled = replace(
        pose,
        joints_rel_m=(pose.joints_rel_m * scale).astype(pose.joints_rel_m.dtype),
        error_50_mm=None if pose.error_50_mm is None else pose.error_50_mm * scale,
        error_90_mm=None if pose.error_90_mm is None else pose.error_90_mm * scale,
    )
    return scaled, f"scaled by {scale:.3f}: lifted {measured_m:.2f} m tall, stated {height_m:g} m"


def _camera(pose: PoseTrack, weight: np.ndarray, placing: Placing) -> tuple[Intrinsics | None, str]:
    """The camera's intrinsics as far as there are any, and what to know of them."""
    if placing.intrinsics is None and placing.height_m is None:
        return None, "relative to the pelvis: neither intrinsics nor a height say where the person is"
    if ((weight > 0).sum(1) < FEWEST_SEEN).all():
        return None, f"relative to the pelvis: no frame shows {FEWEST_SEEN} joints, which a place takes"
    if placing.intrinsics is not None:
        return placing.intrinsics, _of_given(pose, placing.intrinsics, placing.height_m)
    if pose.width_px is None or pose.height_px is None:
        return None, (
            "relative to the pelvis: without intrinsics the focal length is looked for, which takes the "
            "image's size; give one of the two"
        )
    focal_px = find_focal_px(
        pose.joints_rel_m,
        pose.keypoints_px,
        weight,
        time_s=pose.time_s,
        width_px=pose.width_px,
        height_px=pose.height_px,
    )
    view_rad = 2 * math.atan(max(pose.width_px, pose.height_px) / 2 / focal_px)
    low, high = (round(math.degrees(bound)) for bound in FIELD_OF_VIEW_RAD)
    note = (
        f"no intrinsics: a focal length of {focal_px:.0f} px ({math.degrees(view_rad):.0f} degrees along the "
        f"longer side) fits best of those for {low} to {high} degrees; depth is only as good as it, "
        f"usually within {FOCAL_ERROR:.0%}"
    )
    center_px = (pose.width_px / 2, pose.height_px / 2)
    return Intrinsics(focal_px=(focal_px, focal_px), center_px=center_px), note


def _of_given(pose: PoseTrack, intrinsics: Intrinsics, height_m: float | None) -> str:
    note = (
        "placed in the model's metres, in which everybody is a usual adult; a stated height makes them true"
        if height_m is None
        else "placed by the intrinsics and the height given"
    )
    size_px = (pose.width_px, pose.height_px)
    is_outside = any(
        size is not None and not 0 <= center <= size
        for center, size in zip(intrinsics.center_px, size_px, strict=True)
    )
    if is_outside:
        note += "; the principal point lies outside the image: are the intrinsics those of another size?"
    return note


def _upright(pose: PoseTrack) -> tuple[PoseTrack, str]:
    found = up_direction(
        pose.joints_rel_m,
        time_s=pose.time_s,
        skeleton=pose.skeleton,
        root_cam_m=pose.root_cam_m,
        is_observed=pose.is_observed,
    )
    if found is None:
        return pose, "up is not known: the person hardly ever stands or walks upright"
    says_so = {
        "floor": "up is the normal of the floor on which the feet stood, for a camera that stands still",
        "body": "up is the long axis of the upright body, which is no floor: expect some degrees, more if "
        "the camera looks down steeply",
    }
    return replace(pose, up_cam=found.up_cam.astype(np.float32)), says_so[found.basis]
