"""A worker's windows, step by step: held in memory where they fit, else read ahead, a group at a time.

Both ways give the same windows for the same step; see `mpm_model.learning.lanes` for their order.
"""

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mpm_model.errors import refuse
from mpm_model.learning.batches import Corpus
from mpm_model.learning.lanes import ChunkSamples, GroupKey, LaneOrder, lane_faults
from mpm_model.learning.order import MixConfig, Samples
from pipelines.window_index import ChunkIndex, ChunkReader

SHUFFLE_WINDOWS = 1024
"""Windows of a lane that are shuffled together: with 8 lanes a batch is drawn from 8192."""
READERS = 4
"""Threads that read and decode. They wait for the storage most of the time and hardly hold Python's lock."""


class _Share(NamedTuple):
    """What a lane gives to a batch, or its part in one group."""

    key: GroupKey
    """The group."""
    within: slice
    """Places in it."""
    samples: ChunkSamples
    """What is there."""


class WindowStream:
    """One worker's share of every batch, from any step on.

    The chunks of the worker's lanes are kept on the device if they have at most `hold_bytes`. Else there are
    in memory, for each of its lanes, the group in use and the next one, which is being read: twice
    `shuffle_windows` and the rest of a chunk, pinned where the device is a GPU.
    """

    def __init__(
        self,
        index: ChunkIndex,
        *,
        lanes: int,
        batch_windows: int,
        mix: MixConfig,
        seed: int,
        rank: int,
        workers: int,
        device: torch.device | str,
        hold_bytes: int,
        shuffle_windows: int = SHUFFLE_WINDOWS,
        readers: int = READERS,
    ) -> None:
        """The order depends on the data, `lanes`, `batch_windows`, `mix`, `seed` and `shuffle_windows` alone.

        Worker `rank` of `workers` serves the lanes rank, rank + workers, ... What is held is read at once.

        Raises:
            InputError: more workers than lanes, settings that do not go together, or data that have changed.
            StorageError: the storage fails again and again.
        """
        settings = {"lanes": lanes, "batch_windows": batch_windows, "shuffle_windows": shuffle_windows}
        refuse("order of windows", lane_faults(len(index), **settings, workers=workers))
        self._order = LaneOrder(index.windows, index.dataset, **settings, mix=mix, seed=seed)
        self._lanes = range(rank, lanes, workers)
        self.steps_per_epoch = self._order.steps_per_epoch
        """Batches in an epoch."""
        self.skeleton, self.rate_hz = index.skeleton, index.kind.rate_hz
        """Of the windows."""
        self.waited_s = 0.0
        """How long `take` had to wait for windows that were not there yet, in all."""
        self.share = len(self._lanes) / lanes
        """This worker's part of a batch; not the same for all if `workers` does not divide `lanes`."""
        chunks = np.unique(np.concatenate([self._order.pieces[lane].chunk for lane in self._lanes]))
        self.is_held = int(index.windows[chunks].sum()) * index.window_bytes <= hold_bytes
        """Whether this worker's windows are in the memory of the device."""
        self._source: _Held | _Streamed = (
            _Held(index, chunks, device=torch.device(device), readers=readers)
            if self.is_held
            else _Streamed(index, self._order, device=torch.device(device), readers=readers)
        )

    def __len__(self) -> int:
        """Windows of all workers together."""
        return self._order.windows

    def take(self, step: int) -> tuple[int, Corpus, Samples]:
        """Epoch of a step, windows among which are this worker's share of its batch, and which of them are.

        Any step may be the first; steps in turn are read ahead. Raises as the constructor does.
        """
        shares = [
            _Share(key, within, self._order.group(key)[within])
            for lane in self._lanes
            for key, within in self._order.groups_at(step, lane)
        ]
        corpus, indices = self._source.fetch(shares)
        self.waited_s = self._source.waited_s
        copies = np.concatenate([share.samples.copies for share in shares])
        return shares[0].key.epoch, corpus, Samples(indices, copies)

    def close(self) -> None:
        """Read no more; what is under way ends by itself."""
        self._source.close()

    def __enter__(self) -> "WindowStream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_corpus(index: ChunkIndex, *, device: torch.device | str, readers: int = READERS) -> Corpus:
    """All windows of an index in the memory of a device. Raises as `WindowStream` does."""
    chunks = np.arange(len(index.windows))
    return _Held(index, chunks, device=torch.device(device), readers=readers).corpus


def _room(
    index: ChunkIndex,
    dataset: Int[np.ndarray, "N"],
    *,
    device: torch.device | str = "cpu",
    is_pinned: bool = False,
) -> Corpus:
    """A corpus for windows of these data sets, which are still to be written into it."""
    shape = (len(dataset), index.kind.frames, len(index.skeleton))
    return Corpus(
        joints_world_m=torch.empty((*shape, 3), device=device, pin_memory=is_pinned),
        is_valid=torch.empty(shape, dtype=torch.bool, device=device, pin_memory=is_pinned),
        sample_ids=np.empty(len(dataset), np.int64),
        skeleton=index.skeleton,
        rate_hz=index.kind.rate_hz,
        dataset=dataset,
        dataset_names=index.dataset_names,
    )


def _reading_pool(readers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(readers, thread_name_prefix="windows")


class _Held:
    """Chunks in the memory of a device, end to end."""

    waited_s = 0.0

    def __init__(
        self, index: ChunkIndex, chunks: Int[np.ndarray, "C"], *, device: torch.device, readers: int
    ) -> None:
        windows = index.windows[chunks]
        self._start = np.zeros(len(index.windows), np.int64)
        self._start[chunks] = np.cumsum(windows) - windows
        self.corpus = _room(index, np.repeat(index.dataset[chunks], windows), device=device)

        def fill(chunk: int) -> None:
            read = reader.read(chunk)
            rows = slice(self._start[chunk], self._start[chunk] + len(read.ids))
            self.corpus.joints_world_m[rows] = torch.tensor(read.joints_world_m)
            self.corpus.is_valid[rows] = torch.tensor(read.is_valid)
            self.corpus.sample_ids[rows] = read.ids

        reader, pool = ChunkReader(index), _reading_pool(readers)
        try:
            for done in [pool.submit(fill, chunk) for chunk in chunks.tolist()]:
                done.result()
        finally:
            reader.close()
            pool.shutdown(cancel_futures=True)

    def fetch(self, shares: list[_Share]) -> tuple[Corpus, Int[np.ndarray, "B"]]:
        samples = ChunkSamples.concatenate([share.samples for share in shares])
        return self.corpus, self._start[samples.chunks] + samples.rows

    def close(self) -> None:
        """Nothing is under way."""


class _Streamed:
    """Groups in memory while they are in use; the next one of each lane is being read."""

    def __init__(self, index: ChunkIndex, order: LaneOrder, *, device: torch.device, readers: int) -> None:
        self._index, self._order, self._device = index, order, device
        self._reader, self._pool = ChunkReader(index), _reading_pool(readers)
        self._groups: dict[GroupKey, _Group] = {}
        self.waited_s = 0.0

    def fetch(self, shares: list[_Share]) -> tuple[Corpus, Int[np.ndarray, "B"]]:
        self._read_ahead([share.key for share in shares])
        begun_s = time.perf_counter()
        for share in shares:
            self._groups[share.key].wait()
        self.waited_s += time.perf_counter() - begun_s
        parts = [(self._groups[share.key].corpus, share.within) for share in shares]

        def on_device(name: str) -> Tensor:
            tensors = [getattr(corpus, name)[within] for corpus, within in parts]
            return torch.cat([tensor.to(self._device, non_blocking=True) for tensor in tensors])

        corpus = dataclasses.replace(
            parts[0][0],
            joints_world_m=on_device("joints_world_m"),
            is_valid=on_device("is_valid"),
            sample_ids=np.concatenate([corpus.sample_ids[within] for corpus, within in parts]),
            dataset=np.concatenate([corpus.dataset[within] for corpus, within in parts]),
        )
        return corpus, np.arange(len(corpus))

    def _read_ahead(self, needed: list[GroupKey]) -> None:
        """Begin to read what is needed, then what each lane needs next; let go of the rest."""
        lanes = [key.lane for key in needed]
        # A lane between two groups has both in memory; a third comes when the first is done with.
        ahead = [self._order.following(key) for key in needed if lanes.count(key.lane) == 1]
        for key in self._groups.keys() - {*needed, *ahead}:
            self._groups.pop(key).cancel()
        for key in (*needed, *ahead):
            if key not in self._groups:
                self._groups[key] = _Group(
                    self._index,
                    self._order.group(key),
                    reader=self._reader,
                    pool=self._pool,
                    is_pinned=self._device.type == "cuda",
                )

    def close(self) -> None:
        self._reader.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


class _Group:
    """Windows of a group in their order. They come chunk by chunk."""

    def __init__(
        self,
        index: ChunkIndex,
        samples: ChunkSamples,
        *,
        reader: ChunkReader,
        pool: ThreadPoolExecutor,
        is_pinned: bool,
    ) -> None:
        self.corpus = _room(index, index.dataset[samples.chunks], is_pinned=is_pinned)
        by_chunk = np.argsort(samples.chunks, kind="stable")
        chunks, begins = np.unique(samples.chunks[by_chunk], return_index=True)
        self._missing = [
            pool.submit(self._fill, reader, chunk, places, samples.rows[places])
            for chunk, places in zip(chunks.tolist(), np.split(by_chunk, begins[1:]), strict=True)
        ]

    def wait(self) -> None:
        """Return when the windows are there; raise what kept them away."""
        for chunk in self._missing:
            chunk.result()
        self._missing = []

    def cancel(self) -> None:
        """Do not begin with what has not begun."""
        for chunk in self._missing:
            chunk.cancel()

    def _fill(
        self, reader: ChunkReader, chunk: int, places: Int[np.ndarray, "B"], rows: Int[np.ndarray, "B"]
    ) -> None:
        # numpy copies in this thread; torch would start more of them.
        read = reader.read(chunk)
        self.corpus.joints_world_m.numpy()[places] = read.joints_world_m[rows]
        self.corpus.is_valid.numpy()[places] = read.is_valid[rows]
        self.corpus.sample_ids[places] = read.ids[rows]
