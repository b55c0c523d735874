"""The on-premises file for real: three hosts, `ray up`, a training that loses one of them, `ray down`."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import netlab
import pytest
import yaml
from netlab import FOLDER, GATEWAY, REPOSITORY, Host
from seaweedfs import S3Server, run_seaweedfs, use_environment

from mpm_model.checkpoint import load_checkpoint
from pipelines import storage, storage_folders

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

CLUSTER_FILE = REPOSITORY / "infra/on_premises/cluster.yaml"
SAMPLE = REPOSITORY / "pipelines/sample/mocap/ui_prmd"
EPOCHS = 250
CHECKPOINT_EVERY_STEPS = 20
FIRST_STEPS = 50
"""With a checkpoint among them, a host is lost."""


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[Host]]:
    """A head and two workers."""
    if reason := netlab.missing():
        pytest.skip(reason)
    with netlab.run_hosts(3) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def bucket_server(hosts: list[Host]) -> Iterator[S3Server]:
    """An S3 server on this machine that every host reaches."""
    with run_seaweedfs(GATEWAY) as server:
        yield server


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print past pytest: times are what this test is also for."""

    def line(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}", end="", flush=True)

    return line


class Operator:
    """Somebody at this machine, with a home folder of their own, who types commands."""

    def __init__(self, server: S3Server, log: Path) -> None:
        self._log = log
        home, scratch = FOLDER / "home", FOLDER / "tmp"
        for folder in (home, scratch):
            folder.mkdir()
        self._environment = server.env | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "TMPDIR": str(scratch),
            "OMP_NUM_THREADS": "1",
        }

    def types(self, *command: object) -> None:
        """Run a command to its end."""
        with self.begins(*command) as process:
            process.wait()
        assert process.returncode == 0, f"{command}\n{self.log}"

    @contextmanager
    def begins(self, *command: object) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a command while the block lasts."""
        with (
            self._log.open("wb") as log,
            subprocess.Popen(
                [*map(str, command)], env=self._environment, cwd=REPOSITORY, stdout=log, stderr=log
            ) as process,
        ):
            try:
                yield process
            finally:
                process.kill()

    @property
    def log(self) -> str:
        """What the last command has printed so far."""
        return self._log.read_text()

    def steps(self) -> list[int]:
        """The training steps that it has told of."""
        return [int(step) for step in re.findall(r"step (\d+)/", self.log)]

    def waits(self, until: Callable[[], object], *, at_most_s: float) -> str:
        """Wait until something is so; how long it took."""
        begun_s = time.monotonic()
        while not until():
            assert time.monotonic() - begun_s < at_most_s, f"waited {at_most_s} s\n{self.log}"
            time.sleep(0.1)
        return f"{time.monotonic() - begun_s:.1f} s"


def cluster_file(hosts: list[Host]) -> Path:
    """The shipped file with these hosts in it, each worker a host of one processor."""
    head, *workers = hosts
    cluster = yaml.safe_load(CLUSTER_FILE.read_text())
    cluster["provider"] |= {"head_ip": head.address, "worker_ips": [worker.address for worker in workers]}
    cluster["auth"] = {"ssh_user": "root", "ssh_private_key": str(FOLDER / "key")}
    commands = cluster["worker_start_ray_commands"]
    # Workers yield to whatever else runs, and here the hosts' processor is this machine's.
    as_here = "RAY_worker_niceness=0 ray start --num-cpus=1"
    cluster["worker_start_ray_commands"] = [command.replace("ray start", as_here) for command in commands]
    assert cluster["worker_start_ray_commands"] != commands
    file = FOLDER / "cluster.yaml"
    file.write_text(yaml.safe_dump(cluster))
    return file


def runs_ray(host: Host) -> bool:
    """Whether it is a node of the cluster, or about to be."""
    return any("raylet" in line for line in host.processes())


def is_training(host: Host) -> bool:
    """Whether a worker of a training is on it."""
    return any("RayTrainWorker" in line for line in host.processes())


def repeats(steps: list[int]) -> list[tuple[int, int]]:
    """The last step before, and the first after each time that the training went on from a checkpoint."""
    return [(before, after) for before, after in pairwise(steps) if after <= before]


def test_training_outlives_a_host_and_ray_down_leaves_nothing(
    hosts, bucket_server, monkeypatch, tmp_path, say
):
    head, _, lost = hosts
    use_environment(monkeypatch, bucket_server.env)
    filesystem, _ = storage.open_filesystem("s3://training/out")
    filesystem.mkdir("training")
    operator = Operator(bucket_server, tmp_path / "log")
    mpm = (sys.executable, "-m", "pipelines")
    operator.types(
        *(*mpm, "prepare", SAMPLE, "--reader", "ui_prmd", "--out", "s3://training/windows"),
        *("--window-frames", 27, "--hop-frames", 3, "--rate-hz", 25),
    )
    file = cluster_file(hosts)
    operator.types("ray", "get-auth-token", "--generate")

    begun_s = time.monotonic()
    operator.types("ray", "up", "-y", "--no-config-cache", file)
    say(f"ray up: {time.monotonic() - begun_s:.1f} s")

    settings = {
        "epochs": EPOCHS,
        "scale.workers": 2,
        "scale.min_workers": 1,
        "scale.cpus_per_worker": 1,
        "scale.checkpoint_every_steps": CHECKPOINT_EVERY_STEPS,
        "scale.report_every_steps": 1,
    }
    with operator.begins(
        *(*mpm, "submit", "--address", f"http://{head.address}:8265"),
        *("pretrain", "pretrain_demo", "--data", "s3://training/windows", "--out", "s3://training/out"),
        *(word for name, value in settings.items() for word in ("--set", f"{name}={value}")),
    ) as job:
        took = operator.waits(lambda: len(operator.steps()) > FIRST_STEPS, at_most_s=300)
        say(f"from mpm submit to step {operator.steps()[-1]}, on both hosts: {took}")
        assert is_training(lost)

        lost.lose()
        took = operator.waits(lambda: repeats(operator.steps()), at_most_s=120)
        ((last, again),) = repeats(operator.steps())
        say(f"from the loss of a host, at step {last}, to step {again} on the other: {took}")
        assert again > last - 2 * CHECKPOINT_EVERY_STEPS  # the last checkpoint may have been on its way

        lost.start()
        took = operator.waits(lambda: runs_ray(lost), at_most_s=180)
        say(f"from its return to Ray on it: {took}")
        # A machine so fast that the job ends first has nothing left to share.
        took = operator.waits(lambda: is_training(lost) or job.poll() is not None, at_most_s=180)
        say(f"... to a worker on it: {took}")
        took = operator.waits(lambda: job.poll() is not None, at_most_s=1500)
        say(f"... to the end of the job: {took}")
        assert job.returncode == 0, operator.log
        steps = operator.steps()
    with storage_folders.fetch_folder("s3://training/out") as folder:
        checkpoint = load_checkpoint(folder, expect_architecture="masked")
    assert checkpoint.card["last"]["step"] == max(steps) == steps[-1]
    assert set(steps) == set(range(1, max(steps) + 1))

    begun_s = time.monotonic()
    operator.types("ray", "down", "-y", file)
    say(f"ray down: {time.monotonic() - begun_s:.1f} s")
    took = operator.waits(lambda: not any(host.processes() for host in hosts), at_most_s=90)
    say(f"... until no process is left on any host: {took}\n")
