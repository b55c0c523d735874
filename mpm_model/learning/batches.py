"""From world-space windows in memory to batches: views, mirror, noise and hidden cells, all counted, on the
device that holds the windows.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mpm_model.errors import refuse
from mpm_model.learning.corpus import Corpus as Corpus
from mpm_model.learning.counted import CountedArguments as CountedArguments
from mpm_model.learning.counted import ids_on, normal_on, uniform_on
from mpm_model.learning.detector_noise import DetectorNoiseConfig, detect, person_size_px
from mpm_model.learning.masking import TUBES, draw_bursts, draw_tubes
from mpm_model.learning.order import Samples
from mpm_model.learning.pose_augment import PoseAugmentConfig, augment_pose
from mpm_model.on_device import constant
from mpm_model.pose.camera import Camera, project, world_to_camera
from mpm_model.pose.normalize import (
    NORMALISATIONS,
    input_channels,
    normalize_keypoints,
    normalize_targets,
    root_relative,
)
from mpm_model.pose.skeleton import Skeleton
from mpm_model.pose.virtual_camera import DRAWS_PER_CAMERA, VirtualCameraConfig, draw_cameras

LONGEST_BURST = 0.6
"""Longest stretch of hidden frames, as a share of the window."""
LARGEST_BELOW_ONE = 1 - 2**-24
"""The largest float32 below 1."""


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """How a window of world joints becomes what a camera saw of it."""

    camera: VirtualCameraConfig = field(default_factory=VirtualCameraConfig)
    """Where cameras may stand."""
    cameras_per_window: int = 0
    """So many cameras film each window, in turn, as in a laboratory; 0 draws a new one every epoch."""
    normalisation: str = "screen"
    """How pixels become network input: one of `mpm_model.pose.normalize.NORMALISATIONS`."""
    mirror_probability: float = 0.5
    """How often a window is mirrored, left joints becoming right ones."""
    pose: PoseAugmentConfig = field(default_factory=PoseAugmentConfig)
    """Bodies and postures nobody recorded; off by default."""
    detector: DetectorNoiseConfig = field(default_factory=DetectorNoiseConfig)
    """How the detector errs; its scale is 0 by default: true 2D."""
    perfect_detector_probability: float = 0.0
    """How often a window is seen by a detector that does not err, and says so by its confidence."""
    noise_std: float = 0.0
    """Standard deviation of Gaussian noise on 2D, as a share of the person's size in the image."""
    hidden_ratio: float = 0.0
    """Probability that a keypoint enters as hidden, for fine-tuning to detectors that miss joints."""
    hidden_tube_probability: float = 0.0
    """Probability that the same joints are hidden through the window: see `tube_kinds`."""
    tube_kinds: tuple[str, ...] = ("limb",)
    """Which joints a tube hides, each as often: kinds of `mpm_model.learning.masking.TUBES`."""
    hidden_burst_probability: float = 0.0
    """Probability that the detector misses the person for a stretch of frames."""
    unknown_image_probability: float = 0.0
    """How often the network is not told the image's size; only `both` looks at it."""
    has_confidence: bool = False
    """Whether the detector's confidence enters with each keypoint."""

    def __post_init__(self) -> None:
        faults = []
        if self.normalisation not in NORMALISATIONS:
            faults.append(
                f"normalisation must be one of {', '.join(NORMALISATIONS)}, got {self.normalisation!r}"
            )
        for name in (
            "mirror_probability",
            "hidden_ratio",
            "hidden_tube_probability",
            "hidden_burst_probability",
            "unknown_image_probability",
            "perfect_detector_probability",
        ):
            if not 0 <= getattr(self, name) <= 1:
                faults.append(f"{name} must be in 0..1, got {getattr(self, name)}")
        if self.unknown_image_probability and self.normalisation == "screen":
            faults.append("unknown_image_probability must be 0: normalisation screen needs the image's size")
        if self.cameras_per_window < 0:
            faults.append(f"cameras_per_window must not be negative, got {self.cameras_per_window}")
        if self.noise_std < 0:
            faults.append(f"noise_std must not be negative, got {self.noise_std}")
        if unknown := [kind for kind in self.tube_kinds if kind not in TUBES]:
            faults.append(f"tube_kinds must be of {', '.join(TUBES)}, got {', '.join(unknown)}")
        if self.hidden_tube_probability and not self.tube_kinds:
            faults.append("tube_kinds must name at least one kind")
        refuse("view", faults)

    @property
    def keypoint_channels(self) -> int:
        """Numbers that enter the network for each keypoint."""
        return input_channels(self.normalisation)[self.has_confidence]


@dataclass(frozen=True)
class Batch:
    """What the objectives see."""

    keypoints: Float[Tensor, "B T J C_in"]
    """Network input as the detector gives it: see `normalize_keypoints`."""
    is_hidden: Bool[Tensor, "B T J"]
    """Keypoints nobody saw; their values mean nothing."""
    true_keypoints: Float[Tensor, "B T J 2"]
    """Where the keypoints really are, normalised as the input is."""
    has_image: Bool[Tensor, "B T J"]
    """Joints with a true keypoint, seen by the detector or not."""
    joints_rel_m: Float[Tensor, "B T J 3"]
    """Camera-space joints relative to the root, the target."""
    is_valid: Bool[Tensor, "B T J"]
    """Joints that count in the loss."""
    sample_ids: Int[np.ndarray, "B"]
    """Ids of the samples, which their masks are counted from."""
    window_ids: Int[np.ndarray, "B"]
    """Ids of the windows; a window that comes twice in an epoch is two samples."""


def draw_batch(corpus: Corpus, samples: Samples, *, seed: int, epoch: int, config: ViewConfig) -> Batch:
    """View windows through freshly drawn cameras and a detector's eyes.

    Everything drawn depends on (seed, epoch, sample id) alone.
    """
    device = corpus.joints_world_m.device
    ids = corpus.ids(samples)
    counted: CountedArguments = {"seed": seed, "epoch": epoch, "sample_ids": ids_on(device, ids)}
    joints_world_m, is_valid = corpus.cut(samples, **counted)

    def uniform(stream: str, count: int, *, at_epoch: int = epoch) -> Tensor:
        drawn = uniform_on(device, stream, count=count, **(counted | {"epoch": at_epoch}))
        # In float32 a number just below 1 would become 1, and an index made of it fall off the end.
        return drawn.float().clamp_(max=LARGEST_BELOW_ONE)

    if config.pose.probability:
        joints_world_m = augment_pose(
            joints_world_m, is_valid, skeleton=corpus.skeleton, config=config.pose, **counted
        )
    if config.mirror_probability:
        is_mirrored = uniform("mirror", 1)[:, :, None] < config.mirror_probability
        joints_world_m, is_valid = mirror_world(joints_world_m, is_valid, is_mirrored, corpus.skeleton)

    camera_epoch = epoch % config.cameras_per_window if config.cameras_per_window else epoch
    camera_draws = uniform("camera", DRAWS_PER_CAMERA, at_epoch=camera_epoch)
    camera = draw_cameras(camera_draws, joints_world_m, is_valid, config.camera)
    true_px, joints_cam_m, has_no_image = observe(joints_world_m, is_valid, camera)
    seen_px, is_hidden = true_px, has_no_image
    confidence = torch.ones_like(true_px[..., 0])
    batch, frames, joints = is_hidden.shape
    if config.detector.scale:
        seen_px, confidence, is_hidden = detect(
            true_px,
            has_no_image,
            rate_hz=corpus.rate_hz,
            skeleton=corpus.skeleton,
            config=config.detector,
            **counted,
        )
        is_perfect = uniform("perfect detector", 1)[:, :, None] < config.perfect_detector_probability
        seen_px = torch.where(is_perfect[..., None], true_px, seen_px)
        confidence = torch.where(is_perfect, 1.0, confidence)
        is_hidden = torch.where(is_perfect, has_no_image, is_hidden)
    if config.noise_std:
        normal = normal_on(device, "noise", **counted, count=frames * joints * 2)
        noise = normal.float().view(batch, frames, joints, 2)
        seen_px = seen_px + noise * config.noise_std * person_size_px(true_px, has_no_image)
    if config.hidden_ratio:
        is_hidden = is_hidden | (
            uniform("hidden", frames * joints).view(batch, frames, joints) < config.hidden_ratio
        )
    if config.hidden_tube_probability:
        is_tube = draw_tubes(
            "view", kinds=config.tube_kinds, skeleton=corpus.skeleton, device=device, **counted
        )
        is_drawn = uniform("limb", 1) < config.hidden_tube_probability
        is_hidden = is_hidden | (is_tube & is_drawn)[:, None]
    if config.hidden_burst_probability:
        is_burst = draw_bursts("view", frames=frames, longest_share=LONGEST_BURST, device=device, **counted)
        is_drawn = uniform("burst", 1) < config.hidden_burst_probability
        is_hidden = is_hidden | (is_burst & is_drawn)[..., None]
    width_px, height_px = camera.width_px, camera.height_px
    if config.unknown_image_probability:
        is_unknown = uniform("image", 1)[:, 0] < config.unknown_image_probability
        width_px, height_px = width_px.where(~is_unknown, 0), height_px.where(~is_unknown, 0)
    return Batch(
        keypoints=normalize_keypoints(
            seen_px,
            is_hidden,
            normalisation=config.normalisation,
            width_px=width_px,
            height_px=height_px,
            confidence=confidence if config.has_confidence else None,
        ),
        is_hidden=is_hidden,
        true_keypoints=normalize_targets(
            true_px,
            seen_px=seen_px,
            is_hidden=is_hidden,
            normalisation=config.normalisation,
            width_px=camera.width_px,
            height_px=camera.height_px,
        ),
        has_image=~has_no_image & _shows_person(is_hidden),
        joints_rel_m=root_relative(joints_cam_m, corpus.skeleton)[0],
        is_valid=is_valid,
        sample_ids=ids,
        window_ids=corpus.sample_ids[samples.indices],
    )


def _shows_person(is_hidden: Bool[Tensor, "B T J"]) -> Bool[Tensor, "B 1 1"]:
    """Whether a window shows enough to say where the person is: as many keypoints as one frame has.

    Normalised by less, true keypoints would be any number, and nobody can be asked for them.
    """
    return (~is_hidden).sum((1, 2), keepdim=True) >= is_hidden.shape[-1]


def observe(
    joints_world_m: Float[Tensor, "B T J 3"], is_valid: Bool[Tensor, "B T J"], camera: Camera
) -> tuple[Float[Tensor, "B T J 2"], Float[Tensor, "B T J 3"], Bool[Tensor, "B T J"]]:
    """Keypoints in pixels, joints in camera space, and which keypoints have no image."""
    joints_cam_m = world_to_camera(joints_world_m, camera)
    keypoints_px = project(joints_cam_m, camera)
    is_hidden = ~is_valid | keypoints_px.isnan().any(-1)
    return keypoints_px.nan_to_num(0.0), joints_cam_m, is_hidden


def mirror_world(
    joints_world_m: Float[Tensor, "B T J 3"],
    is_valid: Bool[Tensor, "B T J"],
    is_mirrored: Bool[Tensor, "B 1 1"],
    skeleton: Skeleton,
) -> tuple[Float[Tensor, "B T J 3"], Bool[Tensor, "B T J"]]:
    """Mirror chosen windows at the world's y-z plane; left joints become right ones."""
    device, dtype = joints_world_m.device, joints_world_m.dtype
    opposite = constant(tuple(skeleton.mirror.tolist()), device=device, dtype=torch.long)
    flip = constant((-1.0, 1.0, 1.0), device=device, dtype=dtype)
    flipped_m = joints_world_m[:, :, opposite] * flip
    return (
        torch.where(is_mirrored[..., None], flipped_m, joints_world_m),
        torch.where(is_mirrored, is_valid[:, :, opposite], is_valid),
    )
