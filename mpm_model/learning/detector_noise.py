"""How 2D detectors err: jitter, slow bias, swaps of left and right, misses, and a confidence that knows.

Every keypoint has a hidden quality that wanders in time. It scales the jitter, makes misses and outliers
likelier, and is what the confidence tells of. All times are in seconds, so that the same detector errs alike
at any frame rate; all lengths are shares of the person's size in the image, so that it errs alike at any
distance. That noise on 2D helps pre-training is a finding of MotionBERT (Zhu et al. 2023).

The defaults are rounded measurements of two real detectors on one scene at 60 Hz, Pose2Sim's sample: OpenPose
(BODY_25B, four cameras, 600 frames of 6 tracks) and MediaPipe (100 frames). `mpm fit-noise` gave joints'
errors (the geometric mean of both), confidence, misses and outliers. Jitter, its time, bias and what the
confidence tells come from OpenPose's three best cameras less the reprojected multi-view 3D, each camera's
common shift taken away: jitter 0.0068 over 0.05 s and bias 0.0094 within windows of 27 frames, hips the worst
(0.016). The quality's spread was 0.31 there, 0.67 and 0.46 in the fits. No swap was seen in 10 s: how often
they come is a guess. Other videos differ: fit your own.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mpm_model.errors import refuse
from mpm_model.learning.counted import SampleIds, box_muller, ids_on, uniform_on
from mpm_model.learning.masking import LIMBS
from mpm_model.on_device import constant, send
from mpm_model.pose.skeleton import Skeleton
from mpm_model.pose.skeletons import SKELETONS

SWAP_GROUPS: Mapping[str, tuple[str, ...]] = {
    "legs": LIMBS["left leg"] + LIMBS["right leg"],
    "arms": LIMBS["left arm"] + LIMBS["right arm"],
    "body": tuple(joint for limb in LIMBS.values() for joint in limb),
}
"""Joints that change sides together."""

MISSES_PER_QUALITY = 1.0
"""Misses and outliers are e times as frequent where quality is this many standard deviations lower."""
_RANDOM_BITS = 24
"""Bits of one of the two uniform numbers that are made of one; float32 holds them exactly."""


def sideless(joint: str) -> str:
    """The kind of a joint, left or right: `left_ankle` -> `ankle`."""
    return joint.removeprefix("left_").removeprefix("right_")


_JOINT_KINDS = {sideless(joint) for skeleton in SKELETONS.values() for joint in skeleton.joints}


def _default_joint_error() -> dict[str, float]:
    return {
        "pelvis": 0.75, "hip": 0.8, "knee": 1.0, "ankle": 1.1,
        "spine": 0.65, "thorax": 0.85, "nose": 1.4, "head_top": 1.4,
        "shoulder": 1.05, "elbow": 1.0, "wrist": 1.2,
    }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DetectorNoiseConfig:
    """A detector's errors."""

    scale: float = 0.0
    """0 is a perfect, sure detector; 1 one that errs as stated below. Between and beyond, errors are so many
    times as large, and misses, swaps and outliers so many times as frequent."""
    joint_error: Mapping[str, float] = field(default_factory=_default_joint_error)
    """Errors of a joint, left or right (`ankle`), as a multiple of the stated; 1 where it is not named. Its
    misses are as many times as frequent."""
    jitter_std: float = 0.006
    """Standard deviation of the jitter along one axis at median quality, as a share of the person's size."""
    jitter_time_s: float = 0.05
    """Time in which the jitter's correlation falls to 1/e."""
    bias_std: float = 0.01
    """Standard deviation along one axis of an offset that stays through a window, as a share of the size."""
    quality_spread: float = 0.45
    """Quality lower by one standard deviation makes the jitter exp(quality_spread) times as large."""
    quality_time_s: float = 0.15
    """Time in which the correlation of the quality falls to 1/e."""
    median_confidence: float = 0.65
    """Confidence at median quality, above 0 and below 1."""
    confidence_spread: float = 0.6
    """Standard deviation of the confidence's logit."""
    confidence_truth: float = 0.5
    """Correlation of the confidence's logit with the quality, in 0..1: how much the detector knows of its
    errors."""
    swaps_per_s: float = 0.02
    """How often the left and right keypoints of the legs begin to be swapped; as often those of the arms, and
    as often both together."""
    swap_s: float = 0.1
    """Mean duration of a swap."""
    dropouts_per_s: float = 0.12
    """How often a keypoint begins to be missed, on average over the qualities."""
    dropout_s: float = 0.13
    """Mean duration of a miss."""
    outlier_probability: float = 0.003
    """Share of keypoints that lie somewhere else, on average over the qualities."""
    outlier_std: float = 0.15
    """Standard deviation of where they lie along one axis, as a share of the person's size."""

    def __post_init__(self) -> None:
        faults = [
            f"{each.name} must be a number of at least 0, got {value}"
            for each in fields(self)
            if isinstance(value := getattr(self, each.name), int | float)
            and not (math.isfinite(value) and value >= 0)
        ]
        faults += [
            f"{name} must be positive, got {getattr(self, name)}"
            for name in ("jitter_time_s", "quality_time_s", "swap_s", "dropout_s")
            if getattr(self, name) == 0
        ]
        if not 0 < self.median_confidence < 1:
            faults.append(f"median_confidence must lie between 0 and 1, got {self.median_confidence}")
        faults += [
            f"{name} must be in 0..1, got {getattr(self, name)}"
            for name in ("confidence_truth", "outlier_probability")
            if getattr(self, name) > 1
        ]
        if unknown := sorted(set(self.joint_error) - _JOINT_KINDS):
            faults.append(
                f"joint_error names {', '.join(unknown)}; joints, without their side, are "
                f"{', '.join(sorted(_JOINT_KINDS))}"
            )
        faults += [
            f"joint_error of {joint} must be a number of at least 0, got {error}"
            for joint, error in self.joint_error.items()
            if not (math.isfinite(error) and error >= 0)
        ]
        refuse("detector", faults)


def person_size_px(
    keypoints_px: Float[Tensor, "B T J 2"], is_hidden: Bool[Tensor, "B T J"]
) -> Float[Tensor, "B 1 1 1"]:
    """Longer side of the box around the visible keypoints, averaged over the frames of each window."""
    is_hidden = is_hidden[..., None]
    high = keypoints_px.masked_fill(is_hidden, -torch.inf).amax(2)
    low = keypoints_px.masked_fill(is_hidden, torch.inf).amin(2)
    return (high - low).amax(-1).clamp(min=0.0).mean(1)[:, None, None, None]


def detect(
    keypoints_px: Float[Tensor, "B T J 2"],
    is_hidden: Bool[Tensor, "B T J"],
    *,
    rate_hz: float,
    skeleton: Skeleton,
    config: DetectorNoiseConfig,
    seed: int,
    epoch: int,
    sample_ids: SampleIds,
) -> tuple[Float[Tensor, "B T J 2"], Float[Tensor, "B T J"], Bool[Tensor, "B T J"]]:
    """What a detector reports of true keypoints: where, how sure in 0..1, and which it does not see.

    What is hidden stays hidden. Hidden keypoints have confidence 0; their places mean nothing. Errors do not
    depend on the picture: swaps do not wait for legs that cross, nor misses for an occlusion.
    """
    batch, frames, joints = is_hidden.shape
    device, dtype = keypoints_px.device, keypoints_px.dtype
    sample_ids = ids_on(device, sample_ids)

    def uniform_pair(stream: str, *shape: int) -> tuple[Tensor, Tensor]:
        drawn = uniform_on(
            device,
            f"detector/{stream}",
            seed=seed,
            epoch=epoch,
            sample_ids=sample_ids,
            count=math.prod(shape),
        )
        first, second = (half.to(dtype).view(batch, *shape) for half in _halves(drawn))
        return first, second

    def normal_pairs(stream: str, *shape: int) -> Tensor:
        return box_muller(*uniform_pair(stream, *shape))

    def correlated(white: Tensor, time_s: float) -> Tensor:
        ar1 = ar1_filter(frames, math.exp(-1 / (rate_hz * time_s)), device)
        return (ar1.to(dtype) @ white.flatten(2)).view_as(white)

    size_px = person_size_px(keypoints_px, is_hidden)
    is_swapped = _swapped(uniform_pair("swaps", frames, len(SWAP_GROUPS))[0], skeleton, config, rate_hz)
    mirror = constant(tuple(skeleton.mirror.tolist()), device=device, dtype=torch.long)
    seen_px = torch.where(is_swapped[..., None], keypoints_px[:, :, mirror], keypoints_px)
    is_hidden = torch.where(is_swapped, is_hidden[:, :, mirror], is_hidden)

    joint_error = constant(
        tuple(config.joint_error.get(sideless(joint), 1.0) for joint in skeleton.joints),
        device=device,
        dtype=dtype,
    )
    quality, unexplained = correlated(normal_pairs("quality", frames, joints), config.quality_time_s).unbind(
        -1
    )
    white = normal_pairs("jitter", frames, joints)
    jitter_std = config.scale * config.jitter_std * joint_error * (-config.quality_spread * quality).exp()
    error = correlated(white, config.jitter_time_s) * jitter_std[..., None]
    bias_std = config.scale * config.bias_std * joint_error[:, None]
    error += (normal_pairs("bias", joints) * bias_std)[:, None]

    drop_draw, outlier_draw = uniform_pair("misses", frames, joints)
    # The mean of exp(-a q) over a standard normal q is exp(a^2 / 2).
    frequency = config.scale * (-MISSES_PER_QUALITY * quality - MISSES_PER_QUALITY**2 / 2).exp()
    is_outlier = outlier_draw < config.outlier_probability * frequency
    # Outliers go where the frame's own innovation points: it is drawn already, and independent in time.
    error = torch.where(is_outlier[..., None], white * config.outlier_std, error)
    is_missed = bursts(
        drop_draw,
        starts_per_s=config.dropouts_per_s * frequency * joint_error,
        mean_s=config.dropout_s,
        rate_hz=rate_hz,
    )
    is_hidden = is_hidden | is_missed

    known = config.confidence_truth * quality + math.sqrt(1 - config.confidence_truth**2) * unexplained
    center = math.log(config.median_confidence / (1 - config.median_confidence))
    # torch's own sigmoid rounds an element by its place in memory; a sample must not depend on its batch.
    doubt = (center + config.confidence_spread * known).exp_().add_(1).reciprocal_()
    confidence = (1 - min(config.scale, 1.0) * doubt).masked_fill(is_hidden, 0.0)
    return seen_px + error * size_px, confidence, is_hidden


@lru_cache(maxsize=16)
def ar1_filter(frames: int, correlation: float, device: torch.device) -> Float[Tensor, "T T"]:
    """Turns white noise of unit variance, along T, into AR(1) noise of unit variance.

    x_0 = e_0 and x_t = c x_{t-1} + sqrt(1 - c^2) e_t, written out as a lower triangular matrix.
    """
    lag = np.arange(frames)[:, None] - np.arange(frames)
    powers = np.where(lag >= 0, correlation ** np.maximum(lag, 0), 0.0)
    powers[:, 1:] *= math.sqrt(1 - correlation**2)
    return send(powers.astype(np.float32), device)


def bursts(
    uniform: Float[Tensor, "B T N"],
    *,
    starts_per_s: Float[Tensor, "*shape"] | float,
    mean_s: float,
    rate_hz: float,
) -> Bool[Tensor, "B T N"]:
    """Whether a burst is on: a two-state Markov process in continuous time, seen at every frame.

    Off turns on at `starts_per_s`, on turns off after `mean_s` on average. Over a step dt the transition
    probabilities are p (1 - exp(-k dt)) and (1 - p) (1 - exp(-k dt)), with k the sum of both rates and p the
    share of time that is on (Norris, Markov chains, 1997, example 2.1.1). Together they never exceed 1, so
    one uniform number decides a frame: it turns on, turns off, or keeps what was.
    """
    if not isinstance(starts_per_s, Tensor):
        starts_per_s = uniform.new_full((), starts_per_s)
    total_per_s = starts_per_s + 1 / mean_s
    share = starts_per_s / total_per_s
    moves = -torch.expm1(-total_per_s / rate_hz)
    first_share = (share[:, :1] if share.ndim == uniform.ndim else share).expand_as(uniform[:, :1])
    turns_on = uniform < share * moves
    turns_on[:, :1] = uniform[:, :1] < first_share
    turns_off = uniform >= 1 - (1 - share) * moves
    turns_off[:, :1] = ~turns_on[:, :1]
    # The last turn decides: an even number, rising with the frame, and one more where the turn is to on.
    frame = 2 * torch.arange(uniform.shape[1], device=uniform.device, dtype=torch.int32)[:, None]
    turn = torch.where(turns_on | turns_off, frame + turns_on, 0)
    return turn.cummax(1).values % 2 == 1


def _swapped(
    uniform: Float[Tensor, "B T 3"], skeleton: Skeleton, config: DetectorNoiseConfig, rate_hz: float
) -> Bool[Tensor, "B T J"]:
    """Keypoints that stand where their opposite is: those in one swapped group, or in all three."""
    is_on = bursts(
        uniform, starts_per_s=config.scale * config.swaps_per_s, mean_s=config.swap_s, rate_hz=rate_hz
    )
    belongs = constant(
        tuple(tuple(joint in group for joint in skeleton.joints) for group in SWAP_GROUPS.values()),
        device=uniform.device,
        dtype=uniform.dtype,
    )
    return (is_on.to(uniform.dtype) @ belongs) % 2 == 1


def _halves(uniform: Float[Tensor, "B N"]) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N"]]:
    """Two independent uniform numbers of 24 bits, float32, out of each of 53."""
    steps = 2.0**_RANDOM_BITS
    scaled = uniform * steps
    high = scaled.floor()
    low = scaled.sub_(high).mul_(steps).floor_()
    return high.float().div_(steps), low.float().div_(steps)
