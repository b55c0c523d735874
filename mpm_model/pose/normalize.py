"""From pixels and camera space to what networks see, and back.

`screen` is the paper's: the image's width becomes [-1, 1] and the aspect is kept. `person` forgets the
image: it is centred on the visible keypoints of the window and scaled by their spread, so it needs no
image size. `both` gives the network the two beside each other: the pose free of scale, and where in the
image it stands; of an image whose size nobody knows the second is 0.
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

NORMALISATIONS = ("screen", "person", "both")
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


def input_channels(normalisation: str) -> tuple[int, int]:
    """Channels of a keypoint in network input: without the detector's confidence, and with it."""
    channels = 4 if normalisation == "both" else 2
    return channels, channels + 1


def normalize_keypoints(
    keypoints_px: Float[Tensor, "B T J 2"],
    is_hidden: Bool[Tensor, "B T J"],
    *,
    normalisation: str,
    width_px: Float[Tensor, "B"],
    height_px: Float[Tensor, "B"],
    confidence: Float[Tensor, "B T J"] | None = None,
) -> Float[Tensor, "B T J C_in"]:
    """Pixels to network input, by one of `NORMALISATIONS`. Hidden keypoints come out as 0.

    `person` does not look at the image size; `both` takes a width of 0 for an unknown one. With a
    `confidence` it becomes the last channel. The first two channels are the pose itself.
    """
    sizes = {"width_px": width_px, "height_px": height_px}
    if normalisation == "screen":
        channels = [px_to_screen(keypoints_px, **sizes)]
    elif normalisation == "person":
        channels = [px_to_person(keypoints_px, person_frame(keypoints_px, is_hidden))]
    elif normalisation == "both":
        is_known = beside(width_px > 0, keypoints_px, own=0)
        known = {name: size.where(width_px > 0, 1.0) for name, size in sizes.items()}
        channels = [
            px_to_person(keypoints_px, person_frame(keypoints_px, is_hidden)),
            px_to_screen(keypoints_px, **known).where(is_known, 0.0),
        ]
    else:
        raise InputError(f"normalisation must be one of {', '.join(NORMALISATIONS)}, got {normalisation!r}")
    if confidence is not None:
        channels.append(confidence[..., None])
    return torch.cat(channels, dim=-1).masked_fill(is_hidden[..., None], 0.0)


def normalize_targets(
    keypoints_px: Float[Tensor, "B T J 2"],
    *,
    seen_px: Float[Tensor, "B T J 2"],
    is_hidden: Bool[Tensor, "B T J"],
    normalisation: str,
    width_px: Float[Tensor, "B"],
    height_px: Float[Tensor, "B"],
) -> Float[Tensor, "B T J 2"]:
    """True keypoints in the frame of what was seen: what 2D reconstruction is asked for."""
    if normalisation == "screen":
        return px_to_screen(keypoints_px, width_px=width_px, height_px=height_px)
    return px_to_person(keypoints_px, person_frame(seen_px, is_hidden))


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
