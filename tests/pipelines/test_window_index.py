"""The index says where windows are without reading them; what is read is what was indexed, or an error."""

import pickle
import re
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faulty_s3 import Faults, run_faulty_proxy
from seaweedfs import use_environment
from windows_parts import make_up_windows, to_part, two_corpora, write_parts

from mpm_model.errors import InputError
from mpm_model.pose.skeletons import H36M_16, H36M_17
from pipelines import storage, storage_s3, window_index
from pipelines.window_index import ChunkIndex, ChunkReader, index_chunks
from pipelines.windows_table import Windows, read_all_windows

TRAIN = ("large", "train")


def read_all(index: ChunkIndex) -> dict[str, np.ndarray]:
    """All windows of an index, by id."""
    reader = ChunkReader(index)
    chunks = [reader.read(chunk) for chunk in range(len(index.windows))]
    order = np.argsort(np.concatenate([chunk.ids for chunk in chunks]))
    columns = {
        name: np.concatenate([getattr(chunk, name) for chunk in chunks])[order] for name in chunks[0]._fields
    }
    columns["dataset"] = np.array(index.dataset_names)[np.repeat(index.dataset, index.windows)][order]
    return columns


def assert_reads(index: ChunkIndex, wanted: Windows) -> None:
    found = read_all(index)
    order = np.argsort(wanted.ids)
    for name, values in found.items():
        np.testing.assert_array_equal(values, getattr(wanted, name)[order], err_msg=name)


@pytest.mark.parametrize("splits", [("train",), ("validation", "test")])
def test_chunks_together_are_the_windows_that_read_all_windows_gives(tmp_path, splits):
    urls = write_parts(tmp_path, two_corpora())
    index = index_chunks(urls, splits=splits)
    wanted = read_all_windows(urls, splits=splits)
    assert len(index) == len(wanted)
    assert (index.kind.frames, index.kind.rate_hz) == (3, 50.0)
    assert index.window_bytes * len(index) == wanted.joints_world_m.nbytes + wanted.is_valid.nbytes
    assert_reads(index, wanted)


def test_a_chunk_is_of_one_data_set_and_one_row_group(tmp_path):
    index = index_chunks(write_parts(tmp_path, two_corpora()))
    rows = zip(index.part, index.row_group, index.dataset, index.windows, strict=True)
    assert list(rows)[3:] == [(1, 0, 0, 256), (1, 1, 0, 44), (1, 1, 1, 20), (2, 0, 1, 100), (3, 0, 0, 110)]
    assert index.dataset_names == ("large", "small")


def test_joints_of_smaller_skeletons_are_put_at_their_places(tmp_path):
    parts = [
        make_up_windows({TRAIN: 3}),
        make_up_windows({TRAIN: 2}, first_id=10, skeleton=H36M_16),
    ]
    urls = write_parts(tmp_path, parts)
    index = index_chunks(urls)
    assert index.skeleton == H36M_17
    assert_reads(index, read_all_windows(urls))


def test_an_index_is_small_and_travels(tmp_path):
    index = index_chunks(write_parts(tmp_path, two_corpora()))
    copy = pickle.loads(pickle.dumps(index))
    assert copy.fingerprint == index.fingerprint
    assert sum(
        getattr(index, name).nbytes for name in ("part", "row_group", "dataset", "windows", "id_sums")
    ) == (40 * len(index.windows))


def test_the_fingerprint_is_of_the_windows_and_not_of_their_place(tmp_path):
    parts = two_corpora()
    (tmp_path / "elsewhere").mkdir()
    here = index_chunks(write_parts(tmp_path, parts))
    there = index_chunks(write_parts(tmp_path / "elsewhere", parts))
    assert here.fingerprint == there.fingerprint
    fewer = index_chunks(write_parts(tmp_path / "elsewhere", parts[:3]))
    other_split = index_chunks(write_parts(tmp_path, parts), splits=("validation",))
    assert len({here.fingerprint, fewer.fingerprint, other_split.fingerprint}) == 3


def test_no_joint_is_read_for_the_index(tmp_path):
    (url,) = write_parts(tmp_path, [make_up_windows({TRAIN: 20})])
    content = bytearray(Path(url).read_bytes())
    middle = len(content) // 2  # joints are nearly all of the file
    content[middle : middle + 200] = bytes(200)
    Path(url).write_bytes(content)
    index = index_chunks([url])
    assert len(index) == 20
    with pytest.raises(InputError, match=re.escape(f"{url}: this Parquet file is damaged")):
        ChunkReader(index).read(0)


def test_a_part_that_changed_since_is_refused_by_name(tmp_path):
    before = make_up_windows({TRAIN: 20})
    (url,) = write_parts(tmp_path, [before])
    index = index_chunks([url])
    reader = ChunkReader(index)
    Path(url).write_bytes(to_part(make_up_windows({TRAIN: 21})))
    with pytest.raises(InputError, match=rf"{url}: had \d+ bytes when indexed, now \d+; files must stay"):
        reader.read(0)
    other = to_part(replace(before, ids=before.ids + 7))
    assert len(other) == index.parts[0].size_bytes
    Path(url).write_bytes(other)
    with pytest.raises(InputError, match=f"{url}: holds other windows than when indexed"):
        reader.read(0)
    Path(url).unlink()
    with pytest.raises(InputError, match=f"{url}: no such file"):
        reader.read(0)


def test_all_files_at_fault_are_named_at_once(tmp_path):
    urls = write_parts(tmp_path, [make_up_windows({TRAIN: 4}, first_id=10 * part) for part in range(3)])
    Path(urls[0]).write_bytes(Path(urls[0]).read_bytes()[:-50])
    storage.write_json(urls[2], {})
    with pytest.raises(InputError) as caught:
        index_chunks(urls)
    assert not isinstance(caught.value, storage.StorageError)
    message = str(caught.value)
    assert f"{urls[0]}: this Parquet file is damaged" in message
    assert f"{urls[2]}: this Parquet file is damaged" in message
    assert urls[1] not in message


def test_a_parquet_file_of_somebody_else_is_refused(tmp_path):
    url = str(tmp_path / "other.parquet")
    pq.write_table(pa.table({"x": [1, 2]}), url)
    with pytest.raises(InputError, match="a Parquet file that no command of ours wrote"):
        index_chunks([url])


def test_tables_that_do_not_go_together_are_refused_with_every_difference(tmp_path):
    urls = write_parts(
        tmp_path,
        [make_up_windows({TRAIN: 2}), make_up_windows({TRAIN: 2}, first_id=5, frames=7, rate_hz=25.0)],
    )
    with pytest.raises(InputError) as caught:
        index_chunks(urls)
    assert f"frames a window: 3 in {urls[0]}, 7 in {urls[1]}" in str(caught.value)
    assert f"rate in Hz: 50.0 in {urls[0]}, 25.0 in {urls[1]}" in str(caught.value)


def test_a_window_that_is_there_twice_is_refused(tmp_path):
    urls = write_parts(tmp_path, [make_up_windows({TRAIN: 4}), make_up_windows({TRAIN: 4}, first_id=3)])
    with pytest.raises(InputError, match="1 windows stand there twice"):
        index_chunks(urls)


def test_a_table_without_windows_is_refused_and_one_without_the_asked_split_is_not(tmp_path):
    empty, other = write_parts(tmp_path, [make_up_windows({}), make_up_windows({("large", "test"): 4})])
    with pytest.raises(InputError, match="finished table without one"):
        index_chunks([other, empty])
    index = index_chunks([other])
    assert len(index) == 0
    assert index.kind.frames == 3


def test_faults_of_a_bucket_are_survived(s3_bucket, s3_server, monkeypatch):
    urls = write_parts(s3_bucket, two_corpora())
    wanted = read_all_windows(urls, splits=("train",))
    monkeypatch.setattr(storage_s3, "ARROW_ATTEMPTS", 1)  # its pauses grow to seconds
    monkeypatch.setattr(window_index, "PAUSES_S", (0.001,) * 30)
    with run_faulty_proxy(s3_server, faults=Faults.evenly(0.3)) as proxy:
        use_environment(monkeypatch, proxy.server.env)
        index = index_chunks(urls)
        for _ in range(5):
            assert_reads(index, wanted)
        for kind in ("error_500", "slow_down", "lost_answer", "truncated", "slow"):
            assert proxy.count(kind), kind


class DamagedAtFirst:
    """A filesystem that gives files with a hole, so many times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def open_input_file(self, path: str) -> pa.NativeFile:
        content = bytearray(storage.read_bytes(f"memory://{path}"))
        if self.left:
            self.left -= 1
            middle = len(content) // 2
            content[middle : middle + 200] = bytes(200)
        return pa.BufferReader(bytes(content))


@pytest.mark.parametrize(("times", "is_read"), [(2, True), (3, False)])
def test_what_came_damaged_is_read_again_and_not_passed_on(monkeypatch, times, is_read):
    windows = make_up_windows({TRAIN: 20})
    (url,) = write_parts("memory://damaged", [windows])
    index = index_chunks([url])
    monkeypatch.setattr(window_index, "PAUSES_S", (0.001, 0.001))
    damaged = DamagedAtFirst(0)
    monkeypatch.setattr(storage, "arrow_filesystem", lambda url: (damaged, url))
    reader = ChunkReader(index)
    reader.read(0)  # its footer is known now
    damaged.left = times
    if is_read:
        np.testing.assert_array_equal(reader.read(0).joints_world_m, windows.joints_world_m)
    else:
        with pytest.raises(InputError, match=f"{url}: this Parquet file is damaged"):
            reader.read(0)
    assert damaged.left == 0


def test_a_reader_that_is_closed_does_not_wait_for_better_times(monkeypatch):
    (url,) = write_parts("memory://closed", [make_up_windows({TRAIN: 20})])
    index = index_chunks([url])
    monkeypatch.setattr(window_index, "PAUSES_S", (3600.0,))
    monkeypatch.setattr(storage, "arrow_filesystem", lambda url: (DamagedAtFirst(1), url))
    reader = ChunkReader(index)
    threading.Timer(0.05, reader.close).start()
    with pytest.raises(InputError, match="damaged"):
        reader.read(0)


def test_a_bucket_that_keeps_failing_is_a_storage_error_that_names_a_file(s3_bucket, s3_server, monkeypatch):
    urls = write_parts(s3_bucket, [make_up_windows({TRAIN: 4})])
    index = index_chunks(urls)
    monkeypatch.setattr(storage_s3, "ARROW_ATTEMPTS", 1)
    monkeypatch.setattr(window_index, "PAUSES_S", (0.001,))
    with run_faulty_proxy(s3_server, faults=Faults(shares={"*": {"error_500": 1.0}})) as proxy:
        use_environment(monkeypatch, proxy.server.env)
        with pytest.raises(storage.StorageError, match=urls[0]):
            ChunkReader(index).read(0)
        with pytest.raises(storage.StorageError, match=urls[0]):
            index_chunks(urls)


def test_a_part_of_a_bucket_that_changed_is_refused(s3_bucket, monkeypatch):
    (url,) = write_parts(s3_bucket, [make_up_windows({TRAIN: 20})])
    reader = ChunkReader(index_chunks([url]))
    reader.read(0)
    storage.write_once(url, to_part(make_up_windows({TRAIN: 21})))
    with pytest.raises(InputError, match=f"{url}: had") as caught:
        reader.read(0)
    assert not isinstance(caught.value, storage.StorageError)
