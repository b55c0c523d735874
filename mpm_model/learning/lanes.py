"""In which order windows are seen that lie in chunks on a disk or in a bucket, the same for any worker count.

The windows are dealt to a fixed number of lanes, and every lane gives an equal share to every batch. A worker
serves whole lanes, reads only their chunks, a few at a time, and need not ask what others do. Every place in
the order is a pure function of (seed, epoch, lane, place): nothing is replayed to find it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from mpm_model.errors import refuse
from mpm_model.learning.counted import sample_order
from mpm_model.learning.order import MixConfig


@dataclass(frozen=True)
class Pieces:
    """Stretches of chunks: `windows` rows of `chunk`, from its row `first` on."""

    chunk: Int[np.ndarray, "P"]
    first: Int[np.ndarray, "P"]
    windows: Int[np.ndarray, "P"]
    dataset: Int[np.ndarray, "P"]


@dataclass(frozen=True)
class ChunkSamples:
    """Windows to be seen: row of a chunk, and for the how-many-eth time within the epoch, from 0."""

    chunks: Int[np.ndarray, "B"]
    rows: Int[np.ndarray, "B"]
    copies: Int[np.ndarray, "B"]

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, places: slice) -> "ChunkSamples":
        return ChunkSamples(self.chunks[places], self.rows[places], self.copies[places])

    @classmethod
    def concatenate(cls, several: Sequence["ChunkSamples"]) -> "ChunkSamples":
        """Samples after samples."""
        columns = [[getattr(some, field.name) for some in several] for field in fields(cls)]
        return cls(*map(np.concatenate, columns))


class GroupKey(NamedTuple):
    """Which group of which lane; a group is what is shuffled together."""

    lane: int
    epoch: int
    number: int


@dataclass(frozen=True)
class _Plan:
    """A lane's epoch: pieces in the order of reading, with how many of their rows are wanted."""

    piece: Int[np.ndarray, "R"]
    copy: Int[np.ndarray, "R"]
    wanted: Int[np.ndarray, "R"]
    group_reads: list[int]
    """With which entry each group begins, and the end."""
    group_places: list[int]
    """With which sample of the epoch each group begins, and the end."""


class LaneOrder:
    """The order of all lanes.

    A lane's epoch takes its pieces in an order drawn anew each time, and shuffles the rows of neighbours
    together, `shuffle_windows` and the rest of a chunk at a time. Each data set has the share that
    `MixConfig` gives it: pieces of a small one come several times, the last time not all of them, and
    every time with another copy number. What does not fill a batch at the end of an epoch is left
    out, and comes another time because the order is another.
    """

    def __init__(
        self,
        windows: Int[np.ndarray, "K"],
        dataset: Int[np.ndarray, "K"],
        *,
        lanes: int,
        batch_windows: int,
        shuffle_windows: int,
        mix: MixConfig,
        seed: int,
    ) -> None:
        """`windows` and `dataset` say of every chunk how many it has, at least one, all of the same data set.

        InputError if the settings do not go together with each other or with the number of windows.
        """
        self.windows = int(windows.sum())
        settings = {"lanes": lanes, "batch_windows": batch_windows, "shuffle_windows": shuffle_windows}
        refuse("order of windows", lane_faults(self.windows, **settings))
        self.steps_per_epoch = self.windows // batch_windows
        """Batches in an epoch."""
        self.lane_batch = batch_windows // lanes
        """Windows that each lane gives to a batch."""
        self.pieces = deal(windows, dataset, lanes=lanes, seed=seed)
        """What each lane holds; together every window once."""
        sizes = np.bincount(dataset, weights=windows)
        self._weights = np.where(sizes > 0, sizes, 1.0) ** (1 / mix.temperature - 1)
        self._seed, self._shuffle_windows = seed, shuffle_windows
        # A step looks at one epoch of each lane, or at two where one ends.
        self._plan = lru_cache(maxsize=2 * lanes)(self._make_plan)
        self.group = lru_cache(maxsize=2 * lanes)(self._make_group)
        """Samples of a group, in their order."""

    def samples_at(self, step: int, lane: int) -> tuple[int, ChunkSamples]:
        """Epoch, and a lane's share of the batch of a step."""
        parts = self.groups_at(step, lane)
        return parts[0][0].epoch, ChunkSamples.concatenate([self.group(key)[places] for key, places in parts])

    def groups_at(self, step: int, lane: int) -> list[tuple[GroupKey, slice]]:
        """Groups that a lane's share of the batch of a step lies in, and its places within each."""
        epoch, within = divmod(step, self.steps_per_epoch)
        start, end = within * self.lane_batch, (within + 1) * self.lane_batch
        bounds = self._plan(lane, epoch).group_places
        first, last = bisect_right(bounds, start) - 1, bisect_left(bounds, end)
        return [
            (
                GroupKey(lane, epoch, number),
                slice(max(start - bounds[number], 0), min(end, bounds[number + 1]) - bounds[number]),
            )
            for number in range(first, last)
        ]

    def following(self, key: GroupKey) -> GroupKey:
        """The group that a lane comes to next."""
        if key.number + 2 < len(self._plan(key.lane, key.epoch).group_places):
            return key._replace(number=key.number + 1)
        return GroupKey(key.lane, key.epoch + 1, 0)

    def _make_group(self, key: GroupKey) -> ChunkSamples:
        plan, pieces = self._plan(key.lane, key.epoch), self.pieces[key.lane]
        reads = slice(*plan.group_reads[key.number : key.number + 2])
        chunks, rows, copies = [], [], []
        for piece, copy, wanted in zip(plan.piece[reads], plan.copy[reads], plan.wanted[reads], strict=True):
            chosen = np.arange(wanted)
            if wanted < pieces.windows[piece]:
                stream = f"lane {key.lane}, piece {piece}, copy {copy}"
                chosen = self._shuffled(int(pieces.windows[piece]), stream, key.epoch)[:wanted]
            chunks.append(np.full(wanted, pieces.chunk[piece]))
            rows.append(pieces.first[piece] + chosen)
            copies.append(np.full(wanted, copy))
        order = self._shuffled(sum(map(len, chunks)), f"lane {key.lane}, group {key.number}, rows", key.epoch)
        return ChunkSamples(
            np.concatenate(chunks)[order], np.concatenate(rows)[order], np.concatenate(copies)[order]
        )

    def _make_plan(self, lane: int, epoch: int) -> _Plan:
        pieces = self.pieces[lane]
        piece, copy, wanted = [], [], []
        for dataset, quota in enumerate(self._quotas(pieces)):
            own = np.flatnonzero(pieces.dataset == dataset)
            if quota == 0:
                continue
            order = own[self._shuffled(len(own), f"lane {lane}, data set {dataset}", epoch)]
            times = -(-quota // int(pieces.windows[own].sum()))
            piece.append(np.tile(order, times))
            copy.append(np.repeat(np.arange(times), len(own)))
            wanted.append(_cut(pieces.windows[piece[-1]], quota))
        order = self._shuffled(sum(map(len, piece)), f"lane {lane}, order of reading", epoch)
        length = self.steps_per_epoch * self.lane_batch
        taken = _cut(np.concatenate(wanted)[order], length)
        is_read = taken > 0
        places = np.cumsum(taken[is_read]) - taken[is_read]
        begins = np.flatnonzero(np.diff(places // self._shuffle_windows, prepend=-1))
        return _Plan(
            piece=np.concatenate(piece)[order][is_read],
            copy=np.concatenate(copy)[order][is_read],
            wanted=taken[is_read],
            group_reads=[*begins.tolist(), len(places)],
            group_places=[*places[begins].tolist(), length],
        )

    def _quotas(self, pieces: Pieces) -> list[int]:
        """Windows of each data set in a lane's epoch, which has as many as the lane.

        As `mpm_model.learning.order.quotas` over all lanes together; a set that is not here gets nothing.
        """
        held = np.bincount(pieces.dataset, weights=pieces.windows, minlength=len(self._weights))
        weights = np.cumsum(held * self._weights)
        ends = np.round(weights / weights[-1] * held.sum()).astype(np.int64)
        quotas: list[int] = np.diff(ends, prepend=0).tolist()
        return quotas

    def _shuffled(self, count: int, stream: str, epoch: int) -> Int[np.ndarray, "count"]:
        return sample_order(seed=self._seed, epoch=epoch, samples=count, stream=stream)


def lane_faults(
    windows: int, *, lanes: int, batch_windows: int, shuffle_windows: int, workers: int = 1
) -> list[str]:
    """What is wrong with the settings of an order of so many windows, and with so many workers for it."""
    faults = [
        f"{name} must be at least 1, got {value}"
        for name, value in (("lanes", lanes), ("shuffle_windows", shuffle_windows))
        if value < 1
    ]
    if lanes >= 1 and (batch_windows < 1 or batch_windows % lanes):
        faults.append(f"batch_windows {batch_windows} is no multiple of lanes ({lanes})")
    if batch_windows > windows:
        faults.append(f"batch_windows is {batch_windows} but there are {windows} windows")
    if workers > lanes:
        faults.append(f"lanes {lanes} are fewer than workers ({workers}), who serve at least one each")
    return faults


def deal(
    windows: Int[np.ndarray, "K"], dataset: Int[np.ndarray, "K"], *, lanes: int, seed: int
) -> list[Pieces]:
    """Chunks dealt to lanes: each has its share of every data set, give or take one window, and of all.

    Each data set's chunks are laid end to end in an order drawn from the seed and cut into equal stretches. A
    chunk where a cut falls is shared by two lanes.
    """
    dealt: list[list[np.ndarray]] = [[] for _ in range(lanes)]
    passed = 0
    for number in np.unique(dataset):
        own = np.flatnonzero(dataset == number)
        own = own[sample_order(seed=seed, epoch=0, samples=len(own), stream=f"deal of data set {number}")]
        chunk_ends = np.cumsum(windows[own])
        total = int(windows[own].sum())
        # As if single windows were dealt in turn, so that sums over data sets are even too.
        shares = _dealt_in_turn(passed + total, lanes) - _dealt_in_turn(passed, lanes)
        passed += total
        lane_ends = np.cumsum(shares)
        ends = np.union1d(chunk_ends, lane_ends[lane_ends > 0])
        starts = np.append(0, ends[:-1])[: len(ends)]
        chunk = np.searchsorted(chunk_ends, starts, side="right")
        lane = np.searchsorted(lane_ends, starts, side="right")
        first = starts - (chunk_ends[chunk] - windows[own][chunk])
        for place in range(lanes):
            is_mine = lane == place
            rows = [own[chunk], first, ends - starts, np.full(len(starts), number)]
            dealt[place].append(np.stack([row[is_mine] for row in rows]))
    return [Pieces(*np.concatenate(parts, axis=1)) for parts in dealt]


def _dealt_in_turn(count: int, lanes: int) -> Int[np.ndarray, "L"]:
    """How many of the first `count` cards each player has."""
    return np.asarray((count - np.arange(lanes) + lanes - 1) // lanes)


def _cut(counts: Int[np.ndarray, "R"], total: int) -> Int[np.ndarray, "R"]:
    """The same counts, less what goes over the total."""
    return np.diff(np.minimum(np.cumsum(counts), total), prepend=0)
