"""The manifests of infra/kuberay against the published schemas, and what they promise in words."""

import copy
import functools
import importlib.metadata
import importlib.resources
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import typer
import yaml
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

MANIFESTS = Path(__file__).parents[2] / "infra" / "kuberay"
SCHEMAS = Path(__file__).parent / "schemas"
KUBERNETES_VERSION = "1.35.0"
"""Whose types KubeRay is built from; see schemas/README.md."""


def _documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((MANIFESTS / name).read_text()))


CLUSTER = _documents("raycluster.yaml")[0]
JOB = _documents("rayjob.yaml")[0]
EVERYTHING = [one for path in sorted(MANIFESTS.glob("*.yaml")) for one in _documents(path.name)]


def _closed(schema: Any) -> Any:
    """The same schema, which refuses the fields that it does not list, where it lists fields."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(closed.get("properties"), dict):
        closed.setdefault("additionalProperties", False)
    return closed


@functools.cache
def _registry() -> Registry:
    package = importlib.resources.files(kubernetes_validate) / "kubernetes-json-schema"
    definitions = json.loads((package / f"v{KUBERNETES_VERSION}-local-strict/_definitions.json").read_text())
    resources = [(definitions["$id"], Resource.from_contents(definitions))]
    for path in SCHEMAS.glob("*.yaml"):
        crd = yaml.safe_load(path.read_text())
        (version,) = crd["spec"]["versions"]
        schema = _closed(version["schema"]["openAPIV3Schema"])
        resources.append((crd["metadata"]["name"], DRAFT202012.create_resource(schema)))
    return Registry().with_resources(resources)


def _validate(document: dict[str, Any]) -> None:
    """Check as an API server does, and refuse the fields that it would silently drop."""
    if not document["apiVersion"].startswith("ray.io/"):
        kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)
        return
    schema = {
        "$ref": f"{document['kind'].lower()}s.ray.io",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": "ray.io/v1"},
            "metadata": {
                "$ref": "https://kubernetes.io/api/_definitions.json"
                "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
            },
        },
    }
    jsonschema.Draft202012Validator(schema, registry=_registry()).validate(document)


def _pods(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every pod template in a manifest."""
    spec = document["spec"]
    cluster = spec.get("rayClusterSpec", spec)
    yield cluster["headGroupSpec"]["template"]
    yield from (group["template"] for group in cluster["workerGroupSpecs"])
    if "submitterPodTemplate" in spec:
        yield spec["submitterPodTemplate"]


@pytest.mark.parametrize(
    "document", EVERYTHING, ids=lambda one: f"{one['kind']}-{one['metadata'].get('name')}"
)
def test_every_manifest_is_valid(document: dict[str, Any]) -> None:
    _validate(document)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.enableInTreeAutoscalling", True),
        ("spec.authOptions.mode", "tokens"),
        ("spec.autoscalerOptions.resources.request", {}),
        ("spec.headGroupSpec.rayStartParm", {}),
        ("spec.headGroupSpec.rayStartParams.num-cpus", 0),
        ("spec.headGroupSpec.template.metadata.labels.size", 1),
        ("spec.headGroupSpec.template.spec.serviceAccount_name", "mpm-head"),
        ("spec.workerGroupSpecs.0.minReplica", 0),
        ("spec.workerGroupSpecs.0.maxReplicas", "8"),
        ("spec.workerGroupSpecs.0.template.spec.tolerations.0.operater", "Exists"),
        ("spec.workerGroupSpecs.0.template.spec.containers.0.resources.limit", {}),
        ("spec.workerGroupSpecs.0.template.spec.containers.0.envFrom.0.secretRef.optional", "yes"),
        ("spec.ttlSecondsAfterIdle", 60),
        ("metadata.label", {}),
    ],
)
@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_a_slip_anywhere_in_a_manifest_is_refused(kind: str, path: str, value: object) -> None:
    document = copy.deepcopy(CLUSTER if kind == "RayCluster" else JOB)
    if kind == "RayJob":
        path = re.sub(r"^spec\.", "spec.rayClusterSpec.", path)
    *parents, name = path.split(".")
    place: Any = document
    for parent in parents:
        place = place[int(parent) if parent.isdigit() else parent]
    place[name] = value
    with pytest.raises(jsonschema.ValidationError):
        _validate(document)


@pytest.mark.parametrize("kind", ["ServiceAccount", "NetworkPolicy"])
def test_a_slip_in_a_manifest_of_kubernetes_itself_is_refused(kind: str) -> None:
    document = next(one for one in EVERYTHING if one["kind"] == kind)
    with pytest.raises(jsonschema.ValidationError):
        _validate(document | {"sepc": {}})


def test_a_job_runs_on_the_same_cluster_as_raycluster_describes() -> None:
    assert JOB["spec"]["rayClusterSpec"] == CLUSTER["spec"]


def test_ray_is_the_installed_version_and_every_image_is_pinned() -> None:
    assert CLUSTER["spec"]["rayVersion"] == importlib.metadata.version("ray")
    images = [box["image"] for pod in (*_pods(CLUSTER), *_pods(JOB)) for box in pod["spec"]["containers"]]
    assert len(set(images)) == 1
    assert re.search(r":(?!latest$)[\w.-]+$", images[0])


def test_ray_start_takes_the_parameters_of_every_group() -> None:
    """KubeRay joins them to a command line as they are, and a shell takes it apart."""
    from ray.scripts.scripts import start

    head = CLUSTER["spec"]["headGroupSpec"]["rayStartParams"]
    for params in (head, *(group["rayStartParams"] for group in CLUSTER["spec"]["workerGroupSpecs"])):
        line = " ".join(f"--{name}={value}" for name, value in params.items())
        start.make_context("start", shlex.split(line))
    parsed = start.make_context("start", shlex.split(f"--system-config={head['system-config']}")).params
    settings = parsed["system_config"]
    assert settings["health_check_period_ms"] * settings["health_check_failure_threshold"] <= 5000
    ray_files = importlib.resources.files("ray")
    gcs_server = (ray_files / "core/src/ray/gcs/gcs_server").read_bytes()
    assert [name for name in settings if name.encode() not in gcs_server] == []


def test_the_head_runs_no_work_and_is_never_on_spot() -> None:
    head = CLUSTER["spec"]["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    affinity = head["template"]["spec"]["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert {one["operator"] for one in term["matchExpressions"]} == {"NotIn"}
    (group,) = CLUSTER["spec"]["workerGroupSpecs"]
    preferred = group["template"]["spec"]["affinity"]["nodeAffinity"]
    assert {one["key"] for one in term["matchExpressions"]} == {
        expression["key"]
        for one in preferred["preferredDuringSchedulingIgnoredDuringExecution"]
        for expression in one["preference"]["matchExpressions"]
    }


def test_no_pod_costs_while_there_is_no_work() -> None:
    (group,) = CLUSTER["spec"]["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"]) == (0, 0)
    assert JOB["spec"]["shutdownAfterJobFinishes"]


def test_every_container_gets_what_it_asks_for_and_no_privileges() -> None:
    for pod in (*_pods(CLUSTER), *_pods(JOB)):
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        for box in pod["spec"]["containers"]:
            assert box["resources"]["requests"] == box["resources"]["limits"], box["name"]
            assert box["securityContext"]["allowPrivilegeEscalation"] is False


def test_the_dashboard_is_closed_and_asks_for_a_token() -> None:
    (policy,) = [one for one in EVERYTHING if one["kind"] == "NetworkPolicy"]
    selected = policy["spec"]["podSelector"]["matchLabels"]
    for pod in (*_pods(CLUSTER), *_pods(JOB)):
        assert selected.items() <= pod["metadata"]["labels"].items()
    assert all(rule.get("from") for rule in policy["spec"]["ingress"])  # without, everybody may come
    head = CLUSTER["spec"]["headGroupSpec"]
    assert head.get("serviceType", "ClusterIP") == "ClusterIP"
    assert not head.get("enableIngress", False)
    assert CLUSTER["spec"]["authOptions"]["mode"] == "token"


def test_the_pods_have_the_service_accounts_that_are_made() -> None:
    made = {one["metadata"]["name"] for one in EVERYTHING if one["kind"] == "ServiceAccount"}
    assert {pod["spec"]["serviceAccountName"] for pod in _pods(CLUSTER)} == made


def test_the_entry_point_is_a_command_that_mpm_takes() -> None:
    from pipelines.cli import app
    from pipelines.run_config import PretrainConfig, load

    program, verb, *arguments = shlex.split(JOB["spec"]["entrypoint"])
    assert program == "mpm"
    given = typer.main.get_command(app).commands[verb].make_context(verb, arguments).params  # type: ignore[attr-defined]
    load(PretrainConfig, given["config"], given["override"])
    assert all(url.startswith("s3://your-bucket/") for url in (*given["data"], given["out"]))
