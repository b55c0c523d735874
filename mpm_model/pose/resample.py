"""A track at the times that a model wants: clocks of other rates, and values between frames."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_SAME_RATE = 0.01
"""Within one per cent the model's own clock is as good, and resampling would only blur."""


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Frames of a source and frames of a model, both counted from the source's frame 0."""

    rate_hz: float
    """Rate of the source."""
    model_rate_hz: float
    """Rate of the model."""

    @property
    def is_models(self) -> bool:
        """Whether the source's frames are taken as the model's."""
        return abs(self.rate_hz / self.model_rate_hz - 1) < _SAME_RATE

    # First the product, then the quotient: what falls on a whole frame is then a whole number.
    def to_model(self, frames: Int[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Where frames of the source lie on the model's clock."""
        return np.asarray(frames * 1.0 if self.is_models else frames * self.model_rate_hz / self.rate_hz)

    def to_source(self, model_frames: Int[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Where frames of the model lie on the source's clock."""
        return np.asarray(
            model_frames * 1.0 if self.is_models else model_frames * self.rate_hz / self.model_rate_hz
        )


@dataclass(frozen=True, kw_only=True)
class SampledTrack:
    """Keypoints of one person that can be asked for at any time; row 0 is the source's `first_frame`."""

    keypoints_px: Float[np.ndarray, "N J 2"]
    """Keypoints, finite."""
    confidence: Float[np.ndarray, "N J"]
    """Their confidence, finite."""
    min_confidence: float
    """Keypoints of less are hidden."""
    first_frame: int
    """The source's number of row 0."""
    clock: Clock
    """How the source's frames lie to the model's."""

    @property
    def model_frames(self) -> range:
        """Frames of the model that the track lies between; the outermost may lie just outside."""
        ends = self.first_frame + np.array([0, len(self.keypoints_px) - 1])
        first, last = self.clock.to_model(ends)
        return range(math.floor(first), math.ceil(last) + 1)

    def place(self, rows: range) -> Float[np.ndarray, "N"]:
        """Where rows lie on the model's clock."""
        return self.clock.to_model(np.arange(rows.start, rows.stop) + self.first_frame)

    def rows_of(self, model_frames: Int[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Where frames of the model lie among the rows."""
        return self.clock.to_source(model_frames) - self.first_frame

    def sample(
        self, rows: Float[np.ndarray, "W T"]
    ) -> tuple[Float[Tensor, "W T J 2"], Float[Tensor, "W T J"], Bool[Tensor, "W T J"]]:
        """Keypoints in pixels, their confidence in 0..1 and whether they are hidden, at rows and between.

        Beyond the track's ends its first and last frames stand still.
        """
        rows = rows.clip(0, len(self.keypoints_px) - 1)
        near = slice(math.floor(rows.min()), math.ceil(rows.max()) + 1)
        keypoints_px, confidence = self.keypoints_px[near], self.confidence[near]
        is_hidden = confidence < self.min_confidence
        if self.clock.is_models:
            at = rows.astype(np.intp) - near.start
            keypoints_px, confidence, is_hidden = keypoints_px[at], confidence[at], is_hidden[at]
        else:
            from_row, to_row = np.arange(near.start, near.stop, dtype=np.float64), rows.ravel()
            keypoints_px, is_hidden = resample_keypoints(keypoints_px, is_hidden, from_row, to_row)
            confidence = interpolate(confidence, from_row, to_row)
        joints = (*rows.shape, confidence.shape[-1])
        return (
            torch.from_numpy(keypoints_px.reshape(*joints, 2).astype(np.float32)),
            torch.from_numpy(confidence.reshape(joints).astype(np.float32)).clamp(0, 1),
            torch.from_numpy(is_hidden.reshape(joints)),
        )


def resample_keypoints(
    keypoints_px: Float[np.ndarray, "N J 2"],
    is_hidden: Bool[np.ndarray, "N J"],
    from_s: Float[np.ndarray, "N"],
    to_s: Float[np.ndarray, "M"],
) -> tuple[Float[np.ndarray, "M J 2"], Bool[np.ndarray, "M J"]]:
    """Keypoints at other times: linear between two seen neighbours, the seen one of a half-seen pair."""
    before, after, share = _neighbours(from_s, to_s)
    share = share[:, None]
    weight = np.where(is_hidden[before], 1.0, np.where(is_hidden[after], 0.0, share))[..., None]
    mixed_px = (1 - weight) * keypoints_px[before] + weight * keypoints_px[after]
    # A neighbour that is far away in time is no witness: what lies nearer to a hidden frame is hidden.
    hidden = np.where(share < 0.5, is_hidden[before], is_hidden[after])
    return mixed_px.astype(np.float32), hidden


def interpolate(
    values: Float[np.ndarray, "N ..."], from_s: Float[np.ndarray, "N"], to_s: Float[np.ndarray, "M"]
) -> Float[np.ndarray, "M ..."]:
    """Linear interpolation along the first axis; held constant beyond the ends."""
    before, after, share = _neighbours(from_s, to_s)
    share = share.reshape(-1, *[1] * (values.ndim - 1)).astype(values.dtype)
    return np.asarray((1 - share) * values[before] + share * values[after])


def _neighbours(
    from_s: Float[np.ndarray, "N"], to_s: Float[np.ndarray, "M"]
) -> tuple[Int[np.ndarray, "M"], Int[np.ndarray, "M"], Float[np.ndarray, "M"]]:
    if len(from_s) == 1:
        only = np.zeros(len(to_s), np.intp)
        return only, only, np.zeros(len(to_s))
    after = np.searchsorted(from_s, to_s, side="right").clip(1, len(from_s) - 1)
    before = after - 1
    share = ((to_s - from_s[before]) / (from_s[after] - from_s[before])).clip(0, 1)
    return before, after, share
