"""Training for `make bench-accuracy`: the repository's own configurations and loop, bare, on one thread."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from mpm_model.checkpoint import Checkpoint, Network
from mpm_model.learning.batches import Batch, Corpus, draw_batch
from mpm_model.learning.counted import counted_uniform
from mpm_model.learning.objectives import Learner
from mpm_model.learning.order import samples_at
from mpm_model.learning.training import fit
from mpm_model.network.masked import MaskedPoseModel
from pipelines.recipe import fresh_model, objective_of
from pipelines.run_config import FinetuneConfig, PretrainConfig


@dataclass(frozen=True)
class Trained:
    """What a run gave."""

    model: Network
    losses: list[float]
    """Mean loss at each tenth of the run."""


def train(
    config: PretrainConfig | FinetuneConfig,
    corpus: Corpus,
    *,
    steps: int,
    pretrained: MaskedPoseModel | None = None,
    labelled: Corpus | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Trained:
    """Train for so many steps, whatever `epochs` says; pre-training lifts the `labelled` windows alone."""
    model = fresh_model(config, pretrained)
    batch_windows = min(config.batch_windows, len(corpus))
    steps_per_epoch = max(len(corpus) // batch_windows, 1)
    losses: list[float] = []

    def batch_at(step: int) -> tuple[int, Batch]:
        epoch, samples = samples_at(
            step, dataset=corpus.dataset, mix=config.mix, batch_windows=batch_windows, seed=config.seed
        )
        return epoch, draw_batch(corpus, samples, seed=config.seed, epoch=epoch, config=config.view)

    def report(step: int, metrics: dict[str, float]) -> None:
        losses.append(metrics["loss"])
        say(f"{step}/{steps} " + " ".join(f"{name} {value:.4f}" for name, value in metrics.items()))

    labelled_ids = None if labelled is None else labelled.sample_ids
    learner = Learner(model, objective_of(config, corpus.skeleton, labelled_ids=labelled_ids))
    fit(
        learner,
        batch_at,
        optimiser=config.optimiser.build(learner),
        rate_at=lambda step: config.optimiser.rate_at(step, steps=steps, steps_per_epoch=steps_per_epoch),
        steps=range(steps),
        max_grad_norm=config.optimiser.max_grad_norm,
        report=report,
        report_every=max(steps // 10, 1),
        seed=config.seed,
    )
    return Trained(model.eval(), losses)


def share_of(corpus: Corpus, share: float, *, seed: int) -> Corpus:
    """A share of the windows of every data set, drawn by their ids."""
    if share >= 1:
        return corpus
    draw = counted_uniform("labels", seed=seed, epoch=0, sample_ids=corpus.sample_ids, count=1)[:, 0]
    rows = np.concatenate(
        [
            of_set[np.argsort(draw[of_set], kind="stable")[: max(round(share * len(of_set)), 1)]]
            for of_set in (np.flatnonzero(corpus.dataset == number) for number in np.unique(corpus.dataset))
        ]
    )
    rows.sort()
    keep = torch.from_numpy(rows)
    return replace(
        corpus,
        joints_world_m=corpus.joints_world_m[keep],
        is_valid=corpus.is_valid[keep],
        sample_ids=corpus.sample_ids[rows],
        dataset=corpus.dataset[rows],
    )


def checkpoint_of(model: Network, corpus: Corpus, normalisation: str) -> Checkpoint:
    """A checkpoint to lift with."""
    return Checkpoint(
        model=model, skeleton=corpus.skeleton, normalisation=normalisation, rate_hz=corpus.rate_hz, card={}
    )
