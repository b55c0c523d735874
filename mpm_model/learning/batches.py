"""From world-space windows in memory to batches: views, mirror, noise and hidden cells, all counted."""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mpm_model.errors import refuse
from mpm_model.learning.counted import counted_normal, counted_uniform, sample_order
from mpm_model.learning.masking import LIMBS
from mpm_model.pose.camera import Camera, project, world_to_camera
from mpm_model.pose.normalize import (
    NORMALISATIONS,
    normalize_keypoints,
    root_relative,
)
from mpm_model.pose.skeleton import Skeleton
from mpm_model.pose.virtual_camera import DRAWS_PER_CAMERA, VirtualCameraConfig, draw_cameras

LARGEST_BELOW_ONE = 1 - 2**-24
"""The largest float32 below 1."""


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """How a window of world joints becomes what a camera saw of it."""

    camera: VirtualCameraConfig = field(default_factory=VirtualCameraConfig)
    """Where cameras may stand."""
    normalisation: str = "screen"
    """How pixels become network input: `screen`, the paper's, or `person`, centred and free of scale."""
    mirror_probability: float = 0.5
    """How often a window is mirrored, left joints becoming right ones."""
    noise_std: float = 0.0
    """Standard deviation of Gaussian noise on 2D, as a share of the person's size in the image."""
    hidden_ratio: float = 0.0
    """Probability that a keypoint enters as hidden, for fine-tuning to detectors that miss joints."""
    hidden_limb_probability: float = 0.0
    """Probability that one whole limb is hidden through the window."""

    def __post_init__(self) -> None:
        faults = []
        if self.normalisation not in NORMALISATIONS:
            faults.append(
                f"normalisation must be one of {', '.join(NORMALISATIONS)}, got {self.normalisation!r}"
            )
        for name in ("mirror_probability", "hidden_ratio", "hidden_limb_probability"):
            if not 0 <= getattr(self, name) <= 1:
                faults.append(f"{name} must be in 0..1, got {getattr(self, name)}")
        if self.noise_std < 0:
            faults.append(f"noise_std must not be negative, got {self.noise_std}")
        refuse("view", faults)


@dataclass(frozen=True)
class Corpus:
    """Windows held in memory, on the device that trains."""

    joints_world_m: Float[Tensor, "N T J 3"]
    """World joints, z up."""
    is_valid: Bool[Tensor, "N T J"]
    """Whether a joint was captured."""
    sample_ids: Int[np.ndarray, "N"]
    """Stable ids that all randomness is counted from."""
    skeleton: Skeleton
    """Skeleton of the joints."""

    def __len__(self) -> int:
        return len(self.sample_ids)

    @property
    def frames(self) -> int:
        """Frames of a window."""
        return self.joints_world_m.shape[1]


@dataclass(frozen=True)
class Batch:
    """What the objectives see."""

    keypoints: Float[Tensor, "B T J 2"]
    """Normalised 2D input."""
    is_hidden: Bool[Tensor, "B T J"]
    """Keypoints nobody saw; their values mean nothing."""
    joints_rel_m: Float[Tensor, "B T J 3"]
    """Camera-space joints relative to the root, the target."""
    is_valid: Bool[Tensor, "B T J"]
    """Joints that count in the loss."""
    sample_ids: Int[np.ndarray, "B"]
    """Ids of the windows."""


def indices_at(
    step: int, *, samples: int, batch_windows: int, seed: int, rank: int = 0, world_size: int = 1
) -> tuple[int, Int[np.ndarray, "B"]]:
    """Epoch and window indices of one worker's share of the global batch of a step.

    Every epoch is a new permutation; what does not fill a batch at its end is left out, and comes
    another time because the permutation is another. All workers' shares together are the same
    batch for any number of workers.
    """
    steps_per_epoch = samples // batch_windows
    epoch, within = divmod(step, steps_per_epoch)
    order = _epoch_order(seed, epoch, samples)
    return epoch, order[within * batch_windows : (within + 1) * batch_windows][rank::world_size]


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, samples: int) -> Int[np.ndarray, "N"]:
    return sample_order(seed=seed, epoch=epoch, samples=samples)


def draw_batch(
    corpus: Corpus, indices: Int[np.ndarray, "B"], *, seed: int, epoch: int, config: ViewConfig
) -> Batch:
    """View windows through freshly drawn cameras.

    Everything drawn depends on (seed, epoch, sample id) alone.
    """
    device = corpus.joints_world_m.device
    ids = corpus.sample_ids[indices]
    rows = torch.from_numpy(indices).to(device)
    joints_world_m, is_valid = corpus.joints_world_m[rows], corpus.is_valid[rows]

    def uniform(stream: str, count: int) -> Tensor:
        drawn = counted_uniform(stream, seed=seed, epoch=epoch, sample_ids=ids, count=count)
        # In float32 a number just below 1 would become 1, and an index made of it fall off the end.
        return torch.from_numpy(drawn).to(device, torch.float32).clamp(max=LARGEST_BELOW_ONE)

    if config.mirror_probability:
        is_mirrored = uniform("mirror", 1)[:, :, None] < config.mirror_probability
        joints_world_m, is_valid = mirror_world(joints_world_m, is_valid, is_mirrored, corpus.skeleton)

    camera = draw_cameras(uniform("camera", DRAWS_PER_CAMERA), joints_world_m, is_valid, config.camera)
    keypoints_px, joints_cam_m, is_hidden = observe(joints_world_m, is_valid, camera)
    batch, frames, joints = is_hidden.shape
    if config.noise_std:
        normal = counted_normal("noise", seed=seed, epoch=epoch, sample_ids=ids, count=frames * joints * 2)
        noise = torch.from_numpy(normal).to(device, torch.float32).reshape(batch, frames, joints, 2)
        keypoints_px = keypoints_px + noise * config.noise_std * person_size_px(keypoints_px, is_hidden)
    if config.hidden_ratio:
        is_hidden = is_hidden | (
            uniform("hidden", frames * joints).reshape(batch, frames, joints) < config.hidden_ratio
        )
    if config.hidden_limb_probability:
        is_hidden = is_hidden | _hidden_limb(
            uniform("limb", 2), config.hidden_limb_probability, corpus.skeleton
        )
    return Batch(
        keypoints=normalize_keypoints(
            keypoints_px,
            is_hidden,
            normalisation=config.normalisation,
            width_px=camera.width_px,
            height_px=camera.height_px,
        ),
        is_hidden=is_hidden,
        joints_rel_m=root_relative(joints_cam_m, corpus.skeleton)[0],
        is_valid=is_valid,
        sample_ids=ids,
    )


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
    opposite = torch.from_numpy(skeleton.mirror).to(joints_world_m.device)
    flipped_m = joints_world_m[:, :, opposite] * joints_world_m.new_tensor([-1.0, 1.0, 1.0])
    return (
        torch.where(is_mirrored[..., None], flipped_m, joints_world_m),
        torch.where(is_mirrored, is_valid[:, :, opposite], is_valid),
    )


def person_size_px(
    keypoints_px: Float[Tensor, "B T J 2"], is_hidden: Bool[Tensor, "B T J"]
) -> Float[Tensor, "B 1 1 1"]:
    """Longer side of the box around the visible keypoints, averaged over the frames of each window."""
    is_hidden = is_hidden[..., None]
    high = keypoints_px.masked_fill(is_hidden, -torch.inf).amax(2)
    low = keypoints_px.masked_fill(is_hidden, torch.inf).amin(2)
    return (high - low).amax(-1).clamp(min=0.0).mean(1)[:, None, None, None]


def _hidden_limb(
    uniform: Float[Tensor, "B 2"], probability: float, skeleton: Skeleton
) -> Bool[Tensor, "B 1 J"]:
    is_limb = torch.zeros(len(LIMBS), len(skeleton), dtype=torch.bool, device=uniform.device)
    for row, limb in enumerate(LIMBS):
        is_limb[row, skeleton.select(*limb)] = True
    which = (uniform[:, 1] * len(LIMBS)).long()
    return (is_limb[which] & (uniform[:, :1] < probability))[:, None]
