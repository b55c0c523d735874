import gzip
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from seaweedfs import S3Server, use_environment

from mpm_model.errors import InputError
from pipelines import storage, storage_folders
from pipelines.storage import StorageError


@pytest.fixture(params=["disk", "bucket", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder that holds nothing yet, on each kind of storage."""
    if request.param == "disk":
        return str(tmp_path)
    if request.param == "memory":
        return f"memory://{tmp_path}"
    return str(request.getfixturevalue("s3_bucket"))


class TestFiles:
    def test_what_is_written_is_read(self, place: str) -> None:
        url = storage.join(place, "below", "pose.bin")
        storage.write_once(url, b"first")
        storage.write_once(url, b"second")
        assert storage.read_bytes(url) == b"second"

    def test_gz_is_unpacked_and_a_broken_one_is_named(self, place: str) -> None:
        good, bad = storage.join(place, "a.json.gz"), storage.join(place, "b.json.gz")
        storage.write_once(good, gzip.compress(b"[1]"))
        storage.write_once(bad, gzip.compress(b"[1]" * 100)[:-20])
        assert storage.read_json(good) == [1]
        with pytest.raises(InputError, match=r"b\.json\.gz: wanted a gzip file"):
            storage.read_bytes(bad)

    def test_of_many_who_create_one_name_one_succeeds(self, place: str) -> None:
        url = storage.join(place, "claims", "claim")
        with ThreadPoolExecutor(8) as pool:
            is_mine = list(pool.map(lambda who: storage.write_new(url, b"%d" % who), range(8)))
        assert sum(is_mine) == 1
        assert storage.read_bytes(url) == b"%d" % is_mine.index(True)
        assert storage.list_names(storage.join(place, "claims")) == ["claim"]

    def test_json_comes_back_and_half_of_it_is_refused(self, place: str) -> None:
        url = storage.join(place, "card.json")
        storage.write_json(url, {"mpjpe_mm": 41.5, "people": ["ä"]})
        assert storage.read_json(url) == {"mpjpe_mm": 41.5, "people": ["ä"]}
        storage.write_once(url, storage.read_bytes(url)[:20])
        with pytest.raises(InputError, match=r"card\.json: wanted JSON, .*line 2"):
            storage.read_json(url)

    def test_json_takes_no_nan(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="JSON compliant"):
            storage.write_json(str(tmp_path / "a.json"), float("nan"))
        assert not list(tmp_path.iterdir())

    def test_a_removed_file_is_gone_and_removing_it_again_is_no_fault(self, place: str) -> None:
        url = storage.join(place, "a")
        storage.write_once(url, b"")
        assert storage.exists(url)
        storage.remove(url)
        storage.remove(url)
        assert not storage.exists(url)

    def test_a_missing_file_is_named(self, place: str) -> None:
        url = storage.join(place, "nothing.bvh")
        for ask in (storage.read_bytes, storage.file_stamp, lambda url: storage.list_files(url, ("",))):
            with pytest.raises(InputError, match=r"nothing\.bvh: no such file") as caught:
                ask(url)
            assert not isinstance(caught.value, StorageError)

    @pytest.mark.slow
    def test_large_content_survives(self, s3_bucket: str) -> None:
        content = os.urandom(1_000_000) * 101  # over 100 MB: a multipart upload
        storage.write_once(f"{s3_bucket}/large", content)
        assert storage.read_bytes(f"{s3_bucket}/large") == content


class TestListing:
    def test_files_are_found_below_by_suffix_in_order_without_hidden_ones(self, place: str) -> None:
        for name in ("b/2.bvh", "b/1.bvh", "a.bvh", "b/.1.bvh.part", ".git/x.bvh", "a.txt", "b/c/3.amc"):
            storage.write_once(storage.join(place, name), b"x")
        found = storage.list_files(place, (".bvh", ".amc"))
        assert [name.removeprefix(place).lstrip("/") for name in found] == [
            *("a.bvh", "b/1.bvh", "b/2.bvh", "b/c/3.amc")
        ]
        assert [storage.read_bytes(name) for name in found] == [b"x"] * 4
        assert storage.list_names(place) == ["a.bvh", "a.txt", "b"]

    def test_a_file_lists_itself(self, place: str) -> None:
        url = storage.join(place, "a.txt")
        storage.write_once(url, b"x")
        assert storage.list_files(url, (".bvh",)) == [url]
        with pytest.raises(InputError, match=r"a\.txt: wanted a folder, got a file"):
            storage.list_names(url)

    def test_a_folder_is_empty_until_something_seen_is_in_it(self, place: str) -> None:
        folder = storage.join(place, "out")
        assert storage.is_empty(folder)
        storage.write_once(storage.join(folder, ".hidden"), b"x")
        assert storage.is_empty(folder)
        storage.write_once(storage.join(folder, "windows", "a.parquet"), b"x")
        assert not storage.is_empty(folder)

    def test_markers_that_keep_a_folder_are_not_files(self, s3_bucket: str) -> None:
        filesystem, path = storage.arrow_filesystem(f"{s3_bucket}/runs/train")
        filesystem.create_dir(path, recursive=True)
        assert storage.list_files(s3_bucket, ("",)) == []
        assert storage.list_names(f"{s3_bucket}/runs") == ["train"]
        assert storage.is_empty(f"{s3_bucket}/runs/train")
        storage.write_once(f"{s3_bucket}/runs/train/a", b"")
        assert storage.list_files(s3_bucket, ("",)) == [f"{s3_bucket}/runs/train/a"]

    def test_what_another_process_wrote_is_seen_at_once(self, s3_bucket: str) -> None:
        assert storage.is_empty(s3_bucket)
        filesystem, path = storage.arrow_filesystem(f"{s3_bucket}/a")
        with filesystem.open_output_stream(path) as stream:
            stream.write(b"x")
        assert storage.exists(f"{s3_bucket}/a")
        assert storage.list_names(s3_bucket) == ["a"]

    def test_a_stamp_tells_contents_apart(self, place: str) -> None:
        urls = [storage.join(place, name) for name in ("b/2", "a", "b/1")]
        for url in urls:
            storage.write_once(url, b"one")
        before = storage.describe_files(urls)
        assert list(before) == urls
        assert before[urls[1]] == storage.file_stamp(urls[1])
        assert before[urls[1]].size_bytes == 3
        time.sleep(0.01)
        storage.write_once(urls[0], b"two")
        after = storage.describe_files(urls)
        assert [url for url in urls if before[url] != after[url]] == urls[:1]
        with pytest.raises(InputError, match=r"b/3: no such file \(2 of 5 files are missing\)"):
            storage.describe_files([*urls, storage.join(place, "b/3"), storage.join(place, "b/4")])

    def test_local_paths_become_absolute_and_urls_stay(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert storage.absolute("a/b") == str(tmp_path / "a" / "b")
        assert storage.absolute("s3://a/b") == "s3://a/b"
        storage.write_once("a/b", b"x")
        assert storage.read_bytes("a/b") == storage.read_bytes(f"file://{tmp_path}/a/b") == b"x"
        assert list(storage.describe_files(["a/b"])) == ["a/b"]
        assert storage.list_files("a", ("",)) == [str(tmp_path / "a" / "b")]


class TestFolders:
    def test_a_published_folder_is_fetched_whole(self, place: str, tmp_path: Path) -> None:
        local = tmp_path / "local"
        (local / "deep").mkdir(parents=True)
        for name in ("config.json", "deep/weights", "z"):
            (local / name).write_text(name)
        url = storage.join(place, "checkpoint")
        storage_folders.publish_folder(local, url, last="config.json")
        with storage_folders.fetch_folder(url) as folder:
            files = {
                str(file.relative_to(folder)): file.read_text()
                for file in folder.rglob("*")
                if file.is_file()
            }
        assert files == {name: name for name in ("config.json", "deep/weights", "z")}
        assert folder.exists() == (place == str(tmp_path))

    def test_the_committing_file_comes_last_and_goes_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        local, url = tmp_path / "local", str(tmp_path / "out")
        local.mkdir()
        for name in ("a", "card", "z"):
            (local / name).write_text("new")
        storage.write_once(f"{url}/card", b"old")
        seen = []
        replace = os.replace

        def watch(source: str, target: str) -> None:
            seen.append((Path(target).name, storage.exists(f"{url}/card")))
            replace(source, target)

        monkeypatch.setattr(os, "replace", watch)
        storage_folders.publish_folder(local, url, last="card")
        assert seen == [("a", False), ("z", False), ("card", False)]
        with pytest.raises(ValueError, match="has no file other"):
            storage_folders.publish_folder(local, url, last="other")

    def test_a_folder_to_fetch_must_be_one(self, place: str) -> None:
        storage.write_once(storage.join(place, "file"), b"x")
        with pytest.raises(InputError, match="file: wanted a folder, got a file"):
            storage_folders.fetch_folder(storage.join(place, "file")).__enter__()
        with pytest.raises(InputError, match="nothing: wanted a folder, there is none"):
            storage_folders.fetch_folder(storage.join(place, "nothing")).__enter__()

    def test_arrow_reads_and_writes_the_same_files(self, place: str) -> None:
        table = pa.table({"frame": [1, 2, 3]})
        url = storage.join(place, "table.parquet")
        filesystem, path = storage.arrow_filesystem(url)
        pq.write_table(table, path, filesystem=filesystem)
        assert pq.read_table(pa.BufferReader(storage.read_bytes(url))) == table
        assert pq.read_table(path, filesystem=filesystem) == table


def test_workers_get_the_variables_that_lead_to_the_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    env = S3Server(endpoint="http://127.0.0.1:1").env
    use_environment(monkeypatch, env)
    assert storage.storage_environment() == env | {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


@pytest.mark.ray
def test_a_worker_of_ray_reaches_the_same_bucket(ray_session: None, s3_bucket: str) -> None:
    import ray

    ray.get(ray.remote(storage.write_once).remote(f"{s3_bucket}/from-a-worker", b"x"))
    assert storage.read_bytes(f"{s3_bucket}/from-a-worker") == b"x"
