"""Sizes of the paper's transformer, and which of them can be built."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mpm_model.errors import refuse

STRIDE = 3
"""Frames that one strided layer makes into one."""
LONGEST_LAST_STRIDE = 13
"""What may remain of a window after all factors of 3 are taken (351 frames = 27 * 13)."""


@dataclass(frozen=True, kw_only=True)
class PoseTransformerConfig:
    """Sizes of `MaskedPoseModel` and `LiftingModel`; the defaults are the paper's for Human3.6M alone.

    Completion (Zhang et al. 2023) is `MaskedPoseModel` with `frames=27, layers=3, decoder_layers=2`.
    """

    frames: int = 243
    """Frames T of a window. For lifting 3, 9, 27, 81, 243, ... (see `strides`); masking takes any."""
    joints: int = 17
    """Joints J of the skeleton."""
    width: int = 256
    """Features D of a frame inside the transformer."""
    layers: int = 4
    """Shared transformer layers; the paper takes 3 for several data sets together."""
    heads: int = 8
    """Attention heads; `width` is divided among them."""
    feed_forward: int = 512
    """Hidden width of the feed-forward part of every transformer layer."""
    frame_hidden: int = 512
    """Hidden width of the layers that see one frame at a time."""
    dropout: float = 0.1
    """Share dropped in the transformer, during training."""
    frame_dropout: float = 0.1
    """Share dropped in the layers that see one frame at a time; the paper lifts with 0.2."""
    decoder_layers: int = 1
    """Transformer layers of each decoder of `MaskedPoseModel`; 2 for completion. Lifting has no decoder."""
    positions: Literal["table", "rotary"] = "table"
    """How attention knows the order of frames: by the paper's learnt tables, for windows of `frames` alone,
    or by turning queries and keys (Su et al. 2021, RoFormer), for windows of any length."""
    norms: Literal["paper", "standard"] = "paper"
    """`paper`: batch norm around the layers that see one frame, over the frames of all workers, and a layer
    norm of its own kind elsewhere.
    `standard`: torch's layer norm everywhere, so that no sample sees another."""
    keypoint_channels: int = 2
    """Numbers that enter of each keypoint: see `mpm_model.pose.normalize.input_channels`."""
    spatial_layers: int = 0
    """Transformer layers over the joints of one frame, before frames are mixed; 0, as published, has none."""
    spatial_width: int = 32
    """Features of a joint in these layers; 4 heads, twice as many features in the feed-forward part."""
    strided_layers: Sequence[int] | None = None
    """Steps in which lifting takes `frames` to one; None takes `strides(frames)`. The paper's code takes some
    lengths in other steps: see `mpm_model.network.reference`."""

    def __post_init__(self) -> None:
        if isinstance(self.strided_layers, list):  # as JSON brings them
            object.__setattr__(self, "strided_layers", tuple(self.strided_layers))
        faults = size_faults(
            self,
            "frames",
            "joints",
            "width",
            "layers",
            "heads",
            "feed_forward",
            "frame_hidden",
            "decoder_layers",
        )
        if not isinstance(self.spatial_layers, int) or self.spatial_layers < 0:
            faults.append(f"spatial_layers must be a whole number from 0, got {self.spatial_layers!r}")
        if not isinstance(self.spatial_width, int) or self.spatial_width < 4 or self.spatial_width % 4:
            faults.append(f"spatial_width must be a multiple of 4, got {self.spatial_width!r}")
        if self.keypoint_channels not in range(2, 6):
            faults.append(f"keypoint_channels must be in 2..5, got {self.keypoint_channels!r}")
        for name, known in (("positions", ("table", "rotary")), ("norms", ("paper", "standard"))):
            if getattr(self, name) not in known:
                faults.append(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if not faults and self.positions == "rotary" and self.width // self.heads % 2:
            faults.append(f"rotary positions need an even width per head, got {self.width // self.heads}")
        if not faults and self.width == 1:
            faults.append("width must be at least 2 for a layer norm to have a spread, got 1")
        if not faults and self.width % self.heads:
            faults.append(f"width {self.width} cannot be divided among {self.heads} heads")
        faults += share_faults(self, "dropout", "frame_dropout")
        if self.strided_layers is not None and not _multiply_to(self.frames, self.strided_layers):
            faults.append(
                f"strided_layers must be whole numbers that multiply to the {self.frames} frames, "
                f"got {self.strided_layers!r}"
            )
        refuse("network sizes", faults)

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps of the strided layers; InputError if `frames` cannot be lifted."""
        return strides(self.frames) if self.strided_layers is None else tuple(self.strided_layers)


def size_faults(config: object, *names: str) -> list[str]:
    """What is wrong with fields that must be whole numbers of at least 1."""
    return [
        f"{name} must be a whole number of at least 1, got {value!r}"
        for name in names
        if not isinstance(value := getattr(config, name), int) or isinstance(value, bool) or value < 1
    ]


def share_faults(config: object, *names: str) -> list[str]:
    """What is wrong with fields that must be shares: at least 0, less than 1."""
    return [
        f"{name} must lie in 0..1 (without 1), got {value!r}"
        for name in names
        if not isinstance(value := getattr(config, name), int | float)
        or isinstance(value, bool)
        or not 0 <= value < 1
    ]


def strides(frames: int) -> tuple[int, ...]:
    """Steps in which the strided layers take `frames` to one: every factor of 3, then what remains.

    243 -> (3, 3, 3, 3, 3); 351 -> (3, 3, 3, 13); 1 -> (). A remainder must be odd, so that a window has
    a centre frame, and at most 13; otherwise InputError names the lengths nearby.
    """
    steps, rest = _factors(frames)
    if not _can_stride(frames):
        below = next((n for n in range(frames - 1, 0, -1) if _can_stride(n)), 1)
        above = next(n for n in range(frames + 1, STRIDE * frames + 1) if _can_stride(n))
        refuse(
            "network sizes",
            [
                f"frames of a lifting network must be a power of 3, or one times an odd number up to "
                f"{LONGEST_LAST_STRIDE}, got {frames}; the nearest are {below} and {above}"
            ],
        )
    return (*steps, rest) if rest > 1 else steps


def _multiply_to(frames: int, steps: object) -> bool:
    if not isinstance(steps, tuple) or not all(type(step) is int and step >= 1 for step in steps):
        return False
    return math.prod(steps) == frames


def _factors(frames: int) -> tuple[tuple[int, ...], int]:
    count = 0
    while frames % STRIDE == 0:
        frames //= STRIDE
        count += 1
    return (STRIDE,) * count, frames


def _can_stride(frames: int) -> bool:
    rest = _factors(frames)[1]
    return rest % 2 == 1 and rest <= LONGEST_LAST_STRIDE
