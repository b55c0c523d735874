"""Parts made by Ray Data: one task a shard, and what is done about shards that kill their process."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
import ray
import ray.data
import ray.exceptions
from ray.util.annotations import RayDeprecationWarning

from mpm_model.errors import InputError
from pipelines.manifest import Input, Receipt
from pipelines.parts import KILLS, Commit, PartResult, Shard, Work, make_part
from pipelines.ray_session import ensure_ray, quiet_ray_data

Argument = TypeVar("Argument")
Result = TypeVar("Result")

RETRIES = 2
"""How often a task whose process or machine was lost is tried again."""

_LOST = (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError)


def make_parts_on_ray(shards: Sequence[Shard], *, out: str, work: Work) -> Iterator[Commit]:
    """Make the parts of all shards in parallel; they come as they are done.

    A shard whose task failed, which Ray Data sets aside so that the others go on, is made again by itself.
    There an exception comes through, and an input that kills its process even when alone becomes a bad input.
    """
    ensure_ray()
    made = set()
    for commit in _stream(shards, out=out, work=work):
        made.add(commit.part.name)
        yield commit
    for shard in shards:
        if shard.part_name not in made:
            yield _make_alone(shard, out=out, work=work)


def _stream(shards: Sequence[Shard], *, out: str, work: Work) -> Iterator[Commit]:
    items = [shard.model_dump_json() for shard in shards]
    dataset = ray.data.from_items(items, override_num_blocks=len(items))
    with warnings.catch_warnings():
        # Left alone, Ray Data tries a task that kills its process for ever, an actor whatever it is told. The
        # bound has no other place than the arguments that 2.60 calls deprecated.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        dataset = dataset.map_batches(
            _make_batch, fn_kwargs={"out": out, "work": work}, batch_size=1, num_cpus=1, max_retries=RETRIES
        )
    quiet_ray_data(dataset.context)
    dataset.context.max_errored_blocks = -1  # a lost shard stops no other, and is made alone afterwards
    for row in dataset.iter_rows():
        yield Commit.model_validate_json(row["commit"])


def _make_batch(batch: dict[str, np.ndarray], *, out: str, work: Work) -> dict[str, list[str]]:
    shards = [Shard.model_validate_json(item) for item in batch["item"]]
    return {"commit": [make_part(shard, out=out, work=work).model_dump_json() for shard in shards]}


def try_all(
    function: Callable[[Argument], Result], arguments: Iterable[Argument]
) -> Iterator[tuple[Argument, Result | None]]:
    """Call a function of each argument, in processes of their own; results come as they are done.

    In place of the result of one that lost its process at every try comes None. Exceptions come through, an
    InputError as one.
    """
    task = ray.remote(num_cpus=1, max_retries=RETRIES)(_call)
    running = {task.remote(function, argument): argument for argument in arguments}
    while running:
        (done,), _ = ray.wait(list(running))
        argument = running.pop(done)
        try:
            yield argument, ray.get(done)
        except _LOST:
            yield argument, None
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise InputError(str(error.cause)) from error
            raise


def _call(function: Callable[[Argument], Result], argument: Argument) -> Result:
    return function(argument)


def call(function: Callable[[Argument], Result], argument: Argument, *, what: str) -> Result:
    """Call a function in a process of its own. RuntimeError, with `what`, if it ends at every try."""
    ((_, result),) = try_all(function, [argument])
    if result is None:
        raise RuntimeError(f"{what}: its process ended again and again, and no input is to blame")
    return result


def _make_alone(shard: Shard, *, out: str, work: Work) -> Commit:
    """Make a part in a process of its own; what ends it becomes bad inputs."""
    ((_, commit),) = try_all(partial(make_part, out=out, work=work), [shard])
    if commit is not None:
        return commit
    killers = [item for item, lives in try_all(partial(_try, work=work), shard.inputs) if not lives]
    without = partial(_work_without, killers=killers, work=work)
    return call(partial(make_part, out=out, work=without), shard, what=shard.part_name)


def _try(item: Input, *, work: Work) -> bool:
    work([item])
    return True


def _work_without(inputs: Sequence[Input], *, killers: Sequence[Input], work: Work) -> PartResult:
    result = work([item for item in inputs if item not in killers])
    rest = iter(result.receipts)
    receipts = tuple(
        Receipt(url=item.url, size_bytes=item.size_bytes, status="bad", reason=KILLS)
        if item in killers
        else next(rest)
        for item in inputs
    )
    return PartResult(table=result.table, receipts=receipts)
