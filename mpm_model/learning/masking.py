"""What is hidden from the model.

The paper hides in two ways at once: whole frames are taken away from the encoder, as in MAE (He et al. 2022),
and in every frame some joints are replaced by a learnt token. Masks are drawn per sample.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from mpm_model.errors import refuse
from mpm_model.learning.counted import counted_uniform
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

    is_hidden_frame: Bool[np.ndarray, "B T"]
    """Frames taken away from the encoder; the same number in every sample."""
    is_hidden_joint: Bool[np.ndarray, "B T J"]
    """Joints replaced by the token; the same number in every frame."""

    @property
    def is_hidden(self) -> Bool[np.ndarray, "B T J"]:
        """Cells the model cannot see for either reason."""
        is_hidden: np.ndarray = self.is_hidden_frame[..., None] | self.is_hidden_joint
        return is_hidden


def draw_hidden(
    stream: str,
    *,
    seed: int,
    epoch: int,
    sample_ids: Int[np.ndarray, "B"],
    frames: int,
    joints: int,
    config: MaskConfig,
) -> Hidden:
    """Draw frames and joints to hide, per sample, counted from (stream, seed, epoch, sample id)."""
    uniform = counted_uniform(
        f"mask/{stream}", seed=seed, epoch=epoch, sample_ids=sample_ids, count=frames * (joints + 1)
    )
    frame_rank = uniform[:, :frames].argsort(axis=-1).argsort(axis=-1)
    joint_rank = uniform[:, frames:].reshape(-1, frames, joints).argsort(axis=-1).argsort(axis=-1)
    return Hidden(
        is_hidden_frame=frame_rank < config.hidden_frames(frames),
        is_hidden_joint=joint_rank < config.hidden_joints(joints),
    )


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
    sample_ids: Int[np.ndarray, "B"],
    kinds: Sequence[str],
    skeleton: Skeleton,
) -> Bool[np.ndarray, "B J"]:
    """Joints that are hidden through all frames of a sample, as an occlusion hides them."""
    joints = len(skeleton)
    uniform = counted_uniform(
        f"tube/{stream}", seed=seed, epoch=epoch, sample_ids=sample_ids, count=2 + joints
    )
    is_root = np.array([parent is None for parent in skeleton.parents])
    rank = np.where(is_root, np.inf, uniform[:, 2:]).argsort(axis=-1).argsort(axis=-1)
    which_kind = (uniform[:, 0] * len(kinds)).astype(int)
    is_hidden = np.zeros((len(sample_ids), joints), dtype=bool)
    for number, kind in enumerate(kinds):
        groups = TUBES[kind]
        if isinstance(groups, int):
            of_kind = rank < groups
        else:
            is_in_group = np.zeros((len(groups), joints), dtype=bool)
            for row, group in zip(is_in_group, groups, strict=True):
                row[skeleton.select(*group)] = True
            of_kind = is_in_group[(uniform[:, 1] * len(groups)).astype(int)]
        is_hidden = np.where((which_kind == number)[:, None], of_kind, is_hidden)
    return is_hidden


def draw_bursts(
    stream: str,
    *,
    seed: int,
    epoch: int,
    sample_ids: Int[np.ndarray, "B"],
    frames: int,
    longest_share: float,
) -> Bool[np.ndarray, "B T"]:
    """One stretch of frames a sample, of one frame to `longest_share` of all, anywhere in the window."""
    uniform = counted_uniform(f"burst/{stream}", seed=seed, epoch=epoch, sample_ids=sample_ids, count=2)
    longest = max(int(longest_share * frames), 1)
    length = 1 + (uniform[:, :1] * longest).astype(int)  # (B, 1)
    start = (uniform[:, 1:] * (frames - length + 1)).astype(int)
    place = np.arange(frames)
    is_hidden: np.ndarray = (place >= start) & (place < start + length)
    return is_hidden
