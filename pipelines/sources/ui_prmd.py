"""UI-PRMD, rehabilitation exercises as optical markers: episodes to recordings.

Vakanski, Jun, Paul and Baker 2018, "A Data Set of Human Body Movements for Physical Rehabilitation
Exercises", Data 3(1). A line is a frame: x, y, z of 39 Plug-in-Gait markers, in millimetres, z up, separated
by commas.
"""

import numpy as np
from jaxtyping import Float

from mpm_model.errors import InputError
from mpm_model.pose.skeletons import H36M_17
from pipelines.sources.head import head_note
from pipelines.sources.number_text import refuse_text, to_numbers
from pipelines.sources.options import ReadOptions
from pipelines.sources.plug_in_gait import MARKERS, WIDEST_PELVIS_M, joints_under_markers
from pipelines.sources.recording import Recording
from pipelines.sources.straight_lines import points_at_rate
from pipelines.sources.take_names import name_dataset, name_ui_prmd_take
from pipelines.storage import read_bytes

MILLIMETRE_M = 0.001


def read_ui_prmd(url: str, *, rate_hz: float, options: ReadOptions) -> Recording:
    """Read one episode as Human3.6M-17 at `rate_hz`; `joints_under_markers` says how markers become joints.

    A joint that needs a dropped marker is invalid in that frame. InputError names file and line of what is
    wrong.
    """
    markers, decimals = parse_positions(read_bytes(url).decode("latin-1"), where=url)
    markers_m = np.where(is_dropped(markers)[..., None], np.nan, markers * (options.unit_m or MILLIMETRE_M))
    notes = []
    source_rate_hz = options.source_rate_hz
    if source_rate_hz is None:
        source_rate_hz = rate_told_by_decimals(decimals, where=url)
        notes.append(
            f"the file does not say its rate; {source_rate_hz:g} Hz taken, as its numbers have {decimals} "
            f"decimal{'s' if decimals > 1 else ''}"
        )
    if options.unit_m is None:
        notes.append("the file does not say its unit; millimetres taken, as in all of UI-PRMD")
    joints_m, pelvis_m, turn_rad = joints_under_markers(markers_m)
    notes.append(head_note(turn_rad))
    if pelvis_m > WIDEST_PELVIS_M:
        notes.append(
            f"LASI and RASI are {pelvis_m:.3f} m apart, which no pelvis is; "
            f"{WIDEST_PELVIS_M:.2f} m taken to place the hips"
        )
    joints_m = points_at_rate(joints_m, from_hz=source_rate_hz, to_hz=rate_hz)
    is_valid = np.isfinite(joints_m).all(axis=-1)
    take = name_ui_prmd_take(url)
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
        notes=tuple(notes),
    )


def is_dropped(markers: Float[np.ndarray, "T 39 3"]) -> np.ndarray:
    """UI-PRMD's quirk: a marker that was lost is written 0,0,0. (T, 39) bool."""
    return np.asarray((markers == 0).all(axis=-1))


def rate_told_by_decimals(decimals: int, *, where: str) -> float:
    """UI-PRMD's quirk: nothing in a file says its rate, but how its numbers are printed does.

    The published files print six decimals and are 100 Hz; a halved redistribution keeps every second frame,
    prints one decimal and is 50 Hz.
    """
    rates_hz = {6: 100.0, 1: 50.0}
    if decimals not in rates_hz:
        raise InputError(
            f"{where}: cannot tell the rate: published files (100 Hz) print 6 decimals, the halved ones "
            f"(50 Hz) 1, this one {decimals}; give it with the option source_rate_hz"
        )
    return rates_hz[decimals]


def parse_positions(text: str, *, where: str) -> tuple[Float[np.ndarray, "T 39 3"], int]:
    """Read a positions file's text: markers as written, and how many decimals its first line prints."""
    rows = [
        (number, line.split(",")) for number, line in enumerate(text.splitlines(), start=1) if line.strip()
    ]
    if not rows:
        raise InputError(f"{where}: wanted lines of {3 * len(MARKERS)} numbers, got an empty file")
    faults = [
        f"line {number}: wanted {3 * len(MARKERS)} numbers separated by commas, got {len(row)}"
        for number, row in rows
        if len(row) != 3 * len(MARKERS)
    ]
    values = np.empty((0, 3 * len(MARKERS)))
    if not faults:
        values = np.array([to_numbers(row) for _, row in rows])
        for frame, column in np.argwhere(~np.isfinite(values)):
            number, row = rows[frame]
            faults.append(
                f"line {number}: {MARKERS[column // 3]} wants finite numbers, got {row[column].strip()!r}"
            )
    advice = "Wanted a positions file of UI-PRMD, 39 markers to a line: fetch it again or leave it out"
    refuse_text(where, faults, advice=advice)
    decimals = max(len(word.strip().partition(".")[2]) for word in rows[0][1])
    return values.reshape(len(rows), len(MARKERS), 3), decimals
