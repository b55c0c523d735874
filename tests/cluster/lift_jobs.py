"""Lifting jobs of the cluster tests: made-up archives, a small network, `mpm lift` that can be killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from mpm_model.checkpoint import Checkpoint, save_checkpoint
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.lifting import LiftingModel
from mpm_model.pose.skeletons import H36M_17
from pipelines import storage
from pipelines.detections.track import Track
from pipelines.detections.tracks_output import track_to_npz, tracks_to_parquet
from pipelines.manifest import MANIFEST, read_manifest
from pipelines.schema import POSES, from_parquet, tensor_column

NETWORK = PoseTransformerConfig(frames=27, width=32, layers=1, heads=4, feed_forward=32, frame_hidden=32)
RATE_HZ = 50.0
READER = "ray::MapBatches(_read_batch)"
ACTOR = "ray::MapWorker(MapBatches(LiftActor))"
"""How Ray calls the processes of a lifting job."""


def save_lifter(folder: Path) -> str:
    """A small network, untrained but always the same, as a checkpoint."""
    torch.manual_seed(0)
    model = LiftingModel(NETWORK)
    checkpoint = Checkpoint(model=model, skeleton=H36M_17, normalisation="person", rate_hz=RATE_HZ, card={})
    save_checkpoint(folder, checkpoint)
    return str(folder)


def make_track(number: int, *, frames: int, person: str = "0", source: str | None = None) -> Track:
    """A person of normal size who walks and trembles, with short and long gaps; another for each number."""
    rng = np.random.default_rng(number)
    body_px, path_px = rng.normal(0, 100, (17, 2)), np.cumsum(rng.normal(0, 1, (frames, 1, 2)), axis=0)
    is_there = np.ones(frames, bool)
    for length in (2, 40, 400):
        start = int(rng.integers(frames))
        is_there[start : start + length] = frames < 10 * length
    keypoints_px = 500 + body_px + path_px + rng.normal(0, 3, (frames, 17, 2))
    return Track(
        keypoints_px=keypoints_px[is_there].astype(np.float32),
        confidence=rng.uniform(0.3, 1, (frames, 17))[is_there].astype(np.float32),
        frames=np.flatnonzero(is_there),
        skeleton=H36M_17,
        source=source or f"video{number:04d}",
        person=person,
        rate_hz=RATE_HZ,
        width_px=1920,
        height_px=1080,
    )


def make_npz(number: int, *, frames: int) -> bytes:
    """A file of one person."""
    return track_to_npz(make_track(number, frames=frames))


def make_parquet(number: int, *, frames: int, people: int) -> bytes:
    """A file of one video with several people."""
    video = f"video{number:04d}"
    tracks = [
        make_track(1000 * number + person, frames=frames, person=str(person), source=video)
        for person in range(people)
    ]
    return tracks_to_parquet(tracks)


def make_archive(url: str, *, files: int, frames: int) -> list[str]:
    """npz files of one person each; every 25th is followed by a Parquet file of three, one of them is bad.

    Beside them some short videos. With `shard_mib(frames)` a file is a shard, a Parquet file several, and the
    short ones are one together. Gives the names of the bad ones.
    """
    bad = f"{url}/{files // 2:04d}.npz"
    for number in range(files):
        name, content = f"{url}/{number:04d}.npz", make_npz(number, frames=frames)
        storage.write_once(name, content[: len(content) // 2] if name == bad else content)
        if number % 25 == 0:
            several = make_parquet(number, frames=frames, people=3)
            storage.write_once(f"{url}/{number:04d}b.parquet", several)
    for number in range(10):
        storage.write_once(f"{url}/short{number}.npz", make_npz(9000 + number, frames=30))
    return [bad]


def shard_mib(frames: int) -> float:
    """More than half of what the keypoints of a file take, which hardly pack."""
    return 0.6 * frames * 17 * 3 * 4 / 2**20


class Lifting:
    """`mpm lift` in a session of its own."""

    def __init__(self, source: str, out: str, *options: object, env: Mapping[str, str]):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipelines", "lift", source, "--out", out, *map(str, options)],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | env,
            start_new_session=True,
        )
        self.out, self.said, self.printed = out, "", ""

    def end(self) -> int:
        """Wait for the end; the exit code."""
        self.printed, self.said = self.process.communicate()
        return self.process.returncode

    def faults(self) -> list[str]:
        """What it said, without the lines of progress and those of Ray's own log, which begin with a date."""
        return [line for line in self.said.splitlines() if not line.startswith(("lift: ", "[20"))]

    def kill(self) -> None:
        """SIGKILL."""
        kill(self.process.pid)
        self.process.communicate()

    def wait_for_parts(self, parts: int) -> int:
        """Wait until so many parts are there, or it has ended; how many there are."""
        while (found := len(part_names(self.out))) < parts and self.process.poll() is None:
            time.sleep(0.1)
        return found


def wait_for_all(liftings: Sequence[Lifting]) -> list[int]:
    """Wait for the ends of several that run at once; their exit codes."""
    with ThreadPoolExecutor(len(liftings)) as pool:
        return list(pool.map(Lifting.end, liftings))


def kill(pid: int) -> bool:
    """SIGKILL; whether there was such a process."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def part_names(out: str) -> set[str]:
    """Names of the parts in a folder."""
    names = storage.list_names(out) if storage.exists(out) else []
    return {name for name in names if name.startswith("part-")}


def processes_below(pid: int, name: str) -> list[int]:
    """Processes that this one started, and theirs, whose command begins so."""
    parents: dict[int, list[int]] = {}
    for child, parent in _parents():
        parents.setdefault(parent, []).append(child)
    found, new = [], [pid]
    while new:
        new = [child for parent in new for child in parents.get(parent, [])]
        found += [child for child in new if _command(child).startswith(name)]
    return sorted(found)


def _parents() -> Iterator[tuple[int, int]]:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            yield int(pid), int(Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):  # it has ended
            continue


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def poses_of(out: str) -> dict[str, np.ndarray]:
    """All rows by the manifest, sorted by video, person and frame; column by column."""
    parts = [storage.join(out, part.name) for part in read_manifest(out, "poses").parts]
    tables = [from_parquet(storage.read_bytes(url), url=url, schema=POSES) for url in parts]
    # What made a table stands in its metadata; two commits of this repository may make the same rows.
    table = pa.concat_tables([table.replace_schema_metadata() for table in tables])
    table = table.sort_by([(name, "ascending") for name in ("source", "person", "frame")])
    return {
        field.name: tensor_column(table, field.name)
        if isinstance(field.type, pa.FixedShapeTensorType)
        else table[field.name].to_numpy()
        for field in table.schema
    }


def check_same_rows(out: str, wanted: str) -> int:
    """Two folders must hold the same rows, to the last bit; how many they are."""
    found, whole = poses_of(out), poses_of(wanted)
    assert found.keys() == whole.keys()
    for name in whole:
        np.testing.assert_array_equal(found[name], whole[name], err_msg=name)
    return len(whole["frame"])


def is_finished(out: str) -> bool:
    """Whether a job says that it is."""
    return storage.exists(storage.join(out, MANIFEST))


def same_bytes(outs: Sequence[str], names: set[str]) -> int:
    """How many of the parts are the same file in both folders."""
    one, other = ([storage.read_bytes(storage.join(out, name)) for name in sorted(names)] for out in outs)
    return sum(a == b for a, b in zip(one, other, strict=True))
