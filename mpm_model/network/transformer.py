"""Transformer layers in the exact form of the paper: pre-norm, ReLU, a layer norm of its own kind."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from mpm_model.network.config import PoseTransformerConfig

EPSILON = 1e-6
"""Added to the standard deviation (not to the variance) by `LayerNorm`."""
LONGEST_TURN_FRAMES = 1000.0
"""Base of the rotary positions: windows are much shorter than the texts of Su et al., who take 10,000."""


class LayerNorm(nn.Module):
    """gain * (x - mean) / (std + 1e-6) + bias, with the unbiased standard deviation.

    Not `torch.nn.LayerNorm`: that takes the biased variance and adds its epsilon under the root.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, features: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
        """Normalise the last axis."""
        # A norm of differences: torch.std is many times slower on a CPU.
        centred = features - features.mean(dim=-1, keepdim=True)
        std = torch.linalg.vector_norm(centred, dim=-1, keepdim=True) / math.sqrt(features.shape[-1] - 1)
        return torch.addcmul(self.bias, centred / (std + EPSILON), self.gain)


def norm_of(width: int, config: PoseTransformerConfig) -> nn.Module:
    """The layer norm of a configuration."""
    return LayerNorm(width) if config.norms == "paper" else nn.LayerNorm(width)


class Turns(NamedTuple):
    """Rotary positions: by what angle each pair of features turns at each place."""

    cos: Float[Tensor, "... T half"]
    sin: Float[Tensor, "... T half"]

    def apply(self, features: Float[Tensor, "B H T D_head"]) -> Float[Tensor, "B H T D_head"]:
        """Turn the first half of the features against the second."""
        first, second = features.chunk(2, dim=-1)
        return torch.cat((first * self.cos - second * self.sin, first * self.sin + second * self.cos), dim=-1)


def turns_at(place: Float[Tensor, "... T"], head_width: int) -> Turns:
    """Rotary positions (Su et al. 2021); the slowest pair turns once in some 1,000 frames."""
    half = head_width // 2
    rate = torch.pow(LONGEST_TURN_FRAMES, -torch.arange(half, device=place.device) / half)
    angle_rad = place[..., None] * rate
    return Turns(angle_rad.cos(), angle_rad.sin())


class Attention(nn.Module):
    """Self-attention among the frames of one window."""

    def __init__(self, config: PoseTransformerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.query_key_value = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, features: Float[Tensor, "B T D"], turns: Turns | None = None) -> Float[Tensor, "B T D"]:
        """Every frame asks all frames."""
        split = self.query_key_value(features).unflatten(-1, (3, self.heads, -1))  # (B, T, 3, H, D / H)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each (B, H, T, D / H)
        if turns is not None:
            query, key = turns.apply(query), turns.apply(key)
        answers = functional.scaled_dot_product_attention(
            query, key, value, dropout_p=self.dropout if self.training else 0.0
        )
        mixed: Tensor = self.out(answers.transpose(1, 2).flatten(2))  # (B, T, D)
        return mixed


class TransformerLayer(nn.Module):
    """Pre-norm attention and feed-forward, each added to its input."""

    def __init__(self, config: PoseTransformerConfig) -> None:
        super().__init__()
        self.attention_norm = norm_of(config.width, config)
        self.attention = Attention(config)
        self.feed_forward_norm = norm_of(config.width, config)
        self.expand = nn.Linear(config.width, config.feed_forward)
        self.contract = nn.Linear(config.feed_forward, config.width)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, features: Float[Tensor, "B T D"], turns: Turns | None = None) -> Float[Tensor, "B T D"]:
        """Mix frames, then transform each."""
        features = features + self.drop(self.attention(self.attention_norm(features), turns))
        hidden = self.drop(functional.relu(self.expand(self.feed_forward_norm(features))))
        result: Tensor = features + self.drop(self.contract(hidden))
        return result


class Stack(nn.Sequential):
    """Transformer layers one after another, all with the same positions."""

    def forward(self, features: Float[Tensor, "B T D"], turns: Turns | None = None) -> Float[Tensor, "B T D"]:
        """Through all layers."""
        for layer in self:
            features = layer(features, turns)
        return features


class StridedLayer(nn.Module):
    """A transformer layer that keeps every `stride`-th frame (Li et al. 2022, strided transformer).

    The feed-forward part ends in a convolution over time of kernel 3; what is added to it are the
    frames 0, stride, 2 stride, ...
    """

    def __init__(self, config: PoseTransformerConfig, *, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.attention_norm = norm_of(config.width, config)
        self.attention = Attention(config)
        self.feed_forward_norm = norm_of(config.width, config)
        self.expand = nn.Linear(config.width, config.feed_forward)
        self.contract = nn.Conv1d(config.feed_forward, config.width, kernel_size=3, stride=stride, padding=1)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, features: Float[Tensor, "B T D"]) -> Float[Tensor, "B T/stride D"]:
        """Mix frames, then make every `stride` of them one. T is a multiple of the stride."""
        features = features + self.drop(self.attention(self.attention_norm(features)))
        hidden = self.drop(functional.relu(self.expand(self.feed_forward_norm(features))))
        contracted = self.contract(hidden.mT).mT  # (B, T / stride, D)
        result: Tensor = features[:, :: self.stride] + self.drop(contracted)
        return result
