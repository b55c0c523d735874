"""Trainings of the cluster tests: the bundled sample, a small network, in processes that can be killed."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from pipelines import prepare

SAMPLE = Path(str(resources.files("pipelines") / "sample" / "mocap" / "ui_prmd"))
EVERY_STEP = ("scale.report_every_steps=1", "scale.cpus_per_worker=1")
"""Each step's loss is told, and a worker has one thread, as the sum of many is not that of others."""
WORKER = b"RayTrainWorker"
_STEP = re.compile(r"step (\d+)/(\d+)")


def prepare_sample(out: str) -> None:
    """762 training windows of 27 frames: 11 steps of 64 in an epoch."""
    config = prepare.PrepareConfig(window_frames=27, hop_frames=1, rate_hz=25.0)
    prepare.run([str(SAMPLE)], reader="ui_prmd", out=out, config=config, max_bad_fraction=0)


class Training:
    """`mpm pretrain` in a session of its own, watched by its lines."""

    def __init__(self, data: str, out: str, settings: Sequence[str], *, env: dict[str, str] | None = None):
        arguments = ["pretrain", "pretrain_demo", "--data", data, "--out", out]
        for setting in (*EVERY_STEP, *settings):
            arguments += ["--set", setting]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipelines", *arguments],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | (env or {}),
            start_new_session=True,
        )
        self.said: list[str] = []

    def wait_for_step(self, step: int) -> int:
        """Read on until a step is done, or the run has ended; the last step seen."""
        seen = -1
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.rstrip())
            if found := _STEP.search(line):
                seen = int(found[1])
                if seen >= step:
                    break
        return seen

    def end(self) -> int:
        """Read to the end; the exit code."""
        self.wait_for_step(sys.maxsize)
        return self.process.wait()

    def kill(self) -> None:
        """SIGKILL to the command and to all that it started, at once; as if the machine went out."""
        everything = [self.process.pid, *self.descendants()]
        for pid in everything:
            _kill(pid)
        self.process.wait()

    def kill_a_worker(self, number: int) -> None:
        """SIGKILL to one of the workers that train, if there are any at the moment."""
        workers = sorted(pid for pid in self.descendants() if WORKER in _command(pid))
        if workers:
            _kill(workers[number % len(workers)])

    def descendants(self) -> list[int]:
        """Processes that this one started, and theirs."""
        parents = {pid: _parent(pid) for pid in map(int, filter(str.isdigit, os.listdir("/proc")))}
        found, new = set(), {self.process.pid}
        while new:
            new = {pid for pid, parent in parents.items() if parent in new} - found
            found |= new
        return sorted(found)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        time.sleep(0)  # it was faster
