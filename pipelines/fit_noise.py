"""The verb `fit-noise`: from somebody's own 2D detections, how their detector errs, as a training setting.

No truth is needed, and so not all can be told: see `pipelines.noise_estimates`. What cannot keeps its
default, and the file that is written says which.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import yaml
from jaxtyping import Float

from mpm_model.errors import InputError, listing
from mpm_model.learning.detector_noise import DetectorNoiseConfig, sideless
from mpm_model.pose.skeletons import H36M_17
from pipelines import noise_estimates as estimates
from pipelines import storage
from pipelines.detections.common_skeleton import to_h36m_17
from pipelines.detections.registry import ReadOptions, find_sources, read_source
from pipelines.detections.track import Track
from pipelines.schema import made_by

LEAST_RESIDUALS = 1000
"""Keypoints with a residual that a fit wants at least."""
_LEAST_EVENTS = 5
"""Events that a frequency is told from."""
_SUREST = 1 - 1e-4
"""Confidences above this have no logit worth having."""
_DIGITS = 3


@dataclass(frozen=True)
class NoiseFit:
    """How a detector errs, and how that is known."""

    config: DetectorNoiseConfig
    """Ready to train with: its scale is 1."""
    notes: Mapping[str, str]
    """What to know of some settings, such as that they stayed as they were, and why."""
    frames: int
    """Frames looked at."""
    people: int
    """Tracks looked at."""

    def settings(self) -> dict[str, Any]:
        """The configuration as plain values, rounded."""
        return {name: _rounded(value) for name, value in asdict(self.config).items()}


def run(inputs: Sequence[str], *, out: str, options: ReadOptions | None = None) -> list[str]:
    """Fit the noise of all detections below the inputs, write it as YAML, and say in lines what came out.

    Raises:
        InputError: no detections, a source that cannot be read, a video without a rate, or too little to see.
    """
    if not out.endswith((".yaml", ".yml")):
        raise InputError(f"--out {out}: wanted the name of a YAML file, such as noise.yaml")
    options = options or ReadOptions()
    tracks = [
        track
        for url in inputs
        for source in find_sources(storage.absolute(url), options)
        for track in read_source(source, options)
    ]
    if unknown := sorted({track.source for track in tracks if track.rate_hz is None}):
        raise InputError(f"{unknown[0]}: nobody says the frame rate; give --rate-hz")
    fit = fit_noise(tracks)
    said = [
        f"{fit.frames:,} frames of {fit.people:,} tracks in {', '.join(map(str, inputs))}",
        *(f"{name}: {note}" for name, note in fit.notes.items()),
    ]
    text = yaml.safe_dump({"view": {"detector": fit.settings()}}, sort_keys=False, width=110)
    head = "".join(f"# {line}\n" for line in (f"How a detector errs, by {made_by('mpm fit-noise')}.", *said))
    storage.write_once(out, (head + text).encode())
    config = fit.config
    return [
        f"{out}: jitter {config.jitter_std:.4f} of the person's size over {config.jitter_time_s:.3f} s, "
        f"{config.dropouts_per_s:.2g} misses and {config.swaps_per_s:.2g} swaps per second, "
        f"median confidence {config.median_confidence:.2f}",
        *said,
    ]


def fit_noise(tracks: Sequence[Track]) -> NoiseFit:
    """The noise of tracks of any skeleton and known rate, for Human3.6M's 17 joints.

    Of videos of different rates those of the rate with the most frames are used. InputError if there is too
    little to see.
    """
    frames: dict[float, int] = {}
    for track in tracks:
        assert track.rate_hz is not None, "callers see to it"
        frames[track.rate_hz] = frames.get(track.rate_hz, 0) + len(track.frames)
    rate_hz = max(frames, key=lambda rate: frames[rate])
    used = [to_h36m_17(track) for track in tracks if track.rate_hz == rate_hz]
    fit = _Fit([run for track in used for run in _runs(track, rate_hz)], rate_hz)
    if fit.residuals < LEAST_RESIDUALS:
        raise InputError(
            f"{listing(dict.fromkeys(track.source for track in used))}: wanted at least {LEAST_RESIDUALS:,} "
            f"keypoints within unbroken stretches of {estimates.cubic_frames(rate_hz)} frames to see how the "
            f"detector errs, got {fit.residuals:,}; give longer videos"
        )
    measured, notes = fit.settings()
    if len(used) < len(tracks):
        notes["rates"] = f"only the videos of {rate_hz:g} Hz were looked at, the commonest rate"
    return NoiseFit(
        config=replace(DetectorNoiseConfig(scale=1.0), **measured),
        notes=notes,
        frames=frames[rate_hz],
        people=len(used),
    )


def _runs(track: Track, rate_hz: float) -> list[estimates.Run]:
    """The stretches of a track without a missing frame."""
    stops = np.flatnonzero(np.diff(track.frames) > 1) + 1
    return [
        estimates.make_run(keypoints_px, confidence, rate_hz=rate_hz, skeleton=track.skeleton)
        for keypoints_px, confidence in zip(
            np.split(track.keypoints_px, stops), np.split(track.confidence, stops), strict=True
        )
    ]


class _Fit:
    """All estimates from stretches of one rate."""

    def __init__(self, runs: Sequence[estimates.Run], rate_hz: float) -> None:
        self.runs, self.rate_hz = runs, rate_hz
        self.outliers = [estimates.find_outliers(run) for run in runs]
        self.parts = [
            estimates.residuals(run, distance > 0)
            for run, (distance, _) in zip(runs, self.outliers, strict=True)
        ]
        self.residuals = sum(int(np.isfinite(part.values[..., 0]).sum()) for part in self.parts)
        self.default = DetectorNoiseConfig(scale=1.0)
        self.measured: dict[str, Any] = {}
        self.notes = {
            "bias_std": "the default; without truth an offset that stays looks like the person's own shape",
        }

    def settings(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Settings that were measured, and why others were not."""
        logs, joint_error = self._jitter()
        self._confidence(logs)
        self._outliers()
        misses = estimates.Bursts()
        for run in self.runs:
            for joint, error in enumerate(joint_error):
                counted = estimates.count_bursts(run.confidence[:, [joint]] == 0, rate_hz=self.rate_hz)
                misses += replace(counted, off_frames=counted.off_frames * error)
        self._bursts(misses, "dropouts_per_s", "dropout_s", share=1.0)
        swaps = sum(
            (estimates.count_bursts(run.is_swapped, rate_hz=self.rate_hz) for run in self.runs),
            start=estimates.Bursts(),
        )
        # Legs are swapped by bursts of their own and by those of the whole body; so are arms.
        self._bursts(swaps, "swaps_per_s", "swap_s", share=0.5)
        return self.measured, self.notes

    def _jitter(self) -> tuple[list[Float[np.ndarray, "T J"]], Float[np.ndarray, "J"]]:
        """Size, time and spread; the logarithms of the sizes less their joint's mean, and joints' errors."""
        correlation = estimates.jitter_correlation(self.parts, rate_hz=self.rate_hz)
        if correlation == estimates.slowest_correlation(self.rate_hz):
            self.notes["jitter_time_s"] = (
                "the longest that can be told from motion; the detector may be smoother"
            )
        logs = [estimates.log_sizes(part, correlation) for part in self.parts]
        pooled = np.concatenate(logs)
        is_seen = np.isfinite(pooled)
        number = is_seen.sum(0)
        log_std = np.where(is_seen, pooled, 0.0).sum(0) / np.maximum(number, 1)
        kinds = np.array([sideless(joint) for joint in H36M_17.joints])
        by_kind = {
            str(kind): float((log_std * number)[kinds == kind].sum() / number[kinds == kind].sum())
            for kind in dict.fromkeys(kinds)
            if number[kinds == kind].any()
        }
        middle = float(np.mean([by_kind[kind] for kind in kinds if kind in by_kind]))
        joint_error = {kind: math.exp(value - middle) for kind, value in by_kind.items()}
        # How the scale differs between people and views is not how it wanders: each stretch has its own mean.
        centered = [estimates.centered(part) for part in logs]
        deviations = np.concatenate(centered)[is_seen]
        self.measured |= {
            "joint_error": joint_error,
            "jitter_std": math.exp(middle),
            "jitter_time_s": -1 / (self.rate_hz * math.log(correlation)),
            "quality_spread": estimates.quality_spread(deviations),
        }
        return centered, np.array([joint_error.get(kind, 1.0) for kind in kinds])

    def _confidence(self, log_sizes: Sequence[Float[np.ndarray, "T J"]]) -> None:
        """Median, spread and time of the confidence, and what it tells of the jitter's size."""
        confidence = np.concatenate([run.confidence for run in self.runs])
        seen = confidence[confidence > 0]
        if np.median(seen) >= _SUREST:
            for name in ("median_confidence", "confidence_spread", "confidence_truth", "quality_time_s"):
                self.notes[name] = "the default; the confidences are nearly all 1 and tell nothing"
            return
        logits = [_logit(run.confidence) for run in self.runs]
        spread = float(np.nanstd(np.concatenate(logits)))
        centered = [estimates.centered(part) for part in logits]
        pooled = np.concatenate(centered)
        self.measured |= {"median_confidence": float(np.median(seen)), "confidence_spread": spread}
        time_s = estimates.correlation_time_s(centered, rate_hz=self.rate_hz)
        if time_s is None:
            self.notes["quality_time_s"] = "the default; the confidence changes too slowly to tell"
        else:
            self.measured["quality_time_s"] = time_s
        logs = np.concatenate(log_sizes)
        is_known = np.isfinite(pooled) & np.isfinite(logs)
        quality_spread = self.measured["quality_spread"]
        if quality_spread > 0 and spread > 0:
            known, sizes = pooled[is_known], logs[is_known]
            correlation = float(np.mean(known * sizes)) / max(float(np.std(known)) * quality_spread, 1e-9)
            self.measured["confidence_truth"] = min(max(-correlation, 0.0), 1.0)
        else:
            self.notes["confidence_truth"] = "the default; the jitter's size does not change"

    def _outliers(self) -> None:
        """How many and how far, given that only those beyond a threshold are seen: a Rayleigh tail."""
        distance, threshold = (np.concatenate(parts) for parts in zip(*self.outliers, strict=True))
        seen = sum(int((run.confidence > 0).sum()) for run in self.runs)
        is_outlier = distance > 0
        far, threshold = distance[is_outlier], threshold[is_outlier]
        if len(far) < _LEAST_EVENTS:
            self._none_seen("outlier_probability", len(far), expected=seen * self.default.outlier_probability)
            self.notes["outlier_std"] = "the default; hardly an outlier was seen"
            return
        # Of Rayleigh lengths exp(-r^2 / 2s^2) exceed a threshold r, and their mean square is 2s^2 + r^2.
        variance = float(np.mean(far**2 - threshold**2)) / 2
        unseen_too = np.exp(np.minimum(threshold**2 / (2 * variance), 1.0))
        self.measured["outlier_std"] = math.sqrt(variance)
        self.measured["outlier_probability"] = float(unseen_too.sum()) / seen

    def _bursts(self, counted: estimates.Bursts, often: str, long: str, *, share: float) -> None:
        rates = counted.rates(self.rate_hz)
        if rates is None or counted.starts < _LEAST_EVENTS:
            expected = getattr(self.default, often) / share * counted.off_frames / self.rate_hz
            self._none_seen(often, counted.starts, expected=expected)
            self.notes[long] = f"the default; {counted.starts:g} were seen, too few to time"
        else:
            self.measured[often], self.measured[long] = rates[0] * share, rates[1]

    def _none_seen(self, often: str, number: float, *, expected: float) -> None:
        """Rare events: in proportion to what the default would have shown, if that is enough to tell."""
        if expected >= _LEAST_EVENTS:
            self.measured[often] = float(getattr(self.default, often) * number / expected)
        else:
            self.notes[often] = (
                f"the default; {number:g} were seen in too short a time to tell how rare they are"
            )


def _logit(confidence: Float[np.ndarray, "T J"]) -> Float[np.ndarray, "T J"]:
    inside = np.clip(confidence.astype(float), 1 - _SUREST, _SUREST)
    return np.where(confidence > 0, np.log(inside / (1 - inside)), np.nan)


def _rounded(value: Any) -> Any:
    """Floats to a few digits, also within a mapping."""
    if isinstance(value, Mapping):
        return {name: _rounded(inner) for name, inner in value.items()}
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
