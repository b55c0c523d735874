"""The shards of a lifting job on Ray Data: tasks that read, a pool of actors that lift and commit."""

import pickle
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import ray
import ray.data
from ray.util.annotations import RayDeprecationWarning

from mpm_model.errors import InputError
from pipelines.lift_parts import make_with_reader
from pipelines.lift_shard import ReadInput
from pipelines.lift_steps import Steps
from pipelines.manifest import Input
from pipelines.parts import KILLS, Commit, Shard, read_part
from pipelines.parts_on_ray import RETRIES, call, try_all
from pipelines.ray_session import ensure_ray, quiet_ray_data
from pipelines.storage import StorageError

READ_CPUS = 0.5
"""Share of a core that a reading task asks for. Another than an actor's, else Ray would run both in one
process, and a file that ends the process that reads it would end the model."""
ACTORS_SHARE = 0.75
"""Share of the processors that actors take at the beginning."""
MOST_ACTORS = 4096
"""No cluster has so many."""
MOST_FAULTS = 3
"""Shards that fail, each after all its patience, with none made in between: what follows would fail too."""


def make_parts_on_ray(shards: Iterable[Shard], *, out: str, steps: Steps) -> Iterator[Commit]:
    """Make the parts of all shards in parallel; they come as they are done.

    While an actor lifts a shard, its next one is read. A shard that could not be made, as an input of it ends
    its process or the storage failed, is set aside so that the others go on, and made again at the end: there
    an exception comes through, and such an input becomes a bad one. StorageError as soon as several in a row
    fail for the same cause: then it is the storage that is not there.
    """
    ensure_ray()
    items = {shard.part_name: shard.model_dump_json() for shard in shards}
    faults = 0
    for row in _dataset(list(items.values()), out=out, steps=steps).iter_rows():
        if row["fault"]:
            faults += 1
            if faults == MOST_FAULTS:
                raise StorageError(row["fault"])
            continue
        faults = 0
        commit = Commit.model_validate_json(row["commit"])
        del items[commit.part.name]
        yield commit
    lost = map(Shard.model_validate_json, items.values())
    for shard, made in try_all(partial(make_with_reader, out=out, steps=steps), lost):
        yield made or _make_apart(shard, out=out, steps=steps)


def _make_apart(shard: Shard, *, out: str, steps: Steps) -> Commit:
    """Make a part whose inputs are read each in a process of its own.

    Where memory is short, Ray ends the process of a task whose reader has taken it all, and not the reader.
    """
    read = dict(try_all(partial(_read_one, steps=steps), shard.inputs))
    found = [read[item] or ReadInput(item, reason=KILLS) for item in shard.inputs]
    return call(partial(_commit, read=found, out=out, steps=steps), shard, what=shard.part_name)


def _read_one(item: Input, *, steps: Steps) -> ReadInput:
    return steps.read([item])[0]


def _commit(shard: Shard, *, read: Sequence[ReadInput], out: str, steps: Steps) -> Commit:
    return steps.commit(shard, read, out=out, read_s=0.0)


def _dataset(items: list[str], *, out: str, steps: Steps) -> ray.data.Dataset:
    gpus = ray.cluster_resources().get("GPU", 0)
    dataset = ray.data.from_items(items, override_num_blocks=len(items))
    with warnings.catch_warnings():
        # Left alone, Ray Data tries a task that kills its process for ever. The bound has no other place
        # than the arguments that 2.60 calls deprecated.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        dataset = dataset.map_batches(
            _read_batch,
            fn_kwargs={"out": out, "steps": steps},
            batch_size=1,
            num_cpus=READ_CPUS,
            max_retries=RETRIES,
        )
    dataset = dataset.map_batches(
        LiftActor,
        fn_constructor_kwargs={"out": out, "steps": steps},
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(
            min_size=1,
            initial_size=_actors(len(items)),
            max_size=MOST_ACTORS,
            max_tasks_in_flight_per_actor=2,
        ),
        **({"num_gpus": 1} if gpus else {"num_cpus": 1}),
    )
    quiet_ray_data(dataset.context)
    dataset.context.max_errored_blocks = -1  # a lost shard stops no other, and is made alone afterwards
    return dataset


def _actors(shards: int) -> int:
    """Actors to begin with: as many as find room beside the readers; the pool grows with the cluster."""
    resources = ray.cluster_resources()
    room = resources.get("GPU", 0) or resources.get("CPU", 1) * ACTORS_SHARE
    return max(1, min(int(room), shards))


def _read_batch(batch: dict[str, np.ndarray], *, out: str, steps: Steps) -> dict[str, list[Any]]:
    """What is in the inputs of a shard, for an actor to lift; or, of a part that is there, its commit."""
    rows: dict[str, list[Any]] = {"item": [], "read": [], "read_s": [], "commit": [], "fault": []}
    for item in batch["item"]:
        begun_s = time.monotonic()
        shard = Shard.model_validate_json(item)
        commit, read, fault = None, [], ""
        try:
            if (commit := read_part(shard, out=out)) is None:
                read = steps.read(shard.inputs)
        except InputError as error:
            fault = str(error)
        rows["item"].append(item)
        rows["read"].append(pickle.dumps(read, protocol=5))
        rows["read_s"].append(time.monotonic() - begun_s)
        rows["commit"].append("" if commit is None else commit.model_dump_json())
        rows["fault"].append(fault)
    return rows


class LiftActor:
    """Holds the model; lifts and commits one shard after the other."""

    def __init__(self, *, out: str, steps: Steps) -> None:
        self._out, self._steps = out, steps

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        """The commit of each shard, or the fault of the storage that kept it from being made."""
        commits, faults = [], []
        columns = (batch[name] for name in ("item", "read", "read_s", "commit", "fault"))
        for item, read, read_s, there, fault in zip(*columns, strict=True):
            commit, fault = str(there), str(fault)
            if not commit and not fault:
                shard = Shard.model_validate_json(item)
                try:
                    commit = self._steps.commit(
                        shard, pickle.loads(read), out=self._out, read_s=float(read_s)
                    ).model_dump_json()
                except InputError as error:
                    fault = str(error)
            commits.append(commit)
            faults.append(fault)
        return {"commit": commits, "fault": faults}
