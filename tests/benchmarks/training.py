"""The training step of one Ray Train worker against a bare loop over tensors in memory; streaming."""

import os
import statistics
import time
from collections.abc import Sequence
from importlib import resources
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from mpm_model.learning.batches import draw_batch
from mpm_model.learning.objectives import masked_pose_modelling
from mpm_model.learning.order import samples_at
from mpm_model.network.masked import MaskedPoseModel
from pipelines import prepare, pretrain
from pipelines.recipe import to_corpus
from pipelines.run_config import PretrainConfig, load
from pipelines.storage import open_filesystem
from pipelines.windows_table import read_all_windows
from tests.seaweedfs import run_seaweedfs, use_environment

SETTINGS = (
    "scale.report_every_steps=5",
    "scale.validate_every_epochs=1000",
    "scale.checkpoint_every_steps=100000",
    "network.width=256",
    "network.feed_forward=512",
)
STREAMED = ("lanes=4", "scale.hold_gib=0")
STEPS = 80
WARM_ROWS = 2
BATCHES = 8
ROUNDS = 2


def prepare_sample(out: str) -> None:
    """Windows of the bundled sample: 762 to train on, of 27 frames."""
    sample = Path(str(resources.files("pipelines") / "sample" / "mocap" / "ui_prmd"))
    config = prepare.PrepareConfig(window_frames=27, hop_frames=1, rate_hz=25.0)
    prepare.run([str(sample)], reader="ui_prmd", out=out, config=config, max_bad_fraction=0)


def describe(folder: str, windows: str) -> str:
    """Windows per second of both, and their ratio, for one thread and for one on every core.

    Bare loop and Ray take turns, and Ray is shut down meanwhile: machines change their speed by the minute,
    and Ray's own processes take some of it even when they wait.
    """
    cores = len(os.sched_getaffinity(0))
    return "\n".join(_compare(folder, windows, threads) for threads in sorted({1, cores}))


def describe_streaming(folder: str, windows: str) -> str:
    """Windows per second of a worker that holds nothing and streams from an S3 server beside it."""
    with run_seaweedfs() as server, pytest.MonkeyPatch.context() as environment:
        use_environment(environment, server.env)
        bucket = "s3://bench-windows"
        filesystem, path = open_filesystem(bucket)
        filesystem.mkdir(path)
        in_bucket = f"{bucket}/windows"
        filesystem.put(windows, f"{path}/windows", recursive=True)
        held, streamed, waited = [], [], []
        for turn in range(ROUNDS):
            speed, _ = _under_ray(windows, f"{folder}/held-{turn}", 1, ("lanes=4",))
            held.append(speed)
            speed, waiting = _under_ray(in_bucket, f"{folder}/streamed-{turn}", 1, STREAMED)
            streamed.append(speed)
            waited.append(waiting)
    return (
        "streaming from S3 on this machine, 27 frames, width 256, 1 thread: "
        f"{statistics.mean(streamed):,.0f} windows/s, held in memory {statistics.mean(held):,.0f} windows/s, "
        f"ratio {statistics.mean(streamed) / statistics.mean(held):.2f}, "
        f"waiting {statistics.mean(waited):.1%}"
    )


def _compare(folder: str, windows: str, threads: int) -> str:
    bare, under_ray = [_bare(windows, threads)], []
    for turn in range(ROUNDS):
        under_ray.append(_under_ray(windows, f"{folder}/{threads}-{turn}", threads)[0])
        bare.append(_bare(windows, threads))
    # Each Ray run lies between two bare ones.
    ratios = [
        ours / ((before + after) / 2) for ours, (before, after) in zip(under_ray, pairwise(bare), strict=True)
    ]
    return (
        f"training step, masked, 27 frames, width 256, {threads} thread{'s' if threads > 1 else ''}: "
        f"bare loop {statistics.mean(bare):,.0f} windows/s, under Ray Train "
        f"{statistics.mean(under_ray):,.0f} windows/s, "
        f"ratio {statistics.mean(ratios):.2f} (turns {', '.join(f'{ratio:.2f}' for ratio in ratios)})"
    )


def _under_ray(windows: str, out: str, threads: int, more: Sequence[str] = ()) -> tuple[float, float]:
    """Median over the reports of one worker of `pretrain`; the mean share of time that it waits for data."""
    import ray

    rows: dict[float, dict[str, float]] = {}
    epochs = -(-STEPS // (762 // 64))
    pretrain.run(
        "pretrain_demo",
        data=[windows],
        out=out,
        overrides=(*SETTINGS, *more, f"epochs={epochs}", f"scale.cpus_per_worker={threads}"),
        progress=lambda row: rows.__setitem__(row["step"], row),
    )
    ray.shutdown()
    warm = list(rows.values())[WARM_ROWS:]
    return (
        statistics.median(row["windows_per_s"] for row in warm),
        statistics.mean(row["waiting_share"] for row in warm),
    )


def _bare(windows: str, threads: int) -> float:
    """The same model, objective and optimiser over batches drawn beforehand."""
    torch.set_num_threads(threads)
    config = load(PretrainConfig, "pretrain_demo", SETTINGS)
    corpus = to_corpus(read_all_windows([windows], splits=("train",)), "cpu")
    batches = [
        draw_batch(corpus, samples, seed=0, epoch=epoch, config=config.view)
        for epoch, samples in (
            samples_at(
                step, dataset=corpus.dataset, mix=config.mix, batch_windows=config.batch_windows, seed=0
            )
            for step in range(BATCHES)
        )
    ]
    torch.manual_seed(0)
    model = MaskedPoseModel(config.network).train()
    optimiser = config.optimiser.build(model)
    objective = masked_pose_modelling(mask=config.mask, loss=config.loss, skeleton=corpus.skeleton, seed=0)
    seconds = []
    for _ in range(5):
        for batch in batches:
            begun_s = time.perf_counter()
            loss, _ = objective(model, batch, 0)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimiser.max_grad_norm)
            optimiser.step()
            seconds.append(time.perf_counter() - begun_s)
    return config.batch_windows / statistics.median(seconds[BATCHES:])
