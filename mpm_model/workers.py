"""What the workers of a run say to each other. Alone, or without torch's process group, they are one
worker."""

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def worker_count() -> int:
    """How many workers share the run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def worker_rank() -> int:
    """Which of them this one is, from 0."""
    return dist.get_rank() if worker_count() > 1 else 0


def total(values: Tensor) -> Tensor:
    """The sum of every worker's values, the same for all; a new tensor."""
    values = values.clone()
    if worker_count() > 1:
        dist.all_reduce(values)
    return values


def from_first(value: Any) -> Any:
    """What the first worker has, for all."""
    if worker_count() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def of_all(value: Any) -> list[Any]:
    """What every worker has, for all, in the order of their ranks."""
    if worker_count() == 1:
        return [value]
    found: list[Any] = [None] * worker_count()
    dist.all_gather_object(found, value)
    return found


def total_through(values: Tensor) -> Tensor:
    """As `total`, and gradients go back through it: what one worker loses by a value, all lose."""
    if worker_count() == 1:
        return values
    summed: Tensor = _Total.apply(values)  # type: ignore[no-untyped-call]
    return summed


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ARG004
        return total(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return total(gradient)
