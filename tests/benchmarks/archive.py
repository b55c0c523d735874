"""An archive of keypoints lifted end to end by `mpm lift` on Ray, against the bare network."""

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mpm_model.checkpoint import Checkpoint, save_checkpoint
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.lifting import LiftingModel
from mpm_model.pose.skeletons import H36M_17
from pipelines.detections.track import Track
from pipelines.detections.tracks_output import tracks_to_parquet

FRAMES = 2_000_000
TRACK_FRAMES = 20_000
TRACKS_A_FILE = 5
RATE_HZ = 50.0
BATCH_WINDOWS = 16
BARE_S = 10.0
CORE_HOUR_USD = 0.05
"""What a core of a general machine costs in an hour, about."""


def make_archive(folder: Path, *, frames: int) -> None:
    """Parquet files of tracks: a person of normal size, walking noise, confidence as of a detector."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    body_px = rng.normal(0, 100, (17, 2))
    numbers = iter(range(frames // TRACK_FRAMES))
    for file in range(-(-frames // (TRACK_FRAMES * TRACKS_A_FILE))):
        tracks = []
        for number in islice(numbers, TRACKS_A_FILE):
            path_px = np.cumsum(rng.normal(0, 1, (TRACK_FRAMES, 1, 2)), axis=0) + 500
            jitter_px = rng.normal(0, 3, (TRACK_FRAMES, 17, 2))
            tracks.append(
                Track(
                    keypoints_px=(body_px + path_px + jitter_px).astype(np.float32),
                    confidence=rng.uniform(0.3, 1, (TRACK_FRAMES, 17)).astype(np.float32),
                    frames=np.arange(TRACK_FRAMES),
                    skeleton=H36M_17,
                    source=f"video{number:04d}",
                    person="0",
                    rate_hz=RATE_HZ,
                    width_px=1920,
                    height_px=1080,
                )
            )
        (folder / f"{file:04d}.parquet").write_bytes(tracks_to_parquet(tracks))


def make_checkpoint(folder: Path) -> LiftingModel:
    """The paper's network, untrained."""
    torch.manual_seed(0)
    model = LiftingModel(PoseTransformerConfig())
    save_checkpoint(
        folder,
        Checkpoint(model=model, skeleton=H36M_17, normalisation="person", rate_hz=RATE_HZ, card={}),
    )
    return model.eval()


@torch.inference_mode()
def bare_frames_per_s(model: LiftingModel) -> float:
    """The all-frame forward over windows in memory, with the threads that torch takes by itself."""
    windows = torch.randn(BATCH_WINDOWS, model.config.frames, 17, 2)
    model.sequence(windows)
    begun_s, done = time.perf_counter(), 0
    while time.perf_counter() - begun_s < BARE_S:
        model.sequence(windows)
        done += BATCH_WINDOWS * model.config.frames
    return done / (time.perf_counter() - begun_s)


def describe(frames: int = FRAMES) -> str:
    """Frames per second of both and their ratio, where the time goes, memory, money."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = make_checkpoint(folder / "checkpoint")
        make_archive(folder / "small", frames=frames // 10)
        make_archive(folder / "archive", frames=frames)
        lift(folder, "small")  # also warms the machine up
        bare = [bare_frames_per_s(model)]
        whole = lift(folder, "archive")
        bare.append(bare_frames_per_s(model))
        small_bytes = lift(folder, "small")["peak_bytes"]
    ours, mean = frames / whole["wall_s"], statistics.mean(bare)
    work_s = whole["seconds"]
    cores = torch.get_num_threads()
    total_s = whole["wall_s"] * cores
    shares = ", ".join(f"{kind} {spent / total_s:.0%}" for kind, spent in work_s.items())
    rest = 1 - sum(work_s.values()) / total_s
    usd = total_s / 3600 * CORE_HOUR_USD / (frames / 1e6)
    return (
        f"lifting an archive of {frames / 1e6:g} M frames in Parquet, paper's network, {cores} cores: "
        f"{ours:,.0f} frames/s from start to end of the command, bare forward {mean:,.0f} frames/s, "
        f"ratio {ours / mean:.2f}\n"
        f"  of the cores' time: {shares}, start-up, Ray and waiting {rest:.0%}\n"
        f"  peak memory of all processes {whole['peak_bytes'] / 2**30:.2f} GiB, of a tenth of the frames "
        f"{small_bytes / 2**30:.2f} GiB, ratio {whole['peak_bytes'] / small_bytes:.2f}\n"
        f"  {usd:.4f} USD a million frames at {CORE_HOUR_USD} USD a core and hour"
    )


def lift(folder: Path, archive: str) -> dict[str, Any]:
    """`mpm lift` in a process of its own: seconds from start to end, by kind of work, and peak memory."""
    out = folder / f"poses-{archive}-{time.monotonic_ns()}"
    begun_s = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, __file__, str(folder / archive), str(out), str(folder / "checkpoint")],
        stdout=subprocess.PIPE,
        text=True,
    )
    peak = [0]
    watch = threading.Thread(target=_watch_memory, args=(process, peak))
    watch.start()
    said, _ = process.communicate()
    watch.join()
    assert process.returncode == 0
    return json.loads(said.splitlines()[-1]) | {
        "wall_s": time.perf_counter() - begun_s,
        "peak_bytes": peak[0],
    }


def _watch_memory(process: "subprocess.Popen[str]", peak: list[int]) -> None:
    """Proportional memory of a process and all that it started: shared pages count once."""
    while process.poll() is None:
        peak[0] = max(peak[0], sum(map(_memory_bytes, _family(process.pid))))
        time.sleep(0.5)


def _family(pid: int) -> list[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found, new = {pid}, {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return sorted(found)


def _memory_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def main(archive: str, out: str, checkpoint: str) -> None:
    from pipelines.lift import run
    from pipelines.lift_config import LiftConfig

    summary = run([archive], out=out, config=LiftConfig(checkpoint=checkpoint), max_bad_fraction=0)
    print(json.dumps({"seconds": dict(summary.seconds), "rows": summary.manifest.totals.rows}))


if __name__ == "__main__":
    main(*sys.argv[1:])
