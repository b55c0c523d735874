"""A process that saves training states until it is killed, for the tests; forked from one that has torch."""

import itertools
import multiprocessing
from multiprocessing.context import ForkServerContext
from typing import Any

import torch

from pipelines.train_state import StateStore, load_latest

START = -1
"""What a process reports before it has saved anything."""


def state_of(step: int, *, tensors: int = 8, numbers: int = 20_000) -> dict[str, Any]:
    """The state that belongs to a step, and to no other."""
    generator = torch.Generator().manual_seed(step)
    weights = {f"layer {i}": torch.randn(numbers, generator=generator) for i in range(tensors)}
    return {"step": step, "weights": weights, "rows": [{"loss": 1 / (step + 1), "name": "loss"}]}


def same(one: Any, other: Any) -> bool:
    """Whether two states are equal to the bit."""
    if isinstance(one, torch.Tensor):
        return bool(one.dtype == other.dtype and torch.equal(one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


def save_for_ever(url: str, env: dict[str, str], reported: Any, numbers: int) -> None:
    """Go on from the latest state; `reported` holds the newest step known to be saved."""
    import os

    os.environ.update(env)
    torch.set_num_threads(1)
    found = load_latest(url, map_location="cpu")
    store = StateStore(url)
    for step in itertools.count(0 if found is None else found[0] + 1):
        store.save(state_of(step, numbers=numbers), step=step)
        reported.value = START if store.last_saved_step is None else store.last_saved_step


def forkserver() -> ForkServerContext:
    """Processes that start soon, with torch and the storage imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "pipelines.train_state", "pipelines.storage_s3_client"])
    return context
