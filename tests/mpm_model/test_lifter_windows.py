"""Windows of the lifter: counted from the source's frame 0, cut into pieces and blocks without a trace."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from mpm_model.checkpoint import Checkpoint
from mpm_model.errors import InputError
from mpm_model.lifter import MODES, Lifter
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.masked import UnifiedPoseModel
from mpm_model.pose.skeletons import H36M_17

SIZES = PoseTransformerConfig(
    frames=9, width=16, layers=1, heads=2, feed_forward=16, frame_hidden=16, keypoint_channels=5
)

TOLERANCE_M = 1e-6
"""What rounding may do: batches are put together differently."""
RATES_HZ = (25.0, 30.0, 50.0, 60.0, 23.976)


def make_lifter(**options) -> Lifter:
    torch.manual_seed(0)
    checkpoint = Checkpoint(
        model=UnifiedPoseModel(SIZES),
        skeleton=H36M_17,
        normalisation="both",
        rate_hz=25.0,
        card={},
    )
    return Lifter(checkpoint, **options)


def make_moving_track(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints that move and tremble, some of them unseen, and their confidence."""
    rng = np.random.default_rng(7)
    turns = rng.uniform(0.02, 0.2, (17, 2)) * np.arange(frames)[:, None, None]
    keypoints_px = 500 + 60 * rng.normal(size=(17, 2)) + 50 * np.sin(turns + rng.uniform(0, 6, (17, 2)))
    confidence = rng.uniform(0.2, 1, (frames, 17)) * (rng.uniform(size=(frames, 17)) > 0.1)
    confidence[frames // 2 : frames // 2 + 4] = 0
    trembling_px = keypoints_px + rng.normal(0, 3, keypoints_px.shape)
    return trembling_px.astype(np.float32), confidence.astype(np.float32)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("mode", MODES)
def test_a_track_cut_in_seven_lifts_as_the_whole_but_for_the_cuts(mode, rate_hz):
    lifter, (track_px, confidence) = make_lifter(mode=mode), make_moving_track(500)
    video = {"rate_hz": rate_hz, "width_px": 1000, "height_px": 800}
    whole_m = lifter(track_px, confidence, **video, first_frame=31)
    cuts = [0, 31, 120, 133, 231, 350, 401, 500]
    parts_m = [
        lifter(track_px[begin:end], confidence[begin:end], **video, first_frame=31 + begin)
        for begin, end in pairwise(cuts)
    ]
    apart_m = np.abs(np.concatenate(parts_m) - whole_m).max((1, 2))
    distance = np.abs(np.arange(500)[:, None] - np.array(cuts[1:-1])).min(1)
    is_near = distance <= lifter.context_frames(rate_hz)
    assert apart_m[~is_near].max() < TOLERANCE_M
    assert 0.2 < is_near.mean() < 0.95
    assert apart_m[is_near].max() > 1e-3, "a cut takes context away"


def test_windows_are_counted_from_the_frame_0_of_the_source():
    """Where a track begins matters by the place of its windows, and a hop further not at all."""
    lifter, (track_px, confidence) = make_lifter(), make_moving_track(200)
    hop = lifter.window_frames - lifter.overlap_frames
    at_0, at_1, at_hop = (lifter(track_px, confidence, first_frame=first) for first in (0, 1, hop))
    np.testing.assert_array_equal(at_0, at_hop)
    assert np.abs(at_0 - at_1).max() > 1e-4


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("mode", MODES)
def test_chosen_rows_are_those_of_the_whole(mode, rate_hz):
    lifter, (track_px, confidence) = make_lifter(mode=mode), make_moving_track(300)
    whole_m = lifter(track_px, confidence, rate_hz=rate_hz, first_frame=5)
    for only in (slice(0, 1), slice(3, 90), slice(150, 152), slice(-1, None), slice(None)):
        part_m = lifter(track_px, confidence, rate_hz=rate_hz, first_frame=5, only=only)
        np.testing.assert_allclose(part_m, whole_m[only], atol=TOLERANCE_M)


@pytest.mark.parametrize("mode", MODES)
def test_only_the_windows_of_chosen_rows_are_computed(mode, monkeypatch):
    lifter, (track_px, confidence) = make_lifter(mode=mode, batch_windows=2), make_moving_track(500)
    windows = []
    network = lifter.model.sequence
    monkeypatch.setattr(
        lifter.model,
        "sequence",
        lambda *given, **named: windows.append(len(given[0])) or network(*given, **named),
    )
    lifter(track_px, confidence, only=slice(250, 252))
    most = -(-lifter.window_frames // (lifter.window_frames - lifter.overlap_frames)) + 1
    assert sum(windows) <= (most if mode == "fast" else 2)


@pytest.mark.parametrize("only", [slice(5, 5), slice(10, None), slice(0, 9, 2), slice(5, 0, -1)])
def test_no_rows_and_rows_left_out_are_refused(only):
    with pytest.raises(InputError, match="only must take at least one row"):
        make_lifter()(*make_moving_track(10), only=only)


@pytest.mark.parametrize("rate_hz", [25.0, 60.0])
@pytest.mark.parametrize("mode", MODES)
def test_long_tracks_are_lifted_block_by_block_as_at_once(mode, rate_hz, monkeypatch):
    lifter, (track_px, confidence) = make_lifter(mode=mode), make_moving_track(300)
    at_once_m = lifter(track_px, confidence, rate_hz=rate_hz)
    monkeypatch.setattr("mpm_model.lifter.BLOCK_FRAMES", 64)
    np.testing.assert_allclose(lifter(track_px, confidence, rate_hz=rate_hz), at_once_m, atol=TOLERANCE_M)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("batch_windows", [1, 5])
def test_how_many_windows_are_lifted_together_matters_by_rounding_alone(mode, batch_windows):
    track_px, confidence = make_moving_track(120)
    together_m = make_lifter(mode=mode)(track_px, confidence)
    apart_m = make_lifter(mode=mode, batch_windows=batch_windows)(track_px, confidence)
    np.testing.assert_allclose(apart_m, together_m, atol=TOLERANCE_M)


@pytest.mark.parametrize("mode", MODES)
def test_one_frame_is_a_person_who_stands_still(mode):
    lifter, (track_px, confidence) = make_lifter(mode=mode), make_moving_track(1)
    lifted_m = lifter(track_px, confidence + 1)
    for rate_hz, first_frame in ((25.0, 100), (60.0, 0), (60.0, 12), (10.0, 4)):
        other_m = lifter(track_px, confidence + 1, rate_hz=rate_hz, first_frame=first_frame)
        np.testing.assert_allclose(other_m, lifted_m, atol=TOLERANCE_M)
