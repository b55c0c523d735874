"""Keypoints in, poses out: the model as its users see it.

lifter = Lifter.load("checkpoint")
joints_rel_m = lifter(keypoints_px, confidence, rate_hz=60)
"""

import math
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
from mpm_model.pose.resample import Clock, SampledTrack
from mpm_model.pose.resample import interpolate as interpolate
from mpm_model.pose.resample import resample_keypoints as resample_keypoints
from mpm_model.pose.skeleton import Skeleton
from mpm_model.pose.windows import stitch, window_starts

LIFTING_ARCHITECTURES = ("lifting", "unified")
"""Architectures of checkpoints that lift."""
MODES = ("fast", "exact", "causal")
"""`fast`: all frames of overlapping windows, blended. `exact`: the centre of one window per frame. `causal`:
the last frame of one window per frame, which sees only the past."""
LONGEST_SHORT_WINDOW = 27
"""Frames of windows that are cheap enough for every frame to be lifted three times."""
BLOCK_FRAMES = 2**16
"""Frames of a track that are in work at once: the windows of an hour of video need not be held."""


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
        is_mirrored: bool = False,
    ) -> None:
        """Take a lifting checkpoint into use.

        `fast` takes all frames of overlapping windows and blends the overlap; `exact` takes, as the
        paper does, one window per frame and its centre; `causal` one window per frame that ends with it.
        Keypoints of less than `min_confidence` enter as hidden. With `is_mirrored` every window is lifted
        once more as a mirror shows it, and the mean is taken: twice the cost.
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
        self.error_bands = checkpoint.error_bands
        self.is_mirrored = is_mirrored

    @classmethod
    def load(
        cls,
        folder: str | Path | None = None,
        *,
        device: str | torch.device = "cpu",
        mode: str = "fast",
        batch_windows: int = 16,
        min_confidence: float = 0.1,
        is_mirrored: bool = False,
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
            is_mirrored=is_mirrored,
        )

    @property
    def window_frames(self) -> int:
        """Frames of a window of the model."""
        return self.model.config.frames

    @property
    def overlap_frames(self) -> int:
        """Frames that neighbouring windows share in `fast`: as many as leave no seam.

        Two thirds of a short window, of which every frame then is blended of three; of longer ones 16
        frames, of the longest a fifteenth: a window of 243 costs 7 % more than alone.
        """
        length = self.window_frames
        return 2 * length // 3 if length <= LONGEST_SHORT_WINDOW else max(16, length // 15)

    def context_frames(self, rate_hz: float | None = None) -> int:
        """So many frames of a track away from a frame, nothing has a part in its pose any more."""
        return math.ceil(self._clock(rate_hz).to_source(np.array(self.window_frames + 1))) + 1

    def __call__(
        self,
        keypoints_px: Float[np.ndarray, "N J 2"],
        confidence: Float[np.ndarray, "N J"] | None = None,
        *,
        rate_hz: float | None = None,
        width_px: int | None = None,
        height_px: int | None = None,
        first_frame: int = 0,
        only: slice | None = None,
    ) -> Float[np.ndarray, "N J 3"]:
        """Lift a track whose frames follow each other without gaps, or `only` these rows of it.

        Joints come in the order of `self.skeleton`, in camera axes (x right, y down, z forward), in
        metres, relative to the root. A frame nobody saw is given with confidence 0. `rate_hz` is the
        track's rate (default: the model's); other rates are resampled and the result is brought back to
        the track's own frames. The image size is needed only by models with the `screen` normalisation.

        `first_frame` is the number of the first frame in its source. Windows are counted from the source's
        frame 0: tracks that were cut from one give what the whole one gives, except near the cuts, see
        `context_frames`.
        """
        if confidence is None:
            confidence = np.ones(keypoints_px.shape[:2], dtype=np.float32)
        self._check(keypoints_px, confidence, width_px, height_px)
        track = SampledTrack(
            keypoints_px=keypoints_px,
            confidence=confidence,
            min_confidence=self.min_confidence,
            first_frame=first_frame,
            clock=self._clock(rate_hz),
        )
        rows = chosen_rows(len(keypoints_px), only)
        joints_rel_m = np.empty((len(rows), len(self.skeleton), 3), np.float32)
        for begin in range(0, len(rows), BLOCK_FRAMES):
            block = rows[begin : begin + BLOCK_FRAMES]
            joints_rel_m[begin : begin + len(block)] = self._lift(track, block, (width_px, height_px))
        return joints_rel_m

    def _clock(self, rate_hz: float | None) -> Clock:
        return Clock(rate_hz=rate_hz or self.rate_hz, model_rate_hz=self.rate_hz)

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
        self, track: SampledTrack, rows: range, image_px: tuple[int | None, int | None]
    ) -> Float[np.ndarray, "N J 3"]:
        length = self.window_frames

        def windows(starts: Int[np.ndarray, "W"]) -> Float[np.ndarray, "W T J 3"]:
            count, lifted = len(starts), []
            if self.mode == "exact":
                # The paper's strided layers round by the size of the batch (2e-3 mm): they get full ones.
                starts = np.pad(starts, (0, -count % self.batch_windows), mode="edge")
            for first in range(0, len(starts), self.batch_windows):
                members = starts[first : first + self.batch_windows, None]
                if self.mode == "causal":  # windows go back from the source's own frames
                    at = members + track.clock.to_source(np.arange(1 - length, 1))
                else:
                    at = track.rows_of(members + np.arange(length))
                lifted.append(self._windows(*track.sample(at), image_px))
            return np.asarray(torch.cat(lifted)[:count].cpu().numpy())

        if self.mode == "causal":
            return windows(np.array(rows))[:, 0]
        place = track.place(rows)
        wanted = range(math.floor(place[0]), math.ceil(place[-1]) + 1)
        if self.mode == "exact":
            at_model_rate_m = windows(np.array(wanted) - length // 2)[:, 0]
        else:
            starts = self._starts(track.model_frames, wanted)
            begin, stop = starts[0], starts[-1] + length
            blended_m = stitch(windows(starts), starts - begin, stop - begin)
            at_model_rate_m = blended_m[wanted.start - begin : wanted.stop - begin]
        return interpolate(at_model_rate_m, np.array(wanted, dtype=np.float64), place)

    def _starts(self, frames: range, wanted: range) -> Int[np.ndarray, "W"]:
        """First frames of the windows of a track that have a part in the wanted frames."""
        length = self.window_frames
        starts = window_starts(
            max(len(frames), length),
            window_frames=length,
            hop_frames=length - self.overlap_frames,
            first_frame=frames.start,
        )
        return starts[(starts + length > wanted.start) & (starts < wanted.stop)]

    @torch.inference_mode()
    def _windows(
        self,
        keypoints_px: Float[Tensor, "W T J 2"],
        confidence: Float[Tensor, "W T J"],
        is_hidden: Bool[Tensor, "W T J"],
        image_px: tuple[int | None, int | None],
    ) -> Float[Tensor, "W T J 3"]:
        """Poses of all frames of windows; of one frame where one counts."""
        keypoints_px, confidence = keypoints_px.to(self.device), confidence.to(self.device)
        is_hidden = is_hidden.to(self.device)
        size_px = torch.tensor([float(pixels or 0) for pixels in image_px], device=self.device)
        lifted = self._network(keypoints_px, confidence, is_hidden, size_px)
        if not self.is_mirrored:
            return lifted
        swap = torch.from_numpy(self.skeleton.mirror).to(self.device)
        flip = size_px.new_tensor([-1, 1, 1])
        mirrored_px = keypoints_px[:, :, swap] * flip[:2] + size_px * size_px.new_tensor([1, 0])
        mirrored = self._network(mirrored_px, confidence[:, :, swap], is_hidden[:, :, swap], size_px)
        return (lifted + mirrored[:, :, swap] * flip) / 2

    def _network(
        self,
        keypoints_px: Float[Tensor, "W T J 2"],
        confidence: Float[Tensor, "W T J"],
        is_hidden: Bool[Tensor, "W T J"],
        size_px: Float[Tensor, "2"],
    ) -> Float[Tensor, "W T J 3"]:
        keypoints = normalize_keypoints(
            keypoints_px,
            is_hidden,
            normalisation=self.normalisation,
            width_px=size_px[0].expand(len(keypoints_px)),
            height_px=size_px[1].expand(len(keypoints_px)),
            confidence=confidence if self.has_confidence else None,
        )
        # Looking for what is hidden costs a processor less than putting tokens where nothing is.
        is_whole = self.device.type == "cpu" and not is_hidden.any()
        hidden = None if is_whole else is_hidden
        if self.mode == "exact":
            return self.model(keypoints, is_hidden=hidden).center  # type: ignore[no-any-return]
        sequence = self.model.sequence(keypoints, is_hidden=hidden)
        return sequence[:, -1:] if self.mode == "causal" else sequence


def chosen_rows(frames: int, only: slice | None) -> range:
    """The rows that `only` takes of so many; InputError if these are none, or not each."""
    rows = range(frames)[only or slice(None)]
    if not rows or rows.step != 1:
        raise InputError(f"only must take at least one row, and each in order, got {only} of {frames} rows")
    return rows
