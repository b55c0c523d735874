import logging
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faulty_s3 import Faults, FaultyProxy, run_faulty_proxy
from saving_process import START, forkserver, same, save_for_ever, state_of
from seaweedfs import S3Server, use_environment

from mpm_model.errors import InputError
from pipelines import storage, storage_s3, storage_s3_client, train_state
from pipelines.storage import StorageError
from pipelines.train_state import StateStore, load_latest


@pytest.fixture(params=["disk", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where states are to lie: a folder that is not there yet, on each kind of storage."""
    base = str(tmp_path) if request.param == "disk" else str(request.getfixturevalue("s3_bucket"))
    return storage.join(base, "run", "states")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateStore]:
    store = StateStore(str(tmp_path / "states"))
    yield store
    store.close()


def steps_of(url: str) -> list[int]:
    return [int(name[5:17]) for name in storage.list_names(url)]


def failing_writes(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """Let the storage refuse the states of these steps."""
    write_once = storage.write_once

    def write(url: str, content: bytes) -> None:
        if any(f"step_{step:012d}" in url for step in steps):
            raise StorageError(f"{url}: the server keeps failing")
        write_once(url, content)

    monkeypatch.setattr(storage, "write_once", write)


class TestSaving:
    def test_the_newest_state_comes_back_to_the_bit_and_old_ones_go(self, place: str) -> None:
        assert load_latest(place, map_location="cpu") is None
        store = StateStore(place, keep=2)
        for step in (0, 7, 12, 100):
            store.save(state_of(step), step=step)
        store.close()
        assert store.last_saved_step == 100
        assert not store.faults
        assert steps_of(place) == [12, 100]
        step, state = load_latest(place, map_location="cpu") or (None, None)
        assert step == 100
        assert same(state, state_of(100))

    def test_training_goes_on_and_changes_weights_while_a_state_is_on_its_way(
        self, store: StateStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        go_on = threading.Event()
        serialised = train_state._serialised

        def later(state: dict[str, Any]) -> bytes:
            assert go_on.wait(30)
            return serialised(state)

        monkeypatch.setattr(train_state, "_serialised", later)
        model = torch.nn.Linear(3, 2)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        rows = [{"loss": 1.0}]
        store.save({"model": model.state_dict(), "rows": rows}, step=1)
        assert store.last_saved_step is None
        torch.nn.init.zeros_(model.weight)
        rows[0]["loss"] = 2.0
        second = threading.Thread(target=lambda: store.save({"model": model.state_dict()}, step=2))
        second.start()
        second.join(0.2)
        assert second.is_alive(), "two states were on their way at once"
        go_on.set()
        second.join()
        store.wait()
        assert steps_of(store.url) == [1, 2]
        storage.remove(storage.join(store.url, storage.list_names(store.url)[1]))
        assert same(
            load_latest(store.url, map_location="cpu"), (1, {"model": before, "rows": [{"loss": 1.0}]})
        )

    @pytest.mark.parametrize(
        ("value", "where"),
        [
            ({"rows": [{"loss": np.float64(1)}]}, r"state\['rows'\]\[0\]\['loss'\] is float64"),
            ({"model": torch.nn.Linear(1, 1)}, r"state\['model'\] is Linear"),
        ],
    )
    def test_what_could_not_be_read_back_is_refused_by_name(
        self, store: StateStore, value: dict[str, Any], where: str
    ) -> None:
        with pytest.raises(TypeError, match=where):
            store.save(value, step=1)

    def test_what_is_no_fault_of_the_storage_is_raised(
        self, store: StateStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(train_state, "_serialised", lambda state: 1 / 0)
        store.save({}, step=1)
        with pytest.raises(ZeroDivisionError):
            store.wait()

    @pytest.mark.slow
    def test_a_state_on_its_way_takes_twice_its_size_and_two_parts(self, place: str) -> None:
        def status_mb(name: str) -> float:
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(name))

        store = StateStore(place)
        store.save({"weights": torch.zeros(1)}, step=0)  # whatever is loaded at the first use
        store.wait()
        size_mb = 300
        state = {"weights": [torch.rand(250_000) for _ in range(size_mb)]}
        before_mb = status_mb("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the highest mark starts anew
        store.save(state, step=1)
        store.close()
        extra_mb = status_mb("VmHWM") - before_mb
        print(f"{size_mb} MB of state, {extra_mb:.0f} MB of memory beside it")
        assert extra_mb < 2.1 * size_mb + ("://" in place) * 4 * 52.4  # a part is sliced off, then sent


class TestFailures:
    def test_a_failure_or_two_are_named_and_the_run_goes_on(
        self, store: StateStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        failing_writes(monkeypatch, {1, 2, 4})
        for step in range(5):
            store.save(state_of(step), step=step)
        with pytest.raises(StorageError, match=r"newest state could not be saved; step 4 was not saved: "):
            store.wait()
        assert store.last_saved_step == 3
        assert [fault.split(":")[0] for fault in store.faults] == [
            f"step {step} was not saved" for step in (1, 2, 4)
        ]
        assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3
        assert (load_latest(store.url, map_location="cpu") or (None,))[0] == 3

    def test_too_many_in_a_row_stop_the_run_with_one_line(
        self, store: StateStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        failing_writes(monkeypatch, {1, 2, 3})
        for step in range(4):
            store.save(state_of(step), step=step)
        with pytest.raises(StorageError, match=r"^3 states in a row could not be saved; step 3 .*failing$"):
            store.save(state_of(4), step=4)
        assert (load_latest(store.url, map_location="cpu") or (None,))[0] == 0

    def test_old_states_stay_until_the_newer_one_is_there_in_full(
        self, store: StateStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for step in range(2):
            store.save(state_of(step), step=step)
        store.wait()
        write_once = storage.write_once
        monkeypatch.setattr(storage, "write_once", lambda url, content: write_once(url, content[:-1]))
        for step in (2, 3):
            store.save(state_of(step), step=step)
        with pytest.raises(StorageError, match=r"step 3 was not saved: .* bytes, \d+ are there"):
            store.wait()
        assert steps_of(store.url) == [0, 1, 2, 3]
        assert (load_latest(store.url, map_location="cpu") or (None,))[0] == 1

    def test_an_old_state_that_cannot_be_removed_is_no_failure_to_save(
        self, store: StateStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(url: str) -> None:
            raise StorageError(f"{url}: forbidden")

        monkeypatch.setattr(storage, "remove", refuse)
        for step in range(4):
            store.save(state_of(step), step=step)
        store.wait()
        assert store.last_saved_step == 3
        assert store.faults[0].startswith("old states or leftovers were not removed: ")


class TestLoading:
    @pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
    def test_a_damaged_state_is_passed_over_by_name(
        self, damage: str, store: StateStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        for step in range(2):
            store.save(state_of(step), step=step)
        store.close()
        paths = sorted(Path(store.url).iterdir())
        for path in reversed(paths):
            content = path.read_bytes()
            flipped = content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]
            path.write_bytes({"cut": content[:-1], "flipped": flipped, "empty": b""}[damage])
            if path == paths[1]:
                assert same(load_latest(store.url, map_location="cpu"), (0, state_of(0)))
                assert f"{path.name} is damaged and passed over" in caplog.text
        with pytest.raises(InputError, match=f"no state is whole .*{paths[0].name}.*remove them to begin"):
            load_latest(store.url, map_location="cpu")

    def test_a_damaged_reading_is_read_again(
        self, store: StateStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for step in range(2):
            store.save(state_of(step), step=step)
        store.close()
        read_bytes = storage.read_bytes
        cuts = iter([1000])
        monkeypatch.setattr(storage, "read_bytes", lambda url: read_bytes(url)[: next(cuts, None)])
        assert same(load_latest(store.url, map_location="cpu"), (1, state_of(1)))

    def test_a_storage_that_fails_is_not_taken_for_an_empty_one(
        self, store: StateStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for step in range(2):
            store.save(state_of(step), step=step)
        store.close()

        def fail(url: str) -> bytes:
            raise StorageError(f"{url}: the server does not answer")

        for function in ("read_bytes", "list_names", "exists"):
            with monkeypatch.context() as patch:
                patch.setattr(storage, function, fail)
                with pytest.raises(StorageError, match="does not answer"):
                    load_latest(store.url, map_location="cpu")

    def test_leftovers_and_other_files_are_not_taken_and_old_leftovers_go(self, place: str) -> None:
        store = StateStore(place)
        store.save(state_of(3), step=3)
        store.wait()
        whole = storage.read_bytes(storage.join(place, storage.list_names(place)[0]))
        for name in (".step_000000000009-0123456789abcdef.pt.00ff.part", "step_9.pt", "last.pt"):
            storage.write_once(storage.join(place, name), whole[: len(whole) // 2])
        assert (load_latest(place, map_location="cpu") or (None,))[0] == 3
        if "://" not in place:
            part = next(Path(place).glob(".*.part"))
            store.save(state_of(4), step=4)
            store.wait()
            assert part.exists(), "its writer may be alive"
            hour_ago_s = time.time() - 2 * train_state.LEFTOVER_AGE_S
            os.utime(part, (hour_ago_s, hour_ago_s))
            store.save(state_of(5), step=5)
            store.wait()
            assert not part.exists()
        store.close()
        assert {"step_9.pt", "last.pt"} < set(storage.list_names(place))


class TestTwoWriters:
    def test_neither_removes_what_is_newer_than_its_own(self, place: str) -> None:
        lost, successor = StateStore(place, keep=2), StateStore(place, keep=2)
        for step in (10, 20, 30):
            lost.save(state_of(step), step=step)
        lost.wait()
        for step in (20, 25):
            successor.save(state_of(step), step=step)
        successor.wait()
        assert steps_of(place) == [20, 25, 30]
        lost.save(state_of(40), step=40)
        lost.close()
        successor.save(state_of(50), step=50)
        successor.close()
        assert steps_of(place) == [40, 50]
        assert not lost.faults + successor.faults

    def test_states_of_one_step_that_differ_lie_side_by_side(self, store: StateStore) -> None:
        other = StateStore(store.url)
        for writer, loss in ((store, 1.0), (other, 2.0)):
            writer.save({"loss": loss}, step=1)
            writer.wait()
        assert steps_of(store.url) == [1, 1]
        assert load_latest(store.url, map_location="cpu") in [(1, {"loss": 1.0}), (1, {"loss": 2.0})]
        for step in (2, 3):
            other.save({"loss": 0.0}, step=step)
        other.close()
        assert steps_of(store.url) == [2, 3]

    def test_a_state_removed_under_the_eyes_of_a_reader_has_a_newer_one(
        self, store: StateStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.save(state_of(1), step=1)
        store.wait()
        read_bytes = storage.read_bytes

        def read(url: str) -> bytes:
            if "step_000000000001" in url:
                for step in (2, 3):
                    store.save(state_of(step), step=step)
                store.wait()
            return read_bytes(url)

        monkeypatch.setattr(storage, "read_bytes", read)
        assert same(load_latest(store.url, map_location="cpu"), (3, state_of(3)))


@pytest.fixture
def proxy(s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A bad day before the server of `s3_bucket`; the client's waits are short."""
    monkeypatch.setattr(storage_s3, "ATTEMPTS", 1)
    monkeypatch.setattr(storage_s3_client, "PAUSES_S", (0.01, 0.02))
    with run_faulty_proxy(s3_server, faults=Faults.evenly(0)) as proxy:
        use_environment(monkeypatch, proxy.server.env)
        yield proxy


class TestBadDays:
    def test_every_state_that_loads_is_the_one_of_its_step(self, proxy: FaultyProxy, s3_bucket: str) -> None:
        store = StateStore(f"{s3_bucket}/states", most_failures=1000)
        rng = random.Random(0)
        loads = 0
        for step in range(30):
            proxy.faults = Faults.evenly(rng.choice((0.2, 0.4, 0.6)), seed=step)
            store.save(state_of(step, numbers=2_000), step=step)
            if step % 3 == 2:
                safe = store.last_saved_step  # another may be on its way
                try:
                    found = load_latest(store.url, map_location="cpu")
                except StorageError:
                    continue
                assert found is not None or safe is None
                if found is not None:
                    assert same(found[1], state_of(found[0], numbers=2_000))
                    assert found[0] >= (START if safe is None else safe)
                    loads += 1
        store.close()
        saved = 30 - sum("was not saved" in fault for fault in store.faults)
        print(f"{proxy.count()} faults: {saved} of 30 states saved, {loads} of 10 loads")
        assert proxy.count() > 50
        assert saved > 10
        assert loads > 3
        proxy.is_faulty = False
        found = load_latest(store.url, map_location="cpu")
        assert found is not None
        assert store.last_saved_step is not None
        assert found[0] >= store.last_saved_step
        assert same(found[1], state_of(found[0], numbers=2_000))
        assert all("\n" not in fault for fault in store.faults)


@pytest.mark.parametrize(
    ("numbers", "rounds", "longest_s"),
    [
        (20_000, 4, 0.1),
        pytest.param(20_000, 10, 0.1, marks=pytest.mark.slow),
        pytest.param(4_000_000, 4, 5.0, marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_moment_the_newest_state_is_whole(
    place: str, numbers: int, rounds: int, longest_s: float
) -> None:
    """A state of 20,000 numbers, eight times, is one put; one of 4,000,000 is 128 MB, a multipart upload."""
    context = forkserver()
    env = storage.storage_environment()
    rng = random.Random(numbers + rounds)
    newest = START
    for round_ in range(rounds):
        reported = context.Value("q", START, lock=False)
        child = context.Process(target=save_for_ever, args=(place, env, reported, numbers))
        child.start()
        while child.is_alive() and reported.value == START:
            time.sleep(0.002)
        assert child.is_alive(), f"round {round_}: it ended before it was killed"
        time.sleep(rng.uniform(0, longest_s))
        child.kill()
        child.join()
        found = load_latest(place, map_location="cpu")
        assert found is not None
        assert same(found[1], state_of(found[0], numbers=numbers)), f"round {round_}"
        assert found[0] >= reported.value > newest, f"round {round_}"
        newest = found[0]
