"""Cameras that nobody built: plausible views of motion capture, as people film people.

A view is decided by where the person's box, taken over the whole window, shall appear in the image, how
large, from which side and from which height; the distance and the pitch follow from that.
"""

import math
from dataclasses import dataclass
from itertools import product

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mpm_model.errors import refuse
from mpm_model.on_device import constant
from mpm_model.pose.camera import Camera
from mpm_model.pose.rotation import level_rotation, tilt_rotation

DRAWS_PER_CAMERA = 9
"""Uniform numbers that one camera consumes."""

_FITTING_STEPS = 4
"""Rounds in which distance and pitch settle; the height is then off by centimetres at most."""
_CORNERS = tuple(product((-1.0, 1.0), repeat=3))
"""Of a box of half size 1."""
_STEEPEST = 0.8
"""Largest sine of the angle under which a camera may look down or up at the person's middle."""


@dataclass(frozen=True, kw_only=True)
class VirtualCameraConfig:
    """Where cameras may stand. Drawn uniformly within each range unless the field says otherwise."""

    image_sizes_px: tuple[tuple[int, int], ...] = ((1920, 1080), (1080, 1920), (1280, 720), (1000, 1000))
    """Width and height of the images, all equally often."""
    field_of_view_rad: tuple[float, float] = (math.radians(30), math.radians(80))
    """Field of view along the longer side of the image."""
    height_m: tuple[float, float] = (0.4, 2.6)
    """Height of the camera above the window's lowest joint."""
    usual_height_m: tuple[float, float] = (1.0, 1.6)
    """Height most people film from."""
    usual_height_share: float = 0.7
    """Share of the cameras at a usual height; the rest is split evenly between lower and higher ones."""
    fill: tuple[float, float] = (0.25, 0.9)
    """Share of the image's limiting side that the person's box over the window takes; a person who stays
    in place takes up to a quarter less, one who walks away from the camera less still."""
    reach_m: float = 15.0
    """About here cameras stop going back: what would need more distance is filmed larger, as far as `fill`
    allows."""
    nearest_m: float = 0.5
    """No joint comes nearer to the camera plane than this."""
    off_center: float = 0.7
    """How far the middle of the person strays from the image's, as a share of the room beside the person."""
    roll_rad: float = math.radians(4)
    """Largest roll to either side."""
    barrel: float = 0.0
    """Largest barrel distortion, drawn from 0: the lens's k1 is minus this. 0.1 is a strong one."""

    def __post_init__(self) -> None:
        low, high = self.height_m
        usual_low, usual_high = self.usual_height_m
        faults = []
        if not self.image_sizes_px or min(min(size) for size in self.image_sizes_px) < 1:
            faults.append(f"image_sizes_px must hold positive sizes, got {self.image_sizes_px}")
        if not 0 < self.field_of_view_rad[0] <= self.field_of_view_rad[1] < math.pi:
            faults.append(f"field_of_view_rad must rise within 0..pi, got {self.field_of_view_rad}")
        if not 0 <= low <= usual_low <= usual_high <= high:
            faults.append(
                f"usual_height_m must rise within height_m, which rises from 0 at least, "
                f"got {self.usual_height_m} in {self.height_m}"
            )
        if not 0 < self.fill[0] <= self.fill[1] <= 1:
            faults.append(f"fill must rise within 0..1, got {self.fill}")
        faults += [
            f"{name} must be in 0..{most}, got {getattr(self, name)}"
            for name, most in (("usual_height_share", 1), ("off_center", 1), ("roll_rad", 1), ("barrel", 0.2))
            if not 0 <= getattr(self, name) <= most
        ]
        faults += [
            f"{name} must be positive, got {getattr(self, name)}"
            for name in ("reach_m", "nearest_m")
            if not getattr(self, name) > 0
        ]
        refuse("virtual camera", faults)


def draw_cameras(
    uniform: Float[Tensor, "B N"],
    joints_world_m: Float[Tensor, "B T J 3"],
    is_valid: Bool[Tensor, "B T J"],
    config: VirtualCameraConfig,
) -> Camera:
    """One camera that stands still for each window, decided by N = DRAWS_PER_CAMERA numbers in [0, 1).

    Every valid joint of the window is inside the image and at least `nearest_m` in front of the camera. A
    window without valid joints is filmed as if a box of 2 m stood at the origin.
    """
    azimuth, height, size, view, fill, aim_x, aim_y, roll, bulge = uniform.to(joints_world_m.dtype).unbind(-1)
    level = level_rotation(azimuth * 2 * math.pi)
    middle_m, half_m = _box(joints_world_m, is_valid, level)

    sizes_px = constant(config.image_sizes_px, device=joints_world_m.device, dtype=joints_world_m.dtype)
    # A number just below 1 may have become 1 in single precision.
    size_px = sizes_px[(size * len(sizes_px)).long().clamp(max=len(sizes_px) - 1)]
    focal_px = 0.5 * size_px.amax(-1) / (_between(view, *config.field_of_view_rad) / 2).tan()
    half_view = 0.5 * size_px / focal_px[:, None]  # (B, 2), tangents

    front_m = (config.reach_m - half_m[:, 2]).clamp(min=config.nearest_m)  # to the box's near side
    needed = (half_m[:, :2] / half_view).amax(-1) / front_m
    share = _between(fill, *config.fill).maximum(needed.clamp(max=config.fill[1]))
    aim = torch.stack([aim_x, aim_y], dim=-1) * 2 - 1
    aim = aim * config.off_center * (1 - share[:, None]) * half_view
    sight = torch.cat([aim, torch.ones_like(aim[:, :1])], dim=-1)  # (B, 3), to the box's middle, depth 1

    rise_m = _camera_height(height, config) - half_m[:, 1]
    roll_rad = (roll * 2 - 1) * config.roll_rad
    tilt, distance_m = _fit(half_m, sight, rise_m, roll_rad, share[:, None] * half_view, config.nearest_m)

    distortion = torch.zeros_like(uniform[:, :5], dtype=joints_world_m.dtype)
    distortion[:, 0] = -config.barrel * bulge
    return Camera(
        rotation=tilt @ level,
        translation_m=distance_m[:, None] * sight - (tilt @ middle_m[..., None])[..., 0],
        focal_px=focal_px[:, None].expand(-1, 2),
        center_px=0.5 * size_px,
        distortion=distortion,
        width_px=size_px[:, 0],
        height_px=size_px[:, 1],
    )


def _between(uniform: Float[Tensor, "B"], low: float, high: float) -> Float[Tensor, "B"]:
    return low + uniform * (high - low)


def _camera_height(uniform: Float[Tensor, "B"], config: VirtualCameraConfig) -> Float[Tensor, "B"]:
    """Inverse of a cumulative distribution made of three straight pieces: low, usual and high."""
    seldom = (1 - config.usual_height_share) / 2
    low, high = config.height_m
    usual_low, usual_high = config.usual_height_m
    # A piece of no probability is never reached; the bound only keeps 0 / 0 out.
    in_low, in_usual, in_high = (
        ((uniform - start) / max(width, 1e-9)).clamp(0, 1)
        for start, width in ((0, seldom), (seldom, config.usual_height_share), (1 - seldom, seldom))
    )
    return (
        low + in_low * (usual_low - low) + in_usual * (usual_high - usual_low) + in_high * (high - usual_high)
    )


def _box(
    joints_world_m: Float[Tensor, "B T J 3"], is_valid: Bool[Tensor, "B T J"], level: Float[Tensor, "B 3 3"]
) -> tuple[Float[Tensor, "B 3"], Float[Tensor, "B 3"]]:
    """Middle and half size of the box round all valid joints, along the axes of the level camera."""
    joints_m = level @ joints_world_m.flatten(1, 2).mT  # (B, 3, T J): the long axis last is the fast one
    is_absent = ~is_valid.flatten(1, 2)[:, None]
    low_m = joints_m.masked_fill(is_absent, torch.inf).amin(-1)
    high_m = joints_m.masked_fill(is_absent, -torch.inf).amax(-1)
    is_empty = low_m > high_m
    low_m, high_m = low_m.masked_fill(is_empty, -1.0), high_m.masked_fill(is_empty, 1.0)
    return (low_m + high_m) / 2, (high_m - low_m) / 2


def _fit(
    half_m: Float[Tensor, "B 3"],
    sight: Float[Tensor, "B 3"],
    rise_m: Float[Tensor, "B"],
    roll_rad: Float[Tensor, "B"],
    half_share: Float[Tensor, "B 2"],
    nearest_m: float,
) -> tuple[Float[Tensor, "B 3 3"], Float[Tensor, "B"]]:
    """Tilt and distance with which the box fills its share of the image, seen from `rise_m` above its middle.

    A corner (x, y, z) of the box, turned into the camera and with the middle at `distance * sight`, stays
    within the half share s of the aim a when |x - a z| <= s (distance + z): linear in the distance.
    """
    signs = constant(_CORNERS, device=half_m.device, dtype=half_m.dtype)
    corners_m = signs * half_m[:, None]  # (B, 8, 3)
    aim = sight[:, None, :2]
    # The sight line as the camera would see it before it is rolled.
    sight_down = sight[:, 1] * roll_rad.cos() - sight[:, 0] * roll_rad.sin()
    sight_length = (1 + sight_down.square()).sqrt()
    distance_m = (half_m[:, :2] / half_share).amax(-1) + half_m[:, 2]
    for _ in range(_FITTING_STEPS):
        steepness = (rise_m / (distance_m * sight_length)).clamp(-_STEEPEST, _STEEPEST)
        tilt = tilt_rotation(steepness.asin() - sight_down.atan(), roll_rad)
        seen_m = corners_m @ tilt.mT
        depth_m = seen_m[..., 2:]
        fitting_m = ((seen_m[..., :2] - aim * depth_m).abs() / half_share[:, None] - depth_m).amax((1, 2))
        distance_m = fitting_m.maximum(nearest_m - depth_m.amin((1, 2)))
    return tilt, distance_m
