import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import ray

import pipelines.parts as parts_module
from mpm_model.errors import InputError
from pipelines import parts_on_ray
from pipelines.manifest import JOB, Input, Job, Receipt, claim_output
from pipelines.parts import PartResult, abandon, finish, make_parts, plan_shards, unseen
from pipelines.schema import TableMetadata
from pipelines.storage import list_names, read_bytes
from pipelines.windows_table import Windows, read_windows, windows_to_table

METADATA = TableMetadata(config="{}", made_by="a test")
MEBIBYTE = 2**20


def make_job(sizes: Sequence[int], *, hop_frames: int = 27) -> Job:
    inputs = tuple(Input(url=f"take{i:03d}", size_bytes=size, stamp="1") for i, size in enumerate(sizes))
    return Job(kind="windows", config={"hop_frames": hop_frames}, inputs=inputs, made_by="a test")


def make_rows(inputs: Sequence[Input], *, killer: str | None = None, fault: str | None = None) -> PartResult:
    """Two windows an input; input `killer` ends the process, `fault` is a bug of ours."""
    windows, receipts = [], []
    for item in inputs:
        if item.url == killer:
            os._exit(1)
        if item.url == fault:
            raise ZeroDivisionError(item.url)
        number = int(item.url[-3:])
        if number % 5 == 4:
            receipts.append(
                Receipt(url=item.url, size_bytes=item.size_bytes, status="bad", reason="cut short")
            )
            continue
        text = np.full(2, item.url)
        windows.append(
            Windows(
                ids=np.array([2 * number, 2 * number + 1]),
                joints_world_m=np.full((2, 3, 17, 3), number, dtype=np.float32),
                is_valid=np.ones((2, 3, 17), dtype=bool),
                dataset=text, subject=text, action=text, recording=text, split=np.full(2, "train"),
                start_frame=np.array([0, 3]),
                rate_hz=50.0,
            )
        )  # fmt: skip
        receipts.append(Receipt(url=item.url, size_bytes=item.size_bytes, status="done", rows=2))
    table = windows_to_table(windows, metadata=METADATA, window_frames=3)
    return PartResult(table=table, receipts=tuple(receipts))


def run(out: Path, job: Job, work=make_rows, progress=unseen) -> None:
    claim_output(str(out), job)
    finish(str(out), job, make_parts(str(out), job, work, progress=progress))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(parts_module, "SHARD_INPUTS", 3)


def test_shards_hold_every_input_once_in_order_and_within_their_limits():
    job = make_job([20 * MEBIBYTE, 10 * MEBIBYTE, 10 * MEBIBYTE, 100 * MEBIBYTE, *[1] * 600])
    shards = plan_shards(job)
    assert [len(shard.inputs) for shard in shards] == [2, 1, 1, 512, 88]
    assert [item for shard in shards for item in shard.inputs] == list(job.inputs)
    assert len({shard.part_name for shard in shards}) == len(shards)


def test_the_name_of_a_part_follows_its_inputs_and_the_configuration_alone():
    name = plan_shards(make_job([1, 1]))[0].part_name
    assert plan_shards(make_job([1, 1]).model_copy(update={"made_by": "later"}))[0].part_name == name
    assert plan_shards(make_job([1, 2]))[0].part_name != name
    assert plan_shards(make_job([1, 1], hop_frames=9))[0].part_name != name
    shuffled = make_job([1, 1]).model_copy(update={"inputs": make_job([1, 1]).inputs[::-1]})
    assert plan_shards(shuffled)[0].part_name == name


def test_rows_and_receipts_come_in_the_order_of_the_inputs(tmp_path, small_shards):
    run(tmp_path / "out", make_job([1] * 8))
    assert read_windows(str(tmp_path / "out")).ids.tolist() == [
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
        10,
        11,
        12,
        13,
        14,
        15,
    ]


def test_a_bad_input_is_set_aside_by_name_and_the_rest_goes_on(tmp_path, small_shards):
    job = make_job([1] * 8)
    claim_output(str(tmp_path / "out"), job)
    manifest = finish(
        str(tmp_path / "out"), job, make_parts(str(tmp_path / "out"), job, make_rows, progress=unseen)
    )
    assert [(receipt.url, receipt.reason) for receipt in manifest.bad] == [("take004", "cut short")]
    assert (manifest.totals.rows, manifest.totals.sources) == (14, 8)
    assert [part.rows for part in manifest.parts] == [6, 4, 4]


def test_a_run_that_died_goes_on_and_ends_like_one_that_did_not(tmp_path, small_shards):
    job = make_job([1] * 8)
    run(tmp_path / "undisturbed", job)
    died = tmp_path / "died"
    with pytest.raises(ZeroDivisionError):
        run(died, job, partial(make_rows, fault="take007"))
    done = contents(died)
    assert len(done) == 3, "the job and two of three parts"
    seen = []
    run(
        died, job, partial(make_rows, fault="take000"), progress=lambda *at: seen.append(at)
    )  # must not be read again
    assert contents(died) == contents(tmp_path / "undisturbed")
    assert seen == [(3, 8), (6, 8), (8, 8)]


def test_a_part_that_was_damaged_is_made_again(tmp_path, small_shards):
    job = make_job([1] * 8)
    run(tmp_path / "out", job)
    whole = contents(tmp_path / "out")
    part = next((tmp_path / "out").glob("part-*"))
    part.write_bytes(part.read_bytes()[:500])
    run(tmp_path / "out", job)
    assert contents(tmp_path / "out") == whole


def test_no_inputs_left_make_a_part_without_rows(tmp_path):
    job = make_job([1] * 5).model_copy(update={"inputs": make_job([1] * 5).inputs[4:]})
    run(tmp_path / "out", job)
    with pytest.raises(InputError, match="finished table without one"):
        read_windows(str(tmp_path / "out"))


def test_an_abandoned_job_leaves_nothing_but_what_is_not_its_own(tmp_path, small_shards):
    job = make_job([1] * 8)
    for name in ("alone", "shared"):
        out = tmp_path / name
        claim_output(str(out), job)
        make_parts(str(out), job, make_rows, progress=unseen)
        if name == "shared":
            (out / "notes.txt").write_text("mine")
        abandon(str(out), job)
    assert not (tmp_path / "alone").exists()
    assert list(contents(tmp_path / "shared")) == ["notes.txt"]


def test_parts_in_a_bucket_are_those_on_disk(tmp_path, small_shards, s3_bucket):
    job, out = make_job([1] * 8), f"{s3_bucket}/out"
    run(tmp_path / "out", job)
    assert claim_output(out, job) == "new"
    finish(out, job, make_parts(out, job, make_rows, progress=unseen))
    assert claim_output(out, job) == "done"
    assert {name: read_bytes(f"{out}/{name}") for name in list_names(out)} == contents(tmp_path / "out")


def test_small_work_starts_no_ray(tmp_path, small_shards, monkeypatch):
    monkeypatch.setattr(parts_on_ray, "ensure_ray", lambda: pytest.fail("Ray was started"))
    run(tmp_path / "out", make_job([MEBIBYTE] * 8))


@pytest.mark.ray
class TestOnRay:
    """Four shards of two inputs, all of them sent to Ray."""

    @pytest.fixture(autouse=True)
    def everything_on_ray(self, ray_session, monkeypatch):
        monkeypatch.setattr(parts_module, "IN_PROCESS_BYTES", 0)
        monkeypatch.setattr(parts_module, "SHARD_INPUTS", 2)
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the tests
        yield
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])

    def test_parts_are_the_same_bytes_as_in_process(self, tmp_path, monkeypatch):
        run(tmp_path / "ray", make_job([1] * 8))
        monkeypatch.setattr(parts_module, "IN_PROCESS_BYTES", MEBIBYTE)
        run(tmp_path / "here", make_job([1] * 8))
        assert contents(tmp_path / "ray") == contents(tmp_path / "here")

    def test_an_input_that_kills_its_process_is_set_aside(self, tmp_path, monkeypatch):
        monkeypatch.setattr(parts_on_ray, "RETRIES", 0)
        begun_s = time.monotonic()
        out, job = str(tmp_path / "out"), make_job([1] * 8)
        claim_output(out, job)
        commits = make_parts(out, job, partial(make_rows, killer="take003"), progress=unseen)
        manifest = finish(out, job, commits)
        assert [receipt.url for receipt in manifest.bad] == ["take003", "take004"]
        assert "kills the process" in str(manifest.bad[0].reason)
        assert manifest.totals.rows == 12
        assert time.monotonic() - begun_s < 60

    def test_a_bug_of_ours_keeps_its_traceback(self, tmp_path):
        job = make_job([1] * 8)
        with pytest.raises(ZeroDivisionError, match="take003"):
            run(tmp_path / "out", job, partial(make_rows, fault="take003"))
        assert (tmp_path / "out" / JOB).exists()
        assert len(list((tmp_path / "out").glob("part-*"))) == 3, "the other shards are done"
