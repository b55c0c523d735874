"""All-frame lifting in `Lifter` against the bare network forward."""

import statistics
import time

import numpy as np
import torch

from mpm_model.checkpoint import Checkpoint
from mpm_model.lifter import Lifter
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.lifting import LiftingModel
from mpm_model.pose.skeletons import H36M_17

FRAMES = 30_000
BATCH_WINDOWS = 16
ROUNDS = 5


def describe() -> str:
    """Frames per second of both, and their ratio: medians of rounds that take turns."""
    torch.manual_seed(0)
    config = PoseTransformerConfig()  # the paper's size
    checkpoint = Checkpoint(
        model=LiftingModel(config),
        skeleton=H36M_17,
        normalisation="person",
        rate_hz=50.0,
        card={"made_by": "bench"},
    )
    lifter = Lifter(checkpoint, batch_windows=BATCH_WINDOWS)
    keypoints_px = np.random.default_rng(0).normal(500, 100, (FRAMES, 17, 2)).astype(np.float32)
    confidence = np.ones((FRAMES, 17), np.float32)
    windows = torch.randn(BATCH_WINDOWS, config.frames, 17, 2)

    @torch.inference_mode()
    def bare() -> float:
        rounds = FRAMES // (BATCH_WINDOWS * config.frames)
        begun_s = time.perf_counter()
        for _ in range(rounds):
            lifter.model.sequence(windows)
        return rounds * BATCH_WINDOWS * config.frames / (time.perf_counter() - begun_s)

    def ours() -> float:
        begun_s = time.perf_counter()
        lifter(keypoints_px, confidence)
        return FRAMES / (time.perf_counter() - begun_s)

    bare(), ours()
    speeds = [(bare(), ours()) for _ in range(ROUNDS)]
    bare_fps, our_fps = (statistics.median(column) for column in zip(*speeds, strict=True))
    return (
        f"lifting, all frames, {config.frames}-frame windows, width {config.width}: bare forward "
        f"{bare_fps:,.0f} frames/s, Lifter {our_fps:,.0f} frames/s "
        f"(windows overlap by {lifter.overlap_frames}), "
        f"ratio {our_fps / bare_fps:.2f}"
    )
