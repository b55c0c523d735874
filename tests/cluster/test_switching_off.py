"""Machines that nobody needs go away by themselves."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
KINDS = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())["available_node_types"]

# A machine whose minutes pass at once. Ray runs in those whose number is in $WITH_RAY.
SYSTEMD_RUN = 'shift; exec "$@"'
SLEEP = 'echo >> minutes; test "$1" = 60 && test "$(wc -l < minutes)" -lt 100'
PGREP = 'case " $WITH_RAY " in *" $(wc -l < minutes) "*) exit 0 ;; *) exit 1 ;; esac'
SHUTDOWN = 'wc -l < minutes > off; kill "$PPID"'


def minutes_until_off(user_data: str, folder: Path, *, with_ray: range) -> int:
    """How many minutes the machine stays on, of at most 100."""
    programs = {"systemd-run": SYSTEMD_RUN, "sleep": SLEEP, "pgrep": PGREP, "shutdown": SHUTDOWN}
    for name, script in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    (folder / "user_data").write_text(user_data)
    env = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "WITH_RAY": " ".join(map(str, with_ray))}
    subprocess.run(["bash", "user_data"], cwd=folder, env=env, check=False, timeout=60)
    return int((folder / "off").read_text()) if (folder / "off").exists() else 100


@pytest.mark.parametrize("kind", KINDS)
def test_a_machine_on_which_ray_stopped_switches_itself_off_after_half_an_hour(kind, tmp_path):
    user_data = KINDS[kind]["node_config"]["UserData"]
    assert minutes_until_off(user_data, tmp_path, with_ray=range(10, 21)) == 50


def test_a_machine_on_which_ray_never_started_switches_itself_off_after_half_an_hour(tmp_path):
    assert minutes_until_off(KINDS["worker"]["node_config"]["UserData"], tmp_path, with_ray=range(0)) == 30


def test_a_machine_on_which_ray_runs_stays_on(tmp_path):
    user_data = KINDS["worker"]["node_config"]["UserData"]
    assert minutes_until_off(user_data, tmp_path, with_ray=range(20, 101)) == 100


@pytest.mark.parametrize("kind", KINDS)
def test_off_means_ended(kind):
    assert KINDS[kind]["node_config"]["InstanceInitiatedShutdownBehavior"] == "terminate"


class Jobs:
    """What the head's dashboard says, minute by minute: busy, idle, or nothing at all (None)."""

    def __init__(self, answers: list[bool | None]) -> None:
        self.answers = iter(answers)
        self.minutes = 0

    def is_busy(self) -> bool:
        answer = next(self.answers)
        if answer is None:
            raise ConnectionError
        return answer

    def sleep_s(self, duration_s: float) -> None:
        assert duration_s == 60
        self.minutes += 1


@pytest.mark.parametrize(
    ("answers", "is_idle", "after_minutes"),
    [
        ([False] * 3, True, 3),
        ([True] * 10 + [False] * 3, True, 13),
        ([False, False, True, False, False, False], True, 6),
        ([False, None, None, False, False], True, 5),
        ([True, None, None, None, None, None], False, 6),
    ],
    ids=["never a job", "after a job", "a job in between", "a silence in between", "ray is gone"],
)
def test_the_head_is_idle_when_no_job_ran_for_a_while(
    answers, is_idle, after_minutes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(ROOT)
    from infra.aws.stop_when_idle import wait_until_idle

    jobs = Jobs(answers)
    assert wait_until_idle(jobs.is_busy, jobs.sleep_s, minutes=3) is is_idle
    assert jobs.minutes == after_minutes
