"""How well a model does: sums and counts, so that workers and batches add up."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mpm_model.learning.batches import Batch, Corpus, ViewConfig, draw_batch
from mpm_model.learning.masking import LIMBS, MaskConfig, draw_hidden
from mpm_model.learning.objectives import Objective
from mpm_model.learning.order import Samples
from mpm_model.pose.metrics import MM_PER_M
from mpm_model.workers import total, worker_count, worker_rank

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
    corpus: Corpus,
    *,
    seed: int,
    view: ViewConfig,
    batch_windows: int,
    dataset: str | None = None,
    is_shared: bool = False,
) -> Iterable[Batch]:
    """All windows of a corpus, or of one of its data sets, once, in order, through cameras that are the same
    at every call; of them, if shared, this worker's part."""
    rows = np.arange(len(corpus))
    if dataset is not None:
        rows = np.flatnonzero(corpus.dataset == corpus.dataset_names.index(dataset))
    if is_shared:
        rows = rows[worker_rank() :: worker_count()]
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
        hidden_2d, hidden_3d = (
            draw_hidden(
                stream,
                seed=seed,
                epoch=SCORING_EPOCH,
                sample_ids=batch.sample_ids,
                frames=frames,
                joints=joints,
                config=mask,
                device=batch.keypoints.device,
            )
            for stream in ("2d", "3d")
        )
        reconstruction = model(
            batch.keypoints,
            batch.joints_rel_m,
            is_hidden_joint_2d=hidden_2d.is_hidden_joint | batch.is_hidden,
            is_hidden_frame_2d=hidden_2d.is_hidden_frame,
            is_hidden_joint_3d=hidden_3d.is_hidden_joint | ~batch.is_valid,
            is_hidden_frame_3d=hidden_3d.is_hidden_frame,
        )
        score.keypoints.add(
            torch.linalg.vector_norm(reconstruction.keypoints - batch.true_keypoints, dim=-1),
            hidden_2d.is_hidden & batch.has_image,
        )
        score.joints_m.add(
            torch.linalg.vector_norm(reconstruction.joints - batch.joints_rel_m, dim=-1),
            hidden_3d.is_hidden & batch.is_valid,
        )
    return score


@torch.inference_mode()
def score_by_dataset(
    model: nn.Module, corpus: Corpus, objective: Objective, *, seed: int, view: ViewConfig
) -> dict[str, float]:
    """Metrics of an objective over all windows and over those of each data set (`loss`, `cmu/loss`), and the
    error of each limb in millimetres (`limb/left_arm`).

    Workers score a share each and get the whole.
    """
    model.eval()
    datasets, device = len(corpus.dataset_names), corpus.joints_world_m.device
    names, joints = list(objective.weights), len(corpus.skeleton)
    # For each data set and error, for each joint: summed error and count.
    sums = torch.zeros(datasets, len(names), joints, 2, dtype=torch.float64, device=device)
    for number, dataset in enumerate(corpus.dataset_names):
        for batch in scoring_batches(
            corpus, seed=seed, view=view, batch_windows=64, dataset=dataset, is_shared=True
        ):
            errors, cells = objective.errors(model, batch, SCORING_EPOCH), objective.cells(batch)
            for at, name in enumerate(names):
                sums[number, at, :, 0] += (errors[name] * cells[name]).sum((0, 1), dtype=torch.float64)
                sums[number, at, :, 1] += cells[name].sum((0, 1))
    sums = total(sums).cpu()

    def metrics(of: Tensor) -> dict[str, float]:
        error, count = of.sum(1).unbind(-1)
        means = error / count.clamp(min=1)
        return {name: float(value) for name, value in objective.metrics(means).items()}

    scores = metrics(sums.sum(0))
    for number, dataset in enumerate(corpus.dataset_names):
        scores |= {f"{dataset}/{name}": value for name, value in metrics(sums[number]).items()}
    judged = sums.sum(0)[names.index(objective.judged_by)]
    for limb, members in LIMBS.items():
        if set(members) <= set(corpus.skeleton.joints):
            error, count = judged[list(corpus.skeleton.select(*members))].sum(0).tolist()
            scores[f"limb/{limb.replace(' ', '_')}"] = MM_PER_M * error / max(count, 1)
    return scores


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
