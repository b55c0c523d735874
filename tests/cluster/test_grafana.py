"""The Grafana panel: of the form that Grafana has for it, asking for metrics that Ray and training export."""

import itertools
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "infra" / "grafana" / "mpm_training.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
LABELS = {"run": "mpm", "name": "mpm", "instance": "node", "GpuIndex": "node"}
"""What series are told apart by, and of which family of metrics."""

EXPORTS = """
import json, sys, time, urllib.request
import ray
from pipelines.train_metrics import TrainMetrics

port = int(sys.argv[1])
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, _metrics_export_port=port)
metrics = TrainMetrics("r1")
row = dict.fromkeys(json.loads(sys.argv[2]), 0.5)
deadline_s = time.monotonic() + 120
wanted = set(json.loads(sys.argv[3]))
found = ""
while time.monotonic() < deadline_s and not all(f"{name}{{" in found for name in wanted):
    metrics.report(row)
    metrics.checkpointed(is_saved=True)
    metrics.checkpointed(is_saved=False)
    time.sleep(1)
    found = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30).read().decode()
print(json.dumps([line for line in found.splitlines() if line.startswith("ray_")]))
"""
ROW = (
    *("step", "steps", "windows_per_s", "waiting_share", "gpu_use", "rate", "workers"),
    *("loss", "loss_2d", "validation_cmu/loss", "validation_limb/left_arm"),
)


def _expressions() -> Iterator[tuple[str, str]]:
    """Every PromQL expression with the panel that asks it."""
    for panel in PANELS:
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            (metric,) = re.fullmatch(r"label_values\((\w+), run\)", variable["query"]).groups()  # type: ignore[union-attr]
            yield variable["name"], metric


def _selectors(expression: str) -> list[promql_parser.VectorSelector]:
    found: list[promql_parser.VectorSelector] = []

    def note(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        return True

    promql_parser.walk(promql_parser.parse(expression.replace("$run", "a_run")), note)
    return found


ASKED = sorted({selector.name for _, expression in _expressions() for selector in _selectors(expression)})


def _lost(before: Any, after: Any, place: str = "") -> Iterator[str]:
    """What one JSON value has and another has not."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            yield from _lost(value, after.get(key), f"{place}.{key}")
    elif isinstance(before, list) and isinstance(after, list):
        for index, pair in enumerate(itertools.zip_longest(before, after)):
            yield from _lost(*pair, f"{place}[{index}]")
    elif before != after:
        yield f"{place}: {before!r}"


def _not_understood(dashboard: dict[str, Any]) -> list[str]:
    """What Grafana's own types of a dashboard and its panels do not keep."""
    plugins.register_default_plugins()
    return list(_lost(dashboard, json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))))


def test_grafana_understands_every_field() -> None:
    assert _not_understood(DASHBOARD) == []
    assert {panel["type"] for panel in PANELS} <= {"gauge", "stat", "timeseries"}
    assert DASHBOARD["schemaVersion"] == 39


@pytest.mark.parametrize("name", ["gridPos", "expr", "legendFormat", "fillOpacity", "reduceOptions"])
def test_a_misspelt_field_is_noticed(name: str) -> None:
    assert _not_understood(json.loads(json.dumps(DASHBOARD).replace(f'"{name}"', f'"{name}s"')))


@pytest.mark.parametrize("name", ASKED)
def test_only_metrics_that_are_exported_are_asked_for(name: str) -> None:
    from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

    trained = re.findall(r'"(mpm_\w+)"', (ROOT / "pipelines" / "train_metrics.py").read_text())
    assert name.removeprefix("ray_") in {*trained, *METRICS_GAUGES}


def test_everything_that_training_exports_is_shown() -> None:
    trained = re.findall(r'"(mpm_\w+)"', (ROOT / "pipelines" / "train_metrics.py").read_text())
    assert {f"ray_{name}" for name in trained} <= set(ASKED)


def test_series_are_chosen_and_named_by_labels_that_they_have() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            families = {selector.name.split("_")[1] for selector in _selectors(target["expr"])}
            used = {
                *re.findall(r"{{(\w+)}}", target["legendFormat"]),
                *(one.name for selector in _selectors(target["expr"]) for one in selector.matchers.matchers),
                *itertools.chain(*(by.split(", ") for by in re.findall(r"by \(([^)]*)\)", target["expr"]))),
            }
            assert {LABELS[label] for label in used} == families, panel["title"]


def test_no_panel_covers_another() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert {x for x, _ in cells} == set(range(24))


@pytest.mark.slow
@pytest.mark.ray
def test_ray_exports_the_metrics_under_the_names_and_labels_that_are_asked_for() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    on_any_machine = [name for name in ASKED if "_gpus_" not in name and "_gram_" not in name]
    done = subprocess.run(
        [sys.executable, "-c", EXPORTS, str(port), json.dumps(ROW), json.dumps(on_any_machine)],
        cwd=ROOT,
        env=os.environ | {"RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    exported = [re.match(r"(\w+)({.*})?", line) for line in json.loads(done.stdout.splitlines()[-1])]
    labels = {match[1]: match[2] or "" for match in exported if match is not None}
    assert [name for name in on_any_machine if name not in labels] == []
    assert all('run="r1"' in labels[name] for name in on_any_machine if "_mpm_" in name)
    assert all('name="' in labels[name] for name in ("ray_mpm_loss", "ray_mpm_validation"))
