"""The shards of a lifting job on one machine: a process a core, each of which reads, lifts and commits.

Ray would do the same, yet takes seconds to start and a tenth of a small machine to run; it is for clusters.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice
from queue import SimpleQueue

from pipelines.lift_shard import or_reason
from pipelines.lift_steps import Steps
from pipelines.parts import Commit, Shard
from pipelines.reader_process import ReaderDiedError, ReaderProcess, read_one_by_one

TRIES = 3
"""How often a shard is begun whose process ends although no input is to blame: somebody else kills it."""


@contextmanager
def start_workers(number: int) -> Iterator[list[ReaderProcess]]:
    """So many processes of one thread each, on their way while the caller goes on; ended with the block."""
    with ExitStack() as running:
        yield [
            running.enter_context(ReaderProcess(threads=1, preload="pipelines.lift_steps"))
            for _ in range(number)
        ]


def make_parts_in_pool(
    shards: Iterator[Shard], *, out: str, steps: Steps, workers: Sequence[ReaderProcess]
) -> Iterator[Commit]:
    """Make the parts of all shards; they come as they are done. What ends its process is set aside."""
    free: SimpleQueue[ReaderProcess] = SimpleQueue()
    for worker in workers:
        free.put(worker)
    with ThreadPoolExecutor(len(workers)) as pool:
        make = partial(_make, free=free, out=out, steps=steps)
        running: set[Future[Commit]] = {pool.submit(make, shard) for shard in islice(shards, len(workers))}
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(make, shard) for shard in islice(shards, len(done))}
                for future in done:
                    yield future.result()
        except BaseException:
            for worker in workers:  # those that wait for them end as well
                worker.end()
            raise


def _make(shard: Shard, *, free: SimpleQueue[ReaderProcess], out: str, steps: Steps) -> Commit:
    process = free.get()
    try:
        for _ in range(TRIES):
            try:
                commit: Commit = process.call(partial(steps.make, out=out), shard)
            except ReaderDiedError:
                results = read_one_by_one(process, steps.read, shard.inputs)
                if not any(isinstance(result, ReaderDiedError) for result in results):
                    continue
                read = [or_reason(*pair) for pair in zip(shard.inputs, results, strict=True)]
                commit = process.call(partial(steps.commit, shard, out=out, read_s=0.0), read)
            return commit
    finally:
        free.put(process)
    raise RuntimeError(
        f"{shard.part_name}: its process ended {TRIES} times, and no input is to blame; is memory short?"
    )
