"""What a lifting job plans: by content alone, more when an archive grows, split where a file is large."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpm_model.errors import InputError
from pipelines import storage
from pipelines.lift_plan import PLAN, extend_plan, group_inputs, read_plan
from pipelines.manifest import Input, Job

JOB = Job(kind="poses", config={"mode": "fast"}, inputs=(), made_by="a test")


def make_inputs(sizes: dict[str, int]) -> dict[str, Input]:
    return {url: Input(url=url, size_bytes=size, stamp="1") for url, size in sizes.items()}


def plan_of(out, sizes: dict[str, int]):
    return extend_plan(str(out), JOB, make_inputs(sizes), shard_bytes=100)


@given(sizes=st.lists(st.integers(0, 500), min_size=1, max_size=60))
def test_every_input_is_planned_whole_and_once(sizes):
    inputs = [Input(url=f"{i:03d}", size_bytes=size, stamp="1") for i, size in enumerate(sizes)]
    shards = group_inputs(JOB, inputs, shard_bytes=100)
    planned = [item for shard in shards for item in shard.inputs]
    for item in inputs:
        pieces = [each for each in planned if each.url == item.url]
        assert [each.piece for each in pieces] == list(range(pieces[0].pieces))
        assert len(pieces) == (-(-item.size_bytes // 100) if item.size_bytes > 200 else 1)
    for shard in shards:
        assert len(shard.inputs) == 1 or sum(item.size_bytes for item in shard.inputs) <= 100
    assert len({shard.part_name for shard in shards}) == len(shards)


def test_an_archive_that_grows_keeps_what_was_planned_and_adds_what_is_new(tmp_path):
    first = plan_of(tmp_path, {"b": 60, "d": 30, "f": 60})
    again = plan_of(tmp_path, {"b": 60, "d": 30, "f": 60})
    assert again.part_names == first.part_names
    assert len(storage.list_files(str(tmp_path / PLAN), ("",))) == 1, "nothing new, nothing written"
    grown = plan_of(tmp_path, {"a": 10, "b": 60, "c": 10, "d": 30, "f": 60})
    assert grown.part_names[: len(first.part_names)] == first.part_names
    (new,) = grown.shards(grown.part_names[len(first.part_names) :])
    assert [item.url for item in new.inputs] == ["a", "c"]
    fewer = plan_of(tmp_path, {"b": 60})
    assert fewer.part_names == grown.part_names, "what is not given now stays planned"
    assert read_plan(str(tmp_path)).inputs == 5


def test_the_same_inputs_make_the_same_parts_anywhere_and_other_settings_make_others(tmp_path):
    sizes = {"a": 60, "b": 60, "c": 900}
    here, there = (
        plan_of(tmp_path / "here", sizes),
        plan_of(tmp_path / "there", dict(reversed(sizes.items()))),
    )
    assert here.part_names == there.part_names
    other = JOB.model_copy(update={"config": {"mode": "exact"}})
    exact = extend_plan(str(tmp_path / "exact"), other, make_inputs(sizes), shard_bytes=100)
    assert not {*exact.part_names} & {*here.part_names}


def test_changed_inputs_are_refused_by_name(tmp_path):
    plan_of(tmp_path, {"a": 10, "b": 20})
    with pytest.raises(InputError, match=r"poses of inputs as they were: 1 input changed since \(b\)"):
        plan_of(tmp_path, {"a": 10, "b": 21, "c": 1})
    assert read_plan(str(tmp_path)).inputs == 2


def test_two_runs_that_plan_at_once_agree(tmp_path, monkeypatch):
    """The second finds the first's plan in place of its own and adds only what that one lacks."""
    put = storage.write_new

    def overtaken(url: str, content: bytes) -> bool:
        monkeypatch.setattr(storage, "write_new", put)
        plan_of(tmp_path, {"a": 10, "b": 20})
        return put(url, content)

    monkeypatch.setattr(storage, "write_new", overtaken)
    plan = plan_of(tmp_path, {"b": 20, "c": 30})
    assert [[item.url for item in shard.inputs] for shard in plan.shards()] == [["a", "b"], ["c"]]


def test_shards_come_back_as_they_were_planned(tmp_path):
    sizes = {f"{i:04d}": i % 50 for i in range(3000)}
    plan = plan_of(tmp_path, sizes)
    wanted = group_inputs(JOB, list(make_inputs(sizes).values()), shard_bytes=100)
    assert list(plan.shards()) == wanted
    assert list(plan.shards([wanted[7].part_name])) == [wanted[7]]
    assert plan.size_bytes(plan.part_names) == sum(sizes.values())
