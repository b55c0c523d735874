"""The protocol `h36m`: Human3.6M's test subjects S9 and S11, as published since VideoPose3D (Pavllo et al.
2019).

Every action through every camera at 50 Hz, all frames, from the 2D of the file that is given. Predicted and
true root are put together. Figures are means over the frames of an action (both its takes, both people, four
cameras), then over the actions; the mean over all frames stands beside, because some papers print that one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from mpm_model.checkpoint import Checkpoint
from mpm_model.lifter import Lifter
from mpm_model.pose.metrics import acceleration_mm, mpjpe_mm, mpjve_mm, n_mpjpe_mm, p_mpjpe_mm
from mpm_model.pose.normalize import root_relative
from pipelines.protocols.clips import Clip, Predict, flipped, lifter_predicts
from pipelines.protocols.h36m_files import RATE_HZ, TEST_SUBJECTS, read_clips
from pipelines.protocols.results import Measured, Row

VERSION = 1
"""Raised whenever the figures would change."""
FIGURES = {
    "MPJPE mm": (mpjpe_mm, 0),
    "P-MPJPE mm": (p_mpjpe_mm, 0),
    "N-MPJPE mm": (n_mpjpe_mm, 0),
    "MPJVE mm/frame": (mpjve_mm, 1),
    "acceleration mm/frame²": (acceleration_mm, 2),
}
"""Each figure, and how many frames fewer than the clip it is a mean over."""


@dataclass
class Sums:
    """Figures of clips, added up by their frames."""

    totals: dict[str, float] = field(default_factory=lambda: dict.fromkeys(FIGURES, 0.0))
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FIGURES, 0))

    def add(self, predicted_m: Float[np.ndarray, "N J 3"], target_m: Float[np.ndarray, "N J 3"]) -> None:
        """Count a clip's root-relative joints."""
        for name, (measure, fewer) in FIGURES.items():
            frames = len(target_m) - fewer
            if frames > 0:
                self.totals[name] += frames * measure(predicted_m, target_m)
                self.counts[name] += frames

    def figures(self) -> dict[str, float]:
        """Means by name; NaN of nothing."""
        return {
            name: total / self.counts[name] if self.counts[name] else float("nan")
            for name, total in self.totals.items()
        }


def score(predict: Predict, clips: Sequence[Clip]) -> tuple[Row, ...]:
    """A row for each action, the mean over the actions, and the mean over all frames."""
    actions: dict[str, Sums] = {}
    whole = Sums()
    for clip in clips:
        predicted_m = root_relative(predict(clip), clip.skeleton)[0]
        target_m = root_relative(clip.joints_cam_m, clip.skeleton)[0]
        for sums in (actions.setdefault(clip.group, Sums()), whole):
            sums.add(predicted_m, target_m)
    rows = [Row(name=action, scores=sums.figures()) for action, sums in sorted(actions.items())]
    means = {name: float(np.mean([row.scores[name] for row in rows])) for name in FIGURES}
    return (
        *rows,
        Row(name=f"mean over {len(rows)} actions", scores=means),
        Row(name="mean over all frames", scores=whole.figures()),
    )


def measure(
    checkpoint: Checkpoint,
    data: Sequence[str],
    *,
    is_flipped: bool = False,
    keypoints_source: str | None = None,
) -> Measured:
    """The protocol's figures of a checkpoint, from the 3D and the 2D file; see `read_clips`."""
    clips, source, sha256 = read_clips(data, keypoints_source=keypoints_source)
    predict = lifter_predicts(Lifter(checkpoint))
    return Measured(
        rows=score(flipped(predict) if is_flipped else predict, clips),
        data_sha256=sha256,
        people=tuple(f"h36m/{subject}" for subject in TEST_SUBJECTS),
        frames=sum(len(clip.joints_cam_m) for clip in clips),
        keypoints=source,
        notes=_rate_notes(checkpoint.rate_hz),
    )


def _rate_notes(rate_hz: float) -> tuple[str, ...]:
    if rate_hz == RATE_HZ:
        return ()
    return (f"the model sees the 2D at its own {rate_hz:g} Hz; its poses are interpolated to all frames",)
