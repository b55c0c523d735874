"""Cameras: world space, camera space and pixels.

World: z up. Camera space: x right, y down, z forward; `x_cam = R x_world + t`. Pixels: x right, y down,
(0, 0) is the upper left corner. The plane is the image plane at depth 1, (x / z, y / z), before
(straight) or after the lens.

The batch axes of a camera are the first axes of the points: a camera of batch (B,) sees joints (B, T, J,
3), one of batch (B, T) moves, one of batch () is shared by all.
"""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

_NEWTON_STEPS = 12
"""Steps that `undistort` takes at most; real lenses need three or four."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Camera:
    """One camera for each place of `*batch`; all tensors are of one dtype and device."""

    rotation: Float[Tensor, "*batch 3 3"]
    """World to camera."""
    translation_m: Float[Tensor, "*batch 3"]
    """World to camera: the world's origin in camera space."""
    focal_px: Float[Tensor, "*batch 2"]
    """Focal lengths, x and y."""
    center_px: Float[Tensor, "*batch 2"]
    """Principal point."""
    distortion: Float[Tensor, "*batch 5"]
    """k1 k2 p1 p2 k3 of the lens model of Brown (1966) and Conrady (1919), in OpenCV's order; 0 is none."""
    width_px: Float[Tensor, "*batch"]
    """Width of the image."""
    height_px: Float[Tensor, "*batch"]
    """Height of the image."""

    def __post_init__(self) -> None:
        own = {
            "rotation": (3, 3),
            "translation_m": (3,),
            "focal_px": (2,),
            "center_px": (2,),
            "distortion": (5,),
        }
        batch = tuple(self.width_px.shape)
        faults = [
            f"{field.name} must be {(*batch, *own.get(field.name, ()))}, got {tuple(value.shape)}"
            for field in fields(self)
            if (value := getattr(self, field.name)).shape != (*batch, *own.get(field.name, ()))
        ]
        if faults:
            raise ValueError(f"camera of batch {batch}: " + "; ".join(faults))

    @property
    def position_world_m(self) -> Float[Tensor, "*batch 3"]:
        """Where the camera stands."""
        return -(self.rotation.mT @ self.translation_m[..., None])[..., 0]


def world_to_camera(joints_world_m: Float[Tensor, "*points 3"], camera: Camera) -> Float[Tensor, "*points 3"]:
    """World space to the camera's."""
    listed = _listed(joints_world_m, camera)
    joints_cam_m = listed @ camera.rotation.mT + camera.translation_m[..., None, :]
    return joints_cam_m.reshape(joints_world_m.shape)


def camera_to_world(joints_cam_m: Float[Tensor, "*points 3"], camera: Camera) -> Float[Tensor, "*points 3"]:
    """Inverse of `world_to_camera`."""
    listed = _listed(joints_cam_m, camera)
    joints_world_m = (listed - camera.translation_m[..., None, :]) @ camera.rotation
    return joints_world_m.reshape(joints_cam_m.shape)


def project(joints_cam_m: Float[Tensor, "*points 3"], camera: Camera) -> Float[Tensor, "*points 2"]:
    """Camera space to pixels, through the lens.

    A joint at or behind the camera plane has no image and gives NaN. A joint beside the image gets the
    pixel that the lens model says; far outside the field of a distorting lens that means nothing.
    """
    depth_m = joints_cam_m[..., 2:]
    straight = joints_cam_m[..., :2] / depth_m.where(depth_m > 0, torch.nan)
    seen = distort(straight, camera)
    return seen * beside(camera.focal_px, seen, own=1) + beside(camera.center_px, seen, own=1)


def back_project(
    keypoints_px: Float[Tensor, "*points 2"], depth_m: Float[Tensor, "*points"], camera: Camera
) -> Float[Tensor, "*points 3"]:
    """Pixels at known depths to camera space: inverse of `project`. NaN where `undistort` finds no ray."""
    seen = (keypoints_px - beside(camera.center_px, keypoints_px, own=1)) / beside(
        camera.focal_px, keypoints_px, own=1
    )
    straight = undistort(seen, camera)
    return torch.cat([straight, torch.ones_like(straight[..., :1])], dim=-1) * depth_m[..., None]


def distort(straight: Float[Tensor, "*points 2"], camera: Camera) -> Float[Tensor, "*points 2"]:
    """Where the lens puts points of the plane."""
    k1, k2, p1, p2, k3 = beside(camera.distortion, straight, own=1).unbind(-1)
    x, y = straight.unbind(-1)
    square = x * x + y * y
    gain = 1 + square * (k1 + square * (k2 + square * k3))
    return torch.stack(
        [
            x * gain + 2 * p1 * x * y + p2 * (square + 2 * x * x),
            y * gain + p1 * (square + 2 * y * y) + 2 * p2 * x * y,
        ],
        dim=-1,
    )


def undistort(seen: Float[Tensor, "*points 2"], camera: Camera) -> Float[Tensor, "*points 2"]:
    """Inverse of `distort`, by Newton's method.

    Points that the lens can show nowhere, or only beyond the fold of its polynomial, give NaN.
    """
    k1, k2, p1, p2, k3 = beside(camera.distortion, seen, own=1).unbind(-1)
    straight = seen
    for _ in range(_NEWTON_STEPS):
        x, y = straight.unbind(-1)
        square = x * x + y * y
        gain = 1 + square * (k1 + square * (k2 + square * k3))
        slope = 2 * (k1 + square * (2 * k2 + square * 3 * k3))
        # The Jacobian of `distort` is symmetric.
        xx = gain + slope * x * x + 2 * p1 * y + 6 * p2 * x
        xy = slope * x * y + 2 * p1 * x + 2 * p2 * y
        yy = gain + slope * y * y + 6 * p1 * y + 2 * p2 * x
        determinant = xx * yy - xy * xy
        off_x, off_y = (distort(straight, camera) - seen).unbind(-1)
        step = torch.stack([yy * off_x - xy * off_y, xx * off_y - xy * off_x], dim=-1)
        straight = straight - step / determinant[..., None]
    residual = (distort(straight, camera) - seen).abs().amax(-1)
    tolerance = 100 * torch.finfo(seen.dtype).eps * (1 + seen.abs().amax(-1))
    is_found = (residual <= tolerance) & (determinant > 0) & (xx + yy > 0)
    return straight.where(is_found[..., None], torch.nan)


def beside(values: Float[Tensor, "..."], points: Float[Tensor, "..."], *, own: int) -> Float[Tensor, "..."]:
    """Values of shape (*batch, *own) made to broadcast against points whose first axes are batch.

    `own` is the number of axes that values share with the points at the end.
    """
    batch = values.shape[: values.ndim - own]
    if points.shape[: len(batch)] != batch:
        raise ValueError(f"points {tuple(points.shape)} do not begin with the batch axes {tuple(batch)}")
    middle = points.ndim - len(batch) - own
    return values.reshape(*batch, *[1] * middle, *values.shape[values.ndim - own :])


def _listed(points: Float[Tensor, "*points 3"], camera: Camera) -> Float[Tensor, "*batch N 3"]:
    """All points of each camera in one list: one matrix product a camera instead of one a frame."""
    batch = camera.width_px.shape
    if points.shape[: len(batch)] != batch:
        raise ValueError(f"points {tuple(points.shape)} do not begin with the batch axes {tuple(batch)}")
    return points.reshape(*batch, -1, 3) if points.numel() else points.reshape(*batch, 0, 3)
