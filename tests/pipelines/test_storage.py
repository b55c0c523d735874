import errno
import gzip
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from seaweedfs import S3Server, use_environment

from mpm_model.errors import InputError
from pipelines import storage, storage_s3
from pipelines.storage import StorageError


@pytest.fixture(params=["disk", "bucket", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder that holds nothing yet, on each kind of storage."""
    if request.param == "disk":
        return str(tmp_path)
    if request.param == "memory":
        return f"memory://{tmp_path}"
    return str(request.getfixturevalue("s3_bucket"))


@pytest.fixture
def nobody_listens() -> Iterator[str]:
    """An endpoint whose port no one has, kept so while the test runs."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def black_hole() -> Iterator[str]:
    """An endpoint that swallows every attempt to connect: its queue is full and nobody takes from it."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen(0)
        callers = [socket.socket() for _ in range(3)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(held.getsockname())
        yield f"http://127.0.0.1:{held.getsockname()[1]}"
        for caller in callers:
            caller.close()


@pytest.fixture
def mute() -> Iterator[str]:
    """An endpoint that takes every connection and never says a word."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen(100)
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


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
        with pytest.raises(InputError, match="b/3: no such file, nor 1 more"):
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
        storage.publish_folder(local, url, last="config.json")
        with storage.fetch_folder(url) as folder:
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
        storage.publish_folder(local, url, last="card")
        assert seen == [("a", False), ("z", False), ("card", False)]
        with pytest.raises(ValueError, match="has no file other"):
            storage.publish_folder(local, url, last="other")

    def test_a_folder_to_fetch_must_be_one(self, place: str) -> None:
        storage.write_once(storage.join(place, "file"), b"x")
        with pytest.raises(InputError, match="file: wanted a folder, got a file"):
            storage.fetch_folder(storage.join(place, "file")).__enter__()
        with pytest.raises(InputError, match="nothing: wanted a folder, there is none"):
            storage.fetch_folder(storage.join(place, "nothing")).__enter__()

    def test_arrow_reads_and_writes_the_same_files(self, place: str) -> None:
        table = pa.table({"frame": [1, 2, 3]})
        url = storage.join(place, "table.parquet")
        filesystem, path = storage.arrow_filesystem(url)
        pq.write_table(table, path, filesystem=filesystem)
        assert pq.read_table(pa.BufferReader(storage.read_bytes(url))) == table
        assert pq.read_table(path, filesystem=filesystem) == table


class TestDiskFaults:
    def test_a_file_where_a_folder_is_wanted_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        url = str(tmp_path / "file" / "below" / "a.json")
        for attempt in (storage.check_writable, lambda url: storage.write_once(url, b"")):
            with pytest.raises(
                InputError, match=f"wanted a folder, {tmp_path}/file is a file; choose another"
            ):
                attempt(url)
        assert (tmp_path / "file").read_text() == "mine"

    def test_a_folder_where_a_file_is_wanted_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="wanted a file, this is a folder"):
            storage.read_bytes(str(tmp_path))

    def test_permission_denied_is_one_line(self) -> None:
        with (
            pytest.raises(InputError, match=r"^out: /out/a: permission denied; choose another place"),
            storage.storage_errors("out"),
        ):
            raise PermissionError(errno.EACCES, "Permission denied", "/out/a")

    def test_a_full_disk_is_the_fault_of_the_storage(self) -> None:
        with pytest.raises(StorageError, match=r"^out: the disk is full"), storage.storage_errors("out"):
            raise OSError(errno.ENOSPC, "No space left on device", "out")

    def test_faults_of_ours_pass_through(self) -> None:
        with pytest.raises(OSError, match="Too many open files"), storage.storage_errors("out"):
            raise OSError(errno.EMFILE, "Too many open files")

    def test_a_writer_that_fails_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="disk is full"):
            storage.write_once(str(tmp_path / "a"), b"x")
        assert not list(tmp_path.iterdir())

    def test_checking_a_folder_makes_nothing(self, tmp_path: Path) -> None:
        storage.check_writable(str(tmp_path / "not" / "there"))
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("url", ["gopher://old/place", "s3://", "S3://bucket/place"])
    def test_an_unknown_kind_of_storage_is_refused(self, url: str) -> None:
        with pytest.raises(InputError, match=f"^{url}: "):
            storage.exists(url)


class TestBucketFaults:
    """Every fault is one line: the URL, the server, what it said, what to do."""

    def ask_everything(self, url: str) -> list[str]:
        """The fault each function meets."""
        faults = []
        for attempt in (
            storage.check_writable,
            storage.exists,
            storage.is_empty,
            storage.list_names,
            storage.read_bytes,
            storage.file_stamp,
            lambda url: storage.list_files(url, (".bvh",)),
            lambda url: storage.write_once(url, b"x"),
            lambda url: storage.write_new(url, b"x"),
        ):
            with pytest.raises(StorageError) as caught:
                attempt(url)
            faults.append(str(caught.value))
        assert all(fault.startswith(f"{url}: ") and "\n" not in fault for fault in faults), faults
        return faults

    def test_a_wrong_access_key_is_told(self, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        for fault in self.ask_everything(f"{s3_bucket}/out"):
            assert "does not accept these credentials (InvalidAccessKeyId: " in fault
            assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE" in fault
            assert os.environ["AWS_ENDPOINT_URL"] in fault

    def test_a_wrong_secret_is_told(self, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "guess")
        for fault in self.ask_everything(f"{s3_bucket}/out"):
            assert "does not accept these credentials (SignatureDoesNotMatch: " in fault

    def test_missing_credentials_are_told(self, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        for fault in self.ask_everything(f"{s3_bucket}/out"):
            assert "none complete were found (Partial credentials" in fault
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        for fault in self.ask_everything(f"{s3_bucket}/out"):
            assert "none complete were found (Unable to locate credentials)" in fault

    def test_an_unknown_profile_is_told(self, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        with pytest.raises(StorageError, match=r"AWS_PROFILE names no profile .*nobody"):
            storage.exists(s3_bucket)

    def test_a_missing_bucket_is_told(self, s3_bucket: str) -> None:
        for fault in self.ask_everything(f"{s3_bucket}-not/out"):
            assert f"has no bucket '{s3_bucket[5:]}-not' (NoSuchBucket: " in fault
            assert "create it, correct the URL" in fault
        with pytest.raises(StorageError, match="has no bucket"):
            storage.exists(f"{s3_bucket}-not")
        with pytest.raises(StorageError, match="not an S3 address"):
            storage.exists("s3://no_$uch/out")

    def test_one_who_may_only_read_is_told_before_any_work(
        self, s3_bucket: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        storage.check_writable(f"{s3_bucket}/out")
        assert storage.is_empty(s3_bucket)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.reader_access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.reader_secret_key)
        assert storage.is_empty(s3_bucket)
        for attempt in (storage.check_writable, lambda url: storage.write_once(url, b"x")):
            with pytest.raises(StorageError, match=r"forbids this to these credentials \(AccessDenied: "):
                attempt(f"{s3_bucket}/out")

    def test_an_address_that_is_none_is_told(self, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "localhost:8333")
        with pytest.raises(StorageError, match="wanted AWS_ENDPOINT_URL like http://host:port"):
            storage.exists(s3_bucket)

    def test_https_to_a_server_of_http_is_told(self, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", os.environ["AWS_ENDPOINT_URL"].replace("http", "https"))
        with pytest.raises(StorageError, match="does not speak https"):
            storage.exists(s3_bucket)

    def test_what_arrow_meets_is_told_alike(self, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        url = f"{s3_bucket}-not/a.parquet"
        filesystem, path = storage.arrow_filesystem(url)
        with (
            pytest.raises(StorageError, match=r"has no bucket .*NO_SUCH_BUCKET"),
            storage.storage_errors(url),
        ):
            pq.write_table(pa.table({"a": [1]}), path, filesystem=filesystem)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "guess")
        filesystem, path = storage.arrow_filesystem(f"{s3_bucket}/a.parquet")
        with pytest.raises(StorageError, match="does not accept"), storage.storage_errors(s3_bucket):
            pq.write_table(pa.table({"a": [1]}), path, filesystem=filesystem)


class TestUnreachable:
    """The bound is some ten seconds; the margin above it is for a busy machine."""

    @pytest.fixture(autouse=True)
    def keys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        use_environment(monkeypatch, S3Server(endpoint="").env)

    def test_nobody_listening_is_told_in_seconds(
        self, nobody_listens: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", nobody_listens)
        for attempt in (storage.check_writable, storage.list_names):
            begun_s = time.monotonic()
            with pytest.raises(StorageError) as caught:
                attempt("s3://bucket/out")
            assert time.monotonic() - begun_s < 10
            assert str(caught.value).startswith(f"s3://bucket/out: {nobody_listens} does not answer (")
            assert "check AWS_ENDPOINT_URL" in str(caught.value)

    def test_a_name_nobody_has_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://nobody.invalid:8333")
        with pytest.raises(StorageError, match=r"http://nobody\.invalid:8333 does not answer"):
            storage.exists("s3://bucket/out")

    @pytest.mark.parametrize("silence", ["black_hole", "mute"])
    def test_silence_is_told_within_the_bound(
        self, silence: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(storage_s3, "CHECK_TIMEOUT_S", 2.0)
        monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue(silence))
        begun_s = time.monotonic()
        with pytest.raises(StorageError, match=r"http://127.0.0.1:\d+ does not answer \(no answer in time\)"):
            storage.check_writable("s3://bucket/out")
        assert time.monotonic() - begun_s < 5

    @pytest.mark.slow
    def test_reading_from_a_black_hole_ends_too(
        self, black_hole: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", black_hole)
        begun_s = time.monotonic()
        with pytest.raises(StorageError, match=f"{black_hole} does not answer"):
            storage.list_files("s3://bucket/in", (".bvh",))
        assert time.monotonic() - begun_s < 15


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
