"""infra/slurm on a real Slurm of two nodes, which are two daemons on this machine with a name each."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_S = 240
NODES = ("n1", "n2")

CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool_%n
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
KillWait=20
NodeName=n1 NodeAddr=127.0.0.1 Port={n1} CPUs=2 RealMemory=1000
NodeName=n2 NodeAddr=127.0.0.1 Port={n2} CPUs=2 RealMemory=1000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

MPM = f"""#!{sys.executable}
import pathlib, sys, time
import ray

ray.init(log_to_driver=False, logging_level="ERROR")
print("given", sys.argv[1:], flush=True)
print("nodes", sum(node["Alive"] for node in ray.nodes()), ray.cluster_resources()["CPU"], flush=True)
checkpoint = pathlib.Path("checkpoint")
if checkpoint.exists():
    sys.exit(int(checkpoint.read_text()))
checkpoint.write_text("0")
time.sleep({PATIENCE_S})
"""
"""Stands for the training: the first time it goes on until it is ended, later it exits as the file says."""


@dataclass(frozen=True, kw_only=True)
class Slurm:
    """A running Slurm, and a folder to submit from, whose mpm is `MPM`."""

    folder: Path
    env: dict[str, str]

    def run(self, *command: str) -> str:
        """The output of one of Slurm's commands."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def submit(self) -> str:
        """The number of a new job of two nodes."""
        return self.run(
            *("sbatch", "--parsable", "--mem=0", "infra/slurm/pretrain.sbatch"),
            *("pretrain_base", "--data", "s3://bucket/two words", "--out", "s3://bucket/model"),
        )

    def state(self, job: str) -> str:
        """PENDING, RUNNING, COMPLETED, ..."""
        words = self.run("scontrol", "show", "job", job).split()
        return next(word for word in words if word.startswith("JobState=")).removeprefix("JobState=")

    def log(self, job: str) -> str:
        """What the job has written."""
        return (self.folder / f"mpm-pretrain-{job}.log").read_text()


def _until(happened: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline_s, f"never came: {what}"
        time.sleep(0.5)


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Slurm]:
    missing = [name for name in ("slurmctld", "slurmd", "munged", "unshare") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"needs root, and Debian's slurm-wlm and munge: {', '.join(missing) or 'not root'}")
    with contextlib.ExitStack() as held:
        ports = []
        for _ in range(3):
            free = held.enter_context(socket.socket())
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    names = dict(zip(("controller", *NODES), ports, strict=True))
    config = tmp_path / "slurm.conf"
    config.write_text(CONFIG.format(host=socket.gethostname(), folder=tmp_path, **names))
    for name in ("state", "home", "submit/bin", *(f"spool_{node}" for node in NODES)):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "submit/infra").symlink_to(ROOT / "infra")
    (tmp_path / "submit/bin/mpm").write_text(MPM)
    (tmp_path / "submit/bin/mpm").chmod(0o755)
    (tmp_path / "munge.key").write_bytes(os.urandom(128))
    (tmp_path / "munge.key").chmod(0o600)
    path = f"{tmp_path}/submit/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {"PATH": path, "HOME": str(tmp_path / "home"), "SLURM_CONF": str(config), "OMP_NUM_THREADS": "1"}
    munge = [f"--{name}-file={tmp_path}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    daemons = [
        ["munged", "--foreground", "--force", f"--socket={tmp_path}/munge.socket", *munge],
        ["slurmctld", "-D", "-c"],
        *(["unshare", "--uts", "sh", "-c", f"hostname {node}; exec slurmd -D"] for node in NODES),
    ]
    running = []
    try:
        for daemon in daemons:
            with (tmp_path / "daemons.log").open("ab") as log:
                running.append(
                    subprocess.Popen(daemon, env=env, stdout=log, stderr=log, start_new_session=True)
                )
            if daemon[0] == "munged":
                _until((tmp_path / "munge.socket").exists, "munge")
        found = Slurm(folder=tmp_path / "submit", env=env)
        idle = ["sinfo", "--noheader", "--format=%D", "--states=idle"]
        _until(lambda: _output(idle, env) == str(len(NODES)), "two idle nodes")
        yield found
        subprocess.run(["scancel", "--user=root"], env=env, timeout=60, check=False)
        _until(lambda: _output(["squeue", "--noheader"], env) == "", "the end of the jobs")
    finally:
        for process in reversed(running):
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait(timeout=60)


def _output(command: list[str], env: dict[str, str]) -> str | None:
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    return done.stdout.strip() if done.returncode == 0 else None


def _processes_of(job: str) -> list[str]:
    """Command lines of what still runs of a job."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"SLURM_JOB_ID={job}".encode() in (place / "environ").read_bytes().split(b"\0"):
                found.append((place / "cmdline").read_text().replace("\0", " "))
    return found


@pytest.mark.slow
@pytest.mark.timeout(4 * PATIENCE_S)
def test_a_job_whose_time_is_up_is_queued_again_and_goes_on(slurm: Slurm) -> None:
    before = set(Path("/tmp").glob("ray-*"))
    job = slurm.submit()
    checkpoint = slurm.folder / "checkpoint"
    _until(lambda: checkpoint.exists() or slurm.state(job) == "FAILED", "the first checkpoint")
    assert checkpoint.exists(), slurm.log(job)
    arguments = ["pretrain", "pretrain_base", "--data", "s3://bucket/two words", "--out", "s3://bucket/model"]
    assert f"given {arguments}" in slurm.log(job)
    assert "nodes 2 4.0" in slurm.log(job)
    private = Path(slurm.env["HOME"]) / ".mpm" / f"slurm-{job}"
    token = private / "token"
    assert (private.stat().st_mode & 0o077, token.stat().st_mode & 0o077) == (0, 0)
    assert token.read_text() not in slurm.log(job)

    slurm.run("scancel", "--signal=USR1", "--batch", job)  # as --signal does before the time is up
    _until(lambda: slurm.state(job) == "PENDING", "the job in the queue")
    assert "out of time" in slurm.log(job)
    assert not private.exists()
    assert _processes_of(job) == []
    assert set(Path("/tmp").glob("ray-*")) <= before

    slurm.run("scontrol", "update", f"JobId={job}", "StartTime=now")  # Slurm waits two minutes otherwise
    _until(lambda: slurm.state(job) in {"COMPLETED", "FAILED"}, "the end of the job")
    assert slurm.state(job) == "COMPLETED", slurm.log(job)
    assert slurm.log(job).count("nodes 2 4.0") == 2
    assert not private.exists()


@pytest.mark.slow
@pytest.mark.timeout(4 * PATIENCE_S)
def test_the_job_fails_as_the_training_does(slurm: Slurm) -> None:
    (slurm.folder / "checkpoint").write_text("2")
    job = slurm.submit()
    _until(lambda: slurm.state(job) in {"COMPLETED", "FAILED"}, "the end of the job")
    assert "ExitCode=2:0" in slurm.run("scontrol", "show", "job", job), slurm.log(job)
    assert not (Path(slurm.env["HOME"]) / ".mpm" / f"slurm-{job}").exists()


@pytest.mark.slow
def test_a_job_from_another_folder_says_what_it_wants(slurm: Slurm) -> None:
    (slurm.folder / "infra").unlink()
    job = slurm.run("sbatch", "--parsable", "--mem=0", str(ROOT / "infra/slurm/pretrain.sbatch"))
    _until(lambda: slurm.state(job) == "FAILED", "the end of the job")
    assert "call sbatch in the folder of the repository" in slurm.log(job)
