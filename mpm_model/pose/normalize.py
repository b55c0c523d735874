"""From pixels and camera space to what networks see, and back.

`screen` is the paper's: the image's width becomes [-1, 1] and the aspect is kept. `person` forgets the
image: it is centred on the visible keypoints of the window and scaled by their spread, so it needs no
image size.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mpm_model.errors import InputError
from mpm_model.pose.camera import beside
from mpm_model.pose.skeleton import Skeleton

Array = TypeVar("Array", np.ndarray, Tensor)

NORMALISATIONS = ("screen", "person")
"""What `normalize_keypoints` knows."""

_SCALE_PER_SPREAD = 2.0
"""A person's farthest keypoint is about twice as far from the middle as the keypoints are on average."""
_LEAST_SPREAD_PX = 1e-3
"""Keypoints nearer together than this are one point, which has no size."""


def px_to_screen(
    keypoints_px: Float[Tensor, "*points 2"],
    *,
    width_px: Float[Tensor, "*batch"],
    height_px: Float[Tensor, "*batch"],
) -> Float[Tensor, "*points 2"]:
    """x / w * 2 - 1 and y / w * 2 - h / w. The batch axes of the sizes are the first axes of the points."""
    half_px = 0.5 * beside(torch.stack([width_px, height_px], dim=-1), keypoints_px, own=1)
    return (keypoints_px - half_px) / half_px[..., :1]


def screen_to_px(
    keypoints_screen: Float[Tensor, "*points 2"],
    *,
    width_px: Float[Tensor, "*batch"],
    height_px: Float[Tensor, "*batch"],
) -> Float[Tensor, "*points 2"]:
    """Inverse of `px_to_screen`."""
    half_px = 0.5 * beside(torch.stack([width_px, height_px], dim=-1), keypoints_screen, own=1)
    return keypoints_screen * half_px[..., :1] + half_px


@dataclass(frozen=True, eq=False)
class PersonFrame:
    """Where a person is in the image, over a whole window."""

    center_px: Float[Tensor, "B 1 1 2"]
    """Mean of the visible keypoints."""
    scale_px: Float[Tensor, "B 1 1 1"]
    """What becomes 1: twice the root mean square distance of the visible keypoints to the centre."""


def person_frame(keypoints_px: Float[Tensor, "B T J 2"], is_hidden: Bool[Tensor, "B T J"]) -> PersonFrame:
    """Find the person. Hidden keypoints have no influence, whatever they hold.

    A window that shows nothing has centre 0 and scale 1; one that shows a single point has scale 1.
    """
    is_hidden = is_hidden[..., None]
    seen = (~is_hidden).sum((1, 2), keepdim=True).clamp(min=1)
    center_px = keypoints_px.masked_fill(is_hidden, 0.0).sum((1, 2), keepdim=True) / seen
    offset_px = (keypoints_px - center_px).masked_fill(is_hidden, 0.0)
    spread_px = (offset_px.square().sum((1, 2, 3), keepdim=True) / seen).sqrt()
    scale_px = torch.where(spread_px > _LEAST_SPREAD_PX, _SCALE_PER_SPREAD * spread_px, 1.0)
    return PersonFrame(center_px=center_px, scale_px=scale_px)


def px_to_person(keypoints_px: Float[Tensor, "B T J 2"], frame: PersonFrame) -> Float[Tensor, "B T J 2"]:
    """Centre on the person and scale to its size: visible keypoints then lie mostly within [-1, 1]."""
    return (keypoints_px - frame.center_px) / frame.scale_px


def person_to_px(keypoints_person: Float[Tensor, "B T J 2"], frame: PersonFrame) -> Float[Tensor, "B T J 2"]:
    """Inverse of `px_to_person`."""
    return keypoints_person * frame.scale_px + frame.center_px


def normalize_keypoints(
    keypoints_px: Float[Tensor, "B T J 2"],
    is_hidden: Bool[Tensor, "B T J"],
    *,
    normalisation: str,
    width_px: Float[Tensor, "B"],
    height_px: Float[Tensor, "B"],
) -> Float[Tensor, "B T J 2"]:
    """Pixels to network input, by one of `NORMALISATIONS`. Hidden keypoints come out as 0.

    `person` does not look at the image size.
    """
    if normalisation == "screen":
        keypoints = px_to_screen(keypoints_px, width_px=width_px, height_px=height_px)
    elif normalisation == "person":
        keypoints = px_to_person(keypoints_px, person_frame(keypoints_px, is_hidden))
    else:
        raise InputError(f"normalisation must be one of {', '.join(NORMALISATIONS)}, got {normalisation!r}")
    return keypoints.masked_fill(is_hidden[..., None], 0.0)


def root_relative(joints_m: Array, skeleton: Skeleton) -> tuple[Array, Array]:
    """Joints (*batch, J, 3) as seen from the skeleton's root, and the root (*batch, 1, 3).

    Works on numpy arrays and tensors.
    """
    root_m = joints_m[..., _root_slice(skeleton), :]
    return joints_m - root_m, root_m


def from_root(joints_rel_m: Array, root_m: Array) -> Array:
    """Inverse of `root_relative`: joints (*batch, J, 3) and root (*batch, 1, 3) to where the root is."""
    joints_m: Array = joints_rel_m + root_m
    return joints_m


def _root_slice(skeleton: Skeleton) -> slice:
    roots = [joint for joint, parent in zip(skeleton.joints, skeleton.parents, strict=True) if parent is None]
    if len(roots) != 1:
        raise InputError(f"skeleton {skeleton.name} must have one root to be relative to, it has {roots}")
    root = skeleton.index(roots[0])
    return slice(root, root + 1)
