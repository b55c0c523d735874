"""A stream gives what mode `causal` gives of the whole track."""

import numpy as np
import pytest

from mpm_model.errors import InputError
from mpm_model.streaming import StreamingLifter
from tests.mpm_model.test_lifter_windows import make_lifter, make_moving_track


@pytest.mark.parametrize("is_mirrored", [False, True])
@pytest.mark.parametrize("rate_hz", [None, 10.0, 23.976, 25.0, 30.0, 60.0])
def test_frame_after_frame_is_as_the_whole_track(rate_hz, is_mirrored):
    lifter = make_lifter(mode="causal", is_mirrored=is_mirrored)
    track_px, confidence = make_moving_track(80)
    video = {"rate_hz": rate_hz, "width_px": 1000, "height_px": 800}
    stream = StreamingLifter(lifter, **video)
    streamed = [stream.push(frame_px, sure) for frame_px, sure in zip(track_px, confidence, strict=True)]
    np.testing.assert_allclose(streamed, lifter(track_px, confidence, **video), atol=1e-5)


def test_no_confidence_is_full_confidence_and_the_caller_may_use_its_array_again():
    lifter, (track_px, _) = make_lifter(mode="causal"), make_moving_track(12)
    stream, frame_px = StreamingLifter(lifter), np.empty((17, 2), np.float32)
    for row, expected in enumerate(lifter(track_px)):
        frame_px[:] = track_px[row]
        np.testing.assert_allclose(stream.push(frame_px), expected, atol=1e-5)


def test_a_frame_that_is_refused_is_not_counted():
    lifter, (track_px, confidence) = make_lifter(mode="causal"), make_moving_track(12)
    stream = StreamingLifter(lifter)
    for row, expected in enumerate(lifter(track_px, confidence)):
        with pytest.raises(InputError, match="instead of NaN"):
            stream.push(np.full((17, 2), np.nan), confidence[row])
        with pytest.raises(InputError, match=r"must be \(17, 2\) and \(17,\) of h36m_17, got \(16, 2\)"):
            stream.push(track_px[row, 1:], confidence[row])
        np.testing.assert_allclose(stream.push(track_px[row], confidence[row]), expected, atol=1e-5)


def test_of_the_past_no_more_is_kept_than_a_window_sees():
    lifter, (track_px, confidence) = make_lifter(mode="causal"), make_moving_track(200)
    stream = StreamingLifter(lifter, rate_hz=60.0)
    for frame_px, sure in zip(track_px, confidence, strict=True):
        stream.push(frame_px, sure)
    assert len(stream._past) == lifter.context_frames(60.0) < 30


def test_a_lifter_that_looks_ahead_is_refused():
    with pytest.raises(InputError, match="give a lifter of mode causal, got fast"):
        StreamingLifter(make_lifter())
