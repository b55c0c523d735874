"""Refinement with a known camera: where the image says a joint is, at the depth the lifter says.

The idea is of Cai et al. 2019. A lifter's poses are relative to the root, so the root's place in front of the
camera has to be found first. The published figures take its true depth, an oracle; here it is estimated in
closed form, and the oracle is called one wherever it is used.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mpm_model.errors import InputError
from mpm_model.learning.batches import Corpus, ViewConfig, observe
from mpm_model.learning.counted import uniform_on
from mpm_model.learning.detector_noise import detect
from mpm_model.learning.objectives import joint_error
from mpm_model.learning.order import Samples
from mpm_model.learning.training import OptimiserConfig
from mpm_model.network.lifting import LiftingModel
from mpm_model.network.masked import UnifiedPoseModel
from mpm_model.network.refinement import RefinementConfig, RefinementModel
from mpm_model.pose.camera import Camera, back_project
from mpm_model.pose.normalize import normalize_keypoints, root_relative
from mpm_model.pose.virtual_camera import DRAWS_PER_CAMERA, draw_cameras

ROOT_DEPTHS = ("estimated", "oracle")
"""Where the root's depth comes from: from the image and the lifted pose, or from the truth."""
_LEAST_SPREAD = 1e-6
"""Rays of a frame that differ by less than this (tangents, root mean square) say nothing about depth."""


@dataclass(frozen=True)
class Refinable:
    """What refinement learns from."""

    lifted_m: Float[Tensor, "B T J 3"]
    """The lifter's pose, root-relative."""
    back_projected_m: Float[Tensor, "B T J 3"]
    """The 2D at the lifted depths, root-relative."""
    target_m: Float[Tensor, "B T J 3"]
    """The true pose, root-relative."""
    is_valid: Bool[Tensor, "B T J"]
    """Joints with a truth."""


def root_position_m(
    keypoints_px: Float[Tensor, "B T J 2"],
    joints_rel_m: Float[Tensor, "B T J 3"],
    is_hidden: Bool[Tensor, "B T J"],
    camera: Camera,
    *,
    oracle_depth_m: Float[Tensor, "B T"] | None = None,
) -> Float[Tensor, "B T 3"]:
    """The root in camera space that makes the pose fit the image, each frame by itself; least squares.

    A joint (x, y, z) relative to a root (X, Y, Z) lies on the ray (u, v, 1) of its keypoint when
    X - u Z = u z - x =: a and Y - v Z = v z - y =: b. These are linear in the root. With the means of X and Y
    eliminated (bars are means over the seen joints, sums go over them):

        Z = -sum((u - u_bar) (a - a_bar) + (v - v_bar) (b - b_bar)) / sum((u - u_bar)^2 + (v - v_bar)^2)
        X = a_bar + u_bar Z,  Y = b_bar + v_bar Z

    The residuals are metres across the ray at each joint's depth. It is exact for an exact pose, and a pose
    that is too large by a factor stands farther by the same factor. NaN where fewer than two joints are seen,
    where all are seen in one point, or where the fit puts a joint behind the camera. With `oracle_depth_m` Z
    is the truth's, and X and Y follow from it.
    """
    rays = back_project(keypoints_px, torch.ones_like(keypoints_px[..., 0]), camera)[..., :2]
    is_seen = (~is_hidden & rays.isfinite().all(-1))[..., None]  # (B, T, J, 1)
    seen = is_seen.sum(-2).clamp(min=1)  # (B, T, 1)

    def mean(values: Tensor) -> Tensor:
        return torch.where(is_seen, values, 0.0).sum(-2) / seen

    across_m = rays * joints_rel_m[..., 2:] - joints_rel_m[..., :2]  # a and b
    mean_ray, mean_across_m = mean(rays), mean(across_m)
    off_ray, off_m = rays - mean_ray[..., None, :], across_m - mean_across_m[..., None, :]
    spread = mean(off_ray.square()).sum(-1)
    depth_m = -mean(off_ray * off_m).sum(-1) / spread
    if oracle_depth_m is not None:
        depth_m = oracle_depth_m
    root_m = torch.cat([mean_across_m + mean_ray * depth_m[..., None], depth_m[..., None]], dim=-1)
    nearest_m = torch.where(is_hidden, torch.inf, joints_rel_m[..., 2]).amin(-1) + depth_m
    is_found = (is_seen.sum((-2, -1)) >= 2) & (spread > _LEAST_SPREAD**2) & (nearest_m > 0)
    return root_m.where(is_found[..., None], torch.nan)


def back_projected_m(
    keypoints_px: Float[Tensor, "B T J 2"],
    joints_rel_m: Float[Tensor, "B T J 3"],
    is_hidden: Bool[Tensor, "B T J"],
    camera: Camera,
    *,
    oracle_depth_m: Float[Tensor, "B T"] | None = None,
) -> Float[Tensor, "B T J 3"]:
    """Every keypoint at the depth of its lifted joint, relative to the root that `root_position_m` finds.

    Joints nobody saw, and frames whose root cannot be found, keep the lifted place.
    """
    root_m = root_position_m(keypoints_px, joints_rel_m, is_hidden, camera, oracle_depth_m=oracle_depth_m)[
        ..., None, :
    ]
    placed_m = back_project(keypoints_px, joints_rel_m[..., 2] + root_m[..., 2], camera) - root_m
    is_placed = ~is_hidden & placed_m.isfinite().all(-1)
    return placed_m.where(is_placed[..., None], joints_rel_m)


@torch.inference_mode()
def refine(
    model: RefinementModel,
    lifted_m: Float[Tensor, "B T J 3"],
    keypoints_px: Float[Tensor, "B T J 2"],
    is_hidden: Bool[Tensor, "B T J"],
    camera: Camera,
    *,
    root_depth: str = "estimated",
    true_root_depth_m: Float[Tensor, "B T"] | None = None,
) -> Float[Tensor, "B T J 3"]:
    """Lifted poses with x and y drawn towards the image, root-relative metres.

    `root_depth` is one of `ROOT_DEPTHS`; `oracle` needs `true_root_depth_m`, and figures made with it say so.
    """
    if root_depth not in ROOT_DEPTHS:
        raise InputError(f"root_depth must be one of {', '.join(ROOT_DEPTHS)}, got {root_depth!r}")
    if (root_depth == "oracle") != (true_root_depth_m is not None):
        raise InputError("true_root_depth_m goes with root_depth oracle, and with no other")
    placed_m = back_projected_m(keypoints_px, lifted_m, is_hidden, camera, oracle_depth_m=true_root_depth_m)
    model.eval()
    refined: Tensor = model(lifted_m, placed_m)
    return refined


def refinement(model: RefinementModel, batch: Refinable) -> tuple[Tensor, dict[str, Tensor]]:
    """What refinement is asked for: error of all joints, in metres. Loss, and metrics to log."""
    loss = joint_error(model(batch.lifted_m, batch.back_projected_m), batch.target_m, batch.is_valid)
    return loss, {
        "loss": loss.detach(),
        "loss_lifted": joint_error(batch.lifted_m, batch.target_m, batch.is_valid).detach(),
    }


@torch.no_grad()
def draw_refinable(
    lifting: LiftingModel | UnifiedPoseModel,
    corpus: Corpus,
    samples: Samples,
    *,
    seed: int,
    epoch: int,
    config: ViewConfig,
    root_depth: str = "estimated",
) -> Refinable:
    """Windows seen by drawn cameras and a detector, and lifted by a model that stays as it is.

    Of `config` the camera, the normalisation and the detector count. Everything drawn depends on (seed,
    epoch, sample id) alone.
    """
    device = corpus.joints_world_m.device
    ids = corpus.ids(samples)
    joints_world_m, is_valid = corpus.cut(samples, seed=seed, epoch=epoch, sample_ids=ids)
    drawn = uniform_on(
        device, "refinement/camera", seed=seed, epoch=epoch, sample_ids=ids, count=DRAWS_PER_CAMERA
    )
    camera = draw_cameras(drawn.float(), joints_world_m, is_valid, config.camera)
    keypoints_px, joints_cam_m, is_hidden = observe(joints_world_m, is_valid, camera)
    confidence = torch.ones_like(keypoints_px[..., 0])
    if config.detector.scale:
        keypoints_px, confidence, is_hidden = detect(
            keypoints_px,
            is_hidden,
            rate_hz=corpus.rate_hz,
            skeleton=corpus.skeleton,
            config=config.detector,
            seed=seed,
            epoch=epoch,
            sample_ids=ids,
        )
    seen = normalize_keypoints(
        keypoints_px,
        is_hidden,
        normalisation=config.normalisation,
        width_px=camera.width_px,
        height_px=camera.height_px,
        confidence=confidence if config.has_confidence else None,
    )
    lifted_m = root_relative(lifting.eval().sequence(seen, is_hidden), corpus.skeleton)[0]
    target_m, root_m = root_relative(joints_cam_m, corpus.skeleton)
    return Refinable(
        lifted_m=lifted_m,
        back_projected_m=back_projected_m(
            keypoints_px,
            lifted_m,
            is_hidden,
            camera,
            oracle_depth_m=root_m[..., 0, 2] if root_depth == "oracle" else None,
        ),
        target_m=target_m,
        is_valid=is_valid,
    )


def train_refinement(
    draw: Callable[[int], Refinable],
    *,
    config: RefinementConfig,
    optimiser: OptimiserConfig,
    steps: int,
    seed: int,
) -> RefinementModel:
    """A refinement model trained on `draw(step)`, on the device of what is drawn; torch's generator stays.

    FloatingPointError, with the step, if a loss is not finite.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = RefinementModel(config).to(draw(0).lifted_m.device)
        adam = optimiser.build(model)
        for step in range(steps):
            adam.param_groups[0]["lr"] = optimiser.rate_at(step, steps=steps, steps_per_epoch=steps)
            loss, _ = refinement(model.train(), draw(step))
            if not loss.isfinite():
                raise FloatingPointError(f"loss is {loss.item()} at step {step}")
            adam.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), optimiser.max_grad_norm)
            adam.step()
    return model.eval()
