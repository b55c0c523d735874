"""The on-premises file for real: three hosts, `ray up`, a training that loses one of them, `ray down`."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import netlab
import pytest
import yaml
from netlab import FOLDER, GATEWAY, REPOSITORY, Host
from seaweedfs import S3Server, run_seaweedfs, use_environment

from mpm_model.checkpoint import load_checkpoint
from pipelines import storage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

CLUSTER_FILE = REPOSITORY / "infra/on_premises/cluster.yaml"
SAMPLE = REPOSITORY / "pipelines/sample/mocap/ui_prmd"
STEP = re.compile(r"step (\d+)/(\d+)")
EPOCHS = 60
CHECKPOINT_EVERY_STEPS = 20


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


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._begun_s = time.monotonic()

    def __str__(self) -> str:
        return f"{time.monotonic() - self._begun_s:.1f} s"

    def wait(self, what: str, is_so: Callable[[], bool], *, at_most_s: float) -> None:
        while not is_so():
            assert time.monotonic() - self._begun_s < at_most_s, f"waited {at_most_s} s: {what}"
            time.sleep(0.2)


class Operator:
    """Somebody at this machine, with a home folder of their own, who types commands."""

    def __init__(self, server: S3Server) -> None:
        self._home = FOLDER / "home"
        scratch = FOLDER / "tmp"
        for folder in (self._home, scratch):
            folder.mkdir()
        tools = Path(sys.executable).parent
        self._environment = server.env | {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "HOME": str(self._home),
            "TMPDIR": str(scratch),
            "OMP_NUM_THREADS": "1",
        }

    def types(self, *command: object) -> str:
        """Run a command to its end; what it printed."""
        done = subprocess.run(
            [*map(str, command)], env=self._environment, cwd=REPOSITORY, text=True, capture_output=True
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def begins(self, *command: object, log: Path) -> "subprocess.Popen[bytes]":
        """Start a command that writes to a file."""
        with log.open("wb") as file:
            return subprocess.Popen(
                [*map(str, command)], env=self._environment, cwd=REPOSITORY, stdout=file, stderr=file
            )


def cluster_file(hosts: list[Host]) -> Path:
    """The shipped file with these hosts in it, each worker a host of one processor."""
    head, *workers = hosts
    cluster = yaml.safe_load(CLUSTER_FILE.read_text())
    cluster["provider"] |= {"head_ip": head.address, "worker_ips": [worker.address for worker in workers]}
    cluster["auth"] = {"ssh_user": "root", "ssh_private_key": str(FOLDER / "key")}
    commands = cluster["worker_start_ray_commands"]
    cluster["worker_start_ray_commands"] = [
        command.replace("ray start", "ray start --num-cpus=1") for command in commands
    ]
    assert cluster["worker_start_ray_commands"] != commands
    file = FOLDER / "cluster.yaml"
    file.write_text(yaml.safe_dump(cluster))
    return file


def test_training_outlives_a_host_and_ray_down_leaves_nothing(
    hosts, bucket_server, monkeypatch, tmp_path, say
):
    head, _, lost = hosts
    operator = Operator(bucket_server)
    use_environment(monkeypatch, bucket_server.env)
    filesystem, _ = storage.open_filesystem("s3://training/out")
    filesystem.mkdir("training")
    operator.types(
        *("mpm", "prepare", SAMPLE, "--reader", "ui_prmd", "--out", "s3://training/windows"),
        *("--window-frames", 27, "--hop-frames", 3, "--rate-hz", 25),
    )
    file = cluster_file(hosts)
    operator.types("ray", "get-auth-token", "--generate")

    clock = Clock()
    operator.types("ray", "up", "-y", "--no-config-cache", file)
    say(f"ray up: {clock}")

    clock = Clock()
    log = tmp_path / "submit.log"
    job = operator.begins(
        *(sys.executable, "-m", "pipelines", "submit", "--address", f"http://{head.address}:8265"),
        *("pretrain", "pretrain_demo", "--data", "s3://training/windows", "--out", "s3://training/out"),
        *("--set", f"epochs={EPOCHS}", "--set", "scale.workers=2", "--set", "scale.min_workers=1"),
        *("--set", f"scale.checkpoint_every_steps={CHECKPOINT_EVERY_STEPS}"),
        *("--set", "scale.report_every_steps=5"),
        log=log,
    )

    def step() -> int:
        assert job.poll() is None, log.read_text()
        steps = [int(found[0]) for found in STEP.findall(log.read_text())]
        return steps[-1] if steps else 0

    clock.wait("the first steps", lambda: step() > CHECKPOINT_EVERY_STEPS, at_most_s=300)
    say(f"submitted, to step {step()}: {clock}")

    clock = Clock()
    lost.lose()
    before = len(log.read_text())
    clock.wait("a step after the loss", lambda: bool(STEP.search(log.read_text()[before:])), at_most_s=120)
    (after, _) = STEP.findall(log.read_text()[before:])[0]
    say(f"a host lost, to step {after} on the other: {clock}")

    clock = Clock()
    lost.start()
    clock.wait("Ray on the host", lambda: any("raylet" in line for line in lost.processes()), at_most_s=180)
    say(f"the host given back, to Ray on it: {clock}")

    exit_code = job.wait(timeout=900)
    assert exit_code == 0, log.read_text()
    say(f"trained to its end: {clock}")
    with storage.fetch_folder("s3://training/out") as folder:
        checkpoint = load_checkpoint(folder, expect_architecture="masked")
    steps = {int(of) for _, of in STEP.findall(log.read_text())}
    assert steps == {checkpoint.card["last"]["step"]}

    clock = Clock()
    operator.types("ray", "down", "-y", file)
    say(f"ray down: {clock}")
    clock.wait("Ray to end everywhere", lambda: not any(host.processes() for host in hosts), at_most_s=90)
    say(f"no process left on any host: {clock}\n")
