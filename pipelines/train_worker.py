"""Body of one Ray Train worker: windows in memory, the loop, a checkpoint folder out."""

import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import torch
from ray.train.torch import get_device, prepare_model
from torch import nn
from torch.optim import Optimizer

from mpm_model.checkpoint import Checkpoint, Network, load_checkpoint, save_checkpoint
from mpm_model.learning.batches import Batch, Corpus, draw_batch
from mpm_model.learning.objectives import Learner, ask
from mpm_model.learning.order import samples_at
from mpm_model.learning.scoring import mean_pose_m, score_by_dataset, scoring_batches
from mpm_model.learning.training import fit
from mpm_model.network.masked import MaskedPoseModel
from pipelines import storage
from pipelines.recipe import fresh_model, objective_of, to_corpus
from pipelines.run_config import FinetuneConfig, PretrainConfig
from pipelines.windows_table import read_all_windows

STATE_FILE = "training_state.pt"
"""Weights, optimiser and step: what a run needs to go on."""
METRICS_FILE = "metrics.json"
"""Every reported row of the run so far."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainJob:
    """All that a worker needs to know."""

    config: PretrainConfig | FinetuneConfig
    """How to train."""
    data: tuple[str, ...]
    """Windows folders."""
    out: str
    """Checkpoint folder to make."""
    init: str | None
    """Pre-trained checkpoint that fine-tuning starts from."""
    threads: int
    """Cores of this worker."""
    card: dict[str, Any]
    """What the checkpoint will say of its making."""

    @property
    def is_pretraining(self) -> bool:
        """Whether this is masked pose modelling rather than lifting."""
        return isinstance(self.config, PretrainConfig)


def train_worker(settings: dict[str, Any]) -> None:
    """Train one model to its end, resuming from Ray Train's latest checkpoint if there is one."""
    job: TrainJob = settings["job"]
    config = job.config
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(job.threads)
    device = get_device()
    # Else gradients of gathers are summed in the order in which threads come; on a GPU some always are.
    torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")

    train, validation, rate_hz = load_corpora(job, device)
    model = build_model(job)
    objective = objective_of(config, train.skeleton)
    # Completion leaves the 2D embedding alone.
    wrapped = prepare_model(
        Learner(model, objective), parallel_strategy_kwargs={"find_unused_parameters": True}
    )
    optimiser = config.optimiser.build(wrapped)
    start, rows = _resume(model, optimiser)
    steps_per_epoch = len(train) // config.batch_windows
    steps = steps_per_epoch * config.epochs
    leg = steps_per_epoch * config.scale.checkpoint_every_epochs

    def batch_at(step: int) -> tuple[int, Batch]:
        # Dropout, too, depends on the step alone, so that a resumed run is the run.
        torch.manual_seed(config.seed + step * workers + rank)
        epoch, samples = samples_at(
            step,
            dataset=train.dataset,
            mix=config.mix,
            batch_windows=config.batch_windows,
            seed=config.seed,
            rank=rank,
            world_size=workers,
        )
        return epoch, draw_batch(train, samples, seed=config.seed, epoch=epoch, config=config.view)

    clock = Clock(start)

    def report(step: int, metrics: dict[str, float]) -> None:
        row = {"step": step, "steps": steps, "epoch": step / steps_per_epoch} | _mean_over_workers(metrics)
        row["windows_per_s"] = config.batch_windows * clock.steps_per_s(step)
        rows.append(row)
        if rank == 0 and not (step == stop and len(validation)):  # that row waits for its validation
            settings["board"].post.remote(row)

    while start < steps:
        stop = min((start // leg + 1) * leg, steps)
        fit(
            wrapped,
            batch_at,
            ask,
            optimiser=optimiser,
            rate_at=lambda step: config.optimiser.rate_at(step, steps=steps, steps_per_epoch=steps_per_epoch),
            steps=range(start, stop),
            max_grad_norm=config.optimiser.max_grad_norm,
            report=report,
            report_every=config.scale.report_every_steps,
        )
        start = stop
        clock.pause()
        if rank == 0 and len(validation):
            scores = score_by_dataset(model, validation, objective, seed=config.seed, view=config.view)
            rows[-1] |= {f"validation_{name}": value for name, value in scores.items()}
            settings["board"].post.remote(rows[-1])
        # A barrier: every worker reaches it, and only the first brings a checkpoint.
        if rank == 0:
            checkpoint = Checkpoint(
                model=model,
                skeleton=train.skeleton,
                normalisation=config.view.normalisation,
                rate_hz=rate_hz,
                card=_card(job, train, rows[-1]) if stop == steps else job.card,
            )
            with _snapshot(checkpoint, optimiser, stop, rows) as folder:
                ray.train.report(rows[-1], checkpoint=ray.train.Checkpoint.from_directory(folder))
        else:
            ray.train.report(rows[-1])
        clock.go_on()


class Clock:
    """Speed of training between reports, without what lies between the legs."""

    def __init__(self, step: int) -> None:
        self._step = step
        self._begun_s = self._paused_s = time.monotonic()

    def steps_per_s(self, step: int) -> float:
        """Steps in a second since the last call."""
        now_s = time.monotonic()
        speed = (step - self._step) / max(now_s - self._begun_s, 1e-9)
        self._step, self._begun_s = step, now_s
        return speed

    def pause(self) -> None:
        """Training stands still from here."""
        self._paused_s = time.monotonic()

    def go_on(self) -> None:
        """It goes on."""
        self._begun_s += time.monotonic() - self._paused_s


def load_corpora(job: TrainJob, device: torch.device) -> tuple[Corpus, Corpus, float]:
    """Training and validation windows in the memory of a device, and their rate."""
    train = read_all_windows(job.data, splits=("train",))
    validation = read_all_windows(job.data, splits=("validation",))
    return to_corpus(train, device), to_corpus(validation, device), train.rate_hz


def build_model(job: TrainJob) -> Network:
    """The network a run starts from: fresh weights from the seed, or the pre-trained ones."""
    if job.init is None:
        return fresh_model(job.config, None)
    with storage.fetch_folder(job.init) as folder:
        pretrained = load_checkpoint(folder, expect_architecture="masked").model
    assert isinstance(pretrained, MaskedPoseModel)  # load_checkpoint has just said so
    return fresh_model(job.config, pretrained)


def _mean_over_workers(metrics: dict[str, float]) -> dict[str, float]:
    """Workers hold equal shares of a batch, so the mean of their means is the mean."""
    if not torch.distributed.is_initialized():
        return metrics
    values = torch.tensor([metrics[name] for name in sorted(metrics)], dtype=torch.float64)
    values = values.to(get_device(), torch.float32 if get_device().type != "cpu" else torch.float64)
    torch.distributed.all_reduce(values)
    return dict(zip(sorted(metrics), (values / torch.distributed.get_world_size()).tolist(), strict=True))


def _card(job: TrainJob, train: Corpus, last: dict[str, float]) -> dict[str, Any]:
    """The card of the finished model; a lifting model also keeps the mean pose as its baseline."""
    card = job.card | {"last": last, "training_windows": len(train)}
    if not job.is_pretraining:
        views = scoring_batches(train, seed=job.config.seed, view=job.config.view, batch_windows=256)
        card["mean_training_pose_rel_m"] = np.round(mean_pose_m(views), 5).tolist()
    return card


def _resume(model: nn.Module, optimiser: Optimizer) -> tuple[int, list[dict[str, float]]]:
    """Take up the latest checkpoint of this run; (steps done, rows reported)."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return 0, []
    with checkpoint.as_directory() as name:
        folder = Path(name)
        state = torch.load(folder / STATE_FILE, weights_only=True, map_location=get_device())
        rows: list[dict[str, float]] = json.loads((folder / METRICS_FILE).read_text())
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"]), rows


@contextmanager
def _snapshot(
    checkpoint: Checkpoint, optimiser: Optimizer, step: int, rows: list[dict[str, float]]
) -> Iterator[str]:
    """A temporary folder with the checkpoint, the state to go on from, and the rows so far."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "checkpoint"
        save_checkpoint(folder, checkpoint)
        state = {"step": step, "model": checkpoint.model.state_dict(), "optimiser": optimiser.state_dict()}
        torch.save(state, folder / STATE_FILE)
        (folder / METRICS_FILE).write_text(json.dumps(rows))
        yield str(folder)
