"""What an output folder says about itself: `_job.json`, written first, and `_manifest.json`, written last.

The job says what is being made from what, so the folder is ours and a run can be continued; the manifest says
what came of every input and names the parts that count. A folder without a manifest is unfinished.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from mpm_model.errors import InputError, refuse
from pipelines import storage

JOB = "_job.json"
MANIFEST = "_manifest.json"

Kind = Literal["windows", "poses"]
_VERB = {"windows": "prepare", "poses": "lift"}


class Record(BaseModel):
    """Frozen, and refuses fields it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Input(Record):
    """One input as it was when the job was planned."""

    url: str
    size_bytes: int
    stamp: str
    """Changes when the input does: modification time or ETag."""
    piece: int = 0
    """Which piece of it is meant, of `pieces`: a large input is shared by several parts."""
    pieces: int = 1


class Job(Record):
    """What is made from what."""

    kind: Kind
    config: dict[str, JsonValue]
    """All that decides what the output holds, beside the inputs."""
    inputs: tuple[Input, ...]
    """Sorted by URL."""
    made_by: str
    """Command, version and commit that began the job."""

    @property
    def plan(self) -> str:
        """Hash of the kind, the configuration and the inputs."""
        content = self.model_dump_json(include={"kind", "config", "inputs"})
        return hashlib.sha256(content.encode()).hexdigest()[:16]


class TrackLine(Record):
    """One person of one video as lifted: how much, and how good it looks. None: not measured."""

    source: str
    person: str
    rows: int
    seconds: float
    image_error: float | None = None
    """How far the 3D, laid over the image, misses the keypoints, in sizes of the person."""
    limb_variation: float | None = None
    """Median over the limbs of the standard deviation of the length over its mean."""
    inpainted_share: float | None = None
    """Share of the joints that nobody saw."""
    error_50_mm: float | None = None
    """Mean of the expected errors."""


class Receipt(Record):
    """What came of one input, or of one piece of it."""

    url: str
    size_bytes: int
    status: Literal["done", "bad"]
    reason: str | None = None
    """Why it is bad."""
    rows: int = 0
    frames: int = 0
    seconds: float = 0.0
    dropped: dict[str, int] = {}
    """Rows or frames left out, by reason."""
    dataset: str | None = None
    people: tuple[str, ...] = ()
    """People in it, unique over the whole job."""
    recording: str | None = None
    """Name of the recording, unique within its data set."""
    split: str | None = None
    notes: tuple[str, ...] = ()
    """What the reader had to assume."""
    piece: int = 0
    """Which piece of the input, as planned."""
    tracks: tuple[TrackLine, ...] = ()
    """The people lifted, one by one."""


class Part(Record):
    """One Parquet file of the output."""

    name: str
    rows: int
    size_bytes: int
    sha256: str


class SplitTotals(Record):
    """Sums over the inputs of one split."""

    sources: int
    rows: int
    people: int
    seconds: float


class Totals(Record):
    """Sums over all inputs."""

    sources: int
    bad: int
    rows: int
    people: int
    frames: int
    seconds: float
    dropped: dict[str, int]
    splits: dict[str, SplitTotals]


class Manifest(Record):
    """What came of a finished job."""

    kind: Kind
    plan: str
    config: dict[str, JsonValue]
    made_by: str
    totals: Totals
    parts: tuple[Part, ...]
    sources: tuple[Receipt, ...]

    @property
    def bad(self) -> tuple[Receipt, ...]:
        """Receipts of the inputs that could not be read."""
        return tuple(receipt for receipt in self.sources if receipt.status == "bad")


def sum_receipts(receipts: Sequence[Receipt]) -> Totals:
    """Totals over all inputs, and of each split."""
    dropped: Counter[str] = Counter()
    for receipt in receipts:
        dropped.update(receipt.dropped)
    of_split: dict[str, list[Receipt]] = {}
    for receipt in receipts:
        if receipt.split is not None:
            of_split.setdefault(receipt.split, []).append(receipt)
    return Totals(
        sources=len(receipts),
        bad=sum(receipt.status == "bad" for receipt in receipts),
        rows=sum(receipt.rows for receipt in receipts),
        people=_count_people(receipts),
        frames=sum(receipt.frames for receipt in receipts),
        seconds=sum(receipt.seconds for receipt in receipts),
        dropped=dict(sorted(dropped.items())),
        splits={
            split: SplitTotals(
                sources=len(members),
                rows=sum(receipt.rows for receipt in members),
                people=_count_people(members),
                seconds=sum(receipt.seconds for receipt in members),
            )
            for split, members in sorted(of_split.items())
        },
    )


def _count_people(receipts: Iterable[Receipt]) -> int:
    return len({person for receipt in receipts for person in receipt.people})


def claim_output(url: str, job: Job) -> Literal["new", "continue", "done"]:
    """Make a folder this job's own, or find out how far the job got in it before.

    InputError if the folder holds something else, or a job of another configuration or of other inputs.
    """
    job_url = storage.join(url, JOB)
    if not storage.exists(job_url):
        _refuse_foreign(url)
        if storage.write_new(job_url, job.model_dump_json(indent=1).encode()):
            return "new"
    before = _read_record(job_url, Job)
    if before.plan != job.plan:
        faults = _differences(before, job)
        raise InputError(f"{url} holds the output of another job: {'; '.join(faults)}. Give another --out")
    return "done" if storage.exists(storage.join(url, MANIFEST)) else "continue"


def _refuse_foreign(url: str) -> None:
    found = storage.list_names(url) if storage.exists(url) else []
    if found:
        names = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
        raise InputError(
            f"{url}: wanted an empty or new folder, it holds something else ({names}); give another --out"
        )


def _differences(before: Job, now: Job) -> list[str]:
    if before.kind != now.kind:
        return [f"it holds {before.kind}, now {now.kind} are asked for"]
    keys = sorted(before.config.keys() | now.config.keys())
    faults = [
        f"{key} was {before.config.get(key)!r}, now {now.config.get(key)!r}"
        for key in keys
        if before.config.get(key) != now.config.get(key)
    ]
    old, new = ({item.url: item for item in job.inputs} for job in (before, now))
    faults += _named("no longer given", old.keys() - new.keys())
    faults += _named("not given then", new.keys() - old.keys())
    faults += _named("changed since", {url for url in old.keys() & new.keys() if old[url] != new[url]})
    return faults


def _named(what: str, urls: set[str]) -> list[str]:
    if not urls:
        return []
    names = ", ".join(sorted(urls)[:3]) + (", ..." if len(urls) > 3 else "")
    return [f"{len(urls)} {'input' if len(urls) == 1 else 'inputs'} {what} ({names})"]


def read_manifest(url: str, kind: Kind) -> Manifest:
    """The manifest of a finished folder.

    InputError if the folder is unfinished, holds another kind, or is not ours.
    """
    manifest_url = storage.join(url, MANIFEST)
    if not storage.exists(manifest_url):
        refuse(url, [_why_no_manifest(url, kind)])
    manifest = _read_record(manifest_url, Manifest)
    if manifest.kind != kind:
        raise InputError(f"{url}: wanted {kind}, as {_VERB[kind]} writes them, got {manifest.kind}")
    return manifest


def _why_no_manifest(url: str, kind: Kind) -> str:
    job_url = storage.join(url, JOB)
    if storage.exists(job_url):
        return f"{_VERB[_read_record(job_url, Job).kind]} did not finish; run it again"
    if storage.exists(url):
        return f"wanted a .parquet file or a folder that {_VERB[kind]} wrote, found no {MANIFEST} in it"
    return f"no such file or folder; wanted {kind} that {_VERB[kind]} wrote"


def read_job(url: str) -> Job:
    """What a folder is being made into; InputError if its job file is none."""
    return _read_record(storage.join(url, JOB), Job)


def part_urls(url: str, kind: Kind) -> list[str]:
    """The Parquet files to read: those the manifest of a folder names, or the one file that `url` is."""
    if url.endswith(".parquet"):
        return [url]
    return [storage.join(url, part.name) for part in read_manifest(url, kind).parts]


RecordT = TypeVar("RecordT", bound=Record)


def _read_record(url: str, kind: type[RecordT]) -> RecordT:
    try:
        return kind.model_validate_json(storage.read_bytes(url))
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'file'}: {fault['msg']}" for fault in error.errors()[:3]
        ]
        raise InputError(f"{url}: not a {kind.__name__.lower()} file of ours: {'; '.join(faults)}") from error
