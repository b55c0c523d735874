"""The on-premises file, without hosts; `test_ray_up` uses it for real."""

import copy
import ipaddress
import re
import subprocess
from pathlib import Path

import pytest
import yaml

FILE = Path(__file__).resolve().parents[2] / "infra/on_premises/cluster.yaml"
FOR_EXAMPLES = ipaddress.ip_network("192.0.2.0/24")  # RFC 5737


@pytest.fixture
def cluster() -> dict:
    return yaml.safe_load(FILE.read_text())


def test_ray_takes_the_file_and_would_not_take_a_misspelt_one(cluster):
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(copy.deepcopy(cluster)))
    with pytest.raises(ValidationError):
        validate_config(prepare_config(cluster | {"file_mount": {}}))


def test_every_worker_is_wanted_from_the_start(cluster):
    from ray.autoscaler._private.util import prepare_config

    (kind,) = prepare_config(copy.deepcopy(cluster))["available_node_types"].values()
    assert kind["min_workers"] == kind["max_workers"] == len(cluster["provider"]["worker_ips"])


def test_its_addresses_are_examples(cluster):
    provider = cluster["provider"]
    for address in (provider["head_ip"], *provider["worker_ips"]):
        assert ipaddress.ip_address(address) in FOR_EXAMPLES
        assert FILE.read_text().count(address) == 1


def test_its_commands_are_shell_and_ask_for_the_token(cluster):
    for command in cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]:
        subprocess.run(["bash", "-n", "-c", command], check=True)
        if "ray start" in command:
            assert "RAY_AUTH_MODE=token" in command


def test_no_worker_stops_by_the_name_of_what_stops_it(cluster):
    """`pkill -f` must find an earlier look-out and not the shell that it is typed in."""
    stop, _, look_out = cluster["worker_start_ray_commands"]
    (pattern,) = re.findall(r"pkill -f '(.*?)'", stop)
    assert re.search(pattern, look_out)
    assert not re.search(pattern, stop)
