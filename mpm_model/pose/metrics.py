"""How far poses are from the truth. numpy, metres in, millimetres out.

Joints are (*batch, J, 3), or (*batch, T, J, 3) where time matters, and `is_valid` is the same without the
last axis. Every mean is a sum over the valid joints divided by their number; joints that are not valid
may hold anything. Where nothing is valid there is no mean: NaN. Nothing here moves the root: give
root-relative joints where the protocol says so.
"""

import numpy as np
from jaxtyping import Bool, Float

from mpm_model.pose.skeleton import Skeleton

MM_PER_M = 1000.0
"""Millimetres are for metrics alone."""
PCK_THRESHOLD_MM = 150.0
"""Half a head: the threshold of MPI-INF-3DHP (Mehta et al. 2017)."""
AUC_THRESHOLDS_MM = np.arange(0.0, PCK_THRESHOLD_MM + 1.0, 5.0)
"""0, 5, ..., 150 mm: 31 thresholds."""


def mpjpe_mm(
    predicted_m: Float[np.ndarray, "*batch J 3"],
    target_m: Float[np.ndarray, "*batch J 3"],
    is_valid: Bool[np.ndarray, "*batch J"] | None = None,
) -> float:
    """Mean distance between predicted and true joints."""
    return MM_PER_M * _mean(_distance(predicted_m, target_m), is_valid)


def p_mpjpe_mm(
    predicted_m: Float[np.ndarray, "*batch J 3"],
    target_m: Float[np.ndarray, "*batch J 3"],
    is_valid: Bool[np.ndarray, "*batch J"] | None = None,
) -> float:
    """`mpjpe_mm` after `procrustes_align`, frame by frame: the error of the pose's shape alone."""
    return mpjpe_mm(procrustes_align(predicted_m, target_m, is_valid), target_m, is_valid)


def n_mpjpe_mm(
    predicted_m: Float[np.ndarray, "*batch J 3"],
    target_m: Float[np.ndarray, "*batch J 3"],
    is_valid: Bool[np.ndarray, "*batch J"] | None = None,
) -> float:
    """`mpjpe_mm` after the best scale of each frame about the origin (Rhodin et al. 2018)."""
    predicted_m, target_m, weight = _cleared(predicted_m, target_m, is_valid)
    scale = _ratio((predicted_m * target_m).sum((-1, -2)), np.square(predicted_m).sum((-1, -2)))
    return mpjpe_mm(scale[..., None, None] * predicted_m, target_m, weight > 0)


def mpjve_mm(
    predicted_m: Float[np.ndarray, "*batch T J 3"],
    target_m: Float[np.ndarray, "*batch T J 3"],
    is_valid: Bool[np.ndarray, "*batch T J"] | None = None,
) -> float:
    """Mean error of the velocity, in mm per frame (Pavllo et al. 2019)."""
    return _mean_of_differences(predicted_m, target_m, is_valid, order=1)


def acceleration_mm(
    predicted_m: Float[np.ndarray, "*batch T J 3"],
    target_m: Float[np.ndarray, "*batch T J 3"],
    is_valid: Bool[np.ndarray, "*batch T J"] | None = None,
) -> float:
    """Mean error of the acceleration, in mm per squared frame (Kanazawa et al. 2019): it shows jitter."""
    return _mean_of_differences(predicted_m, target_m, is_valid, order=2)


def pck_percent(
    predicted_m: Float[np.ndarray, "*batch J 3"],
    target_m: Float[np.ndarray, "*batch J 3"],
    is_valid: Bool[np.ndarray, "*batch J"] | None = None,
    *,
    threshold_mm: float = PCK_THRESHOLD_MM,
) -> float:
    """Joints whose distance is below the threshold, not at it, per cent (Mehta et al. 2017)."""
    error_mm = MM_PER_M * _distance(predicted_m, target_m)
    return 100 * _mean((error_mm < threshold_mm).astype(np.float64), is_valid)


def auc_percent(
    predicted_m: Float[np.ndarray, "*batch J 3"],
    target_m: Float[np.ndarray, "*batch J 3"],
    is_valid: Bool[np.ndarray, "*batch J"] | None = None,
) -> float:
    """Area under the curve of `pck_percent`: its mean over `AUC_THRESHOLDS_MM`."""
    error_mm = MM_PER_M * _distance(predicted_m, target_m)
    share_below = (error_mm[..., None] < AUC_THRESHOLDS_MM).mean(-1)
    return 100 * _mean(share_below, is_valid)


def keypoint_error_px(
    predicted_px: Float[np.ndarray, "*batch J 2"],
    target_px: Float[np.ndarray, "*batch J 2"],
    is_valid: Bool[np.ndarray, "*batch J"] | None = None,
) -> float:
    """Mean distance between predicted and true keypoints, in pixels (or whatever unit the input has)."""
    return _mean(_distance(predicted_px, target_px), is_valid)


def procrustes_align(
    predicted_m: Float[np.ndarray, "*batch J 3"],
    target_m: Float[np.ndarray, "*batch J 3"],
    is_valid: Bool[np.ndarray, "*batch J"] | None = None,
) -> Float[np.ndarray, "*batch J 3"]:
    """Predicted joints turned, scaled and shifted to lie nearest to the target, each frame by itself.

    Least squares over the valid joints, never a reflection: Gower, Generalized Procrustes analysis, 1975;
    Umeyama, Least-squares estimation of transformation parameters, 1991. Joints that are not valid are
    moved along. Poses that are one point are only shifted. Returns float64.
    """
    predicted, target, weight = _cleared(predicted_m, target_m, is_valid)
    count = np.maximum(weight.sum(-1), 1)[..., None, None]
    predicted_middle = predicted.sum(-2, keepdims=True) / count
    target_middle = target.sum(-2, keepdims=True) / count
    predicted = (predicted - predicted_middle) * weight[..., None]
    target = (target - target_middle) * weight[..., None]

    left, stretch, right = np.linalg.svd(np.swapaxes(target, -1, -2) @ predicted)
    # The least of the three stretches pays for keeping the pose's handedness.
    handedness = np.sign(np.linalg.det(left) * np.linalg.det(right))
    left[..., :, 2] *= handedness[..., None]
    stretch[..., 2] *= handedness
    turn = left @ right
    scale = _ratio(stretch.sum(-1), np.square(predicted).sum((-1, -2)))[..., None, None]
    centred = predicted_m.astype(np.float64) - predicted_middle
    return np.asarray(scale * centred @ np.swapaxes(turn, -1, -2) + target_middle)


def bone_lengths(
    joints: Float[np.ndarray, "*batch J C"], skeleton: Skeleton
) -> Float[np.ndarray, "*batch bones"]:
    """Length of each of `skeleton.bones`, in the unit of the joints."""
    child, parent = skeleton.bone_indices.T
    return _distance(joints[..., child, :], joints[..., parent, :])


def _distance(
    first: Float[np.ndarray, "*batch C"], second: Float[np.ndarray, "*batch C"]
) -> Float[np.ndarray, "*batch"]:
    return np.asarray(np.linalg.norm(np.subtract(first, second, dtype=np.float64), axis=-1))


def _mean(values: Float[np.ndarray, "*batch"], is_valid: Bool[np.ndarray, "*batch"] | None) -> float:
    if is_valid is not None:
        values = values[is_valid]
    return float(values.sum() / values.size) if values.size else float("nan")


def _mean_of_differences(
    predicted_m: Float[np.ndarray, "*batch T J 3"],
    target_m: Float[np.ndarray, "*batch T J 3"],
    is_valid: Bool[np.ndarray, "*batch T J"] | None,
    *,
    order: int,
) -> float:
    """Mean error of the differences of an order in time; a difference is valid when all its frames are."""
    error_m = np.diff(np.subtract(predicted_m, target_m, dtype=np.float64), n=order, axis=-3)
    if is_valid is not None:
        for _ in range(order):
            is_valid = is_valid[..., 1:, :] & is_valid[..., :-1, :]
    return MM_PER_M * _mean(np.linalg.norm(error_m, axis=-1), is_valid)


def _cleared(
    predicted: Float[np.ndarray, "*batch J 3"],
    target: Float[np.ndarray, "*batch J 3"],
    is_valid: Bool[np.ndarray, "*batch J"] | None,
) -> tuple[Float[np.ndarray, "*batch J 3"], Float[np.ndarray, "*batch J 3"], Float[np.ndarray, "*batch J"]]:
    """Both in float64 with 0 where a joint is not valid, and the joints' weights, 0 or 1."""
    if is_valid is None:
        is_valid = np.ones(predicted.shape[:-1], dtype=bool)
    keep = is_valid[..., None]
    return (
        np.where(keep, predicted, 0.0).astype(np.float64),
        np.where(keep, target, 0.0).astype(np.float64),
        is_valid.astype(np.float64),
    )


def _ratio(
    above: Float[np.ndarray, "*batch"], below: Float[np.ndarray, "*batch"]
) -> Float[np.ndarray, "*batch"]:
    """above / below, and 1 where there is nothing to divide by."""
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), 1.0)
