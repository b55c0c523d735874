"""ray_cluster.yaml, by Ray's schema and, against a stand-in for EC2 and IAM, by what it launches."""

import base64
import copy
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from moto_aws import OWNER, STACK, FakeAws, run_fake_aws
from moto_launch import CLUSTER_FILE, ROOT, Launcher, filled_in
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.tags import NODE_KIND_WORKER, TAG_RAY_NODE_KIND

AS_SHIPPED: dict[str, Any] = yaml.safe_load(CLUSTER_FILE.read_text())
WORKER_TYPE = AS_SHIPPED["available_node_types"]["worker"]["node_config"]["InstanceType"]


@pytest.fixture(scope="module")
def aws() -> Iterator[FakeAws]:
    """A stand-in for AWS in which infra/aws/stack.yaml was created, and which this process takes for AWS."""
    with run_fake_aws(AS_SHIPPED["provider"]["region"]) as running, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in running.env.items():
            patch.setenv(name, value)
        patch.syspath_prepend(ROOT)
        running.create_stack(AS_SHIPPED["cluster_name"])
        yield running


@pytest.fixture(scope="module")
def on_the_head(aws: FakeAws, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The configuration as `ray up` completes it and hands it to the head."""
    from infra.aws.spot_first import SpotFirst

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        config = prepare_config(filled_in(aws.region))
        completed = SpotFirst.bootstrap_config(SpotFirst.fillout_available_node_types_resources(config))
        return dict(completed)


@pytest.fixture
def no_machines(aws: FakeAws) -> Iterator[None]:
    """An account without machines, before and after, that has spot machines to give."""
    aws.spot_machines, aws.refusal = 1000, "InsufficientInstanceCapacity"
    aws.calls.clear()
    yield
    if left := [machine["InstanceId"] for machine in aws.machines()]:
        aws.client("ec2").terminate_instances(InstanceIds=left)


def test_ray_accepts_the_cluster_file():
    validate_config(prepare_config(copy.deepcopy(AS_SHIPPED)))


@pytest.mark.parametrize("where", ["", "docker", "auth", "available_node_types.worker"])
def test_ray_refuses_a_key_that_it_does_not_know(where):
    config = copy.deepcopy(AS_SHIPPED)
    place = config
    for name in filter(None, where.split(".")):
        place = place[name]
    place["idle_timeout_hours"] = 1
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_hours"):
        validate_config(prepare_config(config))


@pytest.mark.parametrize("commands", ["head_start_ray_commands", "worker_start_ray_commands"])
def test_ray_start_takes_every_option_it_is_given(commands):
    from ray.scripts.scripts import start

    (command,) = [line for line in AS_SHIPPED[commands] if line.startswith("ray start")]
    options = start.make_context("start", shlex.split(command)[2:]).params
    if options["head"]:
        assert (options["num_cpus"], options["num_gpus"]) == (0, 0)
        assert options["system_config"] == {
            "health_check_initial_delay_ms": 0,
            "health_check_period_ms": 1000,
            "health_check_timeout_ms": 1000,
            "health_check_failure_threshold": 3,
        }


def test_the_places_to_change_agree_with_each_other():
    region, zones = AS_SHIPPED["provider"]["region"], AS_SHIPPED["provider"]["availability_zone"]
    registry = AS_SHIPPED["docker"]["image"].partition("/")[0]
    assert all(zone.startswith(region) for zone in zones.split(","))
    assert f".{region}." in registry
    assert f"--env AWS_DEFAULT_REGION={region}" in AS_SHIPPED["docker"]["run_options"]
    login = AS_SHIPPED["initialization_commands"][-1]
    assert f"--region {region} " in login
    assert login.endswith(f" {registry}")


def test_the_stack_passes_its_linter():
    linter = Path(sys.executable).parent / "cfn-lint"
    done = subprocess.run([linter, STACK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_firewall_lets_in_the_machines_themselves_and_ssh_from_the_owner(aws):
    groups = aws.client("ec2").describe_security_groups(GroupNames=["mpm"])["SecurityGroups"]
    (group,) = groups
    ssh, among_machines = group["IpPermissions"]
    assert (ssh["FromPort"], ssh["ToPort"], ssh["IpRanges"]) == (22, 22, [{"CidrIp": OWNER}])
    assert [pair["GroupId"] for pair in among_machines["UserIdGroupPairs"]] == [group["GroupId"]]
    assert not among_machines["IpRanges"]


@pytest.mark.parametrize("network", ["0.0.0.0/0", "10.0.0.0/8", "203.0.113.7"])
def test_ssh_from_everywhere_is_refused(network):
    pattern = re.search(r'SshFrom:.*?AllowedPattern: "(.*?)"', STACK.read_text(), re.DOTALL)
    assert re.fullmatch(pattern[1].replace("\\\\", "\\"), OWNER)
    assert not re.fullmatch(pattern[1].replace("\\\\", "\\"), network)


@pytest.mark.slow
def test_a_worker_may_use_its_bucket_and_fetch_its_image_and_nothing_else(aws):
    granted = rights(aws, "mpm-worker")
    assert {action.partition(":")[0] for action in granted} == {"s3", "ecr"}
    assert not [action for action in granted if "*" in action]
    buckets = {place for action, places in granted.items() if action.startswith("s3:") for place in places}
    assert buckets == {"arn:aws:s3:::a-bucket", "arn:aws:s3:::a-bucket/*"}


@pytest.mark.slow
@pytest.mark.usefixtures("no_machines")
class TestWorkers:
    """Ray's autoscaler on the head is asked for three GPUs; what it then launches."""

    @pytest.fixture
    def head(self, on_the_head, tmp_path, monkeypatch):
        from moto_autoscaler import Head

        return Head(on_the_head, tmp_path, monkeypatch)

    def test_come_on_spot(self, aws, head):
        head.ask_for_gpus(3)
        head.rounds_until(lambda: len(aws.machines()) > 1)
        head.rounds(3)
        workers = [machine for machine in aws.machines() if machine["InstanceId"] != head.instance_id]
        assert [worker["InstanceType"] for worker in workers] == [WORKER_TYPE] * 3
        assert {worker.get("InstanceLifecycle") for worker in workers} == {"spot"}

    def test_are_made_as_the_file_says(self, aws, head):
        head.ask_for_gpus(1)
        head.rounds_until(lambda: len(aws.machines()) > 1)
        (worker,) = [machine for machine in aws.machines() if machine["InstanceId"] != head.instance_id]
        assert worker["IamInstanceProfile"]["Arn"].endswith(":instance-profile/mpm-worker")
        assert_is_guarded(aws, worker)

    @pytest.mark.parametrize(("spot_machines", "on_demand"), [(0, 3), (2, 1)])
    def test_come_at_the_ordinary_price_where_there_is_no_spot(self, aws, head, spot_machines, on_demand):
        aws.spot_machines = spot_machines
        head.ask_for_gpus(3)
        head.rounds_until(lambda: len(aws.machines()) > 3)
        head.rounds(3)
        workers = [machine for machine in aws.machines() if machine["InstanceId"] != head.instance_id]
        lifecycles = [worker.get("InstanceLifecycle", "ordinary") for worker in workers]
        assert sorted(lifecycles) == ["ordinary"] * on_demand + ["spot"] * spot_machines
        assert {worker["InstanceType"] for worker in workers} == {WORKER_TYPE}

    def test_do_not_come_at_any_price_if_they_are_refused_for_another_reason(self, aws, head):
        aws.spot_machines, aws.refusal = 0, "UnauthorizedOperation"
        head.ask_for_gpus(3)
        head.rounds_until(lambda: len(aws.launches()) > 10)
        assert len(aws.machines()) == 1

    def test_are_launched_by_a_head_that_may_do_no_more_than_that(self, aws, head):
        granted = rights(aws, "mpm-head")
        head.ask_for_gpus(1)
        head.rounds_until(lambda: len(aws.machines()) > 1)
        assert {call.right for call in aws.calls} <= set(granted)
        assert granted["iam:PassRole"] == {"arn:aws:iam::123456789012:role/mpm-worker"}

    def test_would_never_come_if_ray_alone_had_to_choose_between_two_prices(
        self, aws, on_the_head, tmp_path, monkeypatch
    ):
        """Why there is infra/aws/spot_first.py: when this fails, two node types with priorities will do."""
        from moto_autoscaler import Head

        config = copy.deepcopy(on_the_head)
        kinds = config["available_node_types"]
        kinds["ordinary"] = copy.deepcopy(kinds["worker"])
        del kinds["ordinary"]["node_config"]["InstanceMarketOptions"]
        kinds["worker"]["priority"] = 1
        config["provider"] = {"type": "aws", "region": aws.region, "cache_stopped_nodes": False}
        head = Head(config, tmp_path, monkeypatch)
        aws.spot_machines = 0
        head.ask_for_gpus(3)
        head.rounds_until(lambda: len(aws.launches()) > 20)  # it tries five times in each launch
        assert len(aws.machines()) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("no_machines")
def test_ray_up_makes_the_head_and_ray_down_ends_all(aws, tmp_path):
    launcher = Launcher(folder=tmp_path, aws=aws)
    launcher.ray("up", "--yes", "--no-config-cache", str(launcher.cluster_file))
    (head,) = aws.machines()
    assert head["InstanceType"] == AS_SHIPPED["available_node_types"]["head"]["node_config"]["InstanceType"]
    assert "InstanceLifecycle" not in head
    assert head["IamInstanceProfile"]["Arn"].endswith(":instance-profile/mpm-head")
    assert [group["GroupName"] for group in head["SecurityGroups"]] == ["mpm"]
    assert_is_guarded(aws, head)

    said = "\n".join(launcher.commands)
    order = [said.index(word) for word in ("docker login", "docker pull", "docker run", "ray start --head")]
    assert order == sorted(order)
    assert "auth_token:/home/ray/.ray/auth_token" in said
    assert "--num-cpus=0" in said
    assert "python -m infra.aws.stop_when_idle" in said

    from infra.aws.spot_first import SpotFirst

    worker = launcher.bootstrap["available_node_types"]["worker"]
    assert worker["resources"]["GPU"] == 1
    tags = {TAG_RAY_NODE_KIND: NODE_KIND_WORKER}
    SpotFirst(launcher.bootstrap["provider"], "mpm").create_node(worker["node_config"], tags, 2)
    assert len(aws.machines()) == 3

    launcher.ray("down", "--yes", str(launcher.cluster_file))
    assert aws.machines() == []
    assert {call.right for call in aws.calls} <= set(rights(aws, "mpm-launcher"))


def rights(aws: FakeAws, role: str) -> dict[str, set[str]]:
    """What a role of the stack allows: places by action."""
    iam = aws.client("iam")
    granted: dict[str, set[str]] = {}
    for attached in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]:
        policy = iam.get_policy(PolicyArn=attached["PolicyArn"])["Policy"]
        version = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])
        for statement in version["PolicyVersion"]["Document"]["Statement"]:
            assert statement["Effect"] == "Allow"
            for action in _listed(statement["Action"]):
                granted.setdefault(action, set()).update(_listed(statement["Resource"]))
    return granted


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def assert_is_guarded(aws: FakeAws, machine: dict[str, Any]) -> None:
    """Tagged for the bill, its metadata behind tokens, its disk encrypted, and it ends when it is off."""
    tags = {tag["Key"]: tag["Value"] for tag in machine["Tags"]}
    assert (tags["project"], tags["ray-cluster-name"]) == ("mpm", "mpm")
    assert machine["MetadataOptions"]["HttpTokens"] == "required"
    (disk,) = machine["BlockDeviceMappings"]
    (volume,) = aws.client("ec2").describe_volumes(VolumeIds=[disk["Ebs"]["VolumeId"]])["Volumes"]
    assert (volume["Encrypted"], volume["VolumeType"]) == (True, "gp3")
    assert {"Key": "project", "Value": "mpm"} in volume["Tags"]
    request = aws.launches()[-1]
    assert request["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert base64.b64decode(request["UserData"]).startswith(b"#!/bin/bash\n")
