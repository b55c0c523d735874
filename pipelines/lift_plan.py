"""The plan of a lifting job: which inputs make which part, written down before any work.

`OUT/_plan/000000.parquet` holds the shards of the first run, a row an input; every run that finds inputs
which no earlier plan knows adds a file for them. A part's name follows from the configuration and the inputs
of its shard alone, so whoever makes it again writes the same, and an archive that grows changes nothing of
what was planned before. Several runs may plan at once: a file is put only if its name is free.
"""

import io
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mpm_model.errors import InputError
from pipelines import storage
from pipelines.manifest import Input, Job
from pipelines.parts import SHARD_INPUTS, Shard, name_shard
from pipelines.schema import USE_THREADS

PLAN = "_plan"
SHARD_BYTES = 16 * 2**20
"""A shard takes inputs until it holds this much: minutes of one core, tens of megabytes of poses."""

_SCHEMA = pa.schema(
    [
        pa.field("part", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("stamp", pa.string(), nullable=False),
        pa.field("piece", pa.int32(), nullable=False),
        pa.field("pieces", pa.int32(), nullable=False),
    ]
)


class Plan:
    """All shards of a job, in the order planned. Light: a million inputs take some 150 MB."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    @property
    def inputs(self) -> int:
        """Inputs planned, pieces of one counted apart."""
        return int(self._table.num_rows)

    @property
    def part_names(self) -> list[str]:
        """Names of the parts, in order."""
        return list(dict.fromkeys(self._table["part"].to_pylist()))

    def size_bytes(self, part_names: Sequence[str]) -> int:
        """Size of the inputs of some parts."""
        table = self._table.filter(pc.is_in(self._table["part"], pa.array(part_names, pa.string())))
        share = pc.divide(table["size_bytes"], table["pieces"])
        return int(pc.sum(share).as_py() or 0)

    def shards(self, part_names: Sequence[str] | None = None) -> Iterator[Shard]:
        """The shards, or those of some parts, made one at a time."""
        table = self._table
        if part_names is not None:
            table = table.filter(pc.is_in(table["part"], pa.array(part_names, pa.string())))
        group: list[Input] = []
        name = ""
        for batch in table.to_batches(max_chunksize=1024):
            for row in batch.to_pylist():
                part = row.pop("part")
                if group and part != name:
                    yield Shard(part_name=name, inputs=tuple(group))
                    group = []
                name = part
                group.append(Input(**row))
        if group:
            yield Shard(part_name=name, inputs=tuple(group))

    def stamps(self) -> dict[str, tuple[int, str]]:
        """Size and stamp of every input, by URL."""
        columns = (self._table[name].to_pylist() for name in ("url", "size_bytes", "stamp"))
        return {url: (size_bytes, stamp) for url, size_bytes, stamp in zip(*columns, strict=True)}


def read_plan(out: str) -> Plan:
    """What has been planned so far in a folder."""
    tables = [_SCHEMA.empty_table()]
    for url in _plan_files(out):
        file = pq.ParquetFile(io.BytesIO(storage.read_bytes(url)))
        tables.append(file.read(use_threads=USE_THREADS))
    return Plan(pa.concat_tables(tables))


def extend_plan(
    out: str, job: Job, found: Mapping[str, Input], *, shard_bytes: int, may_split: bool = True
) -> Plan:
    """Plan the inputs that are not planned yet; nothing is written if there are none.

    Inputs that are planned but were not found now stay as they are. InputError names inputs that have changed
    since they were planned: their poses would be of what they were.
    """
    while True:
        number = len(_plan_files(out))
        plan = read_plan(out)
        known = plan.stamps()
        changed = sorted(
            url for url, item in found.items() if url in known and known[url] != (item.size_bytes, item.stamp)
        )
        if changed:
            names = ", ".join(changed[:3]) + (", ..." if len(changed) > 3 else "")
            what = "input" if len(changed) == 1 else "inputs"
            raise InputError(
                f"{out} holds poses of inputs as they were: {len(changed)} {what} changed since ({names}). "
                "Give another --out"
            )
        new = [found[url] for url in sorted(found.keys() - known.keys())]
        if not new:
            return plan
        shards = group_inputs(job, new, shard_bytes=shard_bytes, may_split=may_split)
        if storage.write_new(storage.join(out, PLAN, f"{number:06d}.parquet"), _to_parquet(shards)):
            continue  # read back, so that every run works by what is written
        # Another run was faster: what it planned is known by the next look.


def group_inputs(
    job: Job, inputs: Sequence[Input], *, shard_bytes: int, may_split: bool = True
) -> list[Shard]:
    """Inputs, in their order, as shards; an input larger than two shards is shared by several."""
    shards: list[Shard] = []
    group: list[Input] = []

    def close() -> None:
        if group:
            shards.append(name_shard(job, group))
            group.clear()

    for item in inputs:
        if may_split and item.size_bytes > 2 * shard_bytes:
            close()
            pieces = -(-item.size_bytes // shard_bytes)
            for piece in range(pieces):
                shards.append(name_shard(job, [item.model_copy(update={"piece": piece, "pieces": pieces})]))
            continue
        if sum(other.size_bytes for other in group) + item.size_bytes > shard_bytes:
            close()
        group.append(item)
        if len(group) == SHARD_INPUTS:
            close()
    close()
    return shards


def _plan_files(out: str) -> list[str]:
    folder = storage.join(out, PLAN)
    return storage.list_files(folder, (".parquet",)) if storage.exists(folder) else []


def _to_parquet(shards: Sequence[Shard]) -> bytes:
    rows = [
        {"part": shard.part_name, **item.model_dump(include={*_SCHEMA.names})}
        for shard in shards
        for item in shard.inputs
    ]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), buffer, compression="zstd")
    return buffer.getvalue()
