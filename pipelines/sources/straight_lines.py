"""Points in motion at another rate, straight from frame to frame."""

import numpy as np
from jaxtyping import Float

from pipelines.sources.articulated import resampling


def points_at_rate(
    points: Float[np.ndarray, "T J 3"], *, from_hz: float, to_hz: float
) -> Float[np.ndarray, "T J 3"]:
    """Straight lines between frames; NaN where a frame that is needed holds NaN. No low-pass filter."""
    before, weight = resampling(len(points), from_hz=from_hz, to_hz=to_hz)
    after = np.minimum(before + 1, len(points) - 1)
    step = weight[:, None, None]
    between = points[before] + step * (points[after] - points[before])
    return np.asarray(np.where(step == 0, points[before], between))
