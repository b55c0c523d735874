"""What the model is asked for: each task says which errors of which joints count, and how much.

Errors are kept as sums with counts. A batch may then be shared among workers, or answered in several passes:
its loss, and the gradient of it, stay those of the whole batch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mpm_model.errors import refuse
from mpm_model.learning.batches import LONGEST_BURST, Batch, CountedArguments
from mpm_model.learning.counted import uniform_on
from mpm_model.learning.masking import TUBES, MaskConfig, draw_bursts, draw_hidden, draw_tubes
from mpm_model.on_device import constant, send
from mpm_model.pose.skeleton import Skeleton

Errors = dict[str, Float[Tensor, "B T J"]]
"""Distance of each joint to where it should be, by name of the error."""
Cells = dict[str, Bool[Tensor, "B T J"]]
"""Joints that count, by name of the error."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a model is asked for. The loss is the weighted sum of each error's mean over the joints that
    count."""

    errors: Callable[[nn.Module, Batch, int], Errors]
    """Of a model, a batch, and the epoch that hidden joints are counted from."""
    cells: Callable[[Batch], Cells]
    """Of a batch alone, so that how many joints count is known before anything is computed."""
    weights: Mapping[str, float]
    """Weight of each error."""
    judged_by: str
    """The error in metres by which validation tells the limbs apart."""

    def __call__(self, model: nn.Module, batch: Batch, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch by itself; metrics to log: `loss`, and as `loss_NAME` the mean of each error."""
        sums = self.sums(model, batch, epoch).sum(0)
        means = sums / self.counts(batch).clamp(min=1)
        return self.loss(means), self.metrics(means.detach())

    def sums(self, model: nn.Module, batch: Batch, epoch: int) -> Float[Tensor, "B errors"]:
        """Each window's errors, summed over the joints that count, in the order of the weights."""
        errors, cells = self.errors(model, batch, epoch), self.cells(batch)
        return torch.stack([(errors[name] * cells[name]).sum((1, 2)) for name in self.weights], dim=1)

    def counts(self, batch: Batch) -> Float[Tensor, "errors"]:
        """How many joints of a batch count in each error, in the order of the weights."""
        cells = self.cells(batch)
        return torch.stack([cells[name].sum() for name in self.weights]).float()

    def loss(self, means: Float[Tensor, "*batch errors"]) -> Float[Tensor, "*batch"]:
        """The mean errors, weighed."""
        weights = constant(tuple(self.weights.values()), device=means.device, dtype=means.dtype)
        loss: Tensor = (means * weights).sum(-1)
        return loss

    def metrics(self, means: Float[Tensor, "errors"]) -> dict[str, Tensor]:
        """The mean errors by name, and their loss."""
        named = dict(zip(self.weights, means, strict=True))
        return {"loss": self.loss(means)} | {f"loss_{name}": mean for name, mean in named.items()}


class Learner(nn.Module):
    """A network and what it is asked for as one module: data-parallel training then sees one forward pass."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(
        self, batch: Batch, epoch: int, counts: Float[Tensor, "errors"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "B errors"]]:
        """What a part of a batch adds to the loss of the whole, of which `counts` are; its windows' sums."""
        sums = self.objective.sums(self.model, batch, epoch)
        return self.objective.loss(sums.sum(0) / counts.clamp(min=1)), sums.detach()


@dataclass(frozen=True, kw_only=True)
class MaskedLossConfig:
    """Weights of masked pose modelling, as published."""

    weight_2d: float = 5.0
    """Weight of the 2D reconstruction error, in normalised units."""
    weight_3d: float = 2.0
    """Weight of the 3D reconstruction error, in metres."""
    weight_lift: float = 0.0
    """Weight of the error of 3D lifted from masked 2D, in metres: the third pretext of the paper's first
    version. It shows the network which 2D belongs to which 3D, so it is off by default."""

    def __post_init__(self) -> None:
        refuse(
            "loss",
            [f"{name} must not be negative, got {value}" for name, value in vars(self).items() if value < 0],
        )


@dataclass(frozen=True, kw_only=True)
class CompletionConfig:
    """Completion of partial 3D poses: what is hidden, through the whole window."""

    tube_kinds: tuple[str, ...] = ("limb", "random_3")
    """Kinds of `mpm_model.learning.masking.TUBES`, each as often."""
    burst_probability: float = 0.0
    """How often a stretch of frames is hidden instead of a tube; the root is left, as poses are relative to
    it."""
    weight: float = 1.0
    """Weight beside lifting, where one network learns both."""

    def __post_init__(self) -> None:
        faults = [f"weight must not be negative, got {self.weight}"] * (self.weight < 0)
        if not 0 <= self.burst_probability <= 1:
            faults.append(f"burst_probability must be in 0..1, got {self.burst_probability}")
        if not self.tube_kinds or any(kind not in TUBES for kind in self.tube_kinds):
            faults.append(f"tube_kinds must be of {', '.join(TUBES)}, got {', '.join(self.tube_kinds)}")
        refuse("completion", faults)


def distance(predicted: Float[Tensor, "B T J C"], target: Float[Tensor, "B T J C"]) -> Float[Tensor, "B T J"]:
    """Euclidean distance of each joint."""
    length: Tensor = torch.linalg.vector_norm(predicted.to(target.dtype) - target, dim=-1)
    return length


def joint_error(
    predicted: Float[Tensor, "B T J C"], target: Float[Tensor, "B T J C"], is_valid: Bool[Tensor, "B T J"]
) -> Float[Tensor, ""]:
    """Mean Euclidean distance over valid joints; 0 when none is valid."""
    error: Tensor = (distance(predicted, target) * is_valid).sum() / is_valid.sum().clamp(min=1)
    return error


def masked_pose_modelling(
    *,
    mask: MaskConfig,
    loss: MaskedLossConfig,
    skeleton: Skeleton,
    seed: int,
    labelled_ids: Int[np.ndarray, "L"] | None = None,
) -> Objective:
    """Pre-training: hide frames and joints of 2D and 3D, ask for all of both back.

    What the detector saw goes in, what was there is asked for: with a noisy view this also takes noise away.
    Lifting is asked for of the windows in `labelled_ids` alone (None: of all).
    """

    weights = {"2d": loss.weight_2d, "3d": loss.weight_3d}
    if loss.weight_lift:
        weights["lift"] = loss.weight_lift

    def errors(model: nn.Module, batch: Batch, epoch: int) -> Errors:
        hidden_2d, hidden_3d = (
            draw_hidden(
                stream,
                seed=seed,
                epoch=epoch,
                sample_ids=batch.sample_ids,
                frames=batch.keypoints.shape[1],
                joints=len(skeleton),
                config=mask,
                device=batch.keypoints.device,
            )
            for stream in ("2d", "3d")
        )
        features_2d = model.encode_2d(  # type: ignore[operator]
            batch.keypoints,
            is_hidden_joint=hidden_2d.is_hidden_joint | batch.is_hidden,
            is_hidden_frame=hidden_2d.is_hidden_frame,
        )
        features_3d = model.encode_3d(  # type: ignore[operator]
            batch.joints_rel_m,
            is_hidden_joint=hidden_3d.is_hidden_joint | ~batch.is_valid,
            is_hidden_frame=hidden_3d.is_hidden_frame,
        )
        found = {
            "2d": distance(model.decode_2d(features_2d), batch.true_keypoints),  # type: ignore[operator]
            "3d": distance(model.decode_3d(features_3d), batch.joints_rel_m),  # type: ignore[operator]
        }
        if loss.weight_lift:
            found["lift"] = distance(model.decode_3d(features_2d), batch.joints_rel_m)  # type: ignore[operator]
        return found

    def cells(batch: Batch) -> Cells:
        counted = {"2d": batch.has_image, "3d": batch.is_valid}
        if loss.weight_lift:
            counted["lift"] = batch.is_valid & _is_labelled(batch, labelled_ids)
        return counted

    return Objective(errors=errors, cells=cells, weights=weights, judged_by="3d")


def _is_labelled(batch: Batch, labelled_ids: Int[np.ndarray, "L"] | None) -> Bool[Tensor, "B 1 1"]:
    is_labelled = np.ones(len(batch.window_ids), bool)
    if labelled_ids is not None:
        is_labelled = np.isin(batch.window_ids, labelled_ids)
    return send(is_labelled, batch.is_valid.device)[:, None, None]


def lifting() -> Objective:
    """Fine-tuning as published: error of all frames plus error of the centre frame, in metres.

    3D from occluded 2D is the same, with tubes in the view.
    """

    def middle(cells: Tensor) -> Tensor:
        at = cells.shape[1] // 2
        return cells[:, at : at + 1]

    def errors(model: nn.Module, batch: Batch, epoch: int) -> Errors:  # noqa: ARG001
        lifted = model(batch.keypoints, is_hidden=batch.is_hidden)
        return {
            "sequence": distance(lifted.sequence, batch.joints_rel_m),
            "center": distance(lifted.center, middle(batch.joints_rel_m)),
        }

    return Objective(
        errors=errors,
        cells=lambda batch: {"sequence": batch.is_valid, "center": middle(batch.is_valid)},
        weights={"sequence": 1.0, "center": 1.0},
        judged_by="sequence",
    )


def completion(*, config: CompletionConfig, skeleton: Skeleton, seed: int) -> Objective:
    """3D poses from partial 3D poses: error of all joints, in metres, as published."""

    def errors(model: nn.Module, batch: Batch, epoch: int) -> Errors:
        is_hidden = hidden_in_3d(batch, config=config, skeleton=skeleton, seed=seed, epoch=epoch)
        completed = model.reconstruct_3d(batch.joints_rel_m, is_hidden_joint=is_hidden, is_hidden_frame=None)  # type: ignore[operator]
        return {"complete": distance(completed, batch.joints_rel_m)}

    return Objective(
        errors=errors,
        cells=lambda batch: {"complete": batch.is_valid},
        weights={"complete": 1.0},
        judged_by="complete",
    )


def lifting_and_completion(*, config: CompletionConfig, skeleton: Skeleton, seed: int) -> Objective:
    """Both tasks with one set of weights: error of all lifted frames and of all completed ones, in metres."""
    complete = completion(config=config, skeleton=skeleton, seed=seed)

    def errors(model: nn.Module, batch: Batch, epoch: int) -> Errors:
        found = {"sequence": distance(model.sequence(batch.keypoints, batch.is_hidden), batch.joints_rel_m)}  # type: ignore[operator]
        return found | (complete.errors(model, batch, epoch) if config.weight else {})

    weights = {"sequence": 1.0} | ({"complete": config.weight} if config.weight else {})
    return Objective(
        errors=errors,
        cells=lambda batch: dict.fromkeys(weights, batch.is_valid),
        weights=weights,
        judged_by="sequence",
    )


def hidden_in_3d(
    batch: Batch, *, config: CompletionConfig, skeleton: Skeleton, seed: int, epoch: int
) -> Bool[Tensor, "B T J"]:
    """Joints that completion may not see: one tube or burst a sample, and what was never captured."""
    device, frames = batch.is_valid.device, batch.is_valid.shape[1]
    counted: CountedArguments = {"seed": seed, "epoch": epoch, "sample_ids": batch.sample_ids}
    is_hidden = draw_tubes("3d", kinds=config.tube_kinds, skeleton=skeleton, device=device, **counted)[
        :, None
    ]
    if config.burst_probability:
        bursts = draw_bursts("3d", frames=frames, longest_share=LONGEST_BURST, device=device, **counted)
        has_parent = tuple(parent is not None for parent in skeleton.parents)
        is_limb = constant(has_parent, device=device, dtype=torch.bool)
        is_burst = uniform_on(device, "burst or tube", count=1, **counted) < config.burst_probability
        is_hidden = torch.where(is_burst[..., None], bursts[..., None] & is_limb, is_hidden)
    return is_hidden | ~batch.is_valid
