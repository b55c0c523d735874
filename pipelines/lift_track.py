"""One person's keypoints become poses: gaps, rates, and the skeleton that the model knows."""

from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int

from mpm_model.lifter import Lifter
from pipelines.detections.common_skeleton import to_skeleton
from pipelines.detections.track import Track
from pipelines.poses_table import PoseTrack

ASSUMED_RATE_HZ = 30.0
"""Rate of a video when neither its format nor the user says it."""


def lift_track(track: Track, lifter: Lifter) -> PoseTrack:
    """Lift one person; the rows are the track's own frames.

    Short gaps enter as hidden frames; a gap longer than the model's window splits the track.
    """
    common = to_skeleton(track, lifter.skeleton)
    rate_hz = track.rate_hz or ASSUMED_RATE_HZ
    longest_gap = max(1, round(lifter.window_frames * rate_hz / lifter.rate_hz))
    joints_rel_m = np.concatenate(
        [
            _lift_run(common, rows, rate_hz=rate_hz, lifter=lifter)
            for rows in runs(track.frames, longest_gap=longest_gap)
        ]
    )
    return PoseTrack(
        source=track.source,
        person=track.person,
        frames=track.frames,
        time_s=track.frames / rate_hz,
        joints_rel_m=joints_rel_m,
        is_observed=common.confidence >= lifter.min_confidence,
        keypoints_px=common.keypoints_px,
        confidence=common.confidence,
        width_px=track.width_px,
        height_px=track.height_px,
        skeleton=lifter.skeleton,
    )


def runs(frames: Int[np.ndarray, "N"], *, longest_gap: int) -> list[slice]:
    """Rows between gaps of more than `longest_gap` missing frames."""
    breaks = np.flatnonzero(np.diff(frames) > longest_gap + 1) + 1
    edges = [0, *breaks.tolist(), len(frames)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _lift_run(track: Track, rows: slice, *, rate_hz: float, lifter: Lifter) -> Float[np.ndarray, "N J 3"]:
    at = track.frames[rows] - track.frames[rows.start]
    shape = (int(at[-1]) + 1, len(track.skeleton))
    keypoints_px, confidence = np.zeros((*shape, 2), np.float32), np.zeros(shape, np.float32)
    keypoints_px[at], confidence[at] = track.keypoints_px[rows], track.confidence[rows]
    lifted = lifter(
        keypoints_px, confidence, rate_hz=rate_hz, width_px=track.width_px, height_px=track.height_px
    )
    return np.asarray(lifted[at])
