"""The loop. It knows no Ray and no files: it is handed its batches and its reporter."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mpm_model.errors import refuse
from mpm_model.learning.batches import Batch
from mpm_model.learning.objectives import Objective

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

    def __post_init__(self) -> None:
        faults = []
        if not self.learning_rate > 0:
            faults.append(f"learning_rate must be positive, got {self.learning_rate}")
        if self.warmup_steps < 0:
            faults.append(f"warmup_steps must not be negative, got {self.warmup_steps}")
        if not 0 < self.decay_per_epoch <= 1:
            faults.append(f"decay_per_epoch must be in (0, 1], got {self.decay_per_epoch}")
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


def fit(
    model: nn.Module,
    batch_at: Callable[[int], tuple[int, Batch]],
    objective: Objective,
    *,
    optimiser: Optimizer,
    rate_at: Callable[[int], float],
    steps: range,
    max_grad_norm: float,
    report: Report,
    report_every: int,
) -> None:
    """Train for the steps of a range.

    `batch_at(step)` gives the epoch and the batch of a step, so a run may begin anywhere. Losses stay
    on the device until they are reported: every `report_every` steps and after the last.

    Raises:
        FloatingPointError: a loss is not finite; names the step and its samples.
    """
    model.train()
    unread: list[dict[str, Tensor]] = []
    unread_ids = []
    for step in steps:
        rate = rate_at(step)
        for group in optimiser.param_groups:
            group["lr"] = rate
        epoch, batch = batch_at(step)
        loss, metrics = objective(model, batch, epoch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
        optimiser.step()
        unread.append(metrics)
        unread_ids.append(batch.sample_ids)
        if (step + 1) % report_every == 0 or step + 1 == steps.stop:
            values = {
                name: torch.stack([metrics[name] for metrics in unread]).cpu() for name in unread[0]
            }  # one transfer a name
            is_bad = ~values["loss"].isfinite()
            if is_bad.any():
                first = int(is_bad.int().argmax())
                bad_step = step + 1 - len(unread) + first
                raise FloatingPointError(
                    f"loss is {values['loss'][first].item()} at step {bad_step}, "
                    f"samples {unread_ids[first].tolist()}"
                )
            report(step + 1, {name: float(value.mean()) for name, value in values.items()} | {"rate": rate})
            model.train()
            unread, unread_ids = [], []
