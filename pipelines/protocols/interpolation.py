"""What one does without a model: hidden joints filled in from what is seen, the baseline beside completion.

A joint seen at other times is interpolated linearly in time. One that is never seen is put where people
of the training data have it on average: at the mean offset from its nearest neighbours in the skeleton that
are known (parent and children; of several the mean), brought to the person's size. In 3D the mean offset is
taken in the axes of the trunk, which is fitted to the trunk's seen joints; in 2D it is taken in image axes,
because nothing there says which way the person faces.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from mpm_model.errors import InputError
from mpm_model.pose.metrics import procrustes_align
from mpm_model.pose.skeleton import Skeleton
from mpm_model.pose.skeletons import H36M_17
from pipelines.windows_table import Windows

TRUNK = ("pelvis", "left_hip", "right_hip", "spine", "thorax", "left_shoulder", "right_shoulder")
"""Joints that say where the trunk is and how it is turned."""
_FRAME_STEP = 9
"""Of the training windows every ninth frame is averaged: those between are almost the same."""
_AZIMUTHS = 8
"""Directions over which lengths in the image are averaged."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanBody:
    """The mean pose of training people, in trunk axes and as level cameras from all sides see it."""

    joints_trunk_m: Float[np.ndarray, "J 3"]
    """Relative to the pelvis; x to the person's right, y down the trunk, z forwards."""
    joints_image_m: Float[np.ndarray, "J 2"]
    """Relative to the pelvis; x right, which is 0 over all sides, y down."""
    bones_image_m: Float[np.ndarray, "bones"]
    """Mean length of each of the skeleton's bones in the image."""
    skeleton: Skeleton = H36M_17
    """Skeleton of the joints."""


def mean_body(windows: Windows) -> MeanBody:
    """The mean body of world-space windows (z up); frames in which a joint is missing do not count."""
    joints_m = windows.joints_world_m[:, ::_FRAME_STEP][windows.is_valid[:, ::_FRAME_STEP].all(-1)]
    if not len(joints_m):
        raise InputError("the mean body needs at least one frame with all joints; give training windows")
    skeleton = windows.skeleton
    joints_m = joints_m.astype(np.float64) - joints_m[:, skeleton.select("pelvis")]  # (M, J, 3)
    child, parent = skeleton.bone_indices.T
    offset_m = joints_m[:, child] - joints_m[:, parent]
    angle_rad = np.pi * np.arange(_AZIMUTHS) / _AZIMUTHS
    lengths_m = [
        np.hypot(offset_m[..., :2] @ [np.cos(angle), np.sin(angle)], offset_m[..., 2]).mean(0)
        for angle in angle_rad
    ]
    heights_m = joints_m[..., 2].mean(0)
    return MeanBody(
        joints_trunk_m=(joints_m @ trunk_axes(joints_m, skeleton)).mean(0),
        joints_image_m=np.stack([np.zeros_like(heights_m), -heights_m], axis=-1),
        bones_image_m=np.mean(lengths_m, axis=0),
        skeleton=skeleton,
    )


def mean_body_of_card(card: Mapping[str, Any], skeleton: Skeleton = H36M_17) -> MeanBody:
    """The mean body by the mean pose of a checkpoint's card: a weaker guess, used where no windows are.

    That pose is a mean over cameras on all sides, so it knows heights alone: widths and depths count as 0.
    """
    pose_m = card.get("mean_training_pose_rel_m")
    if pose_m is None:
        raise InputError("this checkpoint's card has no mean_training_pose_rel_m; give training windows")
    joints_m = np.asarray(pose_m, dtype=np.float64) * [0.0, 1.0, 0.0]
    child, parent = skeleton.bone_indices.T
    return MeanBody(
        joints_trunk_m=joints_m,
        joints_image_m=joints_m[:, :2],
        bones_image_m=np.abs(joints_m[child, 1] - joints_m[parent, 1]),
        skeleton=skeleton,
    )


def trunk_axes(joints_m: Float[np.ndarray, "N J 3"], skeleton: Skeleton) -> Float[np.ndarray, "N 3 3"]:
    """Columns: the person's right, down the trunk, and forwards, of length 1."""

    def joint(name: str) -> np.ndarray:
        return np.asarray(joints_m[:, skeleton.index(name)])

    down = _unit(joint("pelvis") - joint("thorax"))
    right = joint("right_hip") - joint("left_hip") + joint("right_shoulder") - joint("left_shoulder")
    right = _unit(right - (right * down).sum(-1, keepdims=True) * down)
    return np.stack([right, down, np.cross(right, down)], axis=-1)


def fill_in_time(
    points: Float[np.ndarray, "N J C"], is_hidden: Bool[np.ndarray, "N J"]
) -> Float[np.ndarray, "N J C"]:
    """Hidden points on the line in time between the seen ones of the same joint; held beyond the first and
    last. A joint that is never seen comes out 0."""
    times = np.arange(len(points))
    filled = np.where(is_hidden[..., None], 0, points)
    for joint in np.flatnonzero(is_hidden.any(0) & ~is_hidden.all(0)):
        gap, seen = is_hidden[:, joint], ~is_hidden[:, joint]
        for axis in range(points.shape[-1]):
            filled[gap, joint, axis] = np.interp(times[gap], times[seen], points[seen, joint, axis])
    return filled


def fill_image(
    keypoints_px: Float[np.ndarray, "N J 2"], is_hidden: Bool[np.ndarray, "N J"], body: MeanBody
) -> Float[np.ndarray, "N J 2"]:
    """Hidden keypoints by interpolation in time, those never seen by the mean body: see this file's head.

    The person's size in a frame is what makes the known bones as long, all together, as they are on average.
    """
    filled_px, is_known = fill_in_time(keypoints_px, is_hidden), _known_joints(is_hidden)
    if is_known.all():
        return filled_px
    child, parent = body.skeleton.bone_indices.T
    is_whole = is_known[child] & is_known[parent]
    lengths_px = np.linalg.norm(filled_px[:, child] - filled_px[:, parent], axis=-1)
    mean_m = float(body.bones_image_m[is_whole].sum())
    px_per_m = lengths_px[:, is_whole].sum(-1) / mean_m if mean_m else np.zeros(len(filled_px))
    return _place_unseen(filled_px, is_known, px_per_m[:, None, None] * body.joints_image_m, body.skeleton)


def fill_space(
    joints_rel_m: Float[np.ndarray, "N J 3"], is_hidden: Bool[np.ndarray, "N J"], body: MeanBody
) -> Float[np.ndarray, "N J 3"]:
    """Hidden joints by interpolation in time, those never seen by the mean body: see this file's head.

    Turn and size are those that lay the mean trunk over the known joints of the trunk (least squares).
    """
    filled_m, is_known = fill_in_time(joints_rel_m, is_hidden), _known_joints(is_hidden)
    if is_known.all():
        return filled_m
    is_fitted = np.isin(body.skeleton.joints, TRUNK) & is_known
    if is_fitted.sum() < 3:  # no trunk left to see: everything known says how the person is turned
        is_fitted = is_known
    shape = (len(filled_m), len(is_known))
    laid_m = procrustes_align(
        np.broadcast_to(body.joints_trunk_m, filled_m.shape), filled_m, np.broadcast_to(is_fitted, shape)
    )
    return _place_unseen(filled_m, is_known, laid_m, body.skeleton)


def _known_joints(is_hidden: Bool[np.ndarray, "N J"]) -> Bool[np.ndarray, "J"]:
    """Joints that are seen at some time; InputError if there are none."""
    is_known = np.asarray((~is_hidden).any(0))
    if not is_known.any():
        raise InputError("nothing can be filled in: no joint is ever seen")
    return is_known


def _place_unseen(
    points: Float[np.ndarray, "N J C"],
    is_known: Bool[np.ndarray, "J"],
    mean_points: Float[np.ndarray, "N J C"],
    skeleton: Skeleton,
) -> Float[np.ndarray, "N J C"]:
    """Unknown joints at their mean offset from known neighbours, from the known ones outwards."""
    points, is_known = points.copy(), is_known.copy()
    bones = [*skeleton.bone_indices.tolist(), *skeleton.bone_indices[:, ::-1].tolist()]
    while not is_known.all():
        guesses: dict[int, list[np.ndarray]] = {}
        for joint, neighbour in bones:
            if is_known[neighbour] and not is_known[joint]:
                offset = mean_points[:, joint] - mean_points[:, neighbour]
                guesses.setdefault(joint, []).append(points[:, neighbour] + offset)
        if not guesses:
            raise InputError(f"skeleton {skeleton.name} falls apart: a joint has no known neighbour")
        for joint, places in guesses.items():
            points[:, joint] = np.mean(places, axis=0)
            is_known[joint] = True
    return points


def _unit(vectors: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1.0))
