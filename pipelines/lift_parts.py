"""The parts of a lifting job: made in this process if there is little to do, by Ray Data if there is much."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pipelines.lift_plan import Plan
from pipelines.lift_shard import ReadInput
from pipelines.lift_steps import Steps
from pipelines.manifest import Input
from pipelines.parts import IN_PROCESS_BYTES, KILLS, Commit, Shard, make_part, read_part
from pipelines.reader_process import ReaderDiedError, ReaderProcess, read_one_by_one


def make_parts(plan: Plan, part_names: Sequence[str], *, out: str, steps: Steps) -> Iterator[Commit]:
    """Make parts that are not there; those that are, whole, are only read."""
    if plan.size_bytes(part_names) > IN_PROCESS_BYTES:
        from pipelines.lift_on_ray import make_parts_on_ray  # Ray is slow to import

        yield from make_parts_on_ray(plan.shards(part_names), out=out, steps=steps)
    elif plan.inputs == 1:
        yield from (make_part(shard, out=out, work=steps) for shard in plan.shards(part_names))
    else:
        yield from _make_parts_here(plan.shards(part_names), out=out, steps=steps)


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


def _read(
    shard: Shard, *, reader: ReaderProcess, out: str, steps: Steps
) -> tuple[Commit | list[ReadInput], float]:
    """What is in the inputs of a shard; or, of a part that is there, its commit. Also the time it took."""
    begun_s = time.monotonic()
    if (commit := read_part(shard, out=out)) is not None:
        return commit, 0.0
    results = read_one_by_one(reader, steps.read, shard.inputs)
    read = [_or_reason(item, result) for item, result in zip(shard.inputs, results, strict=True)]
    return read, time.monotonic() - begun_s


def _or_reason(item: Input, result: ReadInput | ReaderDiedError) -> ReadInput:
    return ReadInput(item, reason=KILLS) if isinstance(result, ReaderDiedError) else result
