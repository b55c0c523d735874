"""What it costs to draw a batch - cut, pose, camera, noise, masks - beside the training step it feeds."""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from mpm_model.learning.batches import Batch, draw_batch
from mpm_model.learning.corpus import Corpus
from mpm_model.learning.masking import draw_hidden
from mpm_model.learning.objectives import masked_pose_modelling
from mpm_model.learning.order import Samples
from mpm_model.network.masked import MaskedPoseModel
from mpm_model.pose.skeletons import H36M_17
from pipelines.run_config import PretrainConfig, load

CONFIG = "pretrain_unified"
FRAMES = (27, 81, 243)
FRAMES_ON_THE_CPU = 64 * 27
"""Frames of a batch, however long its windows."""
WINDOWS_ON_A_GPU = 1024
REPEATS = 5


def describe() -> str:
    """Windows drawn in a second, and the time it takes as a share of drawing and training together.

    On the GPU if there is one, else on one thread. Stored windows are a third longer than samples.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return "\n".join(_describe(frames, device) for frames in FRAMES)
    finally:
        torch.set_num_threads(threads)


def _describe(frames: int, device: str) -> str:
    config = load(PretrainConfig, CONFIG, (f"network.frames={frames}",))
    windows = WINDOWS_ON_A_GPU if device == "cuda" else FRAMES_ON_THE_CPU // frames
    corpus = _walkers(windows, frames, device)
    samples = Samples.once(np.arange(windows))
    objective = masked_pose_modelling(mask=config.mask, loss=config.loss, skeleton=H36M_17, seed=0)
    torch.manual_seed(0)
    model = MaskedPoseModel(config.network).train().to(device)
    optimiser = config.optimiser.build(model)

    def view() -> Batch:
        return draw_batch(corpus, samples, seed=0, epoch=0, config=config.view)

    def mask() -> None:
        for stream in ("2d", "3d"):
            draw_hidden(
                stream,
                seed=0,
                epoch=0,
                sample_ids=batch.sample_ids,
                frames=frames,
                joints=len(H36M_17),
                config=config.mask,
                device=device,
            )

    def train() -> None:
        """A step on a batch that is there; the objective draws its masks."""
        loss, _ = objective(model, batch, 0)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimiser.max_grad_norm)
        optimiser.step()

    batch = view()
    view_s, mask_s, train_s = (_seconds(work, device) for work in (view, mask, train))
    drawing_s = view_s + mask_s
    return (
        f"drawing, {CONFIG}, {windows} windows of {frames} frames, "
        f"{'GPU' if device == 'cuda' else 'one thread'}: {windows / drawing_s:,.0f} windows/s "
        f"({1000 * view_s:.1f} ms views, {1000 * mask_s:.1f} ms masks), "
        f"{drawing_s / (view_s + train_s):.1%} of a training step"
    )


def _walkers(windows: int, frames: int, device: str) -> Corpus:
    """Upright clouds of joints that drift."""
    rng = np.random.default_rng(0)
    body_m = rng.uniform([-0.3, -0.3, 0.0], [0.3, 0.3, 1.8], (windows, 1, 17, 3))
    path_m = rng.normal(0, 0.02, (windows, frames * 4 // 3, 1, 3)).cumsum(1) * [1, 1, 0]
    joints_world_m = torch.from_numpy((body_m + path_m).astype(np.float32)).to(device)
    return Corpus(
        joints_world_m=joints_world_m,
        is_valid=torch.ones_like(joints_world_m[..., 0], dtype=torch.bool),
        sample_ids=rng.integers(0, 2**62, windows),
        skeleton=H36M_17,
        rate_hz=25.0,
        dataset=np.zeros(windows, dtype=np.int64),
        dataset_names=("made up",),
        sample_frames=frames,
    )


def _seconds(work: Callable[[], object], device: str) -> float:
    """Median time of one call, once warm."""
    seconds = []
    for _ in range(REPEATS + 1):
        begun_s = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun_s)
    return statistics.median(seconds[1:])
