"""The shards of a lifting job on one machine: a process a core, each of which reads, lifts and commits.

Ray would do the same, yet takes seconds to start and a tenth of a small machine to run; it is for clusters.
"""

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from functools import partial
from itertools import islice
from queue import SimpleQueue

from pipelines.lift_shard import or_reason
from pipelines.lift_steps import Steps
from pipelines.parts import Commit, Shard
from pipelines.reader_process import ReaderDiedError, ReaderProcess, read_one_by_one

TRIES = 3
"""How often a shard is begun whose process ends although no input is to blame: somebody else kills it."""


def make_parts_in_pool(shards: Iterator[Shard], *, out: str, steps: Steps, workers: int) -> Iterator[Commit]:
    """Make the parts of all shards; they come as they are done. What ends its process is set aside."""
    with ExitStack() as open_processes:
        free: SimpleQueue[ReaderProcess] = SimpleQueue()
        for _ in range(workers):
            free.put(open_processes.enter_context(ReaderProcess(threads=1)))
        with ThreadPoolExecutor(workers) as pool:
            make = partial(_make, free=free, out=out, steps=steps)
            running: set[Future[Commit]] = {pool.submit(make, shard) for shard in islice(shards, workers)}
            try:
                while running:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    running |= {pool.submit(make, shard) for shard in islice(shards, len(done))}
                    for future in done:
                        yield future.result()
            except BaseException:
                open_processes.close()  # those that wait for them end as well
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
