"""What the model is asked for: each task a small function of a model and a batch."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mpm_model.errors import refuse
from mpm_model.learning.batches import Batch
from mpm_model.learning.masking import Hidden, MaskConfig, draw_hidden

Objective = Callable[[nn.Module, Batch, int], tuple[Tensor, dict[str, Tensor]]]
"""(model, batch, epoch) -> (loss, metrics to log). Metrics stay on the device."""


@dataclass(frozen=True, kw_only=True)
class MaskedLossConfig:
    """Weights of masked pose modelling, as published."""

    weight_2d: float = 5.0
    """Weight of the 2D reconstruction error, in normalised units."""
    weight_3d: float = 2.0
    """Weight of the 3D reconstruction error, in metres."""

    def __post_init__(self) -> None:
        refuse(
            "loss",
            [
                f"{name} must not be negative, got {value}"
                for name, value in (("weight_2d", self.weight_2d), ("weight_3d", self.weight_3d))
                if value < 0
            ],
        )


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
    return torch.from_numpy(hidden.is_hidden_frame).to(device), torch.from_numpy(hidden.is_hidden_joint).to(
        device
    )


def masked_pose_modelling(*, mask: MaskConfig, loss: MaskedLossConfig, seed: int) -> Objective:
    """Pre-training: hide frames and joints of 2D and 3D, ask for all of both back."""

    def objective(model: nn.Module, batch: Batch, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        _, frames, joints, _ = batch.keypoints.shape

        def draw(stream: str) -> tuple[Tensor, Tensor]:
            hidden = draw_hidden(
                stream,
                seed=seed,
                epoch=epoch,
                sample_ids=batch.sample_ids,
                frames=frames,
                joints=joints,
                config=mask,
            )
            return hidden_tensors(hidden, batch)

        is_hidden_frame_2d, is_hidden_joint_2d = draw("2d")
        is_hidden_frame_3d, is_hidden_joint_3d = draw("3d")
        reconstruction = model(
            batch.keypoints,
            batch.joints_rel_m,
            is_hidden_joint_2d=is_hidden_joint_2d | batch.is_hidden,
            is_hidden_frame_2d=is_hidden_frame_2d,
            is_hidden_joint_3d=is_hidden_joint_3d | ~batch.is_valid,
            is_hidden_frame_3d=is_hidden_frame_3d,
        )
        loss_2d = joint_error(reconstruction.keypoints, batch.keypoints, ~batch.is_hidden)
        loss_3d = joint_error(reconstruction.joints, batch.joints_rel_m, batch.is_valid)
        total = loss.weight_2d * loss_2d + loss.weight_3d * loss_3d
        return total, {"loss": total.detach(), "loss_2d": loss_2d.detach(), "loss_3d": loss_3d.detach()}

    return objective


def lifting(model: nn.Module, batch: Batch, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:  # noqa: ARG001
    """Fine-tuning: error of all frames plus error of the centre frame, in metres."""
    lifted = model(batch.keypoints, is_hidden=batch.is_hidden)
    middle = slice(batch.keypoints.shape[1] // 2, batch.keypoints.shape[1] // 2 + 1)
    loss_sequence = joint_error(lifted.sequence, batch.joints_rel_m, batch.is_valid)
    loss_center = joint_error(lifted.center, batch.joints_rel_m[:, middle], batch.is_valid[:, middle])
    total = loss_sequence + loss_center
    return total, {
        "loss": total.detach(),
        "loss_sequence": loss_sequence.detach(),
        "loss_center": loss_center.detach(),
    }
