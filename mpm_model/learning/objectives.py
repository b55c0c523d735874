"""What the model is asked for: each task a small function of a model and a batch."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mpm_model.errors import refuse
from mpm_model.learning.batches import LONGEST_BURST, Batch, CountedArguments
from mpm_model.learning.counted import counted_uniform
from mpm_model.learning.masking import TUBES, Hidden, MaskConfig, draw_bursts, draw_hidden, draw_tubes
from mpm_model.pose.skeleton import Skeleton

Objective = Callable[[nn.Module, Batch, int], tuple[Tensor, dict[str, Tensor]]]
"""(model, batch, epoch) -> (loss, metrics to log). Metrics stay on the device."""


class Learner(nn.Module):
    """A network and what it is asked for as one module: data-parallel training then sees one forward pass."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: Batch, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and metrics of a batch."""
        return self.objective(self.model, batch, epoch)


def ask(model: nn.Module, batch: Batch, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The objective of a `Learner`, wrapped for data-parallel training or not."""
    answer: tuple[Tensor, dict[str, Tensor]] = model(batch, epoch)
    return answer


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


def joint_error(
    predicted: Float[Tensor, "B T J C"], target: Float[Tensor, "B T J C"], is_valid: Bool[Tensor, "B T J"]
) -> Float[Tensor, ""]:
    """Mean Euclidean distance over valid joints; 0 when none is valid."""
    distance = torch.linalg.vector_norm(predicted - target, dim=-1)
    error: Tensor = (distance * is_valid).sum() / is_valid.sum().clamp(min=1)
    return error


def hidden_tensors(hidden: Hidden, batch: Batch) -> tuple[Tensor, Tensor]:
    """Masks on the batch's device: hidden frames (B, T), hidden joints (B, T, J)."""
    device = batch.keypoints.device
    return torch.as_tensor(hidden.is_hidden_frame).to(device), torch.as_tensor(hidden.is_hidden_joint).to(
        device
    )


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

    def objective(model: nn.Module, batch: Batch, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        def draw(stream: str) -> tuple[Tensor, Tensor]:
            hidden = draw_hidden(
                stream,
                seed=seed,
                epoch=epoch,
                sample_ids=batch.sample_ids,
                frames=batch.keypoints.shape[1],
                joints=len(skeleton),
                config=mask,
            )
            return hidden_tensors(hidden, batch)

        is_hidden_frame_2d, is_hidden_joint_2d = draw("2d")
        is_hidden_frame_3d, is_hidden_joint_3d = draw("3d")
        features_2d = model.encode_2d(  # type: ignore[operator]
            batch.keypoints,
            is_hidden_joint=is_hidden_joint_2d | batch.is_hidden,
            is_hidden_frame=is_hidden_frame_2d,
        )
        features_3d = model.encode_3d(  # type: ignore[operator]
            batch.joints_rel_m,
            is_hidden_joint=is_hidden_joint_3d | ~batch.is_valid,
            is_hidden_frame=is_hidden_frame_3d,
        )
        losses = {
            "2d": joint_error(model.decode_2d(features_2d), batch.true_keypoints, batch.has_image),  # type: ignore[operator]
            "3d": joint_error(model.decode_3d(features_3d), batch.joints_rel_m, batch.is_valid),  # type: ignore[operator]
        }
        total = loss.weight_2d * losses["2d"] + loss.weight_3d * losses["3d"]
        if loss.weight_lift:
            is_labelled = _is_labelled(batch, labelled_ids)
            lifted = model.decode_3d(features_2d)  # type: ignore[operator]
            losses["lift"] = joint_error(lifted, batch.joints_rel_m, batch.is_valid & is_labelled)
            total = total + loss.weight_lift * losses["lift"]
        return total, _metrics(total, losses)

    return objective


def _is_labelled(batch: Batch, labelled_ids: Int[np.ndarray, "L"] | None) -> Bool[Tensor, "B 1 1"]:
    is_labelled = np.ones(len(batch.window_ids), bool)
    if labelled_ids is not None:
        is_labelled = np.isin(batch.window_ids, labelled_ids)
    return torch.from_numpy(is_labelled).to(batch.is_valid.device)[:, None, None]


def lifting(model: nn.Module, batch: Batch, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:  # noqa: ARG001
    """Fine-tuning as published: error of all frames plus error of the centre frame, in metres.

    3D from occluded 2D is the same, with tubes in the view.
    """
    lifted = model(batch.keypoints, is_hidden=batch.is_hidden)
    middle = slice(batch.keypoints.shape[1] // 2, batch.keypoints.shape[1] // 2 + 1)
    losses = {
        "sequence": joint_error(lifted.sequence, batch.joints_rel_m, batch.is_valid),
        "center": joint_error(lifted.center, batch.joints_rel_m[:, middle], batch.is_valid[:, middle]),
    }
    total = losses["sequence"] + losses["center"]
    return total, _metrics(total, losses)


def completion(*, config: CompletionConfig, skeleton: Skeleton, seed: int) -> Objective:
    """3D poses from partial 3D poses: error of all joints, in metres, as published."""

    def objective(model: nn.Module, batch: Batch, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        is_hidden = hidden_in_3d(batch, config=config, skeleton=skeleton, seed=seed, epoch=epoch)
        completed = model.reconstruct_3d(batch.joints_rel_m, is_hidden_joint=is_hidden, is_hidden_frame=None)  # type: ignore[operator]
        losses = {"complete": joint_error(completed, batch.joints_rel_m, batch.is_valid)}
        return losses["complete"], _metrics(losses["complete"], losses)

    return objective


def lifting_and_completion(*, config: CompletionConfig, skeleton: Skeleton, seed: int) -> Objective:
    """Both tasks with one set of weights: error of all lifted frames and of all completed ones, in metres."""
    complete = completion(config=config, skeleton=skeleton, seed=seed)

    def objective(model: nn.Module, batch: Batch, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        lifted = model.sequence(batch.keypoints, batch.is_hidden)  # type: ignore[operator]
        losses = {"sequence": joint_error(lifted, batch.joints_rel_m, batch.is_valid)}
        total = losses["sequence"]
        if config.weight:
            losses["complete"], _ = complete(model, batch, epoch)
            total = total + config.weight * losses["complete"]
        return total, _metrics(total, losses)

    return objective


def hidden_in_3d(
    batch: Batch, *, config: CompletionConfig, skeleton: Skeleton, seed: int, epoch: int
) -> Bool[Tensor, "B T J"]:
    """Joints that completion may not see: one tube or burst a sample, and what was never captured."""
    counted: CountedArguments = {"seed": seed, "epoch": epoch, "sample_ids": batch.sample_ids}
    tubes = draw_tubes("3d", kinds=config.tube_kinds, skeleton=skeleton, **counted)[:, None]
    if config.burst_probability:
        frames = batch.is_valid.shape[1]
        bursts = draw_bursts("3d", frames=frames, longest_share=LONGEST_BURST, **counted)[..., None]
        is_root = np.array([parent is None for parent in skeleton.parents])
        is_burst = counted_uniform("burst or tube", count=1, **counted) < config.burst_probability
        tubes = np.where(is_burst[..., None], bursts & ~is_root, tubes)
    return torch.as_tensor(tubes).to(batch.is_valid.device) | ~batch.is_valid


def _metrics(total: Tensor, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"loss": total.detach()} | {f"loss_{name}": value.detach() for name, value in losses.items()}
