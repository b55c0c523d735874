"""`ray up` and `ray down` against a stand-in for AWS, with machines that obey but do nothing."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from moto_aws import ACCOUNT, MACHINE_IMAGE, FakeAws

ROOT = Path(__file__).resolve().parents[2]
CLUSTER_FILE = ROOT / "ray_cluster.yaml"

# What a machine answers to what `ray up` asks of it. All else succeeds without a word.
SSH = """#!/bin/sh
echo "$*" >> "$FAKE_MACHINES/commands"
case "$*" in
  *"json .Config.Env"*) echo '["HOME=/home/ray"]' ;;
  *"printenv HOME"*) echo /home/ray ;;
  *"command -v docker"*) echo /usr/bin/docker ;;
  *"docker info"*) echo 'map[nvidia:{/usr/bin/nvidia-container-runtime}]' ;;
  *"/proc/meminfo"*) echo 'MemAvailable: 8000000 kB' ;;
esac
"""
RSYNC = """#!/bin/sh
for word; do case "$word" in
  */ray-bootstrap-*) cp "$word" "$FAKE_MACHINES/bootstrap.json" ;;
esac; done
echo "$*" >> "$FAKE_MACHINES/copies"
"""


@dataclass(frozen=True, kw_only=True)
class Launcher:
    """A person's machine: a home, the cluster file filled in, and an ssh that leads nowhere."""

    folder: Path
    aws: FakeAws

    def __post_init__(self) -> None:
        for name, script in {"ssh": SSH, "rsync": RSYNC}.items():
            program = self.folder / "bin" / name
            program.parent.mkdir(parents=True, exist_ok=True)
            program.write_text(script)
            program.chmod(0o755)
        token = self.folder / "home/.ray/auth_token"
        token.parent.mkdir(parents=True)
        token.write_text("0" * 64)
        self.cluster_file.write_text(yaml.safe_dump(filled_in(self.aws.region)))

    @property
    def cluster_file(self) -> Path:
        """The cluster file as its user would have it."""
        return self.folder / "cluster.yaml"

    @property
    def commands(self) -> list[str]:
        """What was asked of the machines through ssh, in order."""
        return (self.folder / "commands").read_text().splitlines()

    @property
    def bootstrap(self) -> dict[str, Any]:
        """The configuration that the head's autoscaler was given."""
        loaded: dict[str, Any] = json.loads((self.folder / "bootstrap.json").read_text())
        return loaded

    def ray(self, *arguments: str) -> str:
        """Run `ray ARGUMENTS`; what it printed. Fails the test if it fails."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_"))}
        programs = [self.folder / "bin", Path(sys.executable).parent, os.environ["PATH"]]
        env |= self.aws.env | {
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder),
            "PATH": os.pathsep.join(map(str, programs)),
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "FAKE_MACHINES": str(self.folder),
        }
        done = subprocess.run(
            ["ray", *arguments], env=env, text=True, cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout


def filled_in(region: str) -> dict[str, Any]:
    """ray_cluster.yaml with the machine image that the stand-in knows; the rest as it ships."""
    config: dict[str, Any] = yaml.safe_load(CLUSTER_FILE.read_text())
    assert config["provider"]["region"] == region
    assert config["docker"]["image"].startswith(ACCOUNT)
    for kind in config["available_node_types"].values():
        kind["node_config"]["ImageId"] = MACHINE_IMAGE
    return config
