"""The parts that 2D and 3D poses share, and the light parts that are each modality's own."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mpm_model.network.batch_norm import SharedBatchNorm
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.transformer import Stack, TransformerLayer, Turns, turns_at

LEAKY_SLOPE = 0.2
"""Slope of the leaky ReLU for negative values, in the layers that see one frame at a time."""
SPATIAL_HEADS = 4
"""Attention heads among joints."""
INITIAL_STD = 0.02
"""Spread of learnt tokens and positions before training."""


def learnt(*shape: int) -> nn.Parameter:
    """A token or a table of positions, small and random from torch's generator."""
    values = torch.randn(*shape)
    # Checkpoints are built on the meta device, where a product would import torch's compiler, for 1.5 s.
    return nn.Parameter(values if values.is_meta else values * INITIAL_STD)


def hide(
    poses: Float[Tensor, "B T J C"], is_hidden: Bool[Tensor, "B T J"], token: Float[Tensor, "C"]
) -> Float[Tensor, "B T J C"]:
    """Put the token in place of hidden joints."""
    return torch.where(is_hidden[..., None], token, poses)


def check_window(name: str, poses: Tensor, config: PoseTransformerConfig, *, coordinates: int) -> None:
    """ValueError unless the poses are windows of the size that the network was built for."""
    wanted = (config.joints, coordinates)
    fits = poses.ndim == 4 and poses.shape[2:] == wanted
    if not fits or (config.positions == "table" and poses.shape[1] != config.frames):
        frames = config.frames if config.positions == "table" else "any"
        raise ValueError(
            f"{name} must be (B, {frames}, {', '.join(map(str, wanted))}), got {tuple(poses.shape)}"
        )


def frame_norm(width: int, config: PoseTransformerConfig) -> nn.Module:
    """The norm of the layers that see one frame at a time."""
    return SharedBatchNorm(width) if config.norms == "paper" else nn.LayerNorm(width)


class FrameLayer(nn.Module):
    """Linear, batch norm, leaky ReLU, dropout: one frame at a time."""

    def __init__(self, features_in: int, config: PoseTransformerConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(features_in, config.frame_hidden)
        self.norm = frame_norm(config.frame_hidden, config)
        self.drop = nn.Dropout(config.frame_dropout)

    def forward(self, frames: Float[Tensor, "N D_in"]) -> Float[Tensor, "N D_out"]:
        """Transform frames that stand in a row, windows one after another."""
        dropped: Tensor = self.drop(nn.functional.leaky_relu(self.norm(self.linear(frames)), LEAKY_SLOPE))
        return dropped


class JointMixer(nn.Module):
    """Transformer over the joints of one frame: each joint a token, told apart by a learnt code."""

    def __init__(self, config: PoseTransformerConfig, *, coordinates: int) -> None:
        super().__init__()
        inner = replace(
            config,
            width=config.spatial_width,
            heads=SPATIAL_HEADS,
            feed_forward=2 * config.spatial_width,
            positions="table",
        )
        self.enter = nn.Linear(coordinates, config.spatial_width)
        self.code = learnt(config.joints, config.spatial_width)
        self.layers = Stack(*(TransformerLayer(inner) for _ in range(config.spatial_layers)))

    def forward(self, poses: Float[Tensor, "N J C"]) -> Float[Tensor, "N J D_joint"]:
        """Features of every joint, each frame by itself."""
        mixed: Tensor = self.layers(self.enter(poses) + self.code)
        return mixed


class PoseEmbedding(FrameLayer):
    """A modality's own way in: the coordinates of one frame become features."""

    def __init__(self, config: PoseTransformerConfig, *, coordinates: int) -> None:
        is_spatial = config.spatial_layers > 0
        features = config.spatial_width if is_spatial else coordinates
        super().__init__(config.joints * features, config)
        self.mixer = JointMixer(config, coordinates=coordinates) if is_spatial else None

    def forward(self, poses: Float[Tensor, "B T J C"]) -> Float[Tensor, "B T D"]:
        """Embed each frame."""
        frames = poses.flatten(0, 1)  # (B * T, J, C)
        if self.mixer is not None:
            frames = self.mixer(frames)
        embedded = super().forward(frames.flatten(1))  # (B * T, D)
        return embedded.view(*poses.shape[:2], -1)


class PoseHead(nn.Module):
    """A modality's own way out: batch norm, then linear to the coordinates of each frame."""

    def __init__(self, config: PoseTransformerConfig, *, coordinates: int) -> None:
        super().__init__()
        self.pose_shape = (config.joints, coordinates)
        self.norm = frame_norm(config.width, config)
        self.linear = nn.Linear(config.width, config.joints * coordinates)

    def forward(self, features: Float[Tensor, "B T D"]) -> Float[Tensor, "B T J C"]:
        """Read the pose of each frame."""
        poses: Tensor = self.linear(self.norm(features.flatten(0, 1)))  # (B * T, J * C)
        return poses.view(*features.shape[:2], *self.pose_shape)


class Trunk(nn.Module):
    """What both modalities go through: a residual block per frame, positions, the transformer."""

    def __init__(self, config: PoseTransformerConfig) -> None:
        super().__init__()
        self.block = nn.Sequential(
            FrameLayer(config.frame_hidden, config), FrameLayer(config.frame_hidden, config)
        )
        self.narrow = nn.Linear(config.frame_hidden, config.width)
        self.head_width = config.width // config.heads
        self.position = learnt(config.frames, config.width) if config.positions == "table" else None
        self.layers = Stack(*(TransformerLayer(config) for _ in range(config.layers)))

    def forward(
        self, embedded: Float[Tensor, "B T_seen D_in"], *, frame_index: Int[Tensor, "B T_seen"] | None = None
    ) -> Float[Tensor, "B T_seen D"]:
        """Features of the frames given; `frame_index` is their place in the window (None: all T frames)."""
        frames = embedded.flatten(0, 1)  # (B * T_seen, D_in)
        features = self.narrow(frames + self.block(frames)).unflatten(0, embedded.shape[:2])
        turns = None
        if self.position is None:
            turns = window_turns(features, frame_index, self.head_width)
        else:
            features = features + (self.position if frame_index is None else self.position[frame_index])
        mixed: Tensor = self.layers(features, turns)
        return mixed


def window_turns(
    features: Float[Tensor, "B T D"], frame_index: Int[Tensor, "B T"] | None, head_width: int
) -> Turns:
    """Rotary positions of a window's frames, or of those at `frame_index`, the same for all heads."""
    if frame_index is None:
        return turns_at(torch.arange(features.shape[1], device=features.device).float(), head_width)
    return turns_at(frame_index[:, None].float(), head_width)
