"""One person's keypoints become poses: gaps, rates, and the skeleton that the model knows."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Int

from mpm_model.errors import InputError
from mpm_model.lifter import Lifter, chosen_rows
from mpm_model.lifting_signs import LONGEST_GAP_S
from pipelines.detections.common_skeleton import to_skeleton
from pipelines.detections.track import Track
from pipelines.poses_table import PoseTrack

ASSUMED_RATE_HZ = 30.0
"""Rate of a video when neither its format nor the user says it."""
MOST_SPREAD = 30
"""Of so many frames one may be there: more than one a second of most videos."""
MOST_EMPTY = 2**17
"""So many frames may be lifted of any run, however few are there: some hundred megabytes."""


def lift_track(track: Track, lifter: Lifter, only: slice | None = None) -> PoseTrack:
    """Lift one person, or `only` these rows of the track; the rows are the track's own frames.

    Short gaps enter as hidden frames; a gap longer than the model's window splits the track. Rows that are
    lifted alone come out as those of the whole track, and cost little more than their share of it.
    """
    rows = chosen_rows(len(track.frames), only)
    common = to_skeleton(track, lifter.skeleton)
    rate_hz = track.rate_hz or ASSUMED_RATE_HZ
    longest_gap = max(1, round(lifter.window_frames * rate_hz / lifter.rate_hz))
    together = runs(track.frames, longest_gap=longest_gap)
    _refuse_another_clock(track, together, rate_hz=rate_hz)
    lifted = [
        _lift_run(common, run, wanted, rate_hz=rate_hz, lifter=lifter)
        for run in together
        if (wanted := range(max(run.start, rows.start), min(run.stop, rows.stop)))
    ]
    joints_rel_m, *errors_mm = (np.concatenate(parts) for parts in zip(*lifted, strict=True))
    chosen = slice(rows.start, rows.stop)
    return PoseTrack(
        source=track.source,
        person=track.person,
        frames=track.frames[chosen],
        time_s=track.frames[chosen] / rate_hz,
        joints_rel_m=joints_rel_m,
        is_observed=common.confidence[chosen] >= lifter.min_confidence,
        keypoints_px=common.keypoints_px[chosen],
        confidence=common.confidence[chosen],
        width_px=track.width_px,
        height_px=track.height_px,
        skeleton=lifter.skeleton,
        **dict(zip(("error_50_mm", "error_90_mm"), errors_mm, strict=bool(errors_mm))),
    )


def _refuse_another_clock(track: Track, together: Sequence[slice], *, rate_hz: float) -> None:
    """InputError if frames are numbered by something finer than the video's frames, such as microseconds.

    All numbers between them would be lifted as well, which takes memory that no machine has.
    """
    for run in together:
        rows = run.stop - run.start
        numbers = int(track.frames[run.stop - 1] - track.frames[run.start]) + 1
        if numbers > max(MOST_EMPTY, MOST_SPREAD * rows):
            raise InputError(
                f"{track.source}, person {track.person}: wanted frames numbered one by one, got {rows:,} "
                f"among {numbers:,} numbers at {rate_hz:g} Hz; number them 0, 1, 2 and give the video's rate"
            )


def runs(frames: Int[np.ndarray, "N"], *, longest_gap: int) -> list[slice]:
    """Rows between gaps of more than `longest_gap` missing frames."""
    breaks = np.flatnonzero(np.diff(frames) > longest_gap + 1) + 1
    edges = [0, *breaks.tolist(), len(frames)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _lift_run(
    track: Track, run: slice, wanted: range, *, rate_hz: float, lifter: Lifter
) -> tuple[np.ndarray, ...]:
    """Joints (N, J, 3) of wanted rows of a run, from no more of it than has a part in them.

    If the lifter is calibrated, also the two radii of their errors, (N, J) each, in mm.
    """
    frames, bands = track.frames, lifter.error_bands
    shown = 0 if bands is None else math.ceil(LONGEST_GAP_S * rate_hz)
    context = lifter.context_frames(rate_hz) + shown
    first = max(int(frames[run.start]), int(frames[wanted[0]]) - context)
    last = min(int(frames[run.stop - 1]), int(frames[wanted[-1]]) + context)
    rows = slice(*np.searchsorted(frames, [first, last + 1]))
    shape = (last + 1 - first, len(track.skeleton))
    keypoints_px, confidence = np.zeros((*shape, 2), np.float32), np.zeros(shape, np.float32)
    at = frames[rows] - first
    keypoints_px[at], confidence[at] = track.keypoints_px[rows], track.confidence[rows]
    wanted_at = frames[wanted.start : wanted.stop] - first
    wide = slice(max(0, int(wanted_at[0]) - shown), min(shape[0], int(wanted_at[-1]) + 1 + shown))
    joints_rel_m = lifter(
        keypoints_px,
        confidence,
        rate_hz=rate_hz,
        width_px=track.width_px,
        height_px=track.height_px,
        first_frame=first,
        only=wide,
    )
    chosen = wanted_at - wide.start
    if bands is None:
        return (joints_rel_m[chosen],)
    sure = confidence[wide]
    errors_mm = bands.of(
        joints_rel_m, keypoints_px[wide], sure, sure < lifter.min_confidence, rate_hz=rate_hz
    )
    return joints_rel_m[chosen], *(each_mm[chosen] for each_mm in errors_mm)
