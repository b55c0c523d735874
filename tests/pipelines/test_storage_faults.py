import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from seaweedfs import S3Server, use_environment

from mpm_model.errors import InputError
from pipelines import storage, storage_s3, storage_s3_client
from pipelines.storage import StorageError


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
    """Told after botocore's quick tries: the long pauses would outlast these tests."""

    @pytest.fixture(autouse=True)
    def keys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        use_environment(monkeypatch, S3Server(endpoint="").env)
        monkeypatch.setattr(storage_s3_client, "PAUSES_S", (3600.0,))

    def test_nobody_listening_is_told_in_seconds(
        self, nobody_listens: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", nobody_listens)
        for attempt in (storage.check_writable, storage.list_names):
            with pytest.raises(StorageError) as caught:
                attempt("s3://bucket/out")
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
        with pytest.raises(StorageError, match=r"http://127.0.0.1:\d+ does not answer \(no answer in time\)"):
            storage.check_writable("s3://bucket/out")

    @pytest.mark.slow
    def test_reading_from_a_black_hole_ends_too(
        self, black_hole: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", black_hole)
        with pytest.raises(StorageError, match=f"{black_hole} does not answer"):
            storage.list_files("s3://bucket/in", (".bvh",))
