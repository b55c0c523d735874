"""The loop. It knows no Ray and no files: it is handed its batches and its reporter.

Several workers, each in its process of a torch process group, run it side by side on their shares of every
batch.
"""

import copy
import dataclasses
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import Optimizer

from mpm_model.errors import listing, refuse
from mpm_model.learning.batches import Batch
from mpm_model.learning.objectives import Learner, Objective
from mpm_model.workers import of_all, total, worker_count, worker_rank

Precision = Literal["float32", "bfloat16"]
"""What the network computes in; weights, losses and the optimiser are float32 always."""
Model = TypeVar("Model", bound=nn.Module)
Report = Callable[[int, dict[str, float]], None]
"""(steps done, metrics averaged since the last report)."""


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """Adam and its learning rate."""

    learning_rate: float = 1e-4
    """Peak learning rate."""
    is_amsgrad: bool = True
    """Whether Adam keeps the largest second moment (Reddi et al. 2018), as published."""
    warmup_steps: int = 0
    """Steps over which the rate rises linearly from zero."""
    decay: Literal["exponential", "cosine"] = "exponential"
    """`exponential`: times `decay_per_epoch` after each epoch, as published. `cosine`: to zero at the end."""
    decay_per_epoch: float = 0.97
    """Factor of the exponential decay."""
    max_grad_norm: float = 1.0
    """Gradients longer than this are shortened to it."""
    average_decay: float = 0.0
    """How much of itself the moving average of the weights keeps at each step; it is then what is validated
    and kept. 0 keeps the weights themselves, as published."""

    def __post_init__(self) -> None:
        faults = []
        if not self.learning_rate > 0:
            faults.append(f"learning_rate must be positive, got {self.learning_rate}")
        if self.warmup_steps < 0:
            faults.append(f"warmup_steps must not be negative, got {self.warmup_steps}")
        if not 0 < self.decay_per_epoch <= 1:
            faults.append(f"decay_per_epoch must be in (0, 1], got {self.decay_per_epoch}")
        if not 0 <= self.average_decay < 1:
            faults.append(f"average_decay must be in [0, 1), got {self.average_decay}")
        if not self.max_grad_norm > 0:
            faults.append(f"max_grad_norm must be positive, got {self.max_grad_norm}")
        if self.decay not in ("exponential", "cosine"):
            faults.append(f"decay must be exponential or cosine, got {self.decay!r}")
        refuse("optimiser", faults)

    def rate_at(self, step: int, *, steps: int, steps_per_epoch: int) -> float:
        """Learning rate of a step (from 0) of a run of `steps`."""
        rate = self.learning_rate
        if step < self.warmup_steps:
            return rate * (step + 1) / (self.warmup_steps + 1)
        if self.decay == "cosine":
            done = (step - self.warmup_steps) / max(steps - self.warmup_steps, 1)
            return rate * 0.5 * (1 + math.cos(math.pi * done))
        return rate * self.decay_per_epoch ** (step // steps_per_epoch)

    def build(self, model: nn.Module) -> Optimizer:
        """Adam over all parameters of a model; fused where the device can."""
        on_gpu = next(model.parameters()).is_cuda
        return torch.optim.Adam(
            model.parameters(), lr=self.learning_rate, amsgrad=self.is_amsgrad, fused=True if on_gpu else None
        )


class Average(Generic[Model]):
    """A slowly following copy of a network, an exponential moving average of its weights and buffers.

    Young runs follow faster: after n steps the copy keeps at most (1 + n) / (10 + n) of itself, so that it
    does not remember the weights that training began with.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.model: Model = copy.deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def follow(self, model: nn.Module) -> None:
        """Take one step after the network."""
        self.steps += 1
        weight = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        new = model.state_dict()
        for name, kept in self.model.state_dict().items():
            if kept.is_floating_point():
                kept.lerp_(new[name], weight)
            else:
                kept.copy_(new[name])

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs."""
        return {"steps": self.steps, "model": self.model.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.steps = int(state["steps"])
        self.model.load_state_dict(state["model"])


@dataclass(frozen=True)
class Step:
    """What a step leaves behind to be read later; still on the device."""

    number: int
    sums: Float[Tensor, "B errors"]
    """Errors of this worker's windows."""
    counts: Float[Tensor, "errors"]
    """Joints that count, of all workers."""
    sample_ids: Int[np.ndarray, "B"]


def fit(
    learner: nn.Module,
    batch_at: Callable[[int], tuple[int, Batch]],
    *,
    optimiser: Optimizer,
    rate_at: Callable[[int], float],
    steps: range,
    max_grad_norm: float,
    report: Report,
    report_every: int,
    seed: int,
    average: Average[Any] | None = None,
    precision: Precision = "float32",
    passes: int = 1,
) -> None:
    """Train for the steps of a range.

    `learner` is a `Learner`, or what data-parallel training wraps around one. `batch_at(step)` gives the
    epoch of a step and this worker's share of its batch, so a run may begin anywhere and a batch be shared
    by any number of workers: the loss is that of the whole batch. A share is answered in so many `passes`,
    the same for all workers, for want of memory. Dropout is drawn from torch's generator, seeded by (seed,
    step, worker, pass). Errors stay on the device until they are reported: every `report_every` steps and
    after the last.

    Raises:
        FloatingPointError: a loss is not finite; names the step and its samples, the same on every worker.
    """
    network = learner_of(learner)
    device = next(network.parameters()).device
    workers, rank = worker_count(), worker_rank()
    learner.train()
    unread: list[Step] = []
    for step in steps:
        rate = rate_at(step)
        for group in optimiser.param_groups:
            group["lr"] = rate
        epoch, batch = batch_at(step)
        counts = total(network.objective.counts(batch))
        optimiser.zero_grad(set_to_none=True)
        sums = []
        for number, part in enumerate(parts_of(batch, passes)):
            torch.manual_seed(dropout_seed(seed, step, rank, number))
            is_summed_up = workers > 1 and number + 1 < passes
            with learner.no_sync() if is_summed_up else nullcontext():  # type: ignore[operator]
                with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                    loss, part_sums = learner(part, epoch, counts)
                # Data-parallel training takes the mean of the workers' gradients; theirs are shares of a sum.
                (loss * workers).backward()
            sums.append(part_sums)
        torch.nn.utils.clip_grad_norm_(learner.parameters(), max_grad_norm)
        optimiser.step()
        if average is not None:
            average.follow(network.model)
        unread.append(Step(step, torch.cat(sums), counts, batch.sample_ids))
        if (step + 1) % report_every == 0 or step + 1 == steps.stop:
            report(step + 1, _read(unread, network.objective) | {"rate": rate})
            learner.train()
            unread = []


def learner_of(module: nn.Module) -> Learner:
    """The `Learner` within what was wrapped around it."""
    for wrapping in ("_orig_mod", "module", "_orig_mod"):  # torch.compile, data-parallel training
        module = getattr(module, wrapping, module)
    if not isinstance(module, Learner):
        raise TypeError(f"wanted a Learner, got {type(module).__name__}")
    return module


def parts_of(batch: Batch, number: int) -> list[Batch]:
    """A batch cut into parts of as equal size as can be; some are empty if there are more parts than
    windows."""
    if number == 1:
        return [batch]
    size = len(batch.sample_ids)
    ends = [size * part // number for part in range(number + 1)]
    columns = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return [
        Batch(**{name: column[begin:end] for name, column in columns.items()})
        for begin, end in pairwise(ends)
    ]


def dropout_seed(seed: int, step: int, rank: int, number: int) -> int:
    """A seed for torch's generator, unlike that of any other step, worker, pass or run."""
    name = f"dropout\0{seed}\0{step}\0{rank}\0{number}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little") >> 1


def _read(steps: Sequence[Step], objective: Objective) -> dict[str, float]:
    """Metrics over some steps: each step's means over all workers, and the mean of these."""
    counts = torch.stack([step.counts for step in steps]).clamp(min=1)
    means = (total(torch.stack([step.sums.sum(0) for step in steps])) / counts).cpu()
    losses = objective.loss(means)
    if not losses.isfinite().all():
        first = int((~losses.isfinite()).int().argmax())
        step = steps[first]
        own = step.sample_ids[(~step.sums.isfinite().all(1)).cpu().numpy()]
        ids = sorted(number for some in of_all(own.tolist()) for number in some)
        raise FloatingPointError(
            f"the loss is {losses[first].item()} at step {step.number}, of samples {listing(ids)}"
        )
    return {name: float(value) for name, value in objective.metrics(means.mean(0)).items()}
