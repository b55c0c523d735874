"""Partial 3D poses in, whole ones out: the model as its users see it.

completer = Completer.load("checkpoint")
joints_m = completer(joints_m, is_hidden, rate_hz=60)
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mpm_model.checkpoint import Checkpoint, load_checkpoint
from mpm_model.errors import InputError, refuse
from mpm_model.lifter import interpolate, resample_keypoints, shipped_weights
from mpm_model.network.masked import MaskedPoseModel
from mpm_model.pose.normalize import from_root, root_relative
from mpm_model.pose.skeleton import Skeleton
from mpm_model.pose.windows import stitch, window_starts

COMPLETING_ARCHITECTURES = ("masked", "unified")
"""Architectures of checkpoints that complete 3D poses."""
HIDDEN_ROOT = ("refuse", "interpolate")
"""What becomes of frames whose root is hidden, although the model sees poses relative to it. `interpolate`:
the root lies on the line in time between the frames that have it, and stands still before and after them."""

SHORT_GAP_S = 0.1
"""A joint that is gone for so long moves on a straight line but for 4 mm, a wrist 8 mm (CMU, held-out);
for 0.2 s it is 10 and 20 mm."""


class Completer:
    """Fills in hidden joints of one person's 3D track, of any length and rate, with one fixed model."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str | torch.device = "cpu",
        batch_windows: int = 16,
        keep_seen: bool = True,
        hidden_root: str = "refuse",
        short_gap_s: float = SHORT_GAP_S,
    ) -> None:
        """Take a checkpoint that completes into use.

        Seen joints come back as they were given; with `keep_seen=False` as the model re-estimates them.
        `hidden_root` is one of `HIDDEN_ROOT`. A joint that is hidden for at most `short_gap_s`, and seen
        before and after, moves on a straight line relative to the root and counts as seen from there on; 0
        leaves all to the model.
        """
        if not isinstance(checkpoint.model, MaskedPoseModel):
            raise InputError(
                f"wanted a checkpoint that completes 3D poses, got {type(checkpoint.model).__name__}; "
                "fine-tune one with the task completion or unified"
            )
        if hidden_root not in HIDDEN_ROOT:
            raise InputError(f"hidden_root must be one of {', '.join(HIDDEN_ROOT)}, got {hidden_root!r}")
        self.model = checkpoint.model.to(device).eval()
        self.skeleton = checkpoint.skeleton
        self.rate_hz = checkpoint.rate_hz
        self.device = torch.device(device)
        self.batch_windows = batch_windows
        self.keep_seen = keep_seen
        self.hidden_root = hidden_root
        self.short_gap_s = short_gap_s

    @classmethod
    def load(
        cls,
        folder: str | Path | None = None,
        *,
        device: str | torch.device = "cpu",
        batch_windows: int = 16,
        keep_seen: bool = True,
        hidden_root: str = "refuse",
        short_gap_s: float = SHORT_GAP_S,
        expect_skeleton: Skeleton | None = None,
    ) -> "Completer":
        """Load a checkpoint folder, or the weights that ship.

        InputError if the folder is no checkpoint, or none that completes poses of this skeleton.
        """
        checkpoint = load_checkpoint(
            shipped_weights() if folder is None else Path(folder),
            expect_architecture=COMPLETING_ARCHITECTURES,
            expect_skeleton=expect_skeleton,
        )
        return cls(
            checkpoint,
            device=device,
            batch_windows=batch_windows,
            keep_seen=keep_seen,
            hidden_root=hidden_root,
            short_gap_s=short_gap_s,
        )

    @property
    def window_frames(self) -> int:
        """Frames of a window of the model."""
        return self.model.config.frames

    @property
    def overlap_frames(self) -> int:
        """Frames that neighbouring windows share: a sixteenth, as the lifter's."""
        return min(max(2, self.window_frames // 16), self.window_frames - 1)

    def __call__(
        self,
        joints_m: Float[np.ndarray, "N J 3"],
        is_hidden: Bool[np.ndarray, "N J"],
        *,
        rate_hz: float | None = None,
    ) -> Float[np.ndarray, "N J 3"]:
        """Complete a track whose frames follow each other without gaps; hidden joints may hold anything.

        Joints come in the order of `self.skeleton`, in metres, in axes turned as a camera's (x right, y down,
        z forward), wherever their origin is, and go back so. A frame nobody captured is given with all joints
        hidden. `rate_hz` is the track's rate (default: the model's); other rates are resampled and the result
        is brought back to the track's own frames. Beyond the track's ends its first and last frames stand
        still.
        """
        self._check(joints_m, is_hidden)
        root = self.skeleton.parents.index(None)
        given_m = np.where(is_hidden[..., None], 0.0, joints_m).astype(np.float32)
        given_m[:, root] = fill_root(given_m[:, root], is_hidden[:, root])
        rel_m, root_m = root_relative(given_m, self.skeleton)
        rel_m = np.where(is_hidden[..., None], np.float32(0), rel_m)
        is_hidden_rel = is_hidden.copy()
        is_hidden_rel[:, root] = False  # relative to itself it is always known
        longest = int(self.short_gap_s * (rate_hz or self.rate_hz) + 1e-6)
        rel_m, is_hidden_rel = bridge_gaps(rel_m, is_hidden_rel, longest_frames=longest)
        completed_rel_m = self._at_model_rate(rel_m, is_hidden_rel, rate_hz)
        if not self.keep_seen:
            return np.asarray(from_root(completed_rel_m, root_m))
        completed_m = from_root(np.where(is_hidden_rel[..., None], completed_rel_m, rel_m), root_m)
        return np.where(is_hidden[..., None], completed_m, joints_m).astype(np.float32)

    def _check(self, joints_m: np.ndarray, is_hidden: np.ndarray) -> None:
        joints = len(self.skeleton)
        faults = []
        if joints_m.ndim != 3 or joints_m.shape[1:] != (joints, 3) or not len(joints_m):
            faults.append(
                f"joints_m must be (N, {joints}, 3) of {self.skeleton.name} with N >= 1, got {joints_m.shape}"
            )
        if is_hidden.shape != joints_m.shape[:2] or is_hidden.dtype != bool:
            faults.append(
                f"is_hidden must be bool {joints_m.shape[:2]}, got {is_hidden.dtype} {is_hidden.shape}"
            )
        if not faults and not np.isfinite(joints_m[~is_hidden]).all():
            faults.append("joints that are not hidden must be finite; give NaN joints as hidden")
        if not faults:
            faults += self._root_faults(is_hidden)
        refuse("joints", faults)

    def _root_faults(self, is_hidden: Bool[np.ndarray, "N J"]) -> list[str]:
        root = self.skeleton.parents.index(None)
        hidden = int(is_hidden[:, root].sum())
        name = self.skeleton.joints[root]
        if hidden == len(is_hidden):
            return [f"{name} is hidden in every frame, and the model sees poses relative to it; give it"]
        if hidden and self.hidden_root == "refuse":
            return [
                f"{name} is hidden in {hidden} of {len(is_hidden)} frames, and the model sees poses relative "
                "to it; give it, or ask for hidden_root interpolate"
            ]
        return []

    def _at_model_rate(
        self,
        rel_m: Float[np.ndarray, "N J 3"],
        is_hidden: Bool[np.ndarray, "N J"],
        rate_hz: float | None,
    ) -> Float[np.ndarray, "N J 3"]:
        frames = len(rel_m)
        # Within one per cent the model's own clock is as good, and resampling would only blur.
        if rate_hz is None or abs(rate_hz / self.rate_hz - 1) < 0.01 or frames == 1:
            return self._complete(rel_m, is_hidden)
        track_s = np.arange(frames) / rate_hz
        model_s = np.arange(int(np.floor(track_s[-1] * self.rate_hz)) + 2) / self.rate_hz
        return interpolate(
            self._complete(*resample_keypoints(rel_m, is_hidden, track_s, model_s)), model_s, track_s
        )

    @torch.inference_mode()
    def _complete(
        self, rel_m: Float[np.ndarray, "N J 3"], is_hidden: Bool[np.ndarray, "N J"]
    ) -> Float[np.ndarray, "N J 3"]:
        frames, length = len(rel_m), self.window_frames
        padded = np.arange(max(frames, length)).clip(0, frames - 1)
        starts = window_starts(len(padded), window_frames=length, hop_frames=length - self.overlap_frames)
        poses = torch.from_numpy(np.ascontiguousarray(rel_m[padded], dtype=np.float32))
        hidden = torch.from_numpy(np.ascontiguousarray(is_hidden[padded]))
        completed: list[Tensor] = []
        for first in range(0, len(starts), self.batch_windows):
            rows = self._frames_of(starts[first : first + self.batch_windows])
            windows = poses[rows].to(self.device)
            completed.append(
                self.model.reconstruct_3d(
                    windows, is_hidden_joint=hidden[rows].to(self.device), is_hidden_frame=None
                ).cpu()
            )
        return np.asarray(stitch(torch.cat(completed).numpy(), starts, len(padded))[:frames])

    def _frames_of(self, starts: Int[np.ndarray, "W"]) -> Int[Tensor, "W T"]:
        return torch.from_numpy(starts[:, None] + np.arange(self.window_frames))


def fill_root(root_m: Float[np.ndarray, "N 3"], is_hidden: Bool[np.ndarray, "N"]) -> Float[np.ndarray, "N 3"]:
    """The root on the line in time between the frames that have it; at least one does."""
    if not is_hidden.any():
        return root_m
    seen = np.flatnonzero(~is_hidden).astype(np.float64)
    times = np.arange(len(root_m), dtype=np.float64)
    if len(seen) == 1:
        return np.repeat(root_m[~is_hidden], len(root_m), axis=0)
    return np.where(is_hidden[:, None], interpolate(root_m[~is_hidden], seen, times), root_m)


def bridge_gaps(
    points: Float[np.ndarray, "N J C"], is_hidden: Bool[np.ndarray, "N J"], *, longest_frames: int
) -> tuple[Float[np.ndarray, "N J C"], Bool[np.ndarray, "N J"]]:
    """Points on straight lines in time across gaps of at most so many frames; and what is hidden still.

    Only gaps with the same joint seen on both sides are bridged.
    """
    frames = len(points)
    at = np.arange(frames)[:, None]
    before = np.maximum.accumulate(np.where(is_hidden, -1, at))
    after = np.minimum.accumulate(np.where(is_hidden, frames, at)[::-1])[::-1]
    is_bridged = is_hidden & (before >= 0) & (after < frames) & (after - before - 1 <= longest_frames)
    time, joint = np.nonzero(is_bridged)
    first, last = before[time, joint], after[time, joint]
    share = ((time - first) / (last - first))[:, None]
    bridged = points.copy()
    bridged[time, joint] = (1 - share) * points[first, joint] + share * points[last, joint]
    return bridged, is_hidden & ~is_bridged
