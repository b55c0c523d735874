"""Lifting a person's track: gaps, rates, other skeletons, and pieces of it that come out as of the whole."""

from dataclasses import replace

import numpy as np
import pytest

from mpm_model.errors import InputError
from mpm_model.lifter import MODES
from mpm_model.pose.skeletons import COCO_17, H36M_17
from pipelines.detections.track import Track
from pipelines.lift_track import lift_track, runs
from tests.mpm_model.test_lifter_windows import TOLERANCE_M, make_lifter, make_moving_track

FRAMES = 300
GAPS = ((40, 42), (100, 108), (150, 220), (260, 261))
"""Frames that the detector has nothing of: short ones, and one that is longer than a window at any rate."""


def make_gappy_track(rate_hz: float | None = 25.0, first_frame: int = 17) -> Track:
    keypoints_px, confidence = make_moving_track(FRAMES)
    is_there = np.ones(FRAMES, bool)
    for begin, stop in GAPS:
        is_there[begin:stop] = False
    confidence[:, 0] = 0.9
    return Track(
        keypoints_px=keypoints_px[is_there],
        confidence=confidence[is_there],
        frames=first_frame + np.flatnonzero(is_there),
        skeleton=H36M_17,
        source="videos/cam1",
        person="0",
        rate_hz=rate_hz,
        width_px=1000,
        height_px=800,
    )


@pytest.mark.parametrize("rate_hz", [25.0, 30.0, 50.0, 60.0, 23.976])
@pytest.mark.parametrize("mode", MODES)
def test_pieces_of_a_track_are_those_of_the_whole(mode, rate_hz):
    lifter, track = make_lifter(mode=mode), make_gappy_track(rate_hz)
    whole = lift_track(track, lifter)
    rows = len(track.frames)
    for size in (7, 50, rows):
        pieces = [lift_track(track, lifter, slice(row, row + size)) for row in range(0, rows, size)]
        for name in ("frames", "time_s", "is_observed", "keypoints_px", "confidence"):
            together = np.concatenate([getattr(piece, name) for piece in pieces])
            np.testing.assert_array_equal(together, getattr(whole, name))
        together_m = np.concatenate([piece.joints_rel_m for piece in pieces])
        np.testing.assert_allclose(together_m, whole.joints_rel_m, atol=TOLERANCE_M)


@pytest.mark.parametrize("rate_hz", [25.0, 60.0])
def test_of_a_long_track_a_piece_takes_no_more_than_its_context(rate_hz, monkeypatch):
    lifter, track = make_lifter(), make_gappy_track(rate_hz)
    lifted_frames = []
    sample = lifter.__class__.__call__
    monkeypatch.setattr(
        lifter.__class__,
        "__call__",
        lambda self, *given, **named: lifted_frames.append(len(given[0])) or sample(self, *given, **named),
    )
    lift_track(track, lifter, slice(60, 65))
    assert lifted_frames == [pytest.approx(5 + 2 * lifter.context_frames(rate_hz), abs=2)]


def test_a_track_cut_in_two_files_is_lifted_as_one_away_from_the_cut():
    lifter, track = make_lifter(), make_gappy_track(30.0)
    whole_m = lift_track(track, lifter).joints_rel_m
    first, second = (
        replace(
            track,
            frames=track.frames[rows],
            keypoints_px=track.keypoints_px[rows],
            confidence=track.confidence[rows],
        )
        for rows in (slice(70), slice(70, None))
    )
    cut_m = np.concatenate([lift_track(part, lifter).joints_rel_m for part in (first, second)])
    is_far = np.abs(track.frames - track.frames[70]) > lifter.context_frames(30.0)
    np.testing.assert_allclose(cut_m[is_far], whole_m[is_far], atol=TOLERANCE_M)
    assert np.abs(cut_m - whole_m).max() > 1e-3


def test_a_gap_longer_than_a_window_splits_the_track():
    """Each side then comes out as if the other were not there."""
    lifter, track = make_lifter(), make_gappy_track()
    after = np.searchsorted(track.frames, 17 + 220)
    alone = replace(
        track,
        frames=track.frames[after:],
        keypoints_px=track.keypoints_px[after:],
        confidence=track.confidence[after:],
    )
    np.testing.assert_allclose(
        lift_track(alone, lifter).joints_rel_m,
        lift_track(track, lifter).joints_rel_m[after:],
        atol=TOLERANCE_M,
    )
    assert runs(track.frames, longest_gap=9) == [slice(0, after), slice(after, len(track.frames))]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rate_hz", [None, 25.0, 60.0])
def test_one_frame_is_a_track(mode, rate_hz):
    track = make_gappy_track(rate_hz)
    one = replace(
        track, frames=track.frames[:1], keypoints_px=track.keypoints_px[:1], confidence=track.confidence[:1]
    )
    lifted = lift_track(one, make_lifter(mode=mode))
    assert lifted.joints_rel_m.shape == (1, 17, 3)
    assert np.isfinite(lifted.joints_rel_m).all()


def test_a_piece_in_which_nobody_was_seen_is_lifted_like_any():
    track = make_gappy_track()
    confidence = track.confidence.copy()
    confidence[50:60] = 0
    track = replace(track, confidence=confidence)
    whole, piece = lift_track(track, make_lifter()), lift_track(track, make_lifter(), slice(52, 55))
    assert not piece.is_observed.any()
    np.testing.assert_allclose(piece.joints_rel_m, whole.joints_rel_m[52:55], atol=TOLERANCE_M)


def test_pieces_of_other_skeletons_are_converted():
    track = replace(make_gappy_track(), skeleton=COCO_17)
    whole, piece = lift_track(track, make_lifter()), lift_track(track, make_lifter(), slice(30, 44))
    assert piece.skeleton == H36M_17
    np.testing.assert_array_equal(piece.keypoints_px, whole.keypoints_px[30:44])
    np.testing.assert_allclose(piece.joints_rel_m, whole.joints_rel_m[30:44], atol=TOLERANCE_M)


def test_no_rows_are_refused():
    with pytest.raises(InputError, match="only must take at least one row"):
        lift_track(make_gappy_track(), make_lifter(), slice(FRAMES, None))
