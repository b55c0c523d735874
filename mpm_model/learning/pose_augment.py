"""Bodies and postures nobody recorded: bones turned and lengthened, people turned round, in closed form.

What is changed is what the pose augmenter of the paper's family learns to change (PoseAug, Gong et al. 2021:
bone angles, bone lengths, rotation and place); here it is drawn, not learnt. Every change is constant through
a window, so motion stays as smooth as it was recorded.
"""

import math
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mpm_model.errors import refuse
from mpm_model.learning.counted import SampleIds, uniform_on
from mpm_model.on_device import send
from mpm_model.pose.rotation import rotation_about
from mpm_model.pose.skeleton import Skeleton

_DRAWS = 5
"""Uniform numbers that decide a window: whether it is changed, its size, its turn, its tilt and
where that points."""


@dataclass(frozen=True, kw_only=True)
class PoseAugmentConfig:
    """How far postures and bodies may be changed. Drawn uniformly up to the stated."""

    probability: float = 0.0
    """How often a window is changed."""
    bone_angle_rad: float = math.radians(12)
    """Largest angle by which a bone, and all that hangs on it, turns about a random axis."""
    bone_length_ratio: float = 0.15
    """Largest change of a bone's length, as a share; left and right bones change alike."""
    body_size_ratio: float = 0.1
    """Largest change of the whole body's size, as a share."""
    turn_rad: float = math.pi
    """Largest turn of the whole window about the vertical."""
    tilt_rad: float = math.radians(5)
    """Largest tilt of the whole window about a level axis."""

    def __post_init__(self) -> None:
        most = {
            "probability": 1.0,
            "bone_angle_rad": math.pi,
            "bone_length_ratio": 0.9,
            "body_size_ratio": 0.9,
            "turn_rad": math.pi,
            "tilt_rad": math.pi / 2,
        }
        refuse(
            "pose",
            [
                f"{each.name} must be in 0..{most[each.name]:g}, got {value}"
                for each in fields(self)
                if not 0 <= (value := getattr(self, each.name)) <= most[each.name]
            ],
        )


def augment_pose(
    joints_world_m: Float[Tensor, "B T J 3"],
    is_valid: Bool[Tensor, "B T J"],
    *,
    skeleton: Skeleton,
    config: PoseAugmentConfig,
    seed: int,
    epoch: int,
    sample_ids: SampleIds,
) -> Float[Tensor, "B T J 3"]:
    """World joints, z up, of other people who move alike; the lowest joint of the window keeps its height.

    A bone's turn comes on top of those of the bones above it, so what hangs on it turns along. Left and right
    bones of one parent, such as the hips, turn as one and stay in line. Turns are constant in the world, not
    in the body: over a window in which somebody turns round, a limb leans one way, then the other. The floor,
    if it tilts, tilts with the person; feet may slide. What is not valid stays so: its place means nothing,
    and the bones below it change as it does, so that they do not depend on it. Joint limits are not known:
    keep the angles small.
    """
    device, dtype = joints_world_m.device, joints_world_m.dtype
    tree = _tree(skeleton, device, dtype)
    uniform = uniform_on(
        device, "pose", seed=seed, epoch=epoch, sample_ids=sample_ids, count=_DRAWS + 4 * len(skeleton)
    ).to(dtype)
    is_chosen, size, turn, tilt, tilt_azimuth = uniform[:, :_DRAWS].unbind(-1)
    lengthen, *about = uniform[:, _DRAWS:].chunk(4, dim=-1)

    # A bone below a joint that was not always seen does as that joint: the unseen place then cancels out.
    is_free = is_valid.all(1)
    turned = _small_rotations(torch.stack(about, -1)[:, tree.turns_with], config.bone_angle_rad)
    ratio = 1 + config.bone_length_ratio * _signed(lengthen[:, tree.lengthens_with])
    whole = _whole_rotation(turn, tilt, tilt_azimuth, config)
    turned[:, tree.roots] = whole[:, None]
    ratio[:, tree.roots] = 1.0
    for children, parents in tree.levels:
        bends = is_free[:, parents]
        own = turned[:, parents] @ turned[:, children]
        turned[:, children] = torch.where(bends[..., None, None], own, turned[:, parents])
        ratio[:, children] = torch.where(bends, ratio[:, children], ratio[:, parents])
    size_ratio = 1 + config.body_size_ratio * _signed(size)
    change = turned * (ratio * size_ratio[:, None])[..., None, None]

    is_absent = ~is_valid[..., None]
    bones_m = tree.to_bones @ joints_world_m.masked_fill(is_absent, 0.0)
    x_m, y_m, z_m = bones_m[..., None].unbind(-2)
    columns = change[:, None].unbind(-1)
    changed_m = tree.to_joints @ (columns[0] * x_m + columns[1] * y_m + columns[2] * z_m)
    height_m = _lowest_m(joints_world_m, is_absent) - _lowest_m(changed_m, is_absent)
    changed_m[..., 2] += height_m[:, None, None]
    return torch.where((is_chosen < config.probability)[:, None, None, None], changed_m, joints_world_m)


@dataclass(frozen=True)
class _Tree:
    """A skeleton as index tensors and matrices on a device."""

    roots: Int[Tensor, "R"]
    """Joints without a parent."""
    levels: tuple[tuple[Int[Tensor, "N"], Int[Tensor, "N"]], ...]
    """Children and their parents, from the roots outward."""
    turns_with: Int[Tensor, "J"]
    """The joint whose draw turns the bone: the same for left and right siblings."""
    lengthens_with: Int[Tensor, "J"]
    """The joint whose draw lengthens the bone: the same for left and right."""
    to_bones: Float[Tensor, "J J"]
    """Joints to vectors from their parent; a root stays itself."""
    to_joints: Float[Tensor, "J J"]
    """The inverse: sums along the way from the root."""


@lru_cache(maxsize=8)
def _tree(skeleton: Skeleton, device: torch.device, dtype: torch.dtype) -> _Tree:
    number = np.arange(len(skeleton))
    parents = np.array(
        [joint if up is None else skeleton.index(up) for joint, up in enumerate(skeleton.parents)]
    )
    mirror = skeleton.mirror
    levels = []
    reached = roots = np.flatnonzero(parents == number)
    while len(reached) < len(number):
        children = np.setdiff1d(number[np.isin(parents, reached)], reached)
        levels.append((send(children, device), send(parents[children], device)))
        reached = np.concatenate([reached, children])
    to_bones = np.eye(len(number))
    is_bone = parents != number
    to_bones[number[is_bone], parents[is_bone]] = -1.0
    with_side = np.minimum(number, mirror)
    return _Tree(
        roots=send(roots, device),
        levels=tuple(levels),
        turns_with=send(np.where(parents == parents[mirror], with_side, number), device),
        lengthens_with=send(with_side, device),
        to_bones=send(to_bones, device).to(dtype),
        to_joints=send(np.linalg.inv(to_bones).round(), device).to(dtype),
    )


def _signed(uniform: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """From [0, 1) to [-1, 1)."""
    return 2 * uniform - 1


def _small_rotations(uniform: Float[Tensor, "B J 3"], most_rad: float) -> Float[Tensor, "B J 3 3"]:
    """Turns by up to an angle about axes of any direction, by the formula of Rodrigues (1840)."""
    azimuth, rise, angle = uniform.unbind(-1)
    z = _signed(rise)
    level = (1 - z * z).clamp(min=0.0).sqrt()
    azimuth_rad = 2 * math.pi * azimuth
    axis = torch.stack([level * azimuth_rad.cos(), level * azimuth_rad.sin(), z], dim=-1)
    angle_rad = most_rad * angle[..., None, None]
    x, y, z = axis.unbind(-1)
    none = torch.zeros_like(x)
    cross = torch.stack([none, -z, y, z, none, -x, -y, x, none], dim=-1).view(*x.shape, 3, 3)
    eye = torch.eye(3, dtype=axis.dtype, device=axis.device)
    outer = axis[..., None] * axis[..., None, :]
    cosine = angle_rad.cos()
    return cosine * eye + angle_rad.sin() * cross + (1 - cosine) * outer


def _whole_rotation(
    turn: Float[Tensor, "B"], tilt: Float[Tensor, "B"], azimuth: Float[Tensor, "B"], config: PoseAugmentConfig
) -> Float[Tensor, "B 3 3"]:
    """A turn about the vertical, then a tilt about a level axis of any direction."""
    aside = rotation_about("z", 2 * math.pi * azimuth)
    leaning = aside @ rotation_about("x", config.tilt_rad * tilt) @ aside.mT
    return leaning @ rotation_about("z", config.turn_rad * _signed(turn))


def _lowest_m(joints_m: Float[Tensor, "B T J 3"], is_absent: Bool[Tensor, "B T J 1"]) -> Float[Tensor, "B"]:
    """Height of the lowest valid joint of each window; 0 if there is none."""
    lowest_m = joints_m[..., 2].masked_fill(is_absent[..., 0], torch.inf).flatten(1).amin(-1)
    return torch.where(lowest_m.isinf(), 0.0, lowest_m)
