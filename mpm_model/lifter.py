"""Keypoints in, poses out: the model as its users see it.

lifter = Lifter.load("checkpoint")
joints_rel_m = lifter(keypoints_px, confidence, rate_hz=60)
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mpm_model.checkpoint import Checkpoint, load_checkpoint
from mpm_model.errors import InputError, refuse
from mpm_model.network.lifting import LiftingModel
from mpm_model.network.masked import UnifiedPoseModel
from mpm_model.pose.normalize import normalize_keypoints
from mpm_model.pose.skeleton import Skeleton
from mpm_model.pose.windows import stitch, window_starts

LIFTING_ARCHITECTURES = ("lifting", "unified")
"""Architectures of checkpoints that lift."""
MODES = ("fast", "exact")
"""`fast`: all frames of overlapping windows, blended. `exact`: the centre of one window per frame."""


def shipped_weights() -> Path:
    """The folder of the weights that ship; its card says how they were made."""
    return Path(__file__).parent / "weights"


class Lifter:
    """Lifts the track of one person, of any length and rate, with one fixed model."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str | torch.device = "cpu",
        mode: str = "fast",
        batch_windows: int = 16,
        min_confidence: float = 0.1,
    ) -> None:
        """Take a lifting checkpoint into use.

        `fast` takes all frames of overlapping windows and blends the overlap; `exact` takes, as the
        paper does, one window per frame and its centre. Keypoints of less than `min_confidence` enter
        as hidden.
        """
        if mode not in MODES:
            raise InputError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        if not isinstance(checkpoint.model, LiftingModel | UnifiedPoseModel):
            raise InputError(
                f"wanted a lifting checkpoint, got {type(checkpoint.model).__name__}; fine-tune it to lift"
            )
        self.model = checkpoint.model.to(device).eval()
        self.skeleton = checkpoint.skeleton
        self.normalisation = checkpoint.normalisation
        self.has_confidence = checkpoint.has_confidence
        self.rate_hz = checkpoint.rate_hz
        self.device = torch.device(device)
        self.mode = mode
        self.batch_windows = batch_windows
        self.min_confidence = min_confidence

    @classmethod
    def load(
        cls,
        folder: str | Path | None = None,
        *,
        device: str | torch.device = "cpu",
        mode: str = "fast",
        batch_windows: int = 16,
        min_confidence: float = 0.1,
        expect_skeleton: Skeleton | None = None,
    ) -> "Lifter":
        """Load a checkpoint folder, or the weights that ship.

        InputError if the folder is no checkpoint, or none that lifts this skeleton.
        """
        checkpoint = load_checkpoint(
            shipped_weights() if folder is None else Path(folder),
            expect_architecture=LIFTING_ARCHITECTURES,
            expect_skeleton=expect_skeleton,
        )
        return cls(
            checkpoint,
            device=device,
            mode=mode,
            batch_windows=batch_windows,
            min_confidence=min_confidence,
        )

    @property
    def window_frames(self) -> int:
        """Frames of a window of the model."""
        return self.model.config.frames

    @property
    def overlap_frames(self) -> int:
        """Frames that neighbouring windows share in `fast`: a sixteenth, which costs about as much."""
        return min(max(2, self.window_frames // 16), self.window_frames - 1)

    def __call__(
        self,
        keypoints_px: Float[np.ndarray, "N J 2"],
        confidence: Float[np.ndarray, "N J"] | None = None,
        *,
        rate_hz: float | None = None,
        width_px: int | None = None,
        height_px: int | None = None,
    ) -> Float[np.ndarray, "N J 3"]:
        """Lift a track whose frames follow each other without gaps.

        Joints come in the order of `self.skeleton`, in camera axes (x right, y down, z forward), in
        metres, relative to the root. A frame nobody saw is given with confidence 0. `rate_hz` is the
        track's rate (default: the model's); other rates are resampled and the result is brought back to
        the track's own frames. The image size is needed only by models with the `screen` normalisation.
        """
        if confidence is None:
            confidence = np.ones(keypoints_px.shape[:2], dtype=np.float32)
        self._check(keypoints_px, confidence, width_px, height_px)
        is_hidden = confidence < self.min_confidence
        frames = len(keypoints_px)
        # Within one per cent the model's own clock is as good, and resampling would only blur.
        if rate_hz is None or abs(rate_hz / self.rate_hz - 1) < 0.01 or frames == 1:
            return self._lift(keypoints_px, confidence, is_hidden, width_px, height_px)
        track_s = np.arange(frames) / rate_hz
        model_s = np.arange(int(np.floor(track_s[-1] * self.rate_hz)) + 2) / self.rate_hz
        model_px, model_hidden = resample_keypoints(keypoints_px, is_hidden, track_s, model_s)
        model_confidence = interpolate(confidence, track_s, model_s)
        joints_rel_m = self._lift(model_px, model_confidence, model_hidden, width_px, height_px)
        return interpolate(joints_rel_m, model_s, track_s)

    def _check(
        self,
        keypoints_px: np.ndarray,
        confidence: np.ndarray,
        width_px: int | None,
        height_px: int | None,
    ) -> None:
        joints = len(self.skeleton)
        faults = []
        if keypoints_px.ndim != 3 or keypoints_px.shape[1:] != (joints, 2) or not len(keypoints_px):
            faults.append(
                f"keypoints_px must be (N, {joints}, 2) of {self.skeleton.name} with N >= 1, "
                f"got {keypoints_px.shape}"
            )
        if confidence.shape != keypoints_px.shape[:2]:
            faults.append(f"confidence must be {keypoints_px.shape[:2]}, got {confidence.shape}")
        elif not np.isfinite(confidence).all():
            faults.append("confidence must be finite; give 0 where nobody knows")
        elif not np.isfinite(keypoints_px).all():
            faults.append(
                "keypoints_px must be finite; give a keypoint nobody saw confidence 0 instead of NaN"
            )
        if self.normalisation == "screen" and (width_px is None or height_px is None):
            faults.append("this model needs the image size: give width_px and height_px")
        if self.normalisation == "both" and (width_px is None) != (height_px is None):
            faults.append("half an image size is none: give both width_px and height_px, or neither")
        refuse("keypoints", faults)

    def _lift(
        self,
        keypoints_px: Float[np.ndarray, "N J 2"],
        confidence: Float[np.ndarray, "N J"],
        is_hidden: Bool[np.ndarray, "N J"],
        width_px: int | None,
        height_px: int | None,
    ) -> Float[np.ndarray, "N J 3"]:
        frames, length = len(keypoints_px), self.window_frames
        if self.mode == "exact":
            before = length // 2
            padded = np.arange(-before, frames + length - before - 1)
            starts = np.arange(frames)
        else:
            padded = np.arange(max(frames, length))
            starts = window_starts(len(padded), window_frames=length, hop_frames=length - self.overlap_frames)
        # Beyond the track's ends its first and last frames stand still.
        padded = padded.clip(0, frames - 1)
        keypoints = torch.from_numpy(np.ascontiguousarray(keypoints_px[padded], dtype=np.float32))
        hidden = torch.from_numpy(np.ascontiguousarray(is_hidden[padded]))
        sure = torch.from_numpy(np.ascontiguousarray(confidence[padded], dtype=np.float32)).clamp(0, 1)
        lifted = torch.cat(
            [
                self._windows(
                    keypoints[rows].to(self.device),
                    sure[rows].to(self.device),
                    hidden[rows].to(self.device),
                    width_px,
                    height_px,
                )
                for rows in self._rows(starts)
            ]
        ).cpu()
        if self.mode == "exact":
            return np.asarray(lifted[:, 0].numpy())
        return np.asarray(stitch(lifted.numpy(), starts, len(padded))[:frames])

    def _rows(self, starts: Int[np.ndarray, "W"]) -> Iterator[Tensor]:
        within = np.arange(self.window_frames)
        for first in range(0, len(starts), self.batch_windows):
            yield torch.from_numpy(starts[first : first + self.batch_windows, None] + within)

    @torch.inference_mode()
    def _windows(
        self,
        keypoints_px: Float[Tensor, "W T J 2"],
        confidence: Float[Tensor, "W T J"],
        is_hidden: Bool[Tensor, "W T J"],
        width_px: int | None,
        height_px: int | None,
    ) -> Tensor:
        size = [
            torch.full((len(keypoints_px),), float(pixels or 0), device=self.device)
            for pixels in (width_px, height_px)
        ]
        keypoints = normalize_keypoints(
            keypoints_px,
            is_hidden,
            normalisation=self.normalisation,
            width_px=size[0],
            height_px=size[1],
            confidence=confidence if self.has_confidence else None,
        )
        if self.mode == "exact":
            return self.model(keypoints, is_hidden=is_hidden).center  # type: ignore[no-any-return]
        return self.model.sequence(keypoints, is_hidden=is_hidden)


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
    after = np.searchsorted(from_s, to_s, side="right").clip(1, len(from_s) - 1)
    before = after - 1
    share = ((to_s - from_s[before]) / (from_s[after] - from_s[before])).clip(0, 1)
    return before, after, share
