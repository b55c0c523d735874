"""Rotation matrices."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

_TURNING = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}
"""For each axis the two others, in the order in which a positive angle turns one into the next."""


def rotation_about(
    axis: Literal["x", "y", "z"], angle_rad: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch 3 3"]:
    """Turn about one axis by the right-hand rule: `rotation @ point` is the turned point."""
    first, second = _TURNING[axis]
    cosine, sine = angle_rad.cos(), angle_rad.sin()
    rotation = torch.eye(3, dtype=angle_rad.dtype, device=angle_rad.device).repeat(*angle_rad.shape, 1, 1)
    rotation[..., first, first] = cosine
    rotation[..., first, second] = -sine
    rotation[..., second, first] = sine
    rotation[..., second, second] = cosine
    return rotation


def level_rotation(azimuth_rad: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 3 3"]:
    """World to camera, for a camera held level that looks along (cos azimuth, sin azimuth, 0)."""
    cosine, sine = azimuth_rad.cos(), azimuth_rad.sin()
    none, one = torch.zeros_like(cosine), torch.ones_like(cosine)
    right = torch.stack([sine, -cosine, none], dim=-1)
    down = torch.stack([none, none, -one], dim=-1)
    forward = torch.stack([cosine, sine, none], dim=-1)
    return torch.stack([right, down, forward], dim=-2)


def tilt_rotation(
    pitch_rad: Float[Tensor, "*batch"], roll_rad: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch 3 3"]:
    """Level camera to tilted camera: first pitched (positive looks down), then rolled about its own axis.

    Positive roll turns the image clockwise.
    """
    return rotation_about("z", roll_rad) @ rotation_about("x", pitch_rad)
