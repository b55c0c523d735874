"""What the modes promise: `causal` sees no future, and a mirrored person comes out mirrored."""

import numpy as np
import pytest
import torch

from mpm_model.lifter import MODES
from mpm_model.pose.normalize import normalize_keypoints
from mpm_model.pose.resample import resample_keypoints
from mpm_model.pose.skeletons import H36M_17
from tests.mpm_model.test_lifter_windows import TOLERANCE_M, make_lifter, make_moving_track

MIRROR = np.array([-1.0, 1.0, 1.0])


@pytest.mark.parametrize("rate_hz", [10.0, 23.976, 25.0, 30.0, 60.0])
def test_causal_sees_no_future(rate_hz):
    lifter, (track_px, confidence) = make_lifter(mode="causal"), make_moving_track(60)
    other_px, unsure = track_px.copy(), confidence.copy()
    other_px[40:] += 300
    unsure[40:] = 0.3
    before, after = lifter(track_px, confidence, rate_hz=rate_hz), lifter(other_px, unsure, rate_hz=rate_hz)
    np.testing.assert_allclose(after[:40], before[:40], atol=TOLERANCE_M)
    assert np.abs(after[40] - before[40]).max() > 1e-3
    cut_off = lifter(track_px[:40], confidence[:40], rate_hz=rate_hz)
    np.testing.assert_allclose(cut_off, before[:40], atol=TOLERANCE_M)


@pytest.mark.parametrize("rate_hz", [25.0, 60.0])
def test_causal_is_the_last_frame_of_a_window_of_the_past_at_the_steps_of_the_model(rate_hz):
    lifter, (track_px, confidence) = make_lifter(mode="causal"), make_moving_track(60)
    at = np.maximum(50 - np.arange(8, -1, -1) * rate_hz / 25, 0)
    rows = np.arange(60.0)
    window_px, is_hidden = resample_keypoints(track_px, confidence < 0.1, rows, at)
    sure = np.stack([np.interp(at, rows, joint) for joint in confidence.T], axis=-1).astype(np.float32)
    keypoints = normalize_keypoints(
        torch.from_numpy(window_px)[None],
        torch.from_numpy(is_hidden)[None],
        normalisation="both",
        width_px=torch.tensor([1000.0]),
        height_px=torch.tensor([800.0]),
        confidence=torch.from_numpy(sure)[None],
    )
    with torch.inference_mode():
        expected = lifter.model.sequence(keypoints, torch.from_numpy(is_hidden)[None])[0, -1]
    lifted = lifter(track_px, confidence, rate_hz=rate_hz, width_px=1000, height_px=800)
    np.testing.assert_allclose(lifted[50], expected, atol=1e-5)


@pytest.mark.parametrize("size", [{}, {"width_px": 1000, "height_px": 800}])
@pytest.mark.parametrize("rate_hz", [25.0, 60.0])
@pytest.mark.parametrize("mode", MODES)
def test_of_mirrored_input_comes_the_mirrored_pose(mode, rate_hz, size):
    track_px, confidence = make_moving_track(70)
    swap = H36M_17.mirror
    mirrored_px = [size.get("width_px", 0), 0] + track_px[:, swap] * MIRROR[:2]
    video = {"rate_hz": rate_hz, **size}
    lifter = make_lifter(mode=mode, is_mirrored=True)
    lifted = lifter(track_px, confidence, **video)
    of_mirrored = lifter(mirrored_px.astype(np.float32), confidence[:, swap], **video)
    np.testing.assert_allclose(of_mirrored, lifted[:, swap] * MIRROR, atol=1e-5)
    plain = make_lifter(mode=mode)
    mean = plain(mirrored_px.astype(np.float32), confidence[:, swap], **video)[:, swap] * MIRROR
    np.testing.assert_allclose(lifted, (plain(track_px, confidence, **video) + mean) / 2, atol=1e-5)
    assert np.abs(lifted - plain(track_px, confidence, **video)).max() > 1e-2
