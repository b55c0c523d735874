"""A camera's intrinsics as a user gives them: four numbers, or a small JSON file."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mpm_model.errors import InputError, refuse
from mpm_model.pose.intrinsics import Intrinsics
from pipelines.storage import absolute, read_json

_WANTED = (
    'wanted FX,FY,CX,CY in pixels, or a JSON file: {"fx": .., "fy": .., "cx": .., "cy": ..} or OpenCV\'s '
    '{"camera_matrix": 3 x 3}, either with "distortion": [k1, k2, p1, p2, k3]'
)
_MATRIX_KEYS = ("camera_matrix", "cameraMatrix", "intrinsic_matrix", "matrix", "mtx", "K")
_LENS_KEYS = ("distortion", "distortion_coefficients", "dist_coeffs", "distCoeffs", "dist")
_LENS_SIZES = (4, 5)


def read_intrinsics(given: str) -> Intrinsics:
    """What `--intrinsics` says: `FX,FY,CX,CY` in pixels, or the path or URL of a JSON file.

    The file is an object with fx, fy (fx if left out), cx and cy, or with OpenCV's 3 x 3 camera matrix
    (`camera_matrix`, `K` and the like; rows, or one of OpenCV's `{"data": [...]}`), or that matrix alone.
    Lens distortion may stand beside it: OpenCV's k1 k2 p1 p2, with or without k3, for keypoints of the image
    as filmed. Other keys are not read.

    InputError names all faults in one line.
    """
    if "," in given:
        return _from_numbers(given)
    url = absolute(given)
    content = read_json(url)
    where = f"--intrinsics {given}"
    faults: list[str] = []
    fields = content if isinstance(content, Mapping) else {"camera_matrix": content}
    matrix = _matrix(fields, faults)
    lens = _lens(fields, faults)
    refuse(where, [*faults, _WANTED] if faults else [])
    return _made(where, [*matrix, *lens])


def _from_numbers(given: str) -> Intrinsics:
    where = f"--intrinsics {given}"
    try:
        numbers = [float(part) for part in given.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4:
        raise InputError(f"{where}: {_WANTED}")
    return _made(where, [*numbers, *(0.0,) * 5])


def _made(where: str, numbers: Sequence[float]) -> Intrinsics:
    """fx, fy, cx, cy, k1, k2, p1, p2, k3."""
    fx, fy, cx, cy, k1, k2, p1, p2, k3 = numbers
    try:
        return Intrinsics(focal_px=(fx, fy), center_px=(cx, cy), distortion=(k1, k2, p1, p2, k3))
    except InputError as error:
        raise InputError(f"{where}: {str(error).removeprefix('intrinsics: ')}") from error


def _matrix(fields: Mapping[str, Any], faults: list[str]) -> list[float]:
    """fx, fy, cx, cy."""
    key = next((key for key in _MATRIX_KEYS if key in fields), None)
    if key is None:
        named = {"fy": fields.get("fx"), **fields}
        absent = [name for name in ("fx", "cx", "cy") if name not in fields]
        if absent:
            faults.append(f"no {', '.join(absent)}, and no camera matrix")
            return []
        return [_number(named[name], name, faults) for name in ("fx", "fy", "cx", "cy")]
    values = _numbers(fields[key], key, faults)
    if values is None:
        return []
    if len(values) != 9:
        faults.append(f"{key} must have 3 x 3 numbers, got {len(values)}")
        return []
    fx, skew, cx, zero, fy, cy, *last = values
    if (skew, zero, *last) != (0, 0, 0, 0, 1):
        faults.append(
            f"{key} must be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], got {np.reshape(values, (3, 3)).tolist()}"
        )
    return [fx, fy, cx, cy]


def _lens(fields: Mapping[str, Any], faults: list[str]) -> list[float]:
    """k1 k2 p1 p2 k3."""
    unknown = [key for key in fields if "dist" in key.lower() and key not in _LENS_KEYS]
    if unknown:
        faults.append(f"{', '.join(unknown)} is not read: name it distortion")
    key = next((key for key in _LENS_KEYS if key in fields), None)
    values = [] if key is None or fields[key] is None else _numbers(fields[key], key, faults)
    if not values:
        return [0.0] * 5
    # OpenCV's longer models begin with these five; where the rest is 0 they are the same.
    if len(values) < min(_LENS_SIZES) or any(values[max(_LENS_SIZES) :]):
        faults.append(f"{key} must be k1, k2, p1, p2 and perhaps k3, got {len(values)} numbers")
    return [*values, 0.0][:5]


def _numbers(value: Any, name: str, faults: list[str]) -> list[float] | None:
    """The numbers in nested lists, or in OpenCV's way of writing a matrix; None if they are none."""
    if isinstance(value, Mapping):
        value = value.get("data")
    try:
        return [float(number) for number in np.asarray(value, dtype=np.float64).ravel()]
    except (TypeError, ValueError):
        faults.append(f"{name} must be numbers, got {value!r:.60}")
        return None


def _number(value: Any, name: str, faults: list[str]) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        faults.append(f"{name} must be a number, got {value!r:.60}")
        return float("nan")
    return float(value)
