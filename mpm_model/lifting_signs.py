"""What a lifting shows of its own quality: numbers that error bands are made of. numpy, nothing learnt."""

import numpy as np
from jaxtyping import Bool, Float, Int

from mpm_model.pose.skeleton import Skeleton

LONGEST_GAP_S = 0.6
"""What was hidden for longer is treated as hidden for so long."""

_SHORTEST_GAP_S = 0.03
_LEAST_MISFIT_M = 0.005
_UNKNOWN_MISFIT_M = 0.05
"""Misfit where no frame nearby shows as many keypoints as `_LEAST_SEEN`; fewer fit any pose."""
_LEAST_SEEN = 4
_SPEED_OVER_S = 0.4
_LEAST_SPEED_M_S = 0.1
_LEAST_LIKENESS = 0.1
"""Correlation of pose and image below which they do not tell of a scale."""
_LEAST_DISTANCE_M = 0.05
_LEAST_BONE_M = 1e-3
_LOG_RATIO = 1.5
"""Bones are taken as at most so many times e as long, or as short, as they usually are."""


def shown_numbers(skeleton: Skeleton) -> int:
    """How many numbers `what_shows` gives of a frame."""
    return 8 * (len(skeleton) - 1) + 2


def what_shows(
    joints_rel_m: Float[np.ndarray, "N J 3"],
    keypoints_px: Float[np.ndarray, "N J 2"],
    confidence: Float[np.ndarray, "N J"],
    is_hidden: Bool[np.ndarray, "N J"],
    *,
    rate_hz: float,
    skeleton: Skeleton,
    bone_length_m: Float[np.ndarray, "J-1"],
) -> Float[np.ndarray, "N I"]:
    """What of a lifting tells how good it is, float32, all finite.

    Of each joint but the root: whether it is hidden, the detector's doubt, the log of the time since or until
    it is seen, the log of its misfit in the image, the log of its bone's length beside the usual one, the log
    of its distance from the root, its depth, front or back, and the log of its speed. Of the frame: whether
    the root is hidden and the log of the misfit, or that of the nearest frame that shows enough.
    """
    misfit_m, frame_misfit_m = image_misfit_m(joints_rel_m, keypoints_px, is_hidden)
    frame_misfit_m = nearest_known(frame_misfit_m, longest_frames=LONGEST_GAP_S * rate_hz)
    frame_misfit_m = np.where(np.isnan(frame_misfit_m), _UNKNOWN_MISFIT_M, frame_misfit_m)
    bones_m = bone_lengths_m(joints_rel_m, skeleton)
    ratio = np.log(np.maximum(bones_m, _LEAST_BONE_M) / bone_length_m).clip(-_LOG_RATIO, _LOG_RATIO)
    gap_s = hidden_s(is_hidden[:, 1:], rate_hz=rate_hz)
    distance_m = _length(joints_rel_m[:, 1:])
    shown = [
        is_hidden,
        np.where(is_hidden, 0.0, 1.0 - confidence.clip(0, 1))[:, 1:],
        np.where(is_hidden[:, 1:], np.log(_SHORTEST_GAP_S + gap_s), 0.0),
        np.log(_LEAST_MISFIT_M + misfit_m[:, 1:]),
        ratio,
        np.log(_LEAST_DISTANCE_M + distance_m),
        np.abs(joints_rel_m[:, 1:, 2]),
        np.log(_LEAST_SPEED_M_S + speed_m_s(joints_rel_m[:, 1:], rate_hz=rate_hz)),
        np.log(_LEAST_MISFIT_M + frame_misfit_m)[:, None],
    ]
    return np.concatenate(shown, axis=1).astype(np.float32)


def bone_lengths_m(
    joints_rel_m: Float[np.ndarray, "N J 3"], skeleton: Skeleton
) -> Float[np.ndarray, "N J-1"]:
    """In the order of `skeleton.bones`."""
    child, parent = skeleton.bone_indices.T
    return _length(joints_rel_m[:, child] - joints_rel_m[:, parent])


def image_misfit_m(
    joints_rel_m: Float[np.ndarray, "N J 3"],
    keypoints_px: Float[np.ndarray, "N J 2"],
    is_hidden: Bool[np.ndarray, "N J"],
) -> tuple[Float[np.ndarray, "N J"], Float[np.ndarray, "N"]]:
    """How far, at the person's own scale, keypoints lie beside the pose laid on them without perspective.

    Each frame's scale and place are those of least squares. 0 at hidden joints. The second is the root mean
    square over the frame, less the three numbers fitted of 2 x seen; NaN where hardly anything is seen.
    """
    is_seen = ~is_hidden[..., None]
    seen = is_seen.sum(1)  # (N, 1)

    def centred(points: np.ndarray) -> np.ndarray:
        # In double precision: a person is small beside its place in the image.
        points = np.where(is_seen, points, 0.0).astype(np.float64)
        middle = np.einsum("njc->nc", points) / np.maximum(seen, 1)
        return np.asarray((points - middle[:, None]) * is_seen)

    pose_m, image_px = centred(joints_rel_m[..., :2]), centred(keypoints_px)
    alike, size_m2, size_px2 = (
        np.einsum("njc,njc->n", *both)
        for both in ((pose_m, image_px), (pose_m, pose_m), (image_px, image_px))
    )
    # Metres of a pixel; a pose that lies against its image, or has no extent, keeps the image's size.
    is_alike = alike > _LEAST_LIKENESS * np.sqrt(size_m2 * size_px2)
    own_size = np.sqrt(size_m2 / np.maximum(size_px2, 1e-12))
    scale = np.where(is_alike, size_m2 / np.maximum(alike, 1e-12), own_size)
    misfit_m = _length(scale[:, None, None] * image_px - pose_m)
    freedom = np.maximum(seen[:, 0] - 1.5, 1.0)
    frame_misfit_m = np.sqrt(np.einsum("nj,nj->n", misfit_m, misfit_m) / freedom)
    return misfit_m, np.where(seen[:, 0] >= _LEAST_SEEN, frame_misfit_m, np.nan)


def speed_m_s(joints_rel_m: Float[np.ndarray, "N J 3"], *, rate_hz: float) -> Float[np.ndarray, "N J"]:
    """Way from the place `_SPEED_OVER_S` / 2 before to that as long after, over the time between.

    At the track's ends there is less time; a track of one frame stands still.
    """
    frames = np.arange(len(joints_rel_m))
    reach = max(1, round(_SPEED_OVER_S / 2 * rate_hz))
    first, last = np.maximum(frames - reach, 0), np.minimum(frames + reach, len(frames) - 1)
    way_m = _length(joints_rel_m[last] - joints_rel_m[first])
    return np.asarray(way_m * rate_hz / np.maximum(last - first, 1)[:, None])


def nearest_known(values: Float[np.ndarray, "N"], *, longest_frames: float) -> Float[np.ndarray, "N"]:
    """NaN replaced by the value of the nearest frame that has one, the earlier of two, if not too far."""
    before, after = _nearest(np.isnan(values)[:, None])
    is_before = before <= after
    distance = np.where(is_before, before, after)[:, 0]
    frames = np.arange(len(values))
    source = frames + np.where(is_before[:, 0], -distance, distance)
    return np.where(distance <= longest_frames, values[source.clip(0, len(values) - 1)], np.nan)


def hidden_s(is_hidden: Bool[np.ndarray, "N J"], *, rate_hz: float) -> Float[np.ndarray, "N J"]:
    """Time to the nearest frame that shows the joint, at most `LONGEST_GAP_S`; 0 where it is seen."""
    return np.asarray(np.minimum(np.minimum(*_nearest(is_hidden)) / rate_hz, LONGEST_GAP_S))


def _nearest(is_missing: Bool[np.ndarray, "N K"]) -> tuple[Int[np.ndarray, "N K"], Int[np.ndarray, "N K"]]:
    """Frames back, and ahead, to one that is not missing; more than any track has if there is none."""
    frames = np.arange(len(is_missing))[:, None]
    far = 2**31
    before = np.maximum.accumulate(np.where(is_missing, -far, frames), axis=0)
    after = np.minimum.accumulate(np.where(is_missing, far, frames)[::-1], axis=0)[::-1]
    return frames - before, after - frames


def _length(vectors: Float[np.ndarray, "*shape C"]) -> Float[np.ndarray, "*shape"]:
    """Several times as fast as numpy's norm over so short an axis."""
    return np.asarray(np.sqrt(np.einsum("...c,...c->...", vectors, vectors)))
