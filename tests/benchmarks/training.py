"""The training step of one Ray Train worker against a bare PyTorch loop over tensors in memory."""

import os
import statistics
import time
from importlib import resources
from itertools import pairwise
from pathlib import Path

import torch

from mpm_model.learning.batches import draw_batch
from mpm_model.learning.objectives import masked_pose_modelling
from mpm_model.learning.order import samples_at
from mpm_model.network.masked import MaskedPoseModel
from pipelines import prepare, pretrain
from pipelines.recipe import to_corpus
from pipelines.run_config import PretrainConfig, load
from pipelines.windows_table import read_all_windows

SETTINGS = (
    "epochs=40",
    "scale.report_every_steps=5",
    "scale.validate_every_epochs=1000",
    "network.width=256",
    "network.feed_forward=512",
)
WARM_ROWS = 2
BATCHES = 8
ROUNDS = 2


def describe(folder: str) -> str:
    """Windows per second of both, and their ratio, for one thread and for one on every core.

    Bare loop and Ray take turns, and Ray is shut down meanwhile: machines change their speed by the minute,
    and Ray's own processes take some of it even when they wait.
    """
    sample = Path(str(resources.files("pipelines") / "sample" / "mocap" / "ui_prmd"))
    windows = f"{folder}/windows"
    config = prepare.PrepareConfig(window_frames=27, hop_frames=9, rate_hz=25.0)
    prepare.run([str(sample)], reader="ui_prmd", out=windows, config=config, max_bad_fraction=0)
    cores = len(os.sched_getaffinity(0))
    return "\n".join(_compare(folder, windows, threads) for threads in sorted({1, cores}))


def _compare(folder: str, windows: str, threads: int) -> str:
    bare, under_ray = [_bare(windows, threads)], []
    for turn in range(ROUNDS):
        under_ray.append(_under_ray(windows, f"{folder}/{threads}-{turn}", threads))
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


def _under_ray(windows: str, out: str, threads: int) -> float:
    """Median over the reports of one worker of `pretrain`."""
    import ray

    rows: dict[float, dict[str, float]] = {}
    pretrain.run(
        "pretrain_demo",
        data=[windows],
        out=out,
        overrides=(*SETTINGS, f"scale.cpus_per_worker={threads}"),
        progress=lambda row: rows.__setitem__(row["step"], row),
    )
    ray.shutdown()
    return statistics.median([row["windows_per_s"] for row in rows.values()][WARM_ROWS:])


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
