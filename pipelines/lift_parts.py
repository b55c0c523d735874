"""Who makes the parts of a lifting job: this process, one process a core, or a cluster."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pipelines.lift_plan import Plan
from pipelines.lift_pool import make_parts_in_pool
from pipelines.lift_shard import ReadInput, or_reason
from pipelines.lift_steps import Steps, device
from pipelines.parts import IN_PROCESS_BYTES, Commit, Shard, read_part
from pipelines.reader_process import ReaderProcess, read_one_by_one


def workers_for(size_bytes: int) -> int:
    """Processes of this machine that a job of this size takes, beside this one."""
    is_large = size_bytes > IN_PROCESS_BYTES
    return len(os.sched_getaffinity(0)) if is_large and not _is_on_a_cluster() else 0


def make_parts(
    plan: Plan, part_names: Sequence[str], *, out: str, steps: Steps, workers: Sequence[ReaderProcess]
) -> Iterator[Commit]:
    """Make parts that are not there; those that are, whole, are only read.

    `workers` are processes already on their way: see `workers_for`.
    """
    shards = plan.shards(part_names)
    if plan.inputs == 1 and len(part_names) == 1:
        yield from (steps.make(shard, out=out) for shard in shards)
    elif plan.size_bytes(part_names) <= IN_PROCESS_BYTES:
        yield from _make_parts_here(shards, out=out, steps=steps)
    elif workers and device() == "cpu":
        yield from make_parts_in_pool(shards, out=out, steps=steps, workers=workers)
    else:
        from pipelines.lift_on_ray import make_parts_on_ray  # Ray is slow to import

        yield from make_parts_on_ray(shards, out=out, steps=steps)


def _is_on_a_cluster() -> bool:
    """Whether Ray was joined, or is to be."""
    is_joined = "ray" in sys.modules and sys.modules["ray"].is_initialized()
    return bool(os.environ.get("RAY_ADDRESS")) or is_joined


def _make_parts_here(shards: Iterator[Shard], *, out: str, steps: Steps) -> Iterator[Commit]:
    """Lift in this process what another one reads: the next shard while this one is lifted."""
    with ReaderProcess() as reader, ThreadPoolExecutor(1) as ahead:
        read = partial(_read, reader=reader, out=out, steps=steps)
        shard = next(shards, None)
        coming = ahead.submit(read, shard) if shard else None
        while shard and coming:
            (found, read_s), following = coming.result(), next(shards, None)
            coming = ahead.submit(read, following) if following else None
            if isinstance(found, Commit):
                yield found
            else:
                yield steps.commit(shard, found, out=out, read_s=read_s)
            shard = following


def make_with_reader(shard: Shard, *, out: str, steps: Steps) -> Commit:
    """The part of a shard whose reading may end a process: another than this one."""
    with ReaderProcess() as reader:
        found, read_s = _read(shard, reader=reader, out=out, steps=steps)
        return found if isinstance(found, Commit) else steps.commit(shard, found, out=out, read_s=read_s)


def _read(
    shard: Shard, *, reader: ReaderProcess, out: str, steps: Steps
) -> tuple[Commit | list[ReadInput], float]:
    """What is in the inputs of a shard; or, of a part that is there, its commit. Also the time it took."""
    begun_s = time.monotonic()
    if (commit := read_part(shard, out=out)) is not None:
        return commit, 0.0
    results = read_one_by_one(reader, steps.read, shard.inputs)
    read = [or_reason(item, result) for item, result in zip(shard.inputs, results, strict=True)]
    return read, time.monotonic() - begun_s
