"""What a camera's picture says of directions: the intrinsics, without where the camera stands."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from mpm_model.errors import refuse
from mpm_model.pose.camera import Camera, distort, undistort

_MOST_PX = 1e6


@dataclass(frozen=True, kw_only=True)
class Intrinsics:
    """Focal lengths, principal point and lens of one camera, in pixels of the keypoints' image."""

    focal_px: tuple[float, float]
    """Focal lengths, x and y."""
    center_px: tuple[float, float]
    """Principal point, from the upper left corner."""
    distortion: tuple[float, float, float, float, float] = (0.0,) * 5
    """k1 k2 p1 p2 k3, as `Camera` has them; 0 is none."""

    def __post_init__(self) -> None:
        faults = []
        if not all(0 < value <= _MOST_PX for value in self.focal_px):
            faults.append(f"focal lengths must be positive pixels, got {_spell(self.focal_px)}")
        if not all(abs(value) <= _MOST_PX for value in self.center_px):
            faults.append(f"the principal point must be in pixels, got {_spell(self.center_px)}")
        if not all(math.isfinite(value) for value in self.distortion):
            faults.append(f"distortion must be finite, got {_spell(self.distortion)}")
        refuse("intrinsics", faults)

    def to_plane(self, keypoints_px: Float[np.ndarray, "*points 2"]) -> Float[np.ndarray, "*points 2"]:
        """Pixels to the plane at depth 1, before the lens; NaN where the lens shows nothing."""
        plane = np.asarray((keypoints_px - np.array(self.center_px)) / np.array(self.focal_px))
        if not any(self.distortion):
            return plane
        return np.asarray(undistort(torch.from_numpy(plane), self._camera()).numpy())

    def to_px(self, plane: Float[np.ndarray, "*points 2"]) -> Float[np.ndarray, "*points 2"]:
        """Inverse of `to_plane`."""
        seen = distort(torch.from_numpy(np.asarray(plane, np.float64)), self._camera()).numpy()
        return np.asarray(seen * np.array(self.focal_px) + np.array(self.center_px))

    def _camera(self) -> Camera:
        """At the origin, looking along z, of no particular size."""

        def tensor(values: object) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float64)

        return Camera(
            rotation=torch.eye(3, dtype=torch.float64),
            translation_m=tensor((0.0, 0.0, 0.0)),
            focal_px=tensor(self.focal_px),
            center_px=tensor(self.center_px),
            distortion=tensor(self.distortion),
            width_px=tensor(0.0),
            height_px=tensor(0.0),
        )


def _spell(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
