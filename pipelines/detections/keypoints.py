"""Raw keypoints to keypoints that a Track may hold."""

import numpy as np
from jaxtyping import Float

FARTHEST_PX = 1e6
"""Ten of the widest images away: no detector means that, and one such number would spoil its whole window."""


def clean_keypoints(points: Float[np.ndarray, "*batch J 3"]) -> Float[np.ndarray, "*batch J 3"]:
    """Keypoints x, y, confidence, float32, where a keypoint that nobody saw is 0, 0, 0.

    Not seen are those whose confidence is 0, negative or no number, or whose place is no number or far from
    any image. A confidence above 1 (a peak of a heat map may overshoot) counts as 1.
    """
    is_near = (np.abs(points[..., :2]) < FARTHEST_PX).all(-1)
    is_seen = np.isfinite(points).all(-1) & is_near & (points[..., 2] > 0)
    cleaned = np.where(is_seen[..., None], points, 0.0).astype(np.float32)
    cleaned[..., 2] = np.minimum(cleaned[..., 2], 1.0)
    return cleaned
