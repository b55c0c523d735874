"""The Acclaim motion file (AMC): for every frame the channels of every bone of its ASF."""

import math
from itertools import chain, islice, pairwise

import numpy as np
from jaxtyping import Float

from mpm_model.errors import InputError
from pipelines.sources.asf import AcclaimSkeleton
from pipelines.sources.number_text import refuse_text, to_numbers


def parse_amc(text: str, skeleton: AcclaimSkeleton, *, where: str) -> tuple[dict[str, np.ndarray], bool]:
    """Read an AMC file's text.

    Returns:
        channels of each bone that has any, (T, C) as written and in the order of the ASF; and whether angles
        are degrees. InputError names the line and frame of what is wrong.
    """
    lines = text.splitlines()
    start = next((number for number, line in enumerate(lines) if line.strip().isdecimal()), None)
    header = [line.split("#")[0].strip().upper() for line in lines[:start]]
    if start is None or any(line and not line.startswith(":") for line in header):
        raise InputError(
            f"{where}: wanted an AMC motion file (a header such as :DEGREES, then frame numbers), "
            f"got {lines[0][:60]!r} on line 1"
            if lines
            else f"{where}: wanted an AMC motion file, got an empty file"
        )
    widths = {bone.name: len(bone.channels) for bone in skeleton.bones if bone.channels}
    values = _regular(lines[start:], widths)
    if values is None:
        values = _careful(lines, start, widths, where=where)
    is_degrees = skeleton.is_degrees if not {":DEGREES", ":RADIANS"} & set(header) else ":DEGREES" in header
    return values, is_degrees


def _regular(lines: list[str], widths: dict[str, int]) -> dict[str, np.ndarray] | None:
    """The quick way for a file whose frames all look like its first; None for any other file."""
    order = [line.split()[0] for line in islice(lines, 1, 1 + len(widths)) if line.strip()]
    if sorted(order) != sorted(widths):
        return None
    columns, width = {}, 1
    for name in order:
        columns[name] = slice(width + 1, width + 1 + widths[name])
        width += 1 + widths[name]
    words = list(chain.from_iterable(map(str.split, lines)))
    frames = len(words) // width
    if len(words) != frames * width:
        return None
    for name, column in columns.items():
        if words[column.start - 1 :: width] != [name] * frames:
            return None
    if words[::width] != [str(number) for number in range(int(words[0]), int(words[0]) + frames)]:
        return None
    for column in columns.values():
        words[column.start - 1 :: width] = ["0"] * frames
    try:
        values = np.array(list(map(float, words))).reshape(frames, width)
    except ValueError:
        return None
    if not np.isfinite(values).all():
        return None
    return {name: values[:, columns[name]] for name in widths}


def _careful(lines: list[str], start: int, widths: dict[str, int], *, where: str) -> dict[str, np.ndarray]:
    """The slow way, that accepts bones in any order and names every fault by line and frame."""
    faults: list[str] = []
    frames: list[tuple[int, int, dict[str, list[float]]]] = []  # line, number, channels
    for number, line in enumerate(lines[start:], start=start + 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) == 1 and words[0].isdecimal():
            frames.append((number, int(words[0]), {}))
            continue
        at = f"line {number}, frame {frames[-1][1]}"
        name, numbers = words[0], to_numbers(words[1:])
        if name not in widths:
            faults.append(f"{at}: the skeleton has no moving bone {name!r}")
        elif name in frames[-1][2]:
            faults.append(f"{at}: bone {name!r} comes twice")
        elif not all(map(math.isfinite, numbers)):
            faults.append(f"{at}: {name} wants finite numbers, got {' '.join(words[1:])}")
        elif len(numbers) != widths[name]:
            faults.append(f"{at}: {name} wants {widths[name]} numbers, got {len(numbers)}")
        frames[-1][2].setdefault(name, numbers)
    for number, frame, channels in frames:
        if lacking := [name for name in widths if name not in channels]:
            faults.append(f"line {number}, frame {frame}: lacks {', '.join(lacking)}")
    for (_, before, _), (number, frame, _) in pairwise(frames):
        if frame != before + 1:
            faults.append(f"line {number}: frame {frame} follows frame {before}")
    advice = "The file is cut or damaged, or belongs to another skeleton: fetch it again or leave it out"
    refuse_text(where, faults, advice=advice)
    return {name: np.array([channels[name] for _, _, channels in frames]) for name in widths}


def turning_channels(
    channels: tuple[str, ...], values: Float[np.ndarray, "T C"], *, is_degrees: bool
) -> tuple[str, Float[np.ndarray, "T A"]]:
    """The turning channels of a bone: their axes in order, such as `xyz`, and their angles."""
    turning = [place for place, channel in enumerate(channels) if channel.startswith("r")]
    axes = "".join(channels[place][1] for place in turning)
    return axes, np.deg2rad(values[:, turning]) if is_degrees else values[:, turning]
