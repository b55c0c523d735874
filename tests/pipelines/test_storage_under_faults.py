"""What storage promises when the bucket refuses, cuts, stalls: the whole truth, or one line of a fault."""

import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError
from faulty_s3 import KINDS, Faults, FaultyProxy, run_faulty_proxy
from seaweedfs import S3Server, use_environment

from mpm_model.errors import InputError
from pipelines import storage, storage_folders, storage_s3, storage_s3_client
from pipelines.storage import StorageError
from pipelines.storage_leftovers import remove_leftovers
from pipelines.storage_s3_client import PatientS3FileSystem

SHARES = [pytest.param(0.05, marks=pytest.mark.slow), 0.3]
PART_BYTES = 5 * 2**20
"""The least that S3 takes for a part."""


@pytest.fixture
def proxy(s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A proxy before the server of `s3_bucket`, good as yet. The client tries as often as it is shipped,
    but all tries are its own, whose waits are short here; botocore's cannot be shortened."""
    tries = storage_s3.ATTEMPTS * (1 + len(storage_s3_client.PAUSES_S))
    monkeypatch.setattr(storage_s3, "ATTEMPTS", 1)
    monkeypatch.setattr(storage_s3_client, "PAUSES_S", (0.01,) * (tries - 1))
    with run_faulty_proxy(s3_server, faults=Faults.evenly(0)) as proxy:
        use_environment(monkeypatch, proxy.server.env)
        yield proxy


def content_of(name: str) -> bytes:
    return random.Random(name).randbytes(100_000)


class TestBadDays:
    """With the tries that are shipped nothing fails at these shares."""

    @pytest.mark.parametrize("share", SHARES)
    def test_files_are_written_whole_read_whole_and_removed(
        self, share: float, proxy: FaultyProxy, s3_bucket: str
    ) -> None:
        names = [f"{s3_bucket}/parts/{number}" for number in range(15)]
        proxy.faults = Faults.evenly(share, seed=1)
        for name in names:
            storage.write_once(name, b"before")
            storage.write_once(name, content_of(name))
            assert storage.read_bytes(name) == content_of(name)
            filesystem, path = storage.open_filesystem(name)
            assert filesystem.cat_file(path, start=-50_000, end=70_000) == content_of(name)[50_000:70_000]
            assert storage.exists(name)
            assert storage.file_stamp(name).size_bytes == 100_000
        assert not storage.exists(f"{s3_bucket}/parts/nothing")
        with pytest.raises(InputError, match="no such file"):
            storage.read_bytes(f"{s3_bucket}/parts/nothing")
        storage.remove(names.pop())
        assert proxy.count() > 5 * share
        proxy.is_faulty = False
        assert storage.list_files(s3_bucket, ("",)) == sorted(names)
        assert all(storage.read_bytes(name) == content_of(name) for name in names)

    @pytest.mark.parametrize("share", SHARES)
    def test_listings_of_many_pages_are_complete(
        self, share: float, proxy: FaultyProxy, s3_bucket: str
    ) -> None:
        names = sorted(f"{number:03}.parquet" for number in range(40))
        for name in names:
            storage.write_once(f"{s3_bucket}/{name}", name.encode())
        storage.open_filesystem(s3_bucket)[0].req_kw["MaxKeys"] = 4
        proxy.faults = Faults.evenly(share, seed=2)
        for _ in range(2):
            assert storage.list_names(s3_bucket) == names
            assert storage.list_files(s3_bucket, (".parquet",)) == [f"{s3_bucket}/{name}" for name in names]
            assert len(storage.describe_files([f"{s3_bucket}/{name}" for name in names])) == len(names)
        assert proxy.done["GET", "passed"] + proxy.done["GET", "slow"] >= 60
        assert proxy.count() > 30 * share

    @pytest.mark.parametrize("share", SHARES)
    def test_of_many_who_create_one_name_one_at_most_believes_it_is_his(
        self, share: float, proxy: FaultyProxy, s3_bucket: str
    ) -> None:
        proxy.faults = Faults.evenly(share, seed=7)
        with ThreadPoolExecutor(4) as pool:
            for claim in range(3):
                url = f"{s3_bucket}/claims/{claim}"
                is_his = list(pool.map(lambda who, url=url: storage.write_new(url, b"%d" % who), range(4)))
                assert sum(is_his) <= 1
                owner = int(storage.read_bytes(url))
                assert is_his.index(True) == owner if any(is_his) else owner in range(4)
        assert proxy.count() > 10 * share

    @pytest.mark.parametrize("share", SHARES)
    def test_a_folder_is_published_and_fetched_whole(
        self, share: float, proxy: FaultyProxy, s3_bucket: str, tmp_path: Path
    ) -> None:
        names = ["model.safetensors", "config.json", "deep/curves.png", "card.json"]
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(content_of(name))
        proxy.faults = Faults.evenly(share, seed=4)
        for number in range(4):
            storage_folders.publish_folder(tmp_path, f"{s3_bucket}/{number}", last="card.json")
            with storage_folders.fetch_folder(f"{s3_bucket}/{number}") as folder:
                assert {name: (folder / name).read_bytes() for name in names} == {
                    name: content_of(name) for name in names
                }
        assert proxy.count() > 20 * share

    def test_a_multipart_upload_is_whole(self, proxy: FaultyProxy, s3_bucket: str) -> None:
        content = random.Random(5).randbytes(2 * PART_BYTES + 1000)
        proxy.faults = Faults.evenly(0.5, seed=7)
        filesystem, path = storage.open_filesystem(f"{s3_bucket}/large")
        for _ in range(2):
            filesystem.pipe_file(path, content, chunksize=PART_BYTES)
        assert proxy.count() >= 3
        proxy.is_faulty = False
        assert storage.read_bytes(f"{s3_bucket}/large") == content

    @pytest.mark.parametrize("share", [0.05, pytest.param(0.3, marks=pytest.mark.slow)])
    def test_tables_that_arrow_writes_and_reads_are_whole(
        self, share: float, proxy: FaultyProxy, s3_bucket: str
    ) -> None:
        table = pa.table({"frame": range(50_000)})
        filesystem, path = storage.arrow_filesystem(f"{s3_bucket}/tables")
        proxy.faults = Faults.evenly(share, seed=6)
        for number in range(10):
            pq.write_table(table, f"{path}/{number}.parquet", filesystem=filesystem, compression="none")
            assert pq.read_table(f"{path}/{number}.parquet", filesystem=filesystem) == table
        assert proxy.count() > 20 * share


class TestNoDayAtAll:
    """Every fault is one line, soon."""

    @pytest.fixture(autouse=True)
    def few_tries(self, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(storage_s3_client, "PAUSES_S", (0.01,))

    def ask_everything(self, url: str) -> Iterator[str]:
        """The fault that each function meets."""
        for attempt in (
            storage.check_writable,
            storage.exists,
            storage.list_names,
            storage.read_bytes,
            storage.file_stamp,
            lambda url: storage.list_files(url, (".bvh",)),
            lambda url: storage.write_once(url, b"x" * 1000),
            lambda url: storage.write_new(url, b"x" * 1000),
            storage.remove,
        ):
            with pytest.raises(StorageError) as caught:
                attempt(url)
            assert str(caught.value).startswith(f"{url}: ")
            assert "\n" not in str(caught.value)
            yield str(caught.value)

    @pytest.mark.parametrize("kind", sorted({*KINDS} - {"slow"}))
    def test_a_server_that_never_recovers_is_told_and_nothing_half_is_left(
        self, kind: str, proxy: FaultyProxy, s3_bucket: str
    ) -> None:
        proxy.faults = Faults(shares={"*": {kind: 1.0}}, delay_s=0)
        storage.open_filesystem(s3_bucket)[0]._has_answered = True
        expected = {
            "error_500": r"keeps failing after several tries (InternalError: on purpose); try again later",
            "slow_down": r"keeps failing after several tries (SlowDown: on purpose); try again later",
        }.get(kind, "does not answer (")
        for fault in self.ask_everything(f"{s3_bucket}/out"):
            is_head = "(500: " in fault or "(503: " in fault  # the answer to a HEAD has no words
            is_half = kind in ("truncated", "stalled") and "keeps breaking off its answers" in fault
            assert expected in fault or is_head or is_half, fault
        proxy.is_faulty = False
        if storage.exists(f"{s3_bucket}/out"):
            assert kind in ("lost_answer", "truncated", "stalled")
            assert storage.read_bytes(f"{s3_bucket}/out") == b"x" * 1000

    def test_a_server_that_hangs_is_given_up_within_the_stated_time(
        self, proxy: FaultyProxy, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = f"{s3_bucket}/out"
        storage.write_once(url, content_of(url))
        monkeypatch.setattr(storage_s3_client, "ANSWER_TIMEOUT_S", 0.2)
        monkeypatch.setattr(storage_s3_client, "SLOWEST_BYTES_S", 1e9)
        monkeypatch.setattr(storage_s3, "CHECK_TIMEOUT_S", 0.2)
        for silence in ("stalled", "slow"):
            proxy.faults = Faults(shares={"*": {silence: 1.0}}, delay_s=600)
            with pytest.raises(StorageError, match=r"does not answer \(no answer in time\)"):
                storage.read_bytes(url)
        for fault in self.ask_everything(url):
            assert "does not answer (no answer in time)" in fault

    def test_one_who_was_there_is_waited_for_and_one_who_never_was_is_not(
        self, s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waits = []

        async def wait(self: PatientS3FileSystem, ask: Callable[[], Any]) -> Any:
            try:
                return await patiently(self, ask)
            finally:
                waits.append(self._has_answered)

        tried = []
        may_pass = PatientS3FileSystem._may_pass
        monkeypatch.setattr(
            PatientS3FileSystem, "_may_pass", lambda self, error: tried.append(error) or may_pass(self, error)
        )
        patiently = PatientS3FileSystem._patiently
        monkeypatch.setattr(PatientS3FileSystem, "_patiently", wait)
        monkeypatch.setattr(storage_s3, "ATTEMPTS", 1)
        with run_faulty_proxy(s3_server, faults=Faults.evenly(0)) as proxy:
            use_environment(monkeypatch, proxy.server.env)
            storage.write_once(f"{s3_bucket}/a", b"x")
        with pytest.raises(StorageError, match="does not answer"):
            storage.read_bytes(f"{s3_bucket}/a")
        assert len(tried) == len(storage_s3_client.PAUSES_S)
        tried.clear()
        monkeypatch.setenv("AWS_DEFAULT_REGION", "elsewhere")  # another client, to which nobody has answered
        with pytest.raises(StorageError, match="does not answer"):
            storage.read_bytes(f"{s3_bucket}/a")
        assert len(tried) == 1
        assert waits == [True, True, False]


class TestLeftovers:
    def test_unfinished_uploads_below_a_url_go_when_they_are_old(self, s3_bucket: str) -> None:
        filesystem, path = storage.open_filesystem(s3_bucket)
        for key in ("states/a", "states/b", "elsewhere/a"):
            filesystem.call_s3("create_multipart_upload", Bucket=path, Key=key)

        def left() -> list[str]:
            return [
                upload["Key"]
                for upload in filesystem.call_s3("list_multipart_uploads", Bucket=path).get("Uploads", [])
            ]

        assert remove_leftovers(f"{s3_bucket}/states", older_than_s=3600) == 0
        assert len(left()) == 3
        time.sleep(1.1)  # the server counts whole seconds
        assert remove_leftovers(f"{s3_bucket}/states", older_than_s=0) == 2
        assert left() == ["elsewhere/a"]

    def test_parts_on_a_disk_go_when_they_are_old(self, tmp_path: Path) -> None:
        for name, age_s in ((".a.00.part", 7200), (".b.00.part", 0), ("c.part", 7200), (".d", 7200)):
            (tmp_path / name).write_text("half")
            changed_s = time.time() - age_s
            os.utime(tmp_path / name, (changed_s, changed_s))
        assert remove_leftovers(str(tmp_path), older_than_s=3600) == 1
        assert {path.name for path in tmp_path.iterdir()} == {".b.00.part", "c.part", ".d"}
        assert remove_leftovers(str(tmp_path / "nothing"), older_than_s=0) == 0


def test_an_upload_whose_end_was_not_heard_is_made_again(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SeaweedFS confirms a completed upload once more; servers that do not say that there is none."""
    ask = PatientS3FileSystem._ask
    ends = []

    async def unheard(self: PatientS3FileSystem, method: str, **keywords: Any) -> Any:
        answer = await ask(self, method, **keywords)
        if method == "complete_multipart_upload":
            ends.append(method)
            if len(ends) == 1:
                said = {"Error": {"Code": "NoSuchUpload", "Message": "none"}}
                raise FileNotFoundError("none") from ClientError(said, method)
        return answer

    monkeypatch.setattr(PatientS3FileSystem, "_ask", unheard)
    content = random.Random(7).randbytes(2 * PART_BYTES + 1000)
    filesystem, path = storage.open_filesystem(f"{s3_bucket}/large")
    with suppress(FileNotFoundError):
        filesystem.pipe_file(path, content, chunksize=PART_BYTES)
    assert storage.read_bytes(f"{s3_bucket}/large") == content
    assert len(ends) == 2


class TestTheProxyItself:
    def test_the_same_seed_gives_the_same_fates_in_the_shares_asked_for(self) -> None:
        faults = Faults(shares={"GET": {"truncated": 0.2}, "*": {"error_500": 0.1, "slow": 0.3}}, seed=8)
        fates = {method: [faults.fate(method, n) for n in range(2000)] for method in ("GET", "PUT")}
        assert fates["GET"] == [faults.fate("GET", n) for n in range(2000)]
        assert {*fates["GET"]} == {None, "truncated"}
        for method, kind, share in (
            ("GET", "truncated", 0.2),
            ("PUT", "error_500", 0.1),
            ("PUT", "slow", 0.3),
        ):
            assert fates[method].count(kind) == pytest.approx(2000 * share, rel=0.2)

    def test_keys_are_still_checked_behind_it(
        self, proxy: FaultyProxy, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        storage.write_once(f"{s3_bucket}/a", b"x")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "guess")
        with pytest.raises(StorageError, match="SignatureDoesNotMatch"):
            storage.read_bytes(f"{s3_bucket}/a")

    def test_it_is_switched_off_and_on(self, proxy: FaultyProxy, s3_bucket: str) -> None:
        proxy.faults = Faults(shares={"GET": {"error_500": 1.0}})
        storage.write_once(f"{s3_bucket}/a", b"x")
        proxy.is_faulty = False
        assert storage.read_bytes(f"{s3_bucket}/a") == b"x"
        proxy.is_faulty = True
        with pytest.raises(StorageError):
            storage.read_bytes(f"{s3_bucket}/a")
        assert proxy.done == {("PUT", "passed"): 1, ("GET", "error_500"): proxy.count()}
