"""What a training run is made of: its data, its network, its finished folder. No Ray."""

import dataclasses
import json
import platform
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mpm_model.checkpoint import Checkpoint, Network, load_checkpoint, save_checkpoint
from mpm_model.learning.batches import Corpus, draw_batch
from mpm_model.learning.scoring import mean_pose_m, scoring_batches
from mpm_model.network.masked import MaskedPoseModel
from pipelines import storage, storage_folders
from pipelines.recipe import fresh_model, to_corpus
from pipelines.run_config import FinetuneConfig, PretrainConfig
from pipelines.train_feed import Feed, LaneFeed, MemoryFeed, memory_of
from pipelines.window_index import ChunkIndex
from pipelines.window_stream import WindowStream, read_corpus
from pipelines.windows_table import read_all_windows

STATE_FOLDER = "_train"
"""States that a run goes on from, beside the checkpoint that they lead to."""
METRICS_FILE = "metrics.json"
"""Every reported row of the run."""
CARD_FILE = "card.json"
"""Written last: a folder that has it is finished."""
MEAN_POSE_BATCHES = 100
"""Batches of streamed data whose mean pose stands for all of it."""


@dataclasses.dataclass(frozen=True)
class WindowIndex:
    """Where the windows lie; workers read what is theirs."""

    train: ChunkIndex
    validation: ChunkIndex


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
    card: dict[str, Any]
    """What the checkpoint will say of its making."""
    index: WindowIndex | None = None
    """Where the windows lie, if they are shared out in lanes."""

    @property
    def state_url(self) -> str:
        """Folder of the states to go on from."""
        return storage.join(self.out, STATE_FOLDER)

    @property
    def is_pretraining(self) -> bool:
        """Whether this is masked pose modelling rather than lifting."""
        return isinstance(self.config, PretrainConfig)

    def passes(self, workers: int) -> int:
        """In how many passes a worker answers its share of a batch."""
        most = self.config.scale.windows_per_pass
        share = -(-self.config.batch_windows // workers)
        return -(-share // most) if most else 1


def hardware_of(device: torch.device, *, workers: int) -> str:
    """What a run is trained on, for its card."""
    if device.type == "cuda":
        what = torch.cuda.get_device_name(device)
    else:
        what = f"{platform.machine()} processor, {torch.get_num_threads()} threads"
    return f"{workers} x {what}, torch {torch.__version__}"


def build_model(job: TrainJob) -> Network:
    """The network a run starts from: fresh weights from the seed, or the pre-trained ones."""
    if job.init is None:
        return fresh_model(job.config, None)
    with storage_folders.fetch_folder(job.init) as folder:
        pretrained = load_checkpoint(folder, expect_architecture="masked").model
    assert isinstance(pretrained, MaskedPoseModel)  # load_checkpoint has just said so
    return fresh_model(job.config, pretrained)


def open_feed(
    job: TrainJob, device: torch.device, *, frames: int, rank: int, workers: int
) -> tuple[Feed, Corpus]:
    """This worker's training windows, and the validation windows on the device; samples of `frames`."""
    config = job.config
    order: dict[str, Any] = {
        "batch_windows": config.batch_windows,
        "mix": config.mix,
        "seed": config.seed,
        "rank": rank,
        "workers": workers,
    }
    if job.index is None:
        train, validation = (
            to_corpus(read_all_windows(job.data, splits=(split,)), device, frames=frames)
            for split in ("train", "validation")
        )
        return MemoryFeed(train, **order), validation
    validation = dataclasses.replace(read_corpus(job.index.validation, device=device), sample_frames=frames)
    hold_bytes = memory_of(device, config.scale.hold_gib)
    stream = WindowStream(job.index.train, lanes=config.lanes, device=device, hold_bytes=hold_bytes, **order)
    return LaneFeed(stream, frames=frames), validation


def publish(
    job: TrainJob,
    model: Network,
    feed: Feed,
    *,
    rows: Sequence[Mapping[str, float]],
    hardware: str,
) -> None:
    """Put the finished checkpoint, with curves and report, in its place, the card last."""
    from pipelines.curves import draw_curves
    from pipelines.train_files import read_pictures
    from pipelines.train_report import write_report

    card = job.card | {"hardware": hardware, "last": rows[-1], "training_windows": len(feed)}
    if not job.is_pretraining:
        card["mean_training_pose_rel_m"] = np.round(mean_training_pose_m(job, feed), 5).tolist()
    checkpoint = Checkpoint(
        model=model,
        skeleton=feed.skeleton,
        normalisation=job.config.view.normalisation,
        rate_hz=feed.rate_hz,
        card=card,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "checkpoint"
        save_checkpoint(folder, checkpoint)
        (folder / METRICS_FILE).write_text(json.dumps(rows))
        (folder / "curves.png").write_bytes(draw_curves(rows))
        write_report(
            folder, rows=rows, card=card, pictures=read_pictures(job.out, to_step=int(rows[-1]["step"]))
        )
        storage_folders.publish_folder(folder, job.out, last=CARD_FILE)


def mean_training_pose_m(job: TrainJob, feed: Feed) -> np.ndarray:
    """The mean training pose, the baseline of a lifting model."""
    seed, view = job.config.seed, job.config.view
    if isinstance(feed, MemoryFeed):
        return mean_pose_m(scoring_batches(feed.corpus, seed=seed, view=view, batch_windows=256))
    taken = (feed.take(step) for step in range(min(MEAN_POSE_BATCHES, feed.steps_per_epoch)))
    return mean_pose_m(
        draw_batch(corpus, samples, seed=seed, epoch=epoch, config=view) for epoch, corpus, samples in taken
    )
