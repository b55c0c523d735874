"""What every 2D reader returns."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mpm_model.errors import refuse
from mpm_model.pose.skeleton import Skeleton

MOST_PX = 100_000
"""No image is wider or higher."""
MOST_FRAMES = 2**40
"""Nor is a video longer."""


@dataclass(frozen=True, kw_only=True)
class Track:
    """One person in one video: 2D keypoints in pixels over the frames in which the person was seen."""

    keypoints_px: Float[np.ndarray, "N J 2"]
    """Keypoints, float32, x right, y down. A keypoint of confidence 0 holds anything finite."""
    confidence: Float[np.ndarray, "N J"]
    """0 (nobody saw it) to 1, float32."""
    frames: Int[np.ndarray, "N"]
    """The source's own frame numbers, strictly increasing; gaps are allowed."""
    skeleton: Skeleton
    """Skeleton of the keypoints."""
    source: str
    """The video: URL of the file or folder it came from."""
    person: str
    """Person within the source."""
    rate_hz: float | None
    """Frames per second of the video; None if the format does not say."""
    width_px: int | None
    """Width of the image; None if the format does not say."""
    height_px: int | None
    """Height of the image; None if the format does not say."""
    notes: tuple[str, ...] = ()
    """What the reader had to assume, one sentence each."""

    def __post_init__(self) -> None:
        faults = []
        frames, joints = len(self.frames), len(self.skeleton)
        if self.keypoints_px.shape != (frames, joints, 2) or self.confidence.shape != (frames, joints):
            faults.append(
                f"keypoints_px and confidence must be ({frames}, {joints}, 2) and ({frames}, {joints}), "
                f"got {self.keypoints_px.shape} and {self.confidence.shape}"
            )
        else:
            if frames == 0:
                faults.append("a track needs at least one frame")
            if not np.isfinite(self.keypoints_px).all():
                faults.append("keypoints_px hold NaN or infinity")
            if not ((self.confidence >= 0) & (self.confidence <= 1)).all():
                faults.append("confidence must lie in 0..1")
            elif frames and not (self.confidence > 0).any():
                faults.append("not one keypoint was seen in any frame")
        if self.rate_hz is not None and not 0.1 <= self.rate_hz <= 10_000:
            faults.append(f"rate_hz must lie in 0.1..10000, got {self.rate_hz}")
        faults += [
            f"{name} must be a whole number in 1..{MOST_PX}, got {value!r}"
            for name, value in (("width_px", self.width_px), ("height_px", self.height_px))
            if value is not None and not (isinstance(value, int) and 1 <= value <= MOST_PX)
        ]
        if frames and np.abs(self.frames).max() > MOST_FRAMES:
            faults.append(f"frames must lie within {MOST_FRAMES}, got {np.abs(self.frames).max()}")
        if (np.diff(self.frames) <= 0).any():
            faults.append("frames must increase strictly")
        refuse(f"{self.source}, person {self.person}", faults)
