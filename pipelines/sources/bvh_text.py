"""The text of a BVH file: a hierarchy of joints with their channels, and a line of numbers for each frame."""

import math
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from jaxtyping import Float

from mpm_model.errors import InputError
from pipelines.sources.number_text import refuse_text, to_number, to_numbers


@dataclass(frozen=True, kw_only=True, eq=False)
class BvhJoint:
    """One joint, or the far end of an outermost bone."""

    name: str
    """Its name; `<parent>.end` for an End Site."""
    parent: str | None
    """Joint it hangs on; None for the root."""
    offset: Float[np.ndarray, "3"]
    """Place in the parent's frame, in the file's units."""
    channels: tuple[str, ...]
    """What the motion says of it, in order, in small letters: xposition, zrotation, ..."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BvhText:
    """The content of one BVH file, in its own units and axes."""

    joints: tuple[BvhJoint, ...]
    """All joints, parents first."""
    values: Float[np.ndarray, "T C"]
    """Channels of all joints, one after the other."""
    rate_hz: float
    """Frames per second."""


def parse_bvh(text: str, *, where: str) -> BvhText:
    """Read a BVH file's text; InputError names the line of what is wrong."""
    lines = text.splitlines()
    if not lines or lines[0].split()[:1] != ["HIERARCHY"]:
        start = repr(lines[0][:60]) if lines else "an empty file"
        raise InputError(f"{where}: wanted a BVH file, which begins with HIERARCHY, got {start}")
    motion = next((number for number, line in enumerate(lines) if line.strip() == "MOTION"), None)
    if motion is None:
        raise InputError(f"{where}: wanted a line MOTION after the hierarchy, found none: the file is cut")
    joints = _hierarchy(lines[1:motion], where)
    counts = [
        (number, line) for number, line in enumerate(lines[motion + 1 :], start=motion + 2) if line.strip()
    ]
    frames = int(_after("Frames:", counts[:1], where))
    frame_time_s = _after("Frame Time:", counts[1:2], where)
    if not (frames >= 1 and 1e-4 <= frame_time_s <= 1):
        raise InputError(
            f"{where}: wanted at least one frame and a frame time of 0.0001 to 1 s, "
            f"got {frames}, {frame_time_s}"
        )
    channels = sum(len(joint.channels) for joint in joints)
    values = _values(counts[2:], frames=frames, channels=channels, where=where)
    decimals = len(counts[1][1].strip().partition(".")[2])
    return BvhText(joints=joints, values=values, rate_hz=_rate_hz(frame_time_s, decimals=decimals))


def _rate_hz(frame_time_s: float, *, decimals: int) -> float:
    """The rate; a whole one if the frame time is that rate's, rounded as printed (0.041667 is 24 Hz)."""
    whole = round(1 / frame_time_s)
    if whole and abs(1 / whole - frame_time_s) <= 0.51 * 10.0**-decimals:
        return float(whole)
    return 1 / frame_time_s


@dataclass
class _Open:
    """A joint whose braces are not closed yet."""

    name: str
    parent: str | None
    offset: np.ndarray | None = None
    channels: tuple[str, ...] = field(default=())


def _hierarchy(lines: list[str], where: str) -> tuple[BvhJoint, ...]:
    joints: list[_Open] = []
    stack: list[_Open] = []
    for number, line in enumerate(lines, start=2):
        at = f"{where}, line {number}"
        words = line.replace("{", " ").split()
        if not words:
            continue
        key = words[0].upper()
        if key in ("ROOT", "JOINT", "END"):
            parent = stack[-1].name if stack else None
            if (parent is None) != (key == "ROOT") or (key == "ROOT" and joints):
                raise InputError(f"{at}: wanted one ROOT that holds all joints, got {line.strip()!r} here")
            name = f"{parent}.end" if key == "END" else " ".join(words[1:])
            if not name or any(joint.name == name for joint in joints):
                raise InputError(f"{at}: every joint needs a name of its own, got {name or 'none'!r}")
            stack.append(_Open(name, parent))
            joints.append(stack[-1])
        elif key == "}" and stack:
            stack.pop()
        elif key == "OFFSET" and stack:
            offset = to_numbers(words[1:])
            if len(offset) != 3 or not all(map(math.isfinite, offset)):
                raise InputError(f"{at}: OFFSET wants three finite numbers, got {line.strip()!r}")
            stack[-1].offset = np.array(offset)
        elif key == "CHANNELS" and stack:
            stack[-1].channels = _channels(words[1:], at)
        else:
            raise InputError(
                f"{at}: wanted ROOT, JOINT, End Site, OFFSET, CHANNELS or a brace, got {line.strip()!r}"
            )
    if stack or not joints:
        raise InputError(
            f"{where}: the hierarchy ends inside {stack[-1].name if stack else 'itself'!r}: the file is cut"
        )
    if bare := [joint.name for joint in joints if joint.offset is None]:
        raise InputError(f"{where}: no OFFSET is given for {', '.join(bare)}")
    return tuple(
        BvhJoint(name=joint.name, parent=joint.parent, offset=joint.offset, channels=joint.channels)
        for joint in joints
        if joint.offset is not None
    )


def _channels(words: list[str], at: str) -> tuple[str, ...]:
    channels = tuple(word.lower() for word in words[1:])
    known = {axis + kind for axis in "xyz" for kind in ("position", "rotation")}
    if words[:1] != [str(len(channels))] or not set(channels) <= known or len(set(channels)) != len(channels):
        raise InputError(
            f"{at}: CHANNELS wants a count and as many of Xposition ... Zrotation, each once, "
            f"got {' '.join(words)}"
        )
    return channels


def _after(label: str, lines: list[tuple[int, str]], where: str) -> float:
    for number, line in lines:
        if line.strip().startswith(label) and math.isfinite(
            value := to_number(line.strip().removeprefix(label))
        ):
            return value
        raise InputError(f"{where}, line {number}: wanted '{label}' and a number, got {line.strip()[:60]!r}")
    raise InputError(f"{where}: wanted '{label}' after MOTION, found the end of the file: it is cut")


def _values(
    lines: list[tuple[int, str]], *, frames: int, channels: int, where: str
) -> Float[np.ndarray, "T C"]:
    rows = [line.split() for _, line in lines]
    faults = [
        f"line {number}: wanted {channels} numbers, one for each channel, got {len(row)}"
        for (number, _), row in zip(lines, rows, strict=True)
        if len(row) != channels
    ]
    if len(rows) != frames:
        faults.insert(0, f"'Frames:' says {frames}, but {len(rows)} lines of motion follow")
    values = np.empty((0, channels))
    if not faults:
        values = np.array(to_numbers(list(chain.from_iterable(rows)))).reshape(frames, channels)
        for frame, channel in np.argwhere(~np.isfinite(values)):
            faults.append(f"line {lines[frame][0]}: wanted finite numbers, got {rows[frame][channel]!r}")
    refuse_text(where, faults, advice="The file is cut or damaged: fetch it again or leave it out")
    return values
