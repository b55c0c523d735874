"""What 2D detections tell of their own errors, without truth.

People move smoothly and keep their left and right; what does not is error. Jitter is what remains beside a
local cubic (Savitzky and Golay 1964), a swap is a jump that exchanging left and right undoes, an outlier is
far from the running median, and a miss is a keypoint that is gone for a while. Nothing that stays for longer
than such a cubic sees is told from the person's own shape and motion; below 30 Hz fast limbs leave the cubic,
and count as jitter.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import uniform_filter1d
from scipy.optimize import brentq
from scipy.signal import savgol_coeffs

from mpm_model.learning.detector_noise import SWAP_GROUPS
from mpm_model.pose.skeleton import Skeleton

CUBIC_S = 0.18
"""Time over which motion is taken to be a cubic."""
LEAST_CUBIC_FRAMES = 7
"""Frames that a cubic needs at least."""
LONGEST_BURST_S = 1.0
"""A keypoint gone, or a swap that lasts, for longer than this is another thing: out of the image, another
person."""
SWAP_GAIN = 0.05
"""Share of the person's size, per joint, by which exchanging left and right must shorten a jump."""
OUTLIER_SHARE = 0.05
"""An outlier is further than this share of the person's size from the running median,"""
OUTLIER_SPREADS = 12.0
"""and so many times as far from it as half of the joint's keypoints are."""
_MEDIAN_FRAMES = 5
_SIZE_S = 2.0
_MEDIAN_CHI_SQUARED = 0.4549
"""Of one degree of freedom."""
_MEAN_LOG_RAYLEIGH = (math.log(2) - np.euler_gamma) / 2
"""Mean of the logarithm of the length of a standard normal vector of the plane."""
_VARIANCE_LOG_RAYLEIGH = math.pi**2 / 24
"""Its variance."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One person in consecutive frames, in shares of the person's size; swaps undone."""

    keypoints: Float[np.ndarray, "T J 2"]
    """Keypoints divided by the person's size in the image; NaN where nobody saw one."""
    confidence: Float[np.ndarray, "T J"]
    """As the detector gave it."""
    is_swapped: Bool[np.ndarray, "T G"]
    """Whether each group of `SWAP_GROUPS` (legs, arms) stood on the wrong side."""
    rate_hz: float
    """Frames per second."""


def make_run(
    keypoints_px: Float[np.ndarray, "T J 2"],
    confidence: Float[np.ndarray, "T J"],
    *,
    rate_hz: float,
    skeleton: Skeleton,
) -> Run:
    """Measure consecutive frames by the person's size, smoothed over seconds, and undo swaps."""
    seen_px = np.where((confidence > 0)[..., None], keypoints_px, np.nan).astype(float)
    is_absent = ~(confidence > 0)[..., None]
    low = np.where(is_absent, np.inf, keypoints_px).min(1)
    high = np.where(is_absent, -np.inf, keypoints_px).max(1)
    size_px = np.maximum((high - low).max(-1), 1e-6)
    size_px = uniform_filter1d(size_px, max(1, min(round(_SIZE_S * rate_hz), len(size_px))), mode="nearest")
    keypoints = seen_px / size_px[:, None, None]
    mirror = skeleton.mirror
    is_swapped = np.zeros((len(seen_px), 2), dtype=bool)
    for group, name in enumerate(("legs", "arms")):
        members = skeleton.select(*SWAP_GROUPS[name])
        is_swapped[:, group] = find_swaps(
            keypoints[:, members], keypoints[:, mirror[members]], rate_hz=rate_hz
        )
        rows = np.flatnonzero(is_swapped[:, group])[:, None]
        keypoints[rows, members] = keypoints[rows, mirror[members]]
        confidence = confidence.copy()
        confidence[rows, members] = confidence[rows, mirror[members]]
    return Run(keypoints=keypoints, confidence=confidence, is_swapped=is_swapped, rate_hz=rate_hz)


def find_swaps(
    keypoints: Float[np.ndarray, "T M 2"], opposite: Float[np.ndarray, "T M 2"], *, rate_hz: float
) -> Bool[np.ndarray, "T"]:
    """Frames between two jumps, soon after each other, that exchanging left and right undoes.

    Compared are neighbouring frames over the joints seen in both, with their opposites. Swaps while left and
    right lie upon each other cannot be seen, and do no harm.
    """
    stays = np.linalg.norm(keypoints[1:] - keypoints[:-1], axis=-1)
    crosses = np.linalg.norm(keypoints[1:] - opposite[:-1], axis=-1)
    is_known = np.isfinite(stays) & np.isfinite(crosses)
    number = np.maximum(is_known.sum(-1), 1)
    stay = np.where(is_known, stays, 0).sum(-1) / number
    cross = np.where(is_known, crosses, 0).sum(-1) / number
    jumps = np.flatnonzero((cross < 0.5 * stay) & (stay - cross > SWAP_GAIN)) + 1
    is_swapped = np.zeros(len(keypoints), dtype=bool)
    index = 0
    while index + 1 < len(jumps):
        start, stop = jumps[index], jumps[index + 1]
        if stop - start <= LONGEST_BURST_S * rate_hz:
            is_swapped[start:stop] = True
            index += 2
        else:
            index += 1
    return is_swapped


def find_outliers(run: Run) -> tuple[Float[np.ndarray, "T J"], Float[np.ndarray, "T J"]]:
    """Distance from the median of five frames for outliers, 0 for all others, and what it must exceed."""
    half = _MEDIAN_FRAMES // 2
    if len(run.keypoints) < _MEDIAN_FRAMES:
        return np.zeros(run.confidence.shape), np.full(run.confidence.shape, OUTLIER_SHARE)
    padded = np.pad(run.keypoints, ((half, half), (0, 0), (0, 0)), mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, _MEDIAN_FRAMES, axis=0)
    distance = np.linalg.norm(run.keypoints - np.median(around, axis=-1), axis=-1)
    known = np.where(np.isnan(distance).all(0), 0.0, distance)
    far = np.maximum(OUTLIER_SPREADS * np.nanmedian(known, axis=0), OUTLIER_SHARE)
    return np.where(distance > far, distance, 0.0), np.broadcast_to(far, distance.shape)


@dataclass(frozen=True)
class Residuals:
    """What remains of keypoints beside a local cubic, in shares of the person's size."""

    values: Float[np.ndarray, "T J 2"]
    """NaN where the cubic would need a keypoint that is an outlier or was not seen."""
    kernel: Float[np.ndarray, "W"]
    """Filter that made them."""


def cubic_frames(rate_hz: float) -> int:
    """Frames of the local cubic: odd, and enough to leave something over."""
    return max(LEAST_CUBIC_FRAMES, 2 * round(CUBIC_S * rate_hz / 2) + 1)


def residuals(run: Run, is_outlier: Bool[np.ndarray, "T J"]) -> Residuals:
    """Keypoints less the cubic that fits the frames around each best."""
    frames = cubic_frames(run.rate_hz)
    kernel = -savgol_coeffs(frames, 3)
    kernel[frames // 2] += 1
    values = np.full_like(run.keypoints, np.nan)
    if len(values) >= frames:
        usable = np.where(is_outlier[..., None], np.nan, run.keypoints)
        windows = np.lib.stride_tricks.sliding_window_view(usable, frames, axis=0)
        values[frames // 2 : len(values) - frames // 2] = windows @ kernel[::-1]
    return Residuals(values, kernel)


def residual_moments(kernel: Float[np.ndarray, "W"], correlation: float) -> tuple[float, float]:
    """Variance of AR(1) noise of unit variance after the filter, and its covariance with the next frame."""
    overlap = np.correlate(kernel, kernel, mode="full")
    lag = np.arange(len(overlap)) - len(kernel) + 1
    return float(overlap @ correlation ** np.abs(lag)), float(overlap @ correlation ** np.abs(lag + 1))


def slowest_correlation(rate_hz: float) -> float:
    """Correlation of neighbouring frames beyond which noise is too slow to be told from motion."""
    return math.exp(-2 / (CUBIC_S * rate_hz))


def jitter_correlation(parts: Sequence[Residuals], *, rate_hz: float) -> float:
    """Correlation of neighbouring frames of the noise that leaves such residuals, 0.01 at least.

    The residuals' own correlation is a known function of it; what the cubic takes away is so given back.
    """
    kernel = parts[0].kernel
    near = here = 0.0
    for part in parts:
        squares = part.values**2
        seldom = np.isfinite(squares).sum((0, 2)) < 4
        squares[:, seldom] = 1.0
        spread = np.sqrt(np.nanmedian(squares, axis=(0, 2)) / _MEDIAN_CHI_SQUARED)
        spread[seldom] = np.inf
        scaled = np.clip(part.values / np.maximum(spread, 1e-12)[:, None], -4, 4)
        is_pair = np.isfinite(scaled[1:]) & np.isfinite(scaled[:-1])
        near += float((scaled[1:] * scaled[:-1])[is_pair].sum())
        here += float((scaled[1:] ** 2 + scaled[:-1] ** 2)[is_pair].sum() / 2)

    def excess(correlation: float) -> float:
        variance, covariance = residual_moments(kernel, correlation)
        return covariance / variance - near / here

    low, high = 0.01, slowest_correlation(rate_hz)
    if excess(low) >= 0:
        return low
    return high if excess(high) <= 0 else float(brentq(excess, low, high))


def log_sizes(part: Residuals, correlation: float) -> Float[np.ndarray, "T J"]:
    """Logarithm of the jitter's standard deviation, one noisy and unbiased guess for each keypoint."""
    variance, _ = residual_moments(part.kernel, correlation)
    with np.errstate(divide="ignore"):
        logs = np.log(np.linalg.norm(part.values, axis=-1)) - _MEAN_LOG_RAYLEIGH - math.log(variance) / 2
    return np.where(np.isinf(logs), np.nan, logs)


def quality_spread(centered_logs: Float[np.ndarray, "N"]) -> float:
    """Standard deviation of the logarithm of the jitter's scale: how its guesses vary beyond chance."""
    return math.sqrt(max(float(np.var(centered_logs)) - _VARIANCE_LOG_RAYLEIGH, 0.0))


def centered(values: Float[np.ndarray, "T J"]) -> Float[np.ndarray, "T J"]:
    """Values less their joint's mean; NaN stays."""
    is_known = np.isfinite(values)
    mean = np.where(is_known, values, 0.0).sum(0) / np.maximum(is_known.sum(0), 1)
    return np.asarray(values - mean)


def correlation_time_s(
    parts: Sequence[Float[np.ndarray, "T J"]], *, rate_hz: float, longest_s: float = 1.0
) -> float | None:
    """Time in which the correlation of centred values (NaN: not known) falls to 1/e; None if it does not."""
    correlations = [1.0]
    for lag in range(1, max(2, round(longest_s * rate_hz)) + 1):
        near = here = 0.0
        for part in parts:
            first, second = part[:-lag], part[lag:]
            is_pair = np.isfinite(first) & np.isfinite(second)
            near += float((first * second)[is_pair].sum())
            here += float((first**2 + second**2)[is_pair].sum() / 2)
        if not here:
            return None
        correlations.append(near / here)
        if correlations[-1] < math.exp(-1):
            above, below = correlations[-2:]
            return (lag - 1 + (above - math.exp(-1)) / (above - below)) / rate_hz
    return None


@dataclass(frozen=True)
class Bursts:
    """Frames in which something was on or off, and how often it turned; sums over many keypoints."""

    off_frames: float = 0.0
    """Frames after which it could turn on."""
    starts: float = 0.0
    """Times it did."""
    on_frames: float = 0.0
    """Frames after which it could turn off."""
    ends: float = 0.0
    """Times it did."""

    def __add__(self, other: "Bursts") -> "Bursts":
        return Bursts(
            self.off_frames + other.off_frames,
            self.starts + other.starts,
            self.on_frames + other.on_frames,
            self.ends + other.ends,
        )

    def rates(self, rate_hz: float) -> tuple[float, float] | None:
        """Starts per second and mean duration of the process in continuous time; None if it was never on.

        Inverts the transition probabilities of `mpm_model.learning.detector_noise.bursts`.
        """
        if not self.starts or not self.ends:
            return None
        on, off = self.starts / self.off_frames, self.ends / self.on_frames
        total_per_s = -math.log(max(1 - on - off, 1e-3)) * rate_hz
        return total_per_s * on / (on + off), (on + off) / (total_per_s * off)


def count_bursts(is_on: Bool[np.ndarray, "T N"], *, rate_hz: float) -> Bursts:
    """Count what turns on and off; what is on for too long to be a burst is left out."""
    total = Bursts()
    longest = LONGEST_BURST_S * rate_hz
    for column in is_on.T:
        edges = np.flatnonzero(np.diff(column.astype(np.int8), prepend=0, append=0))
        is_usable = np.ones(len(column), dtype=bool)
        for start, stop in edges.reshape(-1, 2):
            is_usable[start:stop] = stop - start <= longest
        before, after = column[:-1], column[1:]
        counts = is_usable[:-1] & is_usable[1:]
        total += Bursts(
            off_frames=float((~before & counts).sum()),
            starts=float((~before & after & counts).sum()),
            on_frames=float((before & counts).sum()),
            ends=float((before & ~after & counts).sum()),
        )
    return total
