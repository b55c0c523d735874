"""How far a lifted joint may be from its true place: two radii that hold what they say.

A radius is read off the lifting itself: whether a joint was seen and how surely, how long it has been hidden,
how well the lifted pose lies on its image, and what pose it is. A small network makes of these the quantiles
of the error (quantile regression: Koenker & Bassett 1978; with a hidden layer: Taylor 2000), so an unusual
pose, which lies badly on its image and has bones too short, gets wider bands than a usual one. A table by
joint and state, tried first, held 21 % where it said 50 % on another laboratory's people; slopes on a joint's
own numbers 33 %: what tells of a joint's error are the others too. It costs some hundredths of the lifting.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from mpm_model.errors import InputError, refuse
from mpm_model.lifting_signs import shown_numbers, what_shows
from mpm_model.pose.skeleton import Skeleton, describe_difference
from mpm_model.strict_json import key_faults, read_json_object

FORMAT = "mpm-error-bands/1"
"""Format that is written and read."""
QUANTILES = (0.5, 0.9)
"""Shares of the errors that the two radii hold."""
STATES = 2
"""Seen, hidden."""

_FARTHEST = 5.0
"""What is shown counts as at most so many standard deviations from its mean: nothing is extrapolated."""
_BLOCK_FRAMES = 4096
_DIGITS = 6
_AGAIN = "calibrate the checkpoint again, or remove the file"


@dataclass(frozen=True, kw_only=True, eq=False)
class ErrorBands:
    """A calibration of one lifter. Numbers of what is shown I, of hidden units H; outputs are O =
    2 states (seen, hidden) x 2 quantiles x (J - 1) joints."""

    skeleton: Skeleton
    """Skeleton of the lifted poses; its first joint is the root."""
    fitted_on: str
    """Data, people and views, in plain words."""
    frames: int
    """Frames fitted on."""
    people: int
    """People fitted on."""
    coverage: Mapping[str, tuple[float, float]]
    """Shares of true errors within the two radii as measured, by what they were measured on."""
    bone_length_m: Float[np.ndarray, "J-1"]
    """How long lifted bones usually are, in the order of `skeleton.bones`."""
    shown_mean: Float[np.ndarray, "I"]
    shown_std: Float[np.ndarray, "I"]
    hidden_weight: Float[np.ndarray, "I H"]
    hidden_bias: Float[np.ndarray, "H"]
    output_weight: Float[np.ndarray, "H O"]
    output_bias: Float[np.ndarray, "O"]

    def __post_init__(self) -> None:
        bones = len(self.skeleton) - 1
        if self.skeleton.parents[:1] != (None,) or None in self.skeleton.parents[1:]:
            raise InputError("error bands: the skeleton must have one root, its first joint")
        shown, hidden = shown_numbers(self.skeleton), self.hidden_bias.size
        outputs = STATES * len(QUANTILES) * bones
        wanted = {
            "bone_length_m": (bones,),
            "shown_mean": (shown,),
            "shown_std": (shown,),
            "hidden_weight": (shown, hidden),
            "hidden_bias": (hidden,),
            "output_weight": (hidden, outputs),
            "output_bias": (outputs,),
        }
        faults = [
            f"{name} must be finite numbers {shape}, got {array.shape}"
            for name, shape in wanted.items()
            if (array := getattr(self, name)).shape != shape or not np.isfinite(array).all()
        ]
        faults += [
            f"{name} must be positive"
            for name in ("bone_length_m", "shown_std")
            if not (getattr(self, name) > 0).all()
        ]
        faults += [
            f"{name} must be at least 1, got {value}"
            for name in ("frames", "people")
            if (value := getattr(self, name)) < 1
        ]
        faults += [
            f"coverage of {what} must be shares of {len(QUANTILES)} radii, got {shares}"
            for what, shares in self.coverage.items()
            if len(shares) != len(QUANTILES) or not all(0 <= share <= 1 for share in shares)
        ]
        refuse("error bands", faults)

    def of(
        self,
        joints_rel_m: Float[np.ndarray, "N J 3"],
        keypoints_px: Float[np.ndarray, "N J 2"],
        confidence: Float[np.ndarray, "N J"],
        is_hidden: Bool[np.ndarray, "N J"],
        *,
        rate_hz: float,
    ) -> tuple[Float[np.ndarray, "N J"], Float[np.ndarray, "N J"]]:
        """`error_50_mm` and `error_90_mm`, float32, of a track as it was lifted.

        The true place, relative to the root and in the camera's axes, is within the first half of the time,
        within the second nine times in ten. Frames follow each other at `rate_hz`; hidden keypoints may hold
        anything. A frame's radii depend on that frame and, where joints are hidden, on when within
        `lifting_signs.LONGEST_GAP_S` they were seen. The root's are 0: poses are relative to it.
        """
        shown = what_shows(
            joints_rel_m,
            keypoints_px,
            confidence,
            is_hidden,
            rate_hz=rate_hz,
            skeleton=self.skeleton,
            bone_length_m=self.bone_length_m,
        )
        radii_mm = np.zeros((len(QUANTILES), *is_hidden.shape), np.float32)
        for first in range(0, len(shown), _BLOCK_FRAMES):
            rows = slice(first, first + _BLOCK_FRAMES)
            entering = standardised(shown[rows], self.shown_mean, self.shown_std)
            units = np.tanh(entering @ self.hidden_weight + self.hidden_bias)
            log_mm = (units @ self.output_weight + self.output_bias).reshape(
                len(units), STATES, len(QUANTILES), -1
            )
            of_state = np.where(is_hidden[rows, None, 1:], log_mm[:, 1], log_mm[:, 0])
            radii_mm[:, rows, 1:] = np.exp(of_state).swapaxes(0, 1)
        return radii_mm[0], np.maximum(*radii_mm)


def standardised(
    shown: Float[np.ndarray, "N I"], mean: Float[np.ndarray, "I"], std: Float[np.ndarray, "I"]
) -> Float[np.ndarray, "N I"]:
    """What enters the network."""
    return np.asarray(((shown - mean) / std).clip(-_FARTHEST, _FARTHEST))


_WORDS: Mapping[str, type | tuple[type, ...]] = {
    "format": str,
    "weights_sha256": str,
    "skeleton": str,
    "joints": list,
    "parents": list,
    "fitted_on": str,
    "frames": int,
    "people": int,
    "coverage": dict,
}
_ARRAYS = tuple(field.name for field in fields(ErrorBands) if field.name not in _WORDS)


def to_json(bands: ErrorBands, *, weights: bytes) -> bytes:
    """The file's content, to lie beside this content of the tensors' file; numbers have six digits."""
    words = {
        "format": FORMAT,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "skeleton": bands.skeleton.name,
        "joints": bands.skeleton.joints,
        "parents": bands.skeleton.parents,
        "fitted_on": bands.fitted_on,
        "frames": bands.frames,
        "people": bands.people,
        "coverage": {what: list(map(_rounded, shares)) for what, shares in bands.coverage.items()},
    }
    arrays = {name: _rounded(getattr(bands, name).tolist()) for name in _ARRAYS}
    lines = [
        f'"{name}": {json.dumps(value, ensure_ascii=False, allow_nan=False)}'
        for name, value in {**words, **arrays}.items()
    ]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def read_error_bands(path: Path, *, weights: Path, skeleton: Skeleton) -> ErrorBands | None:
    """What `to_json` wrote, of a checkpoint with these weights and this skeleton; None if there is no file.

    InputError, in one line, if it is something else, half of it, or made for another checkpoint.
    """
    if not path.is_file():
        return None
    value = read_json_object(path)
    if value.get("format") != FORMAT:
        raise InputError(f"{path}: wanted format {FORMAT!r}, got {value.get('format')!r}; {_AGAIN}")
    faults = key_faults(value.keys(), {*_WORDS, *_ARRAYS})
    faults += [
        f"{name} must be {getattr(kind, '__name__', kind)}, got {value[name]!r}"
        for name, kind in _WORDS.items()
        if name in value and (not isinstance(value[name], kind) or isinstance(value[name], bool))
    ]
    refuse(str(path), faults)
    if value["weights_sha256"] != hashlib.sha256(weights.read_bytes()).hexdigest():
        raise InputError(f"{path}: made for other weights than lie beside it; {_AGAIN}")
    try:
        bands = ErrorBands(
            skeleton=Skeleton(value["skeleton"], tuple(value["joints"]), tuple(value["parents"])),
            fitted_on=value["fitted_on"],
            frames=value["frames"],
            people=value["people"],
            coverage={what: tuple(shares) for what, shares in value["coverage"].items()},
            **{name: _array(name, value[name]) for name in _ARRAYS},
        )
    except (InputError, TypeError) as error:
        raise InputError(f"{path}: {error}; {_AGAIN}") from error
    if bands.skeleton != skeleton:
        raise InputError(
            f"{path}: made for skeleton {bands.skeleton.name}, the checkpoint has {skeleton.name}: "
            f"{describe_difference(bands.skeleton, skeleton)}; {_AGAIN}"
        )
    return bands


def _array(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise InputError(f"{name} must be numbers, of equal length in every row") from error


def _rounded(value: float | Sequence[Any]) -> Any:
    if isinstance(value, Sequence):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.{_DIGITS}g}")
