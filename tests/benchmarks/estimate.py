"""Worked on paper: pre-training on 10^9 frames with 64 GPUs. Nothing here was run; every guess is named.

Counted by this program: parameters, operations of a training step, bytes of a window. Taken from price lists
and data sheets, or guessed: `Assumed`.
"""

from dataclasses import dataclass, fields

import torch
from torch.utils.flop_counter import FlopCounterMode

from mpm_model.learning.batches import draw_batch
from mpm_model.learning.order import Samples
from pipelines.recipe import fresh_model, objective_of, to_corpus
from pipelines.run_config import PretrainConfig, load
from pipelines.windows_table import read_all_windows

FRAMES = 1e9
GPUS = 64
GIB = 2**30


@dataclass(frozen=True)
class Assumed:
    """What the estimate takes on trust."""

    gpu_flops: float = 989e12
    """Data sheet of an H100 SXM, bfloat16, dense."""
    busy: float = 0.2
    """Share of that which a network of width 256 reaches; guessed."""
    launch_s: float = 0.015
    """Least time of a step, however little there is to compute: some thousand kernels; guessed."""
    link_bytes_s: float = 12.5e9
    """Network of a GPU: 100 Gbit/s."""
    hop_s: float = 20e-6
    """Latency of one hop of an all-reduce; guessed."""
    bucket_bytes_s: float = 100e6
    """What one connection reads from or writes to S3."""
    gpu_hour_usd: float = 4.0
    """Price of a GPU for an hour; guessed, see your provider's list."""
    get_usd: float = 0.4e-6
    """A GET at S3, list price."""
    put_usd: float = 5e-6
    """A PUT at S3, list price."""
    gib_month_usd: float = 0.023
    """A GiB stored for a month at S3, list price."""
    requests_per_row_group: int = 3
    """A footer's share, and the columns in two ranges."""


def describe(windows: str, *, bytes_per_frame_stored: float) -> str:
    """The estimate, line by line."""
    assumed = Assumed()
    config = load(PretrainConfig, "pretrain_paper", [])
    frames, batch_windows = config.network.frames, config.batch_windows
    parameters, flops_per_frame = _counted(windows)
    steps = int(FRAMES / frames / batch_windows * config.epochs)
    share_frames = batch_windows * frames / GPUS
    compute_s = share_frames * flops_per_frame / (assumed.gpu_flops * assumed.busy)
    gradient_bytes = 4 * parameters
    reduce_s = 2 * (GPUS - 1) * (gradient_bytes / GPUS / assumed.link_bytes_s + assumed.hop_s)
    step_s = max(compute_s, assumed.launch_s) + reduce_s
    hours = steps * step_s / 3600
    held_gib = FRAMES * 17 * 13 / GPUS / GIB
    stored_gib = FRAMES * bytes_per_frame_stored / GIB
    row_groups = FRAMES / frames / 256
    gets = row_groups * assumed.requests_per_row_group
    state_bytes = 4 * 4 * parameters
    states = steps / config.scale.checkpoint_every_steps
    money = {
        "GPUs": hours * GPUS * assumed.gpu_hour_usd,
        "reading": gets * assumed.get_usd,
        "states": states * 3 * assumed.put_usd,
        "a month of the data": stored_gib * assumed.gib_month_usd,
    }
    lines = [
        f"worked on paper, not run: {FRAMES:.0e} frames, {GPUS} GPUs, pretrain_paper, {config.epochs} epochs",
        f"  network: {parameters:,} parameters, {flops_per_frame / 1e6:.0f} MFLOP a frame forward and back "
        "(counted)",
        f"  data: {stored_gib:,.0f} GiB stored ({bytes_per_frame_stored:.0f} bytes a frame, measured on the "
        f"sample), {held_gib:.1f} GiB in each GPU with lanes, so read once: {gets:,.0f} requests, "
        f"{stored_gib * GIB / GPUS / assumed.bucket_bytes_s / 60:.1f} min at one connection a GPU",
        f"  step: {batch_windows // GPUS} windows a GPU, {1000 * compute_s:.1f} ms of arithmetic, at least "
        f"{1000 * assumed.launch_s:.0f} ms to launch it, {1000 * reduce_s:.1f} ms to add up "
        f"{gradient_bytes / 1e6:.0f} MB of gradients",
        f"  run: {steps:,} steps, {hours:.1f} h; a state of {state_bytes / 1e6:.0f} MB every "
        f"{config.scale.checkpoint_every_steps * step_s:.0f} s, "
        f"{state_bytes / assumed.bucket_bytes_s:.1f} s to write beside the training",
        "  money: " + ", ".join(f"{what} {usd:,.2f} USD" for what, usd in money.items()),
        f"  what breaks first: launching. The GPUs compute {compute_s / step_s:.0%} of the time; batches "
        f"{assumed.launch_s / compute_s:.0f} times as large would take as long",
        "  assumed: " + ", ".join(f"{each.name} {getattr(assumed, each.name):g}" for each in fields(assumed)),
    ]
    return "\n".join(lines)


def _counted(windows: str) -> tuple[int, float]:
    """Parameters, and floating-point operations of a training step for each frame, of the paper's network."""
    corpus = to_corpus(read_all_windows([windows], splits=("train",)), "cpu")
    config = load(PretrainConfig, "pretrain_paper", [f"network.frames={corpus.frames}"])
    model = fresh_model(config, None)
    batch = draw_batch(corpus, Samples.once(torch.arange(4).numpy()), seed=0, epoch=0, config=config.view)
    with FlopCounterMode(display=False) as counter:
        loss, _ = objective_of(config, corpus.skeleton)(model, batch, 0)
        loss.backward()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return parameters, counter.get_total_flops() / (4 * corpus.frames)
