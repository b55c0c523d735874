"""The image is what the repository pins."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import ray
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "infra/image/Dockerfile"
INSTRUCTIONS = [
    line for line in DOCKERFILE.read_text().replace("\\\n", " ").splitlines() if line and line[0] not in "# "
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
)


def test_the_dockerfile_passes_its_linter():
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([linter, DOCKERFILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def canonical(name: str) -> str:
    """Package indexes do not tell these apart."""
    return name.lower().replace("_", "-")


def test_the_base_image_is_one_content():
    (base,) = [line.split()[1] for line in INSTRUCTIONS if line.startswith("FROM")]
    name, _, digest = base.partition("@sha256:")
    assert name.startswith("python:3.11.")
    assert len(digest) == 64


def test_every_install_is_held_to_the_pinned_versions():
    installs = [part for line in INSTRUCTIONS for part in line.split("&&") if "pip install" in part]
    assert len(installs) == 2
    assert all("--constraint constraints.txt" in part or "--no-deps" in part for part in installs)


def test_what_the_image_installs_is_pinned_and_ray_is_the_one_tested_here():
    packages = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["aws"]
    names = {package.partition(">")[0].partition("[")[0] for package in packages}
    assert {canonical(name) for name in names} <= {canonical(name) for name in PINNED}
    assert PINNED["ray"] == ray.__version__


def test_what_the_image_copies_is_there_and_not_ignored():
    kept = {
        line.lstrip("!") for line in (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    }
    copied = {name for line in INSTRUCTIONS if line.startswith("COPY") for name in line.split()[1:-1]}
    assert copied <= kept
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize("file", ["ray_cluster.yaml", "infra/image/Dockerfile"])
def test_the_image_is_named_after_the_version(file):
    assert f"{PROJECT['name']}:{PROJECT['version']}" in (ROOT / file).read_text()


def test_ray_up_finds_in_the_image_what_it_asks_of_it():
    """It reads HOME from the image, copies with rsync, and starts login shells, which reset PATH."""
    text = "\n".join(INSTRUCTIONS)
    assert "ENV HOME=/home/ray" in INSTRUCTIONS
    assert "rsync" in text
    assert "openssh-client" in text
    assert "venv" not in text
    options = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())["docker"]["run_options"]
    assert "--env RAY_AUTH_MODE=token" in options
