"""What is hidden from the model.

The paper hides in two ways at once: whole frames are taken away from the encoder, as in MAE (He et al. 2022),
and in every frame some joints are replaced by a learnt token. Masks are drawn per sample.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mpm_model.errors import refuse
from mpm_model.learning.counted import SampleIds, uniform_on
from mpm_model.on_device import Device, constant
from mpm_model.pose.skeleton import Skeleton


@dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """How much of a window is hidden."""

    frame_ratio: float = 0.6
    """Share of frames taken away from the encoder; int(frame_ratio * T) frames."""
    joint_ratio: float = 0.3
    """Share of joints replaced by the token in every frame; round(joint_ratio * J): 5 of 17, 5 of 16."""

    def __post_init__(self) -> None:
        refuse(
            "mask",
            [
                f"{name} must be in [0, 1), got {value}"
                for name, value in (("frame_ratio", self.frame_ratio), ("joint_ratio", self.joint_ratio))
                if not 0 <= value < 1
            ],
        )

    def hidden_frames(self, frames: int) -> int:
        """How many of `frames` frames are taken away."""
        return int(self.frame_ratio * frames)

    def hidden_joints(self, joints: int) -> int:
        """How many of `joints` joints are hidden in each frame."""
        return round(self.joint_ratio * joints)


@dataclass(frozen=True)
class Hidden:
    """What one modality of a batch may not show. True is hidden."""

    is_hidden_frame: Bool[Tensor, "B T"]
    """Frames taken away from the encoder; the same number in every sample."""
    is_hidden_joint: Bool[Tensor, "B T J"]
    """Joints replaced by the token; the same number in every frame."""

    @property
    def is_hidden(self) -> Bool[Tensor, "B T J"]:
        """Cells the model cannot see for either reason."""
        return self.is_hidden_frame[..., None] | self.is_hidden_joint


def draw_hidden(
    stream: str,
    *,
    seed: int,
    epoch: int,
    sample_ids: SampleIds,
    frames: int,
    joints: int,
    config: MaskConfig,
    device: Device = "cpu",
) -> Hidden:
    """Draw frames and joints to hide, per sample, counted from (stream, seed, epoch, sample id)."""
    uniform = uniform_on(
        device,
        f"mask/{stream}",
        seed=seed,
        epoch=epoch,
        sample_ids=sample_ids,
        count=frames * (joints + 1),
    )
    of_frames, of_joints = uniform[:, :frames], uniform[:, frames:].view(-1, frames, joints)
    return Hidden(
        is_hidden_frame=_is_among_smallest(of_frames, config.hidden_frames(frames)),
        is_hidden_joint=_is_among_smallest(of_joints, config.hidden_joints(joints)),
    )


def _is_among_smallest(values: Float[Tensor, "*batch N"], count: int) -> Bool[Tensor, "*batch N"]:
    """True at the `count` smallest values of each row. Uniform numbers of 53 bits do not tie."""
    smallest = values.topk(count, largest=False, sorted=False).indices
    return torch.zeros_like(values, dtype=torch.bool).scatter_(-1, smallest, True)


LIMBS: Mapping[str, tuple[str, ...]] = {
    "left leg": ("left_hip", "left_knee", "left_ankle"),
    "right leg": ("right_hip", "right_knee", "right_ankle"),
    "left arm": ("left_shoulder", "left_elbow", "left_wrist"),
    "right arm": ("right_shoulder", "right_elbow", "right_wrist"),
}
"""The four limbs, by joint, of any skeleton that has them."""

_LEFT_LEG, _RIGHT_LEG, _LEFT_ARM, _RIGHT_ARM = LIMBS.values()
TUBES: Mapping[str, tuple[tuple[str, ...], ...] | int] = {
    "limb": tuple(LIMBS.values()),
    "legs": (_LEFT_LEG + _RIGHT_LEG,),
    "arms": (_LEFT_ARM + _RIGHT_ARM,),
    "side": (_LEFT_LEG + _LEFT_ARM, _RIGHT_LEG + _RIGHT_ARM),
    "random_3": 3,
    "random_6": 6,
}
"""Kinds of tube masks: one of these groups of joints, or so many joints drawn at random, never the root.

The paper completes 3D with `limb` and `random_3` and lifts occluded 2D with `legs`, `arms`, `side` and
`random_6`."""


def draw_tubes(
    stream: str,
    *,
    seed: int,
    epoch: int,
    sample_ids: SampleIds,
    kinds: Sequence[str],
    skeleton: Skeleton,
    device: Device = "cpu",
) -> Bool[Tensor, "B J"]:
    """Joints that are hidden through all frames of a sample, as an occlusion hides them."""
    joints = len(skeleton)
    uniform = uniform_on(
        device, f"tube/{stream}", seed=seed, epoch=epoch, sample_ids=sample_ids, count=2 + joints
    )
    which_kind, which_group = (uniform[:, :1] * len(kinds)).long(), uniform[:, 1]
    is_root = tuple(parent is None for parent in skeleton.parents)
    of_joints = uniform[:, 2:].masked_fill(
        constant(is_root, device=uniform.device, dtype=torch.bool), torch.inf
    )
    is_hidden = torch.zeros_like(of_joints, dtype=torch.bool)
    for number, kind in enumerate(kinds):
        groups = TUBES[kind]
        if isinstance(groups, int):
            of_kind = _is_among_smallest(of_joints, groups)
        else:
            of_kind = _is_in_groups(groups, skeleton, uniform.device)[(which_group * len(groups)).long()]
        is_hidden = torch.where(which_kind == number, of_kind, is_hidden)
    return is_hidden


@lru_cache(maxsize=32)
def _is_in_groups(
    groups: tuple[tuple[str, ...], ...], skeleton: Skeleton, device: torch.device
) -> Bool[Tensor, "G J"]:
    is_in_group = np.zeros((len(groups), len(skeleton)), dtype=bool)
    for row, group in zip(is_in_group, groups, strict=True):
        row[skeleton.select(*group)] = True
    return constant(tuple(map(tuple, is_in_group.tolist())), device=device, dtype=torch.bool)


def draw_bursts(
    stream: str,
    *,
    seed: int,
    epoch: int,
    sample_ids: SampleIds,
    frames: int,
    longest_share: float,
    device: Device = "cpu",
) -> Bool[Tensor, "B T"]:
    """One stretch of frames a sample, of one frame to `longest_share` of all, anywhere in the window."""
    uniform = uniform_on(device, f"burst/{stream}", seed=seed, epoch=epoch, sample_ids=sample_ids, count=2)
    longest = max(int(longest_share * frames), 1)
    length = 1 + (uniform[:, :1] * longest).long()  # (B, 1)
    start = (uniform[:, 1:] * (frames - length + 1)).long()
    place = torch.arange(frames, device=uniform.device)
    return (place >= start) & (place < start + length)
