"""The weights that ship, and what their card says."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from mpm_model.checkpoint import CARD_FILE, TENSORS_FILE, load_checkpoint
from mpm_model.lifter import shipped_weights
from mpm_model.network.masked import UnifiedPoseModel
from pipelines.protocols.open import DATASETS, KEYPOINTS
from pipelines.weights import LICENCES, training_minutes, without_places

MOST_BYTES = 16e6


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from (key, *texts(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value


def test_minutes_are_counted_from_the_speed_of_the_steps(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"config": {"batch_windows": 60}}))
    rows = [{"step": 10, "windows_per_s": 10.0}, {"step": 30, "windows_per_s": 20.0}]
    (tmp_path / "metrics.json").write_text(json.dumps(rows))
    assert training_minutes(tmp_path) == pytest.approx((10 * 60 / 10 + 20 * 60 / 20) / 60)


def test_a_card_names_data_and_runs_without_saying_where_they_lay():
    card = {"run": {"data": ["/somewhere/cmu"], "init": "/somewhere/pretrained", "config": {}}, "last": 1}
    assert without_places(card) == {
        "run": {"data": ["cmu"], "init": "pretrained", "config": {}},
        "last": 1,
    }


def test_the_weights_that_ship_are_small_and_lift_and_complete():
    assert (shipped_weights() / TENSORS_FILE).stat().st_size < MOST_BYTES
    assert isinstance(load_checkpoint(shipped_weights()).model, UnifiedPoseModel)


def test_their_card_says_data_licences_protocol_scores_budget_commit_and_failures():
    card = json.loads((shipped_weights() / CARD_FILE).read_text())
    assert set(card["data"]) == set(LICENCES) == set(card["run"]["data"])
    for keypoints in KEYPOINTS:
        assert set(card["scores"][keypoints]) == set(DATASETS)
    assert "commit" in card["made_by"]
    assert card["budget"]
    assert card["fails"]
    assert not [text for text in texts(card) if text.startswith(("/", "~"))]
