"""Results as lines and JSON, and side by side only where they may stand there."""

import dataclasses
import json
import math

import pytest
from command import mpm

from mpm_model.errors import InputError
from pipelines.protocols.results import FLIP, NO_FLIP, Evaluation, Row, from_json, side_by_side


def make_evaluation(**changes: object) -> Evaluation:
    evaluation = Evaluation(
        rows=(
            Row(name="Walking", scores={"MPJPE mm": 40.25, "P-MPJPE mm": 30.0}),
            Row(name="Sitting", scores={"MPJPE mm": math.nan}),
        ),
        data_sha256="d" * 64,
        people=("h36m/S9",),
        frames=12,
        keypoints="cpn",
        notes=("a note",),
        protocol="h36m",
        version=1,
        flip=NO_FLIP,
        checkpoint="models/ours",
        checkpoint_sha256="a" * 64,
        data=("one.npz", "two.npz"),
        made_by="mpm evaluate, commit 0",
    )
    return dataclasses.replace(evaluation, **changes)


def test_json_gives_the_result_back_and_holds_what_makes_it_comparable():
    evaluation = make_evaluation()
    value = json.loads(json.dumps(evaluation.as_json(), allow_nan=False))
    again = from_json(value, url="x.json")
    assert again.lines() == evaluation.lines()
    assert math.isnan(again.rows[1].scores["MPJPE mm"])
    for name in ("protocol", "version", "data_sha256", "keypoints", "flip", "checkpoint_sha256", "made_by"):
        assert value[name] == getattr(evaluation, name)


def test_results_of_one_protocol_stand_in_one_table():
    theirs = make_evaluation(
        rows=(Row(name="Walking", scores={"MPJPE mm": 41.0}),),
        checkpoint_sha256="b" * 64,
        notes=("another note",),
    )
    lines = side_by_side({"ours.json": make_evaluation(), "theirs.json": theirs})
    assert lines[1:3] == ["note of ours.json: a note", "note of theirs.json: another note"]
    words = [line.split() for line in lines[4:]]
    assert words == [
        ["Walking", "ours.json", "a" * 12, "40.2", "30.0"],
        ["Walking", "theirs.json", "b" * 12, "41.0", "-"],
        ["Sitting", "ours.json", "a" * 12, "-", "-"],
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [("protocol", "3dhp"), ("version", 2), ("data_sha256", "e" * 64), ("keypoints", "gt"), ("flip", FLIP)],
)
def test_results_that_differ_in_what_they_measure_are_refused(field, value):
    results = {"ours.json": make_evaluation(), "theirs.json": make_evaluation(**{field: value})}
    with pytest.raises(InputError, match=f"{field} is .* in ours.json but .* in theirs.json"):
        side_by_side(results)


def test_the_command_prints_a_table_or_one_line(capsys, monkeypatch, tmp_path):
    files = [tmp_path / name for name in ("ours.json", "theirs.json")]
    for file, version in zip(files, (1, 2), strict=True):
        file.write_text(json.dumps(make_evaluation(version=version).as_json()))
    code, out, _ = mpm(capsys, monkeypatch, "table", files[0])
    assert code == 0
    assert "protocol h36m/1" in out
    code, _, err = mpm(capsys, monkeypatch, "table", *files)
    assert code == 2
    assert err.startswith("mpm: these results cannot be compared: version is 1 in ")
    assert err.count("\n") == 1
    (tmp_path / "other.json").write_text("{}")
    code, _, err = mpm(capsys, monkeypatch, "table", tmp_path / "other.json")
    assert code == 2
    assert "wanted a result of `mpm evaluate --json`" in err


def test_a_result_with_a_key_too_few_is_refused():
    value = make_evaluation().as_json()
    del value["flip"]
    with pytest.raises(InputError, match="flip"):
        from_json(value, url="x.json")


@pytest.mark.parametrize(("field", "value"), [("people", 5), ("version", "1"), ("checkpoint_sha256", None)])
def test_a_result_with_a_value_of_another_kind_is_refused(field, value):
    with pytest.raises(InputError, match=f"x.json: not as .* writes it: {field}; make it again"):
        from_json(json.loads(json.dumps(make_evaluation().as_json())) | {field: value}, url="x.json")
