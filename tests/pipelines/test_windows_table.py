from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from mpm_model.errors import InputError
from mpm_model.pose.skeleton import Skeleton
from mpm_model.pose.skeletons import H36M_16, H36M_17, SKELETONS
from pipelines.manifest import JOB, MANIFEST, Input, Job, Receipt
from pipelines.parts import PartResult, finish, make_part, plan_shards
from pipelines.schema import TableMetadata, to_parquet
from pipelines.windows_table import (
    Windows,
    concatenate_windows,
    read_all_windows,
    read_windows,
    window_id,
    windows_to_table,
)

METADATA = TableMetadata(config="{}", made_by="a test")


def make_windows(
    count: int, *, frames: int = 5, split: str = "train", rate_hz: float = 50.0, first: int = 0
) -> Windows:
    rng = np.random.default_rng(count)
    return Windows(
        ids=np.arange(first, first + count),
        joints_world_m=rng.normal(size=(count, frames, 17, 3)).astype(np.float32),
        is_valid=rng.random((count, frames, 17)) < 0.9,
        dataset=np.full(count, "cmu"),
        subject=np.full(count, "07"),
        action=np.full(count, "to walk"),
        recording=np.full(count, "07_01"),
        split=np.full(count, split),
        start_frame=np.arange(count) * 3,
        rate_hz=rate_hz,
    )


def write_file(path: Path, windows: Sequence[Windows], *, frames: int = 5) -> str:
    path.write_bytes(to_parquet(windows_to_table(windows, metadata=METADATA, window_frames=frames)))
    return str(path)


def write_folder(folder: Path, windows: Windows) -> Job:
    """What `prepare` leaves, with one part."""
    job = Job(
        kind="windows", config={}, inputs=(Input(url="take", size_bytes=1, stamp=""),), made_by="a test"
    )
    folder.mkdir()
    (folder / JOB).write_text(job.model_dump_json())

    def work(inputs: Sequence[Input]) -> PartResult:
        table = windows_to_table([windows], metadata=METADATA, window_frames=windows.joints_world_m.shape[1])
        return PartResult(
            table=table, receipts=(Receipt(url="take", size_bytes=1, status="done", rows=len(windows)),)
        )

    finish(str(folder), job, [make_part(shard, out=str(folder), work=work) for shard in plan_shards(job)])
    return job


def test_windows_come_back_as_they_were(tmp_path):
    before = make_windows(7)
    after = read_windows(write_file(tmp_path / "w.parquet", [before]))
    for field in fields(Windows):
        wanted, got = getattr(before, field.name), getattr(after, field.name)
        if isinstance(wanted, np.ndarray):
            np.testing.assert_array_equal(got, wanted)
            assert got.dtype == wanted.dtype, field.name
        else:
            assert got == wanted, field.name


def test_only_the_asked_splits_are_read(tmp_path):
    parts = [
        make_windows(3),
        make_windows(2, split="test", first=10),
        make_windows(4, split="validation", first=20),
    ]
    url = write_file(tmp_path / "w.parquet", parts)
    found = read_windows(url, splits={"test", "validation"})
    assert found.ids.tolist() == [10, 11, 20, 21, 22, 23]
    assert len(read_windows(url, splits={"holiday"})) == 0


def test_a_table_without_windows_is_refused(tmp_path):
    with pytest.raises(InputError, match="finished table without one"):
        read_windows(write_file(tmp_path / "w.parquet", []))


def test_a_finished_folder_is_read_and_only_the_parts_it_names(tmp_path):
    folder = tmp_path / "windows"
    write_folder(folder, make_windows(6))
    write_file(folder / "part-of-a-dead-run.parquet", [make_windows(2)])
    assert len(read_windows(str(folder))) == 6


def test_an_unfinished_folder_is_refused(tmp_path):
    folder = tmp_path / "windows"
    write_folder(folder, make_windows(6))
    (folder / MANIFEST).unlink()
    with pytest.raises(InputError, match=r"windows: prepare did not finish; run it again$"):
        read_windows(str(folder))


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"folder that prepare wrote, found no _manifest\.json in it"):
        read_windows(str(tmp_path))


def test_several_tables_become_one(tmp_path):
    urls = [
        write_file(tmp_path / "a.parquet", [make_windows(2)]),
        write_file(tmp_path / "b.parquet", [make_windows(3, first=5)]),
    ]
    assert read_all_windows(urls).ids.tolist() == [0, 1, 5, 6, 7]


def test_tables_that_do_not_go_together_are_refused_with_every_difference(tmp_path):
    urls = [
        write_file(tmp_path / "a.parquet", [make_windows(2)]),
        write_file(tmp_path / "b.parquet", [make_windows(2, frames=7, rate_hz=25.0)], frames=7),
    ]
    with pytest.raises(InputError) as caught:
        read_all_windows(urls)
    assert f"frames a window: 5 in {urls[0]}, 7 in {urls[1]}" in str(caught.value)
    assert f"rate in Hz: 50.0 in {urls[0]}, 25.0 in {urls[1]}" in str(caught.value)


def test_tables_of_different_skeletons_are_refused():
    stick = Skeleton("stick_2", ("pelvis", "head"), (None, "pelvis"))
    with pytest.raises(InputError, match="skeleton: h36m_17 in a, stick_2 in b"):
        concatenate_windows([make_windows(1), replace(make_windows(1), skeleton=stick)], names=["a", "b"])


def test_an_id_tells_windows_apart_by_all_that_they_hold():
    base = {"start_frame": 27, "window_frames": 81, "rate_hz": 50.0}
    ids = {
        window_id("cmu", "07_01", **base),
        window_id("cmu", "07_02", **base),
        window_id("ui_prmd", "07_01", **base),
        window_id("cmu07_", "01", **base),
        *(window_id("cmu", "07_01", **base | {key: 7}) for key in base),
    }
    assert len(ids) == 7
    assert all(0 <= number < 2**63 for number in ids)


def test_an_id_stays_the_same_from_version_to_version():
    # Pin: ids seed the masks and cameras of a window, so they must not drift.
    assert window_id("cmu", "07_01", start_frame=27, window_frames=81, rate_hz=50) == 8709783747627341602


def test_tables_of_16_and_of_17_joints_are_read_together_and_the_missing_joint_is_not_valid(tmp_path):
    seventeen, other = make_windows(3), make_windows(2, first=10)
    kept = H36M_17.select(*H36M_16.joints)
    sixteen = replace(
        other,
        joints_world_m=other.joints_world_m[:, :, kept],
        is_valid=other.is_valid[:, :, kept],
        skeleton=H36M_16,
    )
    whole = write_file(tmp_path / "17.parquet", [seventeen])
    metadata = replace(METADATA, skeleton=H36M_16)
    lacking = tmp_path / "16.parquet"
    lacking.write_bytes(to_parquet(windows_to_table([sixteen], metadata=metadata, window_frames=5)))
    both = read_all_windows([whole, str(lacking)])
    thorax = H36M_17.index("thorax")
    np.testing.assert_array_equal(both.joints_world_m[3:][:, :, kept], sixteen.joints_world_m)
    np.testing.assert_array_equal(both.is_valid[3:][:, :, kept], sixteen.is_valid)
    assert not both.is_valid[3:, :, thorax].any()
    assert both.is_valid[:3, :, thorax].any()


def test_windows_of_joints_that_human36m_lacks_are_refused_by_name(tmp_path):
    skeleton = SKELETONS["coco_17"]
    file = tmp_path / "coco.parquet"
    windows = replace(make_windows(2), skeleton=skeleton)
    metadata = replace(METADATA, skeleton=skeleton)
    file.write_bytes(to_parquet(windows_to_table([windows], metadata=metadata, window_frames=5)))
    with pytest.raises(InputError, match="left_ear"):
        read_windows(str(file))
