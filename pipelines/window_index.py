"""Where the windows of finished tables lie, and how they are read from there a row group at a time.

The index is made once, from footers and small columns; no joint is read for it. It is small, 40 bytes for a
chunk of some hundred windows, and travels to the workers, which read what is theirs by a `ChunkReader`.
"""

import hashlib
import random
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Int, Shaped, UInt64

from mpm_model.errors import InputError, refuse
from mpm_model.pose.skeleton import Skeleton
from mpm_model.pose.skeletons import SKELETONS
from pipelines import storage
from pipelines.manifest import part_urls
from pipelines.schema import WINDOWS, from_parquet, text_column
from pipelines.windows_table import (
    WindowKind,
    joint_columns,
    kind_of,
    refuse_empty,
    refuse_mixture,
    refuse_repeated,
)

PAUSES_S = (1.0, 5.0)
"""Pauses, less up to half of each, between tries of a read that is not from a disk: for what came damaged,
and for what failed although Arrow's client tried for half a minute."""
PARTS_AT_ONCE = 16
"""Parts whose footers are fetched together: most of the time goes by in waiting."""
FOOTERS_KEPT = 512
"""Footers that a reader remembers, each some 20 kB for a part of 256 MB. Chunks come in no order, so the
first are as good as the last."""

FAULTS_SHOWN = 5
"""Files that an error message names."""

_FOR_INDEX = ("id", "dataset", "split", "rate_hz")
_FOR_TRAINING = ("id", "dataset", "split", "joints_world_m", "is_valid")

ResultT = TypeVar("ResultT")
Opener = Callable[[str], pa.NativeFile]


class PartFile(NamedTuple):
    """A Parquet file as it was when the index was made."""

    url: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ChunkIndex:
    """All windows of some splits. A chunk is those of one data set in one row group."""

    splits: tuple[str, ...]
    """Splits of the windows."""
    parts: tuple[PartFile, ...]
    """Where they lie."""
    kind: WindowKind
    """Length, skeleton and rate of all of them."""
    dataset_names: tuple[str, ...]
    """Data sets, sorted."""
    part: Int[np.ndarray, "K"]
    """Which of `parts` each chunk is in."""
    row_group: Int[np.ndarray, "K"]
    """Which row group of the part."""
    dataset: Int[np.ndarray, "K"]
    """Which of `dataset_names`."""
    windows: Int[np.ndarray, "K"]
    """Windows of each chunk, at least one."""
    id_sums: UInt64[np.ndarray, "K"]
    """Sum of their ids, modulo 2^64: by it a reader knows that it has read what was meant."""

    def __len__(self) -> int:
        return int(self.windows.sum())

    @property
    def skeleton(self) -> Skeleton:
        """Skeleton of the windows as they are read."""
        return SKELETONS[self.kind.skeleton]

    @property
    def window_bytes(self) -> int:
        """Bytes of one window in memory: float32 positions and one truth value for each joint."""
        return self.kind.frames * len(self.skeleton) * (3 * 4 + 1)

    @property
    def fingerprint(self) -> str:
        """Hash of which windows there are and in which chunks: what the order of a run depends on."""
        content = hashlib.sha256(repr((self.splits, self.kind, self.dataset_names)).encode())
        for column in (self.part, self.row_group, self.dataset, self.windows, self.id_sums):
            content.update(np.ascontiguousarray(column).tobytes())
        return content.hexdigest()[:16]


class ChunkWindows(NamedTuple):
    """The windows of a chunk, in the order of the file; arrays may be read-only."""

    ids: Int[np.ndarray, "N"]
    joints_world_m: Float[np.ndarray, "N T J 3"]
    is_valid: Bool[np.ndarray, "N T J"]


def index_chunks(urls: Sequence[str], *, splits: Collection[str] = ("train",)) -> ChunkIndex:
    """Index the windows of folders that `prepare` finished, or of single Parquet files.

    Raises:
        InputError: what `read_all_windows` refuses: a folder that is unfinished or not ours, files that
            are no windows tables or have no row, lengths or rates that differ, a window that is there
            twice. The first few files at fault are named.
        StorageError: the storage fails again and again.
    """
    sources = [(part, url) for url in urls for part in part_urls(url, "windows")]
    open_file = _opener()
    with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
        reads = [pool.submit(_inspect_part, part, splits, open_file) for part, _ in sources]
        errors = [error for read in reads if (error := read.exception()) is not None]
        for error in errors:
            if not isinstance(error, InputError) or isinstance(error, storage.StorageError):
                raise error
    refuse(f"{len(errors)} of {len(sources)} files", [*map(str, errors[:FAULTS_SHOWN])])
    found = [read.result() for read in reads]
    kinds = [(facts.kind, url) for facts, (_, url) in zip(found, sources, strict=True) if facts.kind]
    for url in urls:
        if url not in {other for _, other in kinds}:
            refuse_empty(url)
    refuse_mixture([kind for kind, _ in kinds], names=[url for _, url in kinds])
    refuse_repeated(np.concatenate([facts.ids for facts in found]), urls)

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(facts, name) for facts in found])

    names, dataset = np.unique(column("dataset"), return_inverse=True)
    return ChunkIndex(
        splits=tuple(sorted(splits)),
        parts=tuple(facts.part for facts in found),
        kind=kinds[0][0],
        dataset_names=tuple(names.tolist()),
        part=np.repeat(np.arange(len(found)), [len(facts.windows) for facts in found]),
        row_group=column("row_group"),
        dataset=dataset.astype(np.int64),
        windows=column("windows"),
        id_sums=column("id_sums"),
    )


class _PartFacts(NamedTuple):
    """What the index says of one part, a row for each chunk, and the ids of its windows."""

    part: PartFile
    kind: WindowKind | None
    dataset: Shaped[np.ndarray, "K"]
    row_group: Int[np.ndarray, "K"]
    windows: Int[np.ndarray, "K"]
    id_sums: UInt64[np.ndarray, "K"]
    ids: Int[np.ndarray, "N"]


def _inspect_part(url: str, splits: Collection[str], open_file: Opener) -> _PartFacts:
    def read() -> tuple[int, pq.FileMetaData, pa.Schema, pa.Table]:
        with open_file(url) as file:
            parquet = pq.ParquetFile(file, pre_buffer=True)
            schema = parquet.schema_arrow
            has_all = set(_FOR_INDEX) <= set(schema.names)  # if not, the schema is refused below
            small = parquet.read(columns=_FOR_INDEX if has_all else [], use_threads=False)
            return file.size(), parquet.metadata, schema, small

    size_bytes, footer, schema, table = patiently(url, read)
    whole = _judged(schema, url=url)
    kind = kind_of(whole, table["rate_hz"].to_numpy(), url=url)
    rows = [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
    is_wanted = np.isin(text_column(table, "split"), list(splits))
    ids = table["id"].to_numpy()[is_wanted]
    names, dataset = np.unique(text_column(table, "dataset")[is_wanted], return_inverse=True)
    row_group = np.repeat(np.arange(len(rows)), rows)[is_wanted]
    keys, chunk = np.unique(row_group * max(len(names), 1) + dataset, return_inverse=True)
    id_sums = np.zeros(len(keys), np.uint64)
    np.add.at(id_sums, chunk, ids.astype(np.uint64))
    return _PartFacts(
        part=PartFile(url, size_bytes),
        kind=kind,
        dataset=names[keys % max(len(names), 1)],
        row_group=keys // max(len(names), 1),
        windows=np.bincount(chunk, minlength=len(keys)),
        id_sums=id_sums,
        ids=ids,
    )


def _judged(schema: pa.Schema, *, url: str) -> pa.Table:
    """A table of the schema without rows, after `from_parquet` found the schema to be the wanted one."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    return from_parquet(sink.getvalue().to_pybytes(), url=url, schema=WINDOWS, skeleton=None)


class ChunkReader:
    """Reads chunks of an index. Threads may share it."""

    def __init__(self, index: ChunkIndex) -> None:
        self._index = index
        self._given_up = threading.Event()
        self._open_file = _opener()
        self._footers: dict[int, pq.FileMetaData] = {}

    def read(self, chunk: int) -> ChunkWindows:
        """The windows of a chunk.

        What a bucket refuses, or gives cut off or damaged, is asked for again. A disk is asked once.

        Raises:
            InputError: the file is gone, damaged, or another than when the index was made.
            StorageError: the storage failed again and again.
        """
        url = self._index.parts[self._index.part[chunk]].url
        return patiently(url, lambda: self._read_once(chunk), given_up=self._given_up)

    def close(self) -> None:
        """No more tries: reads that fail from now on, or wait for another try, fail at once."""
        self._given_up.set()

    def _read_once(self, chunk: int) -> ChunkWindows:
        index, part = self._index, int(self._index.part[chunk])
        with self._open(part) as file:
            parquet = pq.ParquetFile(file, metadata=self._footers.get(part), pre_buffer=True)
            if len(self._footers) < FOOTERS_KEPT:
                self._footers[part] = parquet.metadata
            table = parquet.read_row_group(
                int(index.row_group[chunk]), columns=_FOR_TRAINING, use_threads=False
            )
        is_wanted = np.isin(text_column(table, "split"), index.splits)
        is_wanted &= text_column(table, "dataset") == index.dataset_names[index.dataset[chunk]]
        ids = table["id"].to_numpy()
        joints_world_m, is_valid = joint_columns(table)
        if not is_wanted.all():
            ids, joints_world_m, is_valid = ids[is_wanted], joints_world_m[is_wanted], is_valid[is_wanted]
        if len(ids) != index.windows[chunk] or ids.astype(np.uint64).sum() != index.id_sums[chunk]:
            raise _Damaged(f"{index.parts[part].url}: holds other windows than when indexed; {_STAY}")
        return ChunkWindows(ids, joints_world_m, is_valid)

    @contextmanager
    def _open(self, part: int) -> Iterator[pa.NativeFile]:
        url, size_bytes = self._index.parts[part]
        with self._open_file(url) as file:
            if file.size() != size_bytes:
                raise InputError(f"{url}: had {size_bytes} bytes when indexed, now {file.size()}; {_STAY}")
            yield file


_STAY = "files must stay as they are while a run reads them: run again"


class _Damaged(InputError):
    """The content that came is not what was written; it may have been damaged on its way."""


def _opener() -> Opener:
    """Opens files for reading, by one client for each bucket however many files there are."""
    filesystem_of = lru_cache(lambda root: storage.arrow_filesystem(root)[0])

    def open_file(url: str) -> pa.NativeFile:
        root = "/".join(url.split("/")[:3]) if "://" in url else "."
        return filesystem_of(root).open_input_file(storage.open_filesystem(url)[1])

    return open_file


def patiently(url: str, read: Callable[[], ResultT], *, given_up: threading.Event | None = None) -> ResultT:
    """What `read` gives; if a bucket fails or sends damaged content, after a pause it is called again."""
    given_up = given_up or threading.Event()
    for pause_s in (*(PAUSES_S if "://" in url else ()), None):
        try:
            return _read_once(url, read)
        except (storage.StorageError, _Damaged):
            if pause_s is None or given_up.wait(random.uniform(pause_s / 2, pause_s)):
                raise
    raise AssertionError("the last try returns or raises")


def _read_once(url: str, read: Callable[[], ResultT]) -> ResultT:
    try:
        with storage.storage_errors(url):
            return read()
    except (pa.ArrowException, OSError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise _Damaged(f"{url}: this Parquet file is damaged ({first_line}); get or make it again") from error
