"""`_sources.parquet` beside lifted poses: what came of every input, and in which part each person lies.

A row is one person of one video in one part, or an input that could not be read. It stands in place of the
list of receipts that a manifest holds, which for millions of videos would be too large to load.
"""

import io
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mpm_model.errors import InputError
from pipelines import storage
from pipelines.lift_summary import TrackSummary
from pipelines.manifest import Input, Receipt, Totals
from pipelines.parts import Commit
from pipelines.schema import USE_THREADS

INDEX = "_sources.parquet"

_SCHEMA = pa.schema(
    [
        pa.field("input", pa.string(), nullable=False),  # URL of the file or folder that was read
        pa.field("status", pa.string(), nullable=False),  # done or bad
        pa.field("reason", pa.string()),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("part", pa.string(), nullable=False),
        pa.field("piece", pa.int32(), nullable=False),
        pa.field("notes", pa.list_(pa.string()), nullable=False),
        pa.field("source", pa.string()),  # as in the poses table; null for what is bad
        pa.field("person", pa.string()),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("image_error", pa.float64()),
        pa.field("limb_variation", pa.float64()),
        pa.field("inpainted_share", pa.float64()),
        pa.field("error_50_mm", pa.float64()),
    ]
)
_QUALITY = ("image_error", "limb_variation", "inpainted_share", "error_50_mm")


def index_commits(commits: Iterable[Commit]) -> pa.Table:
    """The rows of some parts, in the order of the parts; taken up as they come, packed as they are."""
    batches, rows = [], []
    for commit in commits:
        rows += [row for receipt in commit.receipts for row in _rows_of(commit.part.name, receipt)]
        if len(rows) > 1000:
            batches.append(pa.RecordBatch.from_pylist(rows, schema=_SCHEMA))
            rows = []
    batches.append(pa.RecordBatch.from_pylist(rows, schema=_SCHEMA))
    return pa.Table.from_batches(batches, schema=_SCHEMA)


def _rows_of(part: str, receipt: Receipt) -> list[dict[str, object]]:
    common = {
        "input": receipt.url,
        "status": receipt.status,
        "reason": receipt.reason,
        "size_bytes": receipt.size_bytes,
        "part": part,
        "piece": receipt.piece,
    }
    people = [common | track.model_dump() | {"notes": []} for track in receipt.tracks]
    if not people:
        people = [common | {"rows": 0, "seconds": 0.0, "notes": []}]
    if receipt.piece == 0:  # its other pieces say the same
        people[0]["notes"] = list(receipt.notes)
    return people


def read_index(out: str) -> pa.Table:
    """The index of a folder of lifted poses; without rows if there is none."""
    url = storage.join(out, INDEX)
    if not storage.exists(url):
        return _SCHEMA.empty_table()
    try:
        return pq.ParquetFile(io.BytesIO(storage.read_bytes(url))).read(use_threads=USE_THREADS)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{url}: this index is damaged ({error}); run the same mpm lift again") from error


def write_index(out: str, index: pa.Table) -> None:
    """Put the index in its place."""
    buffer = io.BytesIO()
    pq.write_table(index, buffer, compression="zstd")
    storage.write_once(storage.join(out, INDEX), buffer.getvalue())


def sum_index(index: pa.Table) -> Totals:
    """Totals over all inputs."""
    is_bad = pc.equal(index["status"], "bad")
    people = pc.binary_join_element_wise(index["source"], index["person"], "\n")
    rows = pc.sum(index["rows"]).as_py() or 0
    return Totals(
        sources=pc.count_distinct(index["input"]).as_py(),
        bad=pc.count_distinct(index["input"].filter(is_bad)).as_py(),
        rows=rows,
        people=pc.count_distinct(people, mode="only_valid").as_py(),
        frames=rows,
        seconds=pc.sum(index["seconds"]).as_py() or 0.0,
        dropped={},
        splits={},
    )


def receipts(index: pa.Table) -> Iterator[Receipt]:
    """What came of every input, without its people, one at a time; pieces of one input come apart."""
    columns = ["input", "status", "reason", "size_bytes", "notes", "rows"]
    for batch in index.select(columns).to_batches(max_chunksize=1024):
        for row in batch.to_pylist():
            url, notes = row.pop("input"), tuple(row.pop("notes"))
            yield Receipt(url=url, notes=notes, **row)


def bad_inputs(index: pa.Table) -> list[tuple[str, str]]:
    """Inputs that could not be read, and why; each once."""
    bad = index.filter(pc.equal(index["status"], "bad"))
    return list(dict(zip(bad["input"].to_pylist(), bad["reason"].to_pylist(), strict=True)).items())


def qualities(index: pa.Table) -> list[TrackSummary]:
    """The people lifted, in figures; those of one track in several parts come apart."""
    nan = float("nan")
    of_people = index.filter(pc.is_valid(index["person"])).select(["source", "person", "rows", *_QUALITY])
    return [
        TrackSummary(
            source=row["source"],
            person=row["person"],
            frames=row["rows"],
            image_error=nan if row["image_error"] is None else row["image_error"],
            limb_variation=nan if row["limb_variation"] is None else row["limb_variation"],
            inpainted_share=nan if row["inpainted_share"] is None else row["inpainted_share"],
            error_50_mm=row["error_50_mm"],
        )
        for batch in of_people.to_batches(max_chunksize=1024)
        for row in batch.to_pylist()
    ]


def parts_of(index: pa.Table, *, source: str | None, person: str | None) -> list[str]:
    """Names of the parts in which a video, or a person, lies; pieces of a file in their order."""
    chosen = index
    for column, value in (("source", source), ("person", person)):
        if value is not None:
            chosen = chosen.filter(pc.equal(chosen[column], value))
    return list(dict.fromkeys(chosen.sort_by("piece")["part"].to_pylist()))


def input_of(item: Input) -> Input:
    """The input that a piece is one of."""
    return item.model_copy(update={"piece": 0, "pieces": 1})
