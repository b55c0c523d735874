"""The focal length of a camera that nobody calibrated, from a person whose pose is known."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from mpm_model.pose.intrinsics import Intrinsics
from mpm_model.pose.root_path import root_path, sight_miss_m

FIELD_OF_VIEW_RAD = (math.radians(20), math.radians(100))
"""Fields of view along the longer side of the image between which it is looked for."""
FOCAL_ERROR = 0.3
"""How far off it usually is, as a share, when the pose was lifted: see `find_focal_px`."""

_USUAL_SPREAD = 0.28
"""Standard deviation of the logarithm of focal length over longer side, which is 0 on average."""
_WORTH = 25
"""Independent measurements that a track is worth: a pose is off alike in its joints and frames."""
_MOST_FRAMES = 256
_SCALE_M = 0.1
_LEAST_COST = 1e-12
_GRID = 12
_NARROWINGS = 12
_GOLDEN = (math.sqrt(5) - 1) / 2


def find_focal_px(
    joints_rel_m: Float[np.ndarray, "N J 3"],
    keypoints_px: Float[np.ndarray, "N J 2"],
    weight: Float[np.ndarray, "N J"],
    *,
    time_s: Float[np.ndarray, "N"],
    width_px: float,
    height_px: float,
) -> float:
    """Focal length of a camera without distortion whose principal point is the middle of the image.

    What tells it is perspective within the body: near joints are seen larger. The path is solved at each of
    some focal lengths, at up to 256 frames spread over the track; the one found has the least

        log mean(w log(1 + (d / 0.1 m)^2)) + (log f / longer side)^2 / (25 * 0.28^2),

    d being `sight_miss_m` (pixels of reprojection, times depth over f). That is the most probable one if a
    track is worth 25 measurements of unknown noise, and cameras have a field of view of 53 degrees within
    0.28 (log). It does not depend on the body's scale.

    In 48 virtual cameras of 30 to 80 degrees round held-out people, keypoints with 2 px of noise, it is off
    by 0.08 (root mean square of the logarithm) where the joints are the true ones, by 0.27 where the weights
    that ship lifted them. That is hardly less than the 0.28 of taking the longer side: lifted poses carry a
    perspective of their own. Depth is off by as much.
    """
    chosen = np.unique(np.linspace(0, len(time_s) - 1, _MOST_FRAMES).round().astype(np.intp))
    joints_rel_m, keypoints_px = joints_rel_m[chosen], keypoints_px[chosen]
    weight, time_s = weight[chosen], time_s[chosen]
    longer_px = max(width_px, height_px)

    def cost(log_share: float) -> float:
        focal_px = longer_px * math.exp(log_share)
        intrinsics = Intrinsics(focal_px=(focal_px, focal_px), center_px=(width_px / 2, height_px / 2))
        root_cam_m = root_path(joints_rel_m, keypoints_px, weight, time_s=time_s, intrinsics=intrinsics)
        miss_m = sight_miss_m(joints_rel_m, keypoints_px, root_cam_m, intrinsics=intrinsics)
        is_seen = (weight > 0) & np.isfinite(miss_m)
        miss = np.average(np.log1p(np.square(miss_m[is_seen] / _SCALE_M)), weights=weight[is_seen])
        return math.log(miss + _LEAST_COST) + log_share**2 / (_WORTH * _USUAL_SPREAD**2)

    low, high = (-math.log(2 * math.tan(view_rad / 2)) for view_rad in reversed(FIELD_OF_VIEW_RAD))
    return longer_px * math.exp(_least(cost, low, high))


def _least(cost: Callable[[float], float], low: float, high: float) -> float:
    """Where a function of one number is least: the best of a grid, then golden sections round it."""
    grid = np.linspace(low, high, _GRID)
    best = min(range(_GRID), key=lambda place: cost(float(grid[place])))
    low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, _GRID - 1)])
    for _ in range(_NARROWINGS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if cost(left) < cost(right):
            high = right
        else:
            low = left
    return (low + high) / 2
