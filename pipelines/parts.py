"""Many inputs to the Parquet parts of one folder, here or on Ray; any process may die and the run go on.

The inputs are grouped into shards by content alone, so the parts are the same for any number of workers. A
part holds its rows and, in its metadata, what came of every input: one atomic put commits both. A run that is
started again skips the parts that are there. The manifest, written last, makes them count.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pydantic import Field, TypeAdapter

from mpm_model.errors import InputError
from pipelines import storage
from pipelines.manifest import (
    JOB,
    MANIFEST,
    Input,
    Job,
    Manifest,
    Part,
    Receipt,
    Record,
    claim_output,
    read_manifest,
    sum_receipts,
)
from pipelines.schema import read_metadata, to_parquet

SHARD_BYTES = 32 * 2**20
"""A shard takes inputs until it holds this much."""
SHARD_INPUTS = 512
"""Nor does it take more inputs than this."""
IN_PROCESS_BYTES = 32 * 2**20
"""What is left to do is done in this process up to this size: starting Ray would take longer."""

KILLS = "reading it kills the process: it is too large for the memory, or the reader has a fault"
"""Why an input is bad that cannot even be refused."""

RECEIPTS_KEY = "mpm.receipts"
_RECEIPTS = TypeAdapter(tuple[Receipt, ...])

Progress = Callable[[int, int], None]
"""Called with the number of inputs dealt with and of all inputs."""


def unseen(done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, kw_only=True)
class PartResult:
    """What one shard gives."""

    table: pa.Table
    """Its rows; without any if all of its inputs are bad."""
    receipts: tuple[Receipt, ...]
    """What came of each input, in the order of the inputs."""


Work = Callable[[Sequence[Input]], PartResult]
"""Turns the inputs of a shard into rows; the same inputs, or none, give the same result.

A top-level function (or `partial` of one), so that it travels to workers. A bad input is
a receipt, not an exception.
"""


class Shard(Record):
    """Inputs that become one part."""

    part_name: str
    inputs: tuple[Input, ...]


class Commit(Record):
    """A part that was written, with its receipts."""

    part: Part
    receipts: tuple[Receipt, ...]
    seconds: dict[str, float] = Field(default={})
    """What its making took, by kind of work; empty for a part that was there."""


def plan_shards(job: Job) -> tuple[Shard, ...]:
    """Group the inputs, in order of their URLs, into shards named by their content and configuration."""
    groups: list[list[Input]] = []
    group_bytes = 0
    for item in sorted(job.inputs, key=lambda item: item.url):
        if not groups or group_bytes + item.size_bytes > SHARD_BYTES or len(groups[-1]) == SHARD_INPUTS:
            groups.append([])
            group_bytes = 0
        groups[-1].append(item)
        group_bytes += item.size_bytes
    return tuple(name_shard(job, group) for group in groups)


def name_shard(job: Job, inputs: Sequence[Input]) -> Shard:
    """The shard of these inputs, its part named by their content and the job's configuration."""
    content = job.model_copy(update={"inputs": tuple(inputs)}).plan
    return Shard(part_name=f"part-{content}.parquet", inputs=tuple(inputs))


@dataclass(frozen=True)
class Outcome:
    """What a job gave, now or before."""

    out: str
    """The folder."""
    manifest: Manifest
    """What is in it."""
    is_new: bool
    """False if the folder was finished already and nothing was done."""
    has_too_many_bad: bool
    """Whether more inputs were bad than allowed."""


def run_job(
    out: str,
    job: Job,
    work: Work,
    *,
    max_bad_fraction: float,
    progress: Progress,
    faults_of: Callable[[Sequence[Receipt]], Sequence[str]] = lambda _: (),
) -> Outcome:
    """Claim the folder, make the missing parts, commit the manifest; a finished job is left as it is.

    InputError, after what was written is removed, if the only input is bad or `faults_of` the receipts says
    what else is wrong with all of them together.
    """
    is_new = claim_output(out, job) != "done"
    if is_new:
        try:
            commits = make_parts(out, job, work, progress=progress)
        finally:
            # Nothing was done yet that a second run could go on from: leave nothing.
            if not storage.list_files(out, (".parquet",)):
                abandon(out, job)
        receipts = [receipt for commit in commits for receipt in commit.receipts]
        only_reason = receipts[0].reason if len(receipts) == 1 else None
        faults = [only_reason] if only_reason is not None else faults_of(receipts)
        if faults:
            abandon(out, job)
            raise InputError("; ".join(faults))
        manifest = finish(out, job, commits)
    else:
        manifest = read_manifest(out, job.kind)
    bad_fraction = manifest.totals.bad / manifest.totals.sources
    return Outcome(out, manifest, is_new, bad_fraction > max_bad_fraction or bad_fraction == 1)


def make_parts(out: str, job: Job, work: Work, *, progress: Progress) -> list[Commit]:
    """Make all parts of a job that are not in its folder yet; give all of them, in the order of the plan.

    Small work is done in this process; larger work on Ray, where an input that kills its process becomes a
    bad input. What `work` raises comes through.
    """
    shards = plan_shards(job)
    total = sum(len(shard.inputs) for shard in shards)
    existing = {url.rsplit("/", 1)[-1] for url in storage.list_files(out, (".parquet",))}
    missing = [shard for shard in shards if shard.part_name not in existing]
    if (
        len(missing) <= 1
        or sum(item.size_bytes for shard in missing for item in shard.inputs) <= IN_PROCESS_BYTES
    ):
        commits: Iterable[Commit] = (make_part(shard, out=out, work=work) for shard in shards)
    else:
        from pipelines.parts_on_ray import make_parts_on_ray  # Ray is slow to import

        commits = make_parts_on_ray(shards, out=out, work=work)
    commit_of: dict[str, Commit] = {}
    for commit in commits:
        commit_of[commit.part.name] = commit
        progress(sum(len(commit.receipts) for commit in commit_of.values()), total)
    return [commit_of[shard.part_name] for shard in shards]


def make_part(shard: Shard, *, out: str, work: Work) -> Commit:
    """Write the part of a shard with its receipts in one put; if it is there and whole, only read them."""
    return read_part(shard, out=out) or write_part(shard, work(shard.inputs), out=out)


def read_part(shard: Shard, *, out: str) -> Commit | None:
    """What a part that was written before says of itself; None if there is none, or it is damaged."""
    url = storage.join(out, shard.part_name)
    if not storage.exists(url):
        return None
    content = storage.read_bytes(url)
    try:
        receipts = _RECEIPTS.validate_json(read_metadata(content, url=url)[RECEIPTS_KEY])
    except InputError:
        return None
    return _commit(shard, content, receipts)


def write_part(shard: Shard, result: PartResult, *, out: str) -> Commit:
    """Commit a part in one put, if nobody has done so meanwhile; a damaged one is replaced."""
    url = storage.join(out, shard.part_name)
    metadata = result.table.schema.metadata | {RECEIPTS_KEY.encode(): _RECEIPTS.dump_json(result.receipts)}
    content = to_parquet(result.table.replace_schema_metadata(metadata))
    if not storage.write_new(url, content):
        if (by_another := read_part(shard, out=out)) is not None:
            return by_another
        storage.write_once(url, content)
    return _commit(shard, content, result.receipts)


def _commit(shard: Shard, content: bytes, receipts: tuple[Receipt, ...]) -> Commit:
    part = Part(
        name=shard.part_name,
        rows=sum(receipt.rows for receipt in receipts),
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    return Commit(part=part, receipts=receipts)


def finish(out: str, job: Job, commits: Sequence[Commit]) -> Manifest:
    """Write the manifest, which makes the folder finished."""
    receipts = tuple(receipt for commit in commits for receipt in commit.receipts)
    manifest = Manifest(
        kind=job.kind,
        plan=job.plan,
        config=job.config,
        made_by=job.made_by,
        totals=sum_receipts(receipts),
        parts=tuple(commit.part for commit in commits),
        sources=receipts,
    )
    storage.write_once(storage.join(out, MANIFEST), manifest.model_dump_json(indent=1).encode())
    return manifest


def abandon(out: str, job: Job) -> None:
    """Remove what a job has written, and the folder if nothing else is in it."""
    for name in (*(shard.part_name for shard in plan_shards(job)), JOB):
        storage.remove(storage.join(out, name))
    storage.remove_folder_if_empty(out)
