"""The poses table: what `lift` writes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True, kw_only=True)
class PoseTrack:
    """One person of one source in 3D, beside the 2D it was lifted from; Human3.6M-17 joints."""

    source: str
    """URL of the video's detections."""
    person: str
    """Person within the source."""
    frames: Int[np.ndarray, "N"]
    """The source's own frame numbers, increasing."""
    time_s: Float[np.ndarray, "N"]
    """Time of each frame from the source's frame 0."""
    joints_rel_m: Float[np.ndarray, "N J 3"]
    """Joints in camera axes (x right, y down, z forward), metres, relative to the pelvis."""
    is_observed: Bool[np.ndarray, "N J"]
    """Whether the detector saw the joint; otherwise the model filled it in."""
    keypoints_px: Float[np.ndarray, "N J 2"]
    """The 2D input, converted to the same joints."""
    confidence: Float[np.ndarray, "N J"]
    """Its confidence, 0 to 1."""
    width_px: int | None
    """Image width, if known."""
    height_px: int | None
    """Image height, if known."""
