"""The Acclaim skeleton file (ASF): bones, their lengths and axes, and who hangs on whom.

The format is described in J. Lander, "Working with Motion Capture File Formats", Game Developer, 1998.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mpm_model.errors import InputError, refuse

METRES_PER_INCH = 0.0254
ROOT = "root"
"""Name of the joint that carries the whole figure."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Bone:
    """One bone: it starts where its parent ends, and turns about its start."""

    name: str
    vector_m: Float[np.ndarray, "3"]
    """From start to end in the rest pose; the root's own start for the root."""
    axis_rad: Float[np.ndarray, "3"]
    """Angles of the frame in which the bone's rotations are given."""
    axis_order: str
    """Order in which those angles turn about fixed axes, such as `xyz`."""
    channels: tuple[str, ...]
    """What an AMC says of this bone, in order: rx ry rz, and for the root tx ty tz as well."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AcclaimSkeleton:
    """The content of one ASF file, in metres and radians."""

    bones: tuple[Bone, ...]
    """All bones, the root first, every parent before its children."""
    parents: tuple[str | None, ...]
    """Parent of each bone, by name."""
    unit_m: float
    """Metres of one unit of length, for the paths of an AMC too."""
    is_degrees: bool
    """Whether angles are degrees, unless an AMC says otherwise."""


def parse_asf(text: str, *, where: str, unit_m: float | None = None) -> AcclaimSkeleton:
    """Read an ASF file's text.

    Lengths count in units of which `length` says how many make an inch; `unit_m` overrides it. InputError
    names the file and line.
    """
    sections = _sections(text)
    missing = [f":{name}" for name in ("units", "root", "bonedata", "hierarchy") if name not in sections]
    if missing:
        raise InputError(
            f"{where}: wanted an ASF skeleton, but it has no {', '.join(missing)}; give the .asf file itself"
        )
    units = {words[0]: words[1:] for _, words in sections["units"] if words}
    if unit_m is None:
        unit_m = METRES_PER_INCH / _length(units.get("length", []), f"{where}, :units")
    angle = (units.get("angle") or ["deg"])[0]
    if angle not in ("deg", "rad"):
        raise InputError(f"{where}: angle under :units must be deg or rad, got {angle!r}")
    to_rad = math.pi / 180 if angle == "deg" else 1.0

    found = {ROOT: _root(sections["root"], where, unit_m=unit_m, to_rad=to_rad)}
    for entry in _entries(sections["bonedata"]):
        bone = _bone(entry, where, unit_m=unit_m, to_rad=to_rad)
        if bone.name in found:
            raise InputError(f"{where}, line {entry[0][0]}: bone {bone.name!r} is defined twice")
        found[bone.name] = bone
    parents = _parents(sections["hierarchy"], found, where)
    return AcclaimSkeleton(
        bones=tuple(found[name] for name in parents),
        parents=tuple(parents.values()),
        unit_m=unit_m,
        is_degrees=angle == "deg",
    )


_Line = tuple[int, list[str]]
"""A line's number and its words."""


def _sections(text: str) -> dict[str, list[_Line]]:
    sections: dict[str, list[_Line]] = {}
    current: list[_Line] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split("#")[0].split()
        if words and words[0].startswith(":"):
            current = sections.setdefault(words[0][1:].lower(), [])
        elif words:
            current.append((number, words))
    return sections


def _entries(lines: list[_Line]) -> Iterator[list[_Line]]:
    """The lines between each begin and end."""
    entry: list[_Line] = []
    for number, words in lines:
        if words[0] == "end" and entry:
            yield entry
            entry = []
        elif words[0] not in ("begin", "end"):
            entry.append((number, words))


def _length(words: list[str], where: str) -> float:
    try:
        length = float(words[0])
    except (IndexError, ValueError):
        length = math.nan
    if not (math.isfinite(length) and length > 0):
        raise InputError(f"{where}: wanted a positive length, got {' '.join(words) or 'nothing'}")
    return length


def _numbers(words: list[str], where: str) -> np.ndarray:
    try:
        numbers = np.array([float(word) for word in words[:3]])
    except ValueError:
        numbers = np.empty(0)
    if len(numbers) != 3 or not np.isfinite(numbers).all():
        raise InputError(f"{where}: wanted three numbers, got {' '.join(words) or 'nothing'}")
    return numbers


def _order(word: str, where: str) -> str:
    if sorted(word.lower()) != ["x", "y", "z"]:
        raise InputError(f"{where}: wanted an order of axes such as XYZ, got {word!r}")
    return word.lower()


def _root(lines: list[_Line], where: str, *, unit_m: float, to_rad: float) -> Bone:
    said = {words[0].lower(): (f"{where}, line {number}", words[1:]) for number, words in lines}
    refuse(
        f"{where}, :root", [f"no {key}" for key in ("order", "position", "orientation") if key not in said]
    )
    at, words = said["order"]
    channels = tuple(word.lower() for word in words)
    if sorted(channels) != ["rx", "ry", "rz", "tx", "ty", "tz"]:
        raise InputError(f"{at}: the root's order must name TX TY TZ RX RY RZ, got {' '.join(words)}")
    axis_at, axis = said.get("axis", (where, ["XYZ"]))
    return Bone(
        name=ROOT,
        vector_m=_numbers(said["position"][1], said["position"][0]) * unit_m,
        axis_rad=_numbers(said["orientation"][1], said["orientation"][0]) * to_rad,
        axis_order=_order("".join(axis), axis_at),
        channels=channels,
    )


def _bone(entry: list[_Line], where: str, *, unit_m: float, to_rad: float) -> Bone:
    said = {words[0].lower(): (f"{where}, line {number}", words[1:]) for number, words in entry}
    at = f"{where}, line {entry[0][0]}"
    refuse(at, [f"a bone has no {key}" for key in ("name", "direction", "length", "axis") if key not in said])
    length_at, length = said["length"]
    direction = _numbers(said["direction"][1], said["direction"][0])
    norm = float(np.linalg.norm(direction))
    axis_at, axis = said["axis"]
    dof_at, dof = said.get("dof", (at, []))
    channels = tuple(word.lower() for word in dof)
    if not set(channels) <= {"rx", "ry", "rz"} or len(set(channels)) != len(channels):
        raise InputError(f"{dof_at}: degrees of freedom may be rx, ry, rz, each once; got {' '.join(dof)}")
    if norm == 0:
        raise InputError(f"{said['direction'][0]}: a bone needs a direction, got 0 0 0")
    return Bone(
        name=" ".join(said["name"][1]),
        vector_m=direction / norm * _length(length, length_at) * unit_m,
        axis_rad=_numbers(axis, axis_at) * to_rad,
        axis_order=_order("".join(axis[3:]) or "XYZ", axis_at),
        channels=channels,
    )


def _parents(lines: list[_Line], bones: dict[str, Bone], where: str) -> dict[str, str | None]:
    """Parent of each bone, parents first."""
    children: dict[str, list[str]] = {}
    for number, words in lines:
        if words[0] not in ("begin", "end"):
            unknown = [f":bonedata defines no bone {name!r}" for name in words if name not in bones]
            refuse(f"{where}, line {number}", unknown)
            children.setdefault(words[0], []).extend(words[1:])
    parents: dict[str, str | None] = {ROOT: None}
    waiting = [ROOT]
    while waiting:
        parent = waiting.pop(0)
        for child in children.get(parent, []):
            if child in parents:
                raise InputError(f"{where}: :hierarchy hangs {child!r} on two bones")
            parents[child] = parent
            waiting.append(child)
    loose = [name for name in bones if name not in parents]
    refuse(where, [f"bone {name!r} hangs on nothing: :hierarchy leaves it out" for name in loose])
    return parents
