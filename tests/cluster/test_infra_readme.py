"""What infra/README.md and the head of ray_cluster.yaml tell to type is there and is taken."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from ray.scripts.scripts import cli as ray_cli
from typer.main import get_command

from pipelines.cli import app

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "infra/README.md").read_text()
HEAD = re.match(r"(#.*\n)+", (ROOT / "ray_cluster.yaml").read_text())[0]
TEXT = (README + re.sub(r"^# ", "", HEAD, flags=re.MULTILINE)).replace("\\\n", " ")
SHELL = re.search(r"sed -i .* ray_cluster.yaml", README)[0]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\b(?:infra|tests)/[\w./]*\w", README))))
def test_a_path_it_names_is_there(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize("command", re.findall(r"mpm (submit --.*?)(?:\n|$)", TEXT))
def test_a_job_it_submits_is_taken(command, monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:8265")
    words = shlex.split(command.replace("$BUCKET", "bucket").replace("BUCKET", "bucket"), comments=True)
    with pytest.raises(SystemExit) as ended:
        get_command(app).main([words[0], "--dry-run", *words[1:]])
    assert ended.value.code == 0


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"\bray ([a-z-]+) (?:--\S+ )*ray_cluster.yaml", TEXT)))
)
def test_a_command_of_ray_it_tells_to_type_exists(command):
    assert command in ray_cli.commands


def test_one_command_fills_in_all_that_is_marked(tmp_path):
    text = (ROOT / "ray_cluster.yaml").read_text()
    (tmp_path / "ray_cluster.yaml").write_text(text)
    registry = "210987654321.dkr.ecr.eu-west-1.amazonaws.com"
    given = {"AWS_REGION": "eu-west-1", "REPOSITORY": f"{registry}/mpm-on-ray"}
    script = f"output() {{ echo ami-1234; }}; {SHELL}"
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, env={"PATH": "/usr/bin:/bin"} | given, check=True)
    filled = (tmp_path / "ray_cluster.yaml").read_text()
    for old, new in zip(text.splitlines(), filled.splitlines(), strict=True):
        assert (old != new) == ("# CHANGE" in old), old
    config = yaml.safe_load(filled)
    assert config["provider"]["availability_zone"] == "eu-west-1a,eu-west-1b,eu-west-1c"
    assert config["docker"]["image"].startswith(given["REPOSITORY"])
    assert config["initialization_commands"][-1].endswith(registry)
    assert config["available_node_types"]["worker"]["node_config"]["ImageId"] == "ami-1234"
