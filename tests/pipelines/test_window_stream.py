"""The same windows for the same step: held or streamed, by one worker or several, begun anywhere."""

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from faulty_s3 import Faults, run_faulty_proxy
from seaweedfs import use_environment
from windows_parts import make_up_windows, two_corpora, write_parts

from mpm_model.errors import InputError
from mpm_model.learning.batches import Corpus, ViewConfig, draw_batch
from mpm_model.learning.order import MixConfig, Samples
from pipelines import storage, storage_s3, window_index
from pipelines.recipe import to_corpus
from pipelines.window_index import ChunkIndex, ChunkReader, index_chunks
from pipelines.window_stream import WindowStream, read_corpus
from pipelines.windows_table import read_all_windows

HELD, STREAMED = 2**40, 0
LANES = 4


@pytest.fixture(scope="module")
def urls(tmp_path_factory) -> list[str]:
    return write_parts(tmp_path_factory.mktemp("windows"), two_corpora())


@pytest.fixture(scope="module")
def index(urls) -> ChunkIndex:
    return index_chunks(urls)


@pytest.fixture
def open_stream() -> Iterator[Callable[..., WindowStream]]:
    """Opens streams, and closes them at the end."""
    opened = []

    def open_one(index: ChunkIndex, *, temperature: float = 1.5, **options) -> WindowStream:
        settings = {
            "lanes": LANES,
            "batch_windows": 24,
            "seed": 5,
            "rank": 0,
            "workers": 1,
            "device": "cpu",
            "hold_bytes": STREAMED,
            "shuffle_windows": 50,
        }
        opened.append(WindowStream(index, mix=MixConfig(temperature=temperature), **settings | options))
        return opened[-1]

    yield open_one
    for stream in opened:
        stream.close()


def taken(stream: WindowStream, step: int) -> list[tuple[int, int, str, bytes, bytes]]:
    """Everything of every window of a share: id, copy, data set, positions, validity."""
    _, corpus, samples = stream.take(step)
    return [
        (
            int(corpus.sample_ids[row]),
            int(copy),
            corpus.dataset_names[corpus.dataset[row]],
            corpus.joints_world_m[row].numpy().tobytes(),
            corpus.is_valid[row].numpy().tobytes(),
        )
        for row, copy in zip(samples.indices, samples.copies, strict=True)
    ]


def take_all(stream: WindowStream, steps: range) -> None:
    for step in steps:
        stream.take(step)


def test_windows_are_those_of_the_table(index, urls, open_stream):
    windows = read_all_windows(urls, splits=("train",))
    row_of = {number: row for row, number in enumerate(windows.ids.tolist())}
    stream = open_stream(index)
    for step in range(2 * stream.steps_per_epoch):
        for number, _, dataset, joints_world_m, is_valid in taken(stream, step):
            row = row_of[number]
            assert dataset == windows.dataset[row]
            assert joints_world_m == windows.joints_world_m[row].tobytes()
            assert is_valid == windows.is_valid[row].tobytes()
    assert len(stream) == len(windows)
    assert stream.steps_per_epoch == len(windows) // 24


def test_an_epoch_in_proportion_sees_every_window_at_most_once(index, open_stream):
    stream = open_stream(index, temperature=1.0)
    assert not stream.is_held
    seen = [number for step in range(stream.steps_per_epoch) for number, *_ in taken(stream, step)]
    assert len(set(seen)) == len(seen) == len(index) // 24 * 24


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_held_and_streamed_are_the_same(index, open_stream, temperature):
    held = open_stream(index, hold_bytes=HELD, temperature=temperature)
    streamed = open_stream(index, temperature=temperature)
    assert held.is_held
    assert not streamed.is_held
    steps = [*range(2 * held.steps_per_epoch), 7, 500, 501]
    for step in steps:
        assert taken(held, step) == taken(streamed, step)
        assert held.take(step)[0] == streamed.take(step)[0] == step // held.steps_per_epoch


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_workers_together_make_the_batch_that_one_makes(index, open_stream, workers):
    alone = open_stream(index)
    several = [
        # Some hold, some stream: it is their own affair.
        open_stream(index, rank=rank, workers=workers, hold_bytes=HELD if rank % 2 else STREAMED)
        for rank in range(workers)
    ]
    assert sum(stream.share for stream in several) == pytest.approx(1.0)
    lane_batch = 24 // LANES
    for step in range(100):
        lanes: list[list] = [[] for _ in range(LANES)]
        for rank, stream in enumerate(several):
            share = taken(stream, step)
            assert len(share) == round(stream.share * 24)
            for place, lane in enumerate(range(rank, LANES, workers)):
                lanes[lane] = share[place * lane_batch : (place + 1) * lane_batch]
        assert [window for lane in lanes for window in lane] == taken(alone, step)


def test_a_run_resumed_anywhere_goes_on_as_it_would_have(index, open_stream):
    whole = open_stream(index)
    batches = [taken(whole, step) for step in range(130)]
    for start in (1, 41, 42, 43, 99):
        resumed = open_stream(index)
        for step in range(start, min(start + 20, 130)):
            assert taken(resumed, step) == batches[step]


def test_order_depends_on_seed_lanes_and_temperature(index, open_stream):
    base = taken(open_stream(index), 3)
    for change in ({"seed": 6}, {"lanes": 2}, {"temperature": 4.0}, {"shuffle_windows": 60}):
        assert taken(open_stream(index, **change), 3) != base
    for change in ({"readers": 1}, {"readers": 9}, {"hold_bytes": HELD}):
        assert taken(open_stream(index, **change), 3) == base


def test_batches_drawn_from_it_are_those_drawn_from_the_whole_corpus(index, urls, open_stream):
    whole = to_corpus(read_all_windows(urls, splits=("train",)), "cpu")
    row_of = {number: row for row, number in enumerate(whole.sample_ids.tolist())}
    stream = open_stream(index)

    def drawn(corpus: Corpus, samples: Samples):
        return draw_batch(corpus, samples, seed=3, epoch=0, config=ViewConfig())

    epoch, corpus, samples = stream.take(11)
    assert epoch == 0
    rows = np.array([row_of[number] for number in corpus.sample_ids[samples.indices].tolist()])
    ours, theirs = drawn(corpus, samples), drawn(whole, Samples(rows, samples.copies))
    np.testing.assert_array_equal(ours.sample_ids, theirs.sample_ids)
    assert torch.equal(ours.keypoints, theirs.keypoints)
    assert torch.equal(ours.joints_rel_m, theirs.joints_rel_m)


def test_a_corpus_of_all_indexed_windows(index, urls):
    corpus = read_corpus(index, device="cpu")
    windows = read_all_windows(urls, splits=("train",))
    ours, theirs = np.argsort(corpus.sample_ids), np.argsort(windows.ids)
    np.testing.assert_array_equal(corpus.joints_world_m.numpy()[ours], windows.joints_world_m[theirs])
    np.testing.assert_array_equal(corpus.is_valid.numpy()[ours], windows.is_valid[theirs])
    names = np.array(corpus.dataset_names)[corpus.dataset]
    np.testing.assert_array_equal(names[ours], windows.dataset[theirs])


class Watched(ChunkReader):
    """Counts what is read."""

    read_chunks: list[int]

    def read(self, chunk: int):
        self.read_chunks.append(chunk)
        return super().read(chunk)


def test_little_more_than_two_groups_a_lane_is_in_memory_and_a_chunk_is_read_once_a_pass(
    tmp_path, open_stream, monkeypatch
):
    # 40 chunks of 20 windows, one a file.
    parts = [make_up_windows({("large", "train"): 20}, first_id=100 * part, seed=part) for part in range(40)]
    index = index_chunks(write_parts(tmp_path, parts))
    Watched.read_chunks = []
    monkeypatch.setattr("pipelines.window_stream.ChunkReader", Watched)
    stream = open_stream(index, lanes=2, batch_windows=4, shuffle_windows=40, temperature=1.0)
    assert stream.steps_per_epoch == 200
    for step in range(200):
        stream.take(step)
        groups = stream._source._groups
        in_memory = sum(len(group.corpus) for group in groups.values())
        assert in_memory <= 2 * 2 * (40 + 20)
        assert len(groups) <= 4
    # A chunk that two lanes share is read by both; the last groups read are of the next epoch.
    assert len(Watched.read_chunks) <= 41 + 2 * 3


def test_the_next_group_is_read_before_it_is_needed(index, open_stream, monkeypatch):
    stream = open_stream(index, batch_windows=4)
    stream.take(0)
    deadline_s = time.monotonic() + 30
    while any(not chunk.done() for group in stream._source._groups.values() for chunk in group._missing):
        assert time.monotonic() < deadline_s
        time.sleep(0.001)
    # From here on nothing can be read.
    monkeypatch.setattr(ChunkReader, "read", lambda *_: pytest.fail("read too late"))
    take_all(stream, range(1, 80))


def test_waiting_is_counted(index, open_stream):
    streamed, held = open_stream(index), open_stream(index, hold_bytes=HELD)
    begun_s = time.perf_counter()
    take_all(streamed, range(50))
    assert 0 < streamed.waited_s < time.perf_counter() - begun_s
    take_all(held, range(50))
    assert held.waited_s == 0


@pytest.mark.parametrize("death", [SystemExit, MemoryError, InputError])
def test_what_ends_a_read_ends_take_and_does_not_hang(index, open_stream, monkeypatch, death):
    def die(self, chunk):
        raise death("on purpose")

    stream = open_stream(index)
    taken(stream, 0)
    monkeypatch.setattr(ChunkReader, "read", die)
    with pytest.raises(death, match="on purpose"):
        take_all(stream, range(1, 100))
    with pytest.raises(death, match="on purpose"):
        open_stream(index, hold_bytes=HELD)


def test_a_closed_stream_leaves_no_thread(index, open_stream):
    before = set(threading.enumerate())
    with open_stream(index) as stream:
        stream.take(0)
        readers = set(threading.enumerate()) - before
        assert readers
    for reader in readers:
        reader.join(timeout=60)
        assert not reader.is_alive()


def test_all_that_does_not_go_together_is_refused(index, open_stream):
    with pytest.raises(InputError) as caught:
        open_stream(index, workers=7, rank=6, lanes=5, batch_windows=5000, shuffle_windows=0)
    for fault in (
        "lanes 5 are fewer than workers (7)",
        "shuffle_windows must be at least 1, got 0",
        "batch_windows is 5000 but there are 1030 windows",
    ):
        assert fault in str(caught.value)


def test_a_bucket_on_a_bad_day_gives_the_same_windows(s3_bucket, s3_server, index, open_stream, monkeypatch):
    urls = write_parts(s3_bucket, two_corpora())
    wanted = open_stream(index, hold_bytes=HELD)
    monkeypatch.setattr(storage_s3, "ARROW_ATTEMPTS", 1)  # its pauses grow to seconds
    monkeypatch.setattr(window_index, "PAUSES_S", (0.001,) * 30)
    with run_faulty_proxy(s3_server, faults=Faults.evenly(0.2)) as proxy:
        use_environment(monkeypatch, proxy.server.env)
        stream = open_stream(index_chunks(urls))
        for step in range(2 * stream.steps_per_epoch):
            assert taken(stream, step) == taken(wanted, step)
        assert proxy.count() > 20
        proxy.faults = Faults(shares={"*": {"slow_down": 1.0}})
        monkeypatch.setattr(window_index, "PAUSES_S", (0.001,))
        with pytest.raises(storage.StorageError, match=s3_bucket):
            take_all(stream, range(1000, 1100))
