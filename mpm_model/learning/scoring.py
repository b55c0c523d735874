"""How well a model does: sums and counts, so that workers and batches add up."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mpm_model.learning.batches import Batch, Corpus, ViewConfig, draw_batch
from mpm_model.learning.masking import MaskConfig, draw_hidden
from mpm_model.learning.objectives import Objective, hidden_tensors
from mpm_model.learning.order import Samples
from mpm_model.pose.metrics import MM_PER_M

SCORING_EPOCH = 2**31 - 1
"""Epoch that views and masks of scoring are counted from: no training run reaches it."""


@dataclass
class Mean:
    """A mean kept as sum and count."""

    total: float = 0.0
    count: float = 0.0

    def add(self, values: Tensor, is_counted: Tensor) -> None:
        """Add the values whose cell is True."""
        self.total += float(values.masked_fill(~is_counted, 0.0).sum(dtype=torch.float64))
        self.count += float(is_counted.sum())

    @property
    def value(self) -> float:
        """The mean; NaN of nothing."""
        return self.total / self.count if self.count else float("nan")


@dataclass
class ReconstructionScore:
    """Error of the cells that were hidden."""

    keypoints: Mean = field(default_factory=Mean)
    """In the network's own 2D unit."""
    joints_m: Mean = field(default_factory=Mean)

    @property
    def keypoints_percent(self) -> float:
        """2D error in per cent of the normalised half-range (1.0 of the network's input unit)."""
        return 100 * self.keypoints.value

    @property
    def joints_mm(self) -> float:
        """3D error in millimetres."""
        return MM_PER_M * self.joints_m.value


def scoring_batches(
    corpus: Corpus, *, seed: int, view: ViewConfig, batch_windows: int, dataset: str | None = None
) -> Iterable[Batch]:
    """All windows of a corpus, or of one of its data sets, once, in order, through cameras that are the same
    at every call."""
    rows = np.arange(len(corpus))
    if dataset is not None:
        rows = np.flatnonzero(corpus.dataset == corpus.dataset_names.index(dataset))
    for start in range(0, len(rows), batch_windows):
        samples = Samples.once(rows[start : start + batch_windows])
        yield draw_batch(corpus, samples, seed=seed, epoch=SCORING_EPOCH, config=view)


@torch.inference_mode()
def score_reconstruction(
    model: nn.Module, batches: Iterable[Batch], *, mask: MaskConfig, seed: int
) -> ReconstructionScore:
    """Error of a masked-pose model on the cells hidden from it; the masks are the same at every call."""
    score = ReconstructionScore()
    model.eval()
    for batch in batches:
        frames, joints = batch.is_hidden.shape[1:]
        hidden = [
            draw_hidden(
                stream,
                seed=seed,
                epoch=SCORING_EPOCH,
                sample_ids=batch.sample_ids,
                frames=frames,
                joints=joints,
                config=mask,
            )
            for stream in ("2d", "3d")
        ]
        (frame_2d, joint_2d), (frame_3d, joint_3d) = (hidden_tensors(each, batch) for each in hidden)
        reconstruction = model(
            batch.keypoints,
            batch.joints_rel_m,
            is_hidden_joint_2d=joint_2d | batch.is_hidden,
            is_hidden_frame_2d=frame_2d,
            is_hidden_joint_3d=joint_3d | ~batch.is_valid,
            is_hidden_frame_3d=frame_3d,
        )
        score.keypoints.add(
            torch.linalg.vector_norm(reconstruction.keypoints - batch.true_keypoints, dim=-1),
            (joint_2d | frame_2d[..., None]) & batch.has_image,
        )
        score.joints_m.add(
            torch.linalg.vector_norm(reconstruction.joints - batch.joints_rel_m, dim=-1),
            (joint_3d | frame_3d[..., None]) & batch.is_valid,
        )
    return score


@torch.inference_mode()
def score_objective(model: nn.Module, batches: Iterable[Batch], objective: Objective) -> dict[str, float]:
    """Mean of an objective's metrics over batches, weighted by their windows."""
    totals: dict[str, float] = {}
    windows = 0
    model.eval()
    for batch in batches:
        _, metrics = objective(model, batch, SCORING_EPOCH)
        count = len(batch.sample_ids)
        windows += count
        for name, value in metrics.items():
            totals[name] = totals.get(name, 0.0) + float(value) * count
    return {name: total / windows for name, total in totals.items()}


def score_by_dataset(
    model: nn.Module, corpus: Corpus, objective: Objective, *, seed: int, view: ViewConfig
) -> dict[str, float]:
    """Metrics of an objective over all windows, and over those of each data set: `loss`, `cmu/loss`."""
    sums: dict[str, float] = {}
    scores: dict[str, float] = {}
    for number, dataset in enumerate(corpus.dataset_names):
        batches = scoring_batches(corpus, seed=seed, view=view, batch_windows=64, dataset=dataset)
        count = int((corpus.dataset == number).sum())
        for name, value in score_objective(model, batches, objective).items():
            scores[f"{dataset}/{name}"] = value
            sums[name] = sums.get(name, 0.0) + value * count
    return {name: total / len(corpus) for name, total in sums.items()} | scores


@torch.inference_mode()
def mean_pose_m(batches: Iterable[Batch]) -> Float[np.ndarray, "J 3"]:
    """The mean root-relative pose over batches: what one predicts who looks at nothing."""
    total: Tensor | None = None
    count: Tensor | None = None
    for batch in batches:
        weights = batch.is_valid[..., None].double()
        summed, counted = (batch.joints_rel_m * weights).sum((0, 1)), weights.sum((0, 1))
        total = summed if total is None else total + summed
        count = counted if count is None else count + counted
    if total is None or count is None:
        raise ValueError("mean_pose_m needs at least one batch")
    mean: np.ndarray = (total / count.clamp(min=1)).float().cpu().numpy()
    return mean
