"""TRC, the format of Motion Analysis and OpenSim, as multi-view pose tools write it: takes to recordings.

Read are the joint centres of Pose2Sim (Pagnon, Domalain and Reveret 2021), which other tools name alike;
clouds of markers on the skin are not, for nothing in a file says where on the body a marker sits. Three lines
of header, a line of names, a line of `X1 Y1 Z1 ...`, then a line a frame: its number, its time and x, y, z of
each point, separated by tabs.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mpm_model.errors import InputError, listing, refuse
from mpm_model.pose.skeletons import BODY_25B, H36M_17, TO_H36M_17
from pipelines.sources.number_text import refuse_text, to_number, to_numbers
from pipelines.sources.options import ReadOptions
from pipelines.sources.recording import Recording
from pipelines.sources.rigs import Up
from pipelines.sources.straight_lines import points_at_rate
from pipelines.sources.take_names import UNKNOWN, TakeName, folder_name, name_dataset, stem
from pipelines.storage import read_bytes

UNITS_M = {"m": 1.0, "cm": 0.01, "mm": 0.001}
"""Units that a header may name."""
LIMBS = {
    f"{letter}{part.capitalize()}": f"{side}_{part}"
    for letter, side in (("R", "right"), ("L", "left"))
    for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
}
"""Names that a file must hold, and their joints."""
HEAD = {"Nose": "nose", "Head": "head_top"}
"""Names that it may hold: Pose2Sim's Head is the top of it. Without one its joint is invalid."""

_ADVICE = "Wanted a TRC file as Pose2Sim writes it: export it again or leave it out"
_HEADER_LINES = 5
_UPRIGHT_COSINE = 0.7


@dataclass(frozen=True, kw_only=True)
class TrcText:
    """What a TRC file says, in its own units and axes."""

    names: tuple[str, ...]
    """Names of the points."""
    points: Float[np.ndarray, "T J 3"]
    """Places of the points, float64; NaN where one is missing."""
    rate_hz: float
    """`DataRate`."""
    unit: str
    """`Units`, as written."""


def read_trc(url: str, *, rate_hz: float, options: ReadOptions) -> Recording:
    """Read one TRC as Human3.6M-17 at `rate_hz`.

    The limbs are the file's own points. pelvis is the middle of the hips, thorax that of the shoulders,
    spine halfway between: as for all detectors, whose points these are. `Neck` is not used, for it is the top
    of the neck with one model and its foot with another. A joint that needs a missing point is invalid in
    that frame. InputError names file and line of what is wrong.
    """
    content = parse_trc(read_bytes(url).decode("utf-8-sig", errors="replace"), where=url)
    unit_m = options.unit_m
    faults = []
    if unit_m is None and content.unit.lower() not in UNITS_M:
        faults.append(f"Units must be one of {', '.join(UNITS_M)}, got {content.unit!r}; give unit_m")
    if missing := [name for name in LIMBS if name not in content.names]:
        faults.append(
            f"it lacks the joints {listing(missing)}; it holds {listing(content.names)}: wanted joint "
            "centres named as Pose2Sim names them, not markers on the skin"
        )
    refuse(url, faults)
    unit_m = unit_m or UNITS_M[content.unit.lower()]
    joints_m = unit_m * joints_of_points(content)
    up = find_up(joints_m, where=url)
    joints_m = points_at_rate(
        up.to_world(joints_m), from_hz=options.source_rate_hz or content.rate_hz, to_hz=rate_hz
    )
    is_valid = np.asarray(np.isfinite(joints_m).all(axis=-1))
    take = TakeName(dataset=folder_name(url), subject=stem(url), action=UNKNOWN, name=stem(url))
    return Recording(
        joints_world_m=np.where(is_valid[..., None], joints_m, 0.0).astype(np.float32),
        is_valid=is_valid,
        skeleton=H36M_17,
        rate_hz=rate_hz,
        dataset=name_dataset(url, take, options.dataset),
        subject=take.subject,
        action=take.action,
        name=take.name,
        source=url,
        notes=(
            f"a TRC file does not say its way up; {up.name.lower()} taken, along which the person stands",
            "joints taken as those of a 2D detector seen from several cameras: hips lie a few centimetres "
            "from the centres that markers give",
        ),
    )


def parse_trc(text: str, *, where: str) -> TrcText:
    """Read a TRC file's text. Empty cells, cells that say NaN and points at exactly 0, 0, 0 are missing."""
    lines = text.splitlines()
    if len(lines) < _HEADER_LINES or not lines[0].startswith("PathFileType"):
        began = repr(lines[0][:24]) if lines else "nothing"
        raise InputError(f"{where}: wanted a header that begins PathFileType, got {began}. {_ADVICE}")
    header = dict(zip(lines[1].split("\t"), lines[2].split("\t"), strict=False))
    names = tuple(name.strip() for name in lines[3].split("\t")[2:] if name.strip())
    rate_hz = to_number(header.get("DataRate", ""))
    faults = []
    if not 1 <= rate_hz <= 10_000:
        faults.append(f"line 3: DataRate must lie in 1..10000, got {header.get('DataRate', 'none')!r}")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        faults.append(f"line 4: names repeat: {listing(repeated)}")
    rows = [(number, line) for number, line in enumerate(lines, start=1) if number > 5 and line.strip()]
    table = np.full((len(rows), 2 + 3 * len(names)), np.nan)
    for place, (number, line) in enumerate(rows):
        cells = [cell.strip() for cell in line.split("\t")]
        while len(cells) > table.shape[1] and not cells[-1]:
            cells.pop()
        if not 2 < len(cells) <= table.shape[1]:
            faults.append(f"line {number}: wanted {table.shape[1]} cells, got {len(cells)}")
            continue
        table[place, : len(cells)] = to_numbers(cells)
        bad = [
            cell
            for cell, value in zip(cells, table[place], strict=False)
            if not np.isfinite(value) and cell.lower() not in ("", "nan")
        ]
        if bad:
            faults.append(f"line {number}: wanted numbers, got {listing(map(repr, bad))}")
    if not faults:
        faults += _frame_faults(table, [number for number, _ in rows], header)
    refuse_text(where, faults, advice=_ADVICE)
    points = table[:, 2:].reshape(len(rows), len(names), 3)
    is_missing = ~np.isfinite(points).all(axis=-1) | (points == 0).all(axis=-1)
    return TrcText(
        names=names,
        points=np.where(is_missing[..., None], np.nan, points),
        rate_hz=rate_hz,
        unit=header.get("Units", "").strip(),
    )


def joints_of_points(content: TrcText) -> Float[np.ndarray, "T 17 3"]:
    """Human3.6M-17 in the file's units and axes, NaN where a point is missing."""
    seen = np.full((len(content.points), len(BODY_25B), 3), np.nan)
    for name, joint in (LIMBS | HEAD).items():
        if name in content.names:
            seen[:, BODY_25B.index(joint)] = content.points[:, content.names.index(name)]
    return np.asarray(TO_H36M_17[BODY_25B.name].points(seen))


def find_up(joints_m: Float[np.ndarray, "T 17 3"], *, where: str) -> Up:
    """The way up: that along which the thorax stands over the ankles, in the median of the take."""
    ankles_m = joints_m[:, H36M_17.select("left_ankle", "right_ankle")].mean(axis=1)
    standing_m = joints_m[:, H36M_17.index("thorax")] - ankles_m
    standing_m = standing_m[np.isfinite(standing_m).all(axis=-1)]
    if len(standing_m):
        standing_m /= np.maximum(np.linalg.norm(standing_m, axis=-1, keepdims=True), 1e-12)
        for up in Up:
            if np.median(standing_m @ up.axis) > _UPRIGHT_COSINE:
                return up
    raise InputError(
        f"{where}: cannot tell which way is up: wanted a take in which the thorax stands over the ankles, "
        "along y or z, in most frames; export it with y or z up, or leave it out"
    )


def _frame_faults(table: np.ndarray, line_numbers: list[int], header: dict[str, str]) -> list[str]:
    """Frames that are missing, in the middle or at the end."""
    faults = []
    said = to_number(header.get("NumFrames", ""))
    if len(table) == 0:
        faults.append("it holds no frames")
    elif np.isfinite(said) and said != len(table):
        faults.append(f"its header says {said:g} frames, it holds {len(table)}")
    steps = np.diff(table[:, 0])
    faults += [
        f"line {line_numbers[row + 1]}: frame {table[row + 1, 0]:g} follows frame {table[row, 0]:g}"
        for row in np.flatnonzero(steps != 1)
    ]
    return faults
