"""The verb `lift`: 2D keypoints of videos become a poses table."""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import JsonValue

from mpm_model.checkpoint import ERROR_BANDS_FILE, TENSORS_FILE
from mpm_model.errors import InputError
from mpm_model.lifter import shipped_weights
from pipelines import storage
from pipelines.detections.registry import SUFFIXES, ReadOptions, Source, find_sources
from pipelines.lift_config import LiftConfig
from pipelines.lift_index import (
    INDEX,
    bad_inputs,
    index_commits,
    read_index,
    receipts,
    sum_index,
    write_index,
)
from pipelines.lift_page import write_page
from pipelines.lift_parts import make_parts, workers_for
from pipelines.lift_plan import PLAN, extend_plan, read_plan
from pipelines.lift_pool import start_workers
from pipelines.lift_report import REPORT_FILE
from pipelines.lift_steps import Steps, load_lifter
from pipelines.manifest import (
    JOB,
    MANIFEST,
    Input,
    Job,
    Manifest,
    Part,
    claim_output,
    read_manifest,
)
from pipelines.parts import Commit, Progress, unseen
from pipelines.reader_process import ReaderProcess
from pipelines.receipts_text import describe_receipts
from pipelines.schema import TableMetadata, made_by


@dataclass(frozen=True)
class LiftSummary:
    """What `lift` made, or had made before."""

    out: str
    manifest: Manifest
    new_inputs: int
    """Inputs that this run dealt with; 0 if all were done already."""
    seconds: Mapping[str, float]
    """Processor time of this run by kind of work: read, lift, write."""
    has_too_many_bad: bool
    """Whether more inputs were bad than allowed."""

    def lines(self) -> list[str]:
        """For the command line."""
        totals = self.manifest.totals
        done = "lifted" if self.new_inputs else "was lifted already, nothing to do"
        lines = [
            f"{self.out}: {done}; {totals.rows:,} poses of {totals.people:,} people in "
            f"{totals.sources - totals.bad:,} of {totals.sources:,} videos"
        ]
        if total_s := sum(self.seconds.values()):
            shares = ", ".join(f"{name} {spent_s / total_s:.0%}" for name, spent_s in self.seconds.items())
            lines.append(f"  {total_s:,.1f} s of work: {shares}")
        return lines + describe_receipts(receipts(read_index(self.out)), named_in=INDEX)


def run(
    inputs: Sequence[str],
    *,
    out: str,
    config: LiftConfig,
    max_bad_fraction: float,
    progress: Progress = unseen,
) -> LiftSummary:
    """Lift every person of every video below the inputs and write the poses to a folder or URL.

    Few inputs are lifted in this process, many by a process a core, on a cluster by Ray Data. What is to be
    done is written down first (see `lift_plan`); a run that was killed goes on where it was, and a run over
    an archive that has grown lifts what is new. Two runs at once share the work badly but do no harm. A video
    that cannot be read is set aside and named in the index.

    Raises:
        InputError: no detections, no lifting checkpoint, an output folder that holds something else, or the
            only video is bad. Nothing is left behind.
    """
    out = storage.absolute(out)
    checkpoint = None if config.checkpoint is None else storage.absolute(config.checkpoint)
    found = find_inputs(inputs, out=out, options=config.read_options())
    with start_workers(workers_for(sum(item.size_bytes for item in found.values()))) as workers:
        return _lift(out, found, config, checkpoint, workers, max_bad_fraction, progress)


def _lift(
    out: str,
    found: Mapping[str, Input],
    config: LiftConfig,
    checkpoint: str | None,
    workers: Sequence[ReaderProcess],
    max_bad_fraction: float,
    progress: Progress,
) -> LiftSummary:
    lifter = load_lifter(checkpoint, config)  # refuse it before anything is written
    job = Job(kind="poses", config=settings(config, checkpoint), inputs=(), made_by=made_by("mpm lift"))
    metadata = TableMetadata(config=json.dumps(job.config), made_by=job.made_by, skeleton=lifter.skeleton)
    steps = Steps(checkpoint=checkpoint, config=config, metadata=metadata)
    is_ours = claim_output(out, job) == "new"
    try:
        manifest, done, seconds = _run_plan(out, job, found, steps, workers, progress)
    except storage.StorageError:  # nor would it say what there is to clear away
        raise
    except BaseException:
        # Nothing was done yet that a second run could go on from: leave nothing.
        if is_ours and not _has_parts(out):
            _abandon(out)
        raise
    bad_fraction = manifest.totals.bad / manifest.totals.sources
    return LiftSummary(out, manifest, done, seconds, bad_fraction > max_bad_fraction or bad_fraction == 1)


def _run_plan(
    out: str,
    job: Job,
    found: Mapping[str, Input],
    steps: Steps,
    workers: Sequence[ReaderProcess],
    progress: Progress,
) -> tuple[Manifest, int, Counter[str]]:
    """Plan, make what is missing, and say what is there; also how many inputs that were, in what time."""
    may_split = not steps.config.placing.needs_whole_track
    shard_bytes = max(1, round(steps.config.shard_mib * 2**20))
    plan = extend_plan(out, job, found, shard_bytes=shard_bytes, may_split=may_split)
    done, seconds = 0, Counter[str]()
    while True:
        before = read_manifest(out, "poses") if storage.exists(storage.join(out, MANIFEST)) else None
        index = _read_index(out) if before else index_commits(())
        known = _still_there(out, before.parts, index) if before else {}
        missing = [name for name in plan.part_names if name not in known]
        if before is not None and not missing:
            return before, done, seconds
        made = make_parts(plan, missing, out=out, steps=steps, workers=workers)
        commits = _Commits(made, progress, plan.inputs)
        # A run that died between index and manifest left rows of parts that are said anew here.
        index = index.filter(pc.is_in(index["part"], pa.array(list(known), pa.string())))
        index = pa.concat_tables([index, index_commits(commits)])
        done += commits.inputs
        seconds.update(commits.seconds)
        if plan.inputs == 1 and (bad := bad_inputs(index)):
            storage.remove(storage.join(out, plan.part_names[0]))
            raise InputError(bad[0][1])
        parts = {**known, **{part.name: part for part in commits.parts}}
        manifest = _finish(out, job, index, tuple(parts[name] for name in plan.part_names))
        # Another run may have planned more meanwhile: whoever is last sees all of it done.
        plan = read_plan(out)
        if len(plan.part_names) == len(manifest.parts):
            return manifest, done, seconds


def _read_index(out: str) -> pa.Table:
    """The index as it is; without rows if it is damaged, as the parts say anew what is in them."""
    try:
        return read_index(out)
    except storage.StorageError:
        raise
    except InputError:
        return index_commits(())


def _still_there(out: str, parts: Sequence[Part], index: pa.Table) -> dict[str, Part]:
    """The parts that lie where they were put, as large as they were, and that the index knows.

    Of two runs that end at once, one may have put the manifest and the other, which knew less, the index.
    """
    found = storage.list_stamps(out, (".parquet",))
    indexed = set(index["part"].unique().to_pylist())
    return {
        part.name: part
        for part in parts
        if part.name in indexed
        if (stamp := found.get(storage.join(out, part.name))) and stamp.size_bytes == part.size_bytes
    }


class _Commits:
    """Commits on their way into the index; what the manifest and the watcher want of them stays here."""

    def __init__(self, commits: Iterable[Commit], progress: Progress, total: int) -> None:
        self._commits, self._progress, self._total = commits, progress, total
        self.parts: list[Part] = []
        self.inputs = 0
        self.seconds: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Commit]:
        for commit in self._commits:
            self.parts.append(commit.part)
            self.inputs += len(commit.receipts)
            self.seconds.update(commit.seconds)
            self._progress(self.inputs, self._total)
            yield commit


def _finish(out: str, job: Job, index: pa.Table, parts: tuple[Part, ...]) -> Manifest:
    """Index, page and manifest of what is done; the manifest last."""
    manifest = Manifest(
        kind=job.kind,
        plan=job.plan,
        config=job.config,
        made_by=job.made_by,
        totals=sum_index(index),
        parts=parts,
        sources=(),
    )
    write_index(out, index)
    write_page(out, manifest, index)
    storage.write_once(storage.join(out, MANIFEST), manifest.model_dump_json(indent=1).encode())
    return manifest


def _has_parts(out: str) -> bool:
    return any(name.startswith("part-") for name in storage.list_names(out)) if storage.exists(out) else False


def _abandon(out: str) -> None:
    """Remove what a job has written, and the folder if nothing else is in it."""
    plans = storage.join(out, PLAN)
    if storage.exists(plans):
        for url in storage.list_files(plans, ("",)):
            storage.remove(url)
        storage.remove_folder_if_empty(plans)
    for name in (INDEX, REPORT_FILE, JOB):
        storage.remove(storage.join(out, name))
    storage.remove_folder_if_empty(out)


def find_inputs(inputs: Sequence[str], *, out: str, options: ReadOptions) -> dict[str, Input]:
    """Every video below the inputs, once, by its URL, from one listing of each."""
    found: dict[str, Input] = {}
    for url in dict.fromkeys(map(storage.absolute, inputs)):
        stamps = storage.list_stamps(url, SUFFIXES)
        for source in find_sources(url, options, files=list(stamps)):
            if not source.name.startswith(f"{out}/"):  # an output inside the input is no input
                found[source.name] = _describe_source(source, stamps)
    return found


def _describe_source(source: Source, stamps: Mapping[str, storage.FileStamp]) -> Input:
    if source.files == (source.name,):
        stamp = stamps[source.name]
        return Input(url=source.name, size_bytes=stamp.size_bytes, stamp=stamp.version)
    digest = hashlib.sha256(json.dumps([[url, *stamps[url]] for url in source.files]).encode())
    return Input(
        url=source.name,
        size_bytes=sum(stamps[url].size_bytes for url in source.files),
        stamp=digest.hexdigest()[:16],
    )


def settings(config: LiftConfig, checkpoint: str | None) -> dict[str, JsonValue]:
    """All that decides what comes out, beside the inputs."""
    folder = checkpoint or str(shipped_weights())
    said = dataclasses.asdict(config)
    said.pop("shard_mib")  # which says in what portions, and may change as an archive grows
    # The content, not its place: the same weights from another machine's disk go on with the job.
    said["checkpoint"] = None if checkpoint is None else "given"
    for name, file in (("weights", TENSORS_FILE), ("error_bands", ERROR_BANDS_FILE)):
        url = storage.join(folder, file)
        is_there = storage.exists(url)
        said[name] = hashlib.sha256(storage.read_bytes(url)).hexdigest()[:16] if is_there else None
    # As JSON has it, in which a job is written down and compared.
    return dict(json.loads(json.dumps(said)))
