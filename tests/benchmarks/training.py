"""The training step of one Ray Train worker against a bare PyTorch loop over tensors in memory."""

import statistics
import time
from importlib import resources
from pathlib import Path

import torch

from mpm_model.learning.batches import draw_batch, indices_at
from mpm_model.learning.objectives import masked_pose_modelling
from mpm_model.network.masked import MaskedPoseModel
from pipelines import prepare, pretrain
from pipelines.run_config import PretrainConfig, load
from pipelines.train_worker import to_corpus
from pipelines.windows_table import read_all_windows

SETTINGS = ("epochs=4", "scale.report_every_steps=10", "network.width=256", "network.feed_forward=512")
WARM_ROWS = 2
BATCHES = 8


def describe(folder: str) -> str:
    """Windows per second of both, and their ratio: medians over reports and batches."""
    sample = Path(str(resources.files("pipelines") / "sample" / "mocap" / "ui_prmd"))
    windows = f"{folder}/windows"
    config = prepare.PrepareConfig(window_frames=27, hop_frames=9, rate_hz=25.0)
    prepare.run([str(sample)], reader="ui_prmd", out=windows, config=config, max_bad_fraction=0)

    rows: dict[float, dict[str, float]] = {}
    before = _bare(windows)
    pretrain.run(
        "pretrain_demo",
        data=[windows],
        out=f"{folder}/pretrained",
        overrides=SETTINGS,
        progress=lambda row: rows.__setitem__(row["step"], row),
    )
    after = _bare(windows)
    under_ray = statistics.median([row["windows_per_s"] for row in rows.values()][WARM_ROWS:])
    bare = (before + after) / 2  # one before, one after: the machine may change meanwhile
    return (
        f"training step, masked, 27 frames, width 256: bare loop {bare:,.0f} windows/s "
        f"(before {before:,.0f}, after {after:,.0f}), under Ray Train {under_ray:,.0f} windows/s, "
        f"ratio {under_ray / bare:.2f}"
    )


def _bare(windows: str) -> float:
    """The same model, objective and optimiser over batches drawn beforehand."""
    config = load(PretrainConfig, "pretrain_demo", SETTINGS)
    corpus = to_corpus(read_all_windows([windows], splits=("train",)), "cpu")
    batches = [
        draw_batch(corpus, indices, seed=0, epoch=epoch, config=config.view)
        for epoch, indices in (
            indices_at(step, samples=len(corpus), batch_windows=config.batch_windows, seed=0)
            for step in range(BATCHES)
        )
    ]
    torch.manual_seed(0)
    model = MaskedPoseModel(config.network).train()
    optimiser = config.optimiser.build(model)
    objective = masked_pose_modelling(mask=config.mask, loss=config.loss, seed=0)
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
