"""Windows cover everything and leave no seam."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mpm_model.errors import InputError
from mpm_model.pose.windows import cut, stitch, window_starts

KINDS = pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])


@st.composite
def plans(draw):
    """(frames, window_frames, hop_frames) that fit."""
    window_frames = draw(st.integers(1, 40))
    return draw(st.integers(window_frames, 300)), window_frames, draw(st.integers(1, window_frames))


def test_windows_start_every_hop_and_the_last_ends_with_the_recording():
    np.testing.assert_array_equal(window_starts(20, window_frames=8, hop_frames=5), [0, 5, 10, 12])
    np.testing.assert_array_equal(window_starts(18, window_frames=8, hop_frames=5), [0, 5, 10])
    np.testing.assert_array_equal(window_starts(8, window_frames=8, hop_frames=5), [0])


def test_windows_start_at_multiples_of_the_hop_wherever_the_recording_begins():
    plan = {"window_frames": 8, "hop_frames": 5}
    np.testing.assert_array_equal(window_starts(20, **plan, first_frame=7), [7, 10, 15, 19])
    np.testing.assert_array_equal(window_starts(20, **plan, first_frame=-7), [-7, -5, 0, 5])
    np.testing.assert_array_equal(window_starts(8, **plan, first_frame=2**40), [2**40])


@given(plan=plans())
def test_windows_cover_every_frame_and_nothing_else(plan):
    frames, window_frames, hop_frames = plan
    starts = window_starts(frames, window_frames=window_frames, hop_frames=hop_frames)
    assert (np.diff(starts) > 0).all()
    covered = starts[:, None] + np.arange(window_frames)
    np.testing.assert_array_equal(np.unique(covered), np.arange(frames))


def test_what_cannot_be_cut_is_refused_with_all_faults():
    with pytest.raises(
        InputError, match=r"hop_frames must be in 1..window_frames \(8\), got 9; .* into 7; pad"
    ):
        window_starts(7, window_frames=8, hop_frames=9)


@KINDS
@given(plan=plans(), seed=st.integers(0, 2**31))
def test_stitching_what_was_cut_gives_it_back_to_the_last_bit(kind, plan, seed):
    frames, window_frames, hop_frames = plan
    track = kind(np.random.default_rng(seed).normal(size=(frames, 3, 2)).astype(np.float32))
    starts = window_starts(frames, window_frames=window_frames, hop_frames=hop_frames)
    windows = cut(track, starts, window_frames=window_frames)
    assert windows.shape == (len(starts), window_frames, 3, 2)
    back = stitch(windows, starts, frames)
    assert back.dtype == track.dtype
    np.testing.assert_array_equal(back, track)


@given(plan=plans(), seed=st.integers(0, 2**31))
def test_stitched_frames_lie_between_the_windows_and_are_linear_in_them(plan, seed):
    frames, window_frames, hop_frames = plan
    starts = window_starts(frames, window_frames=window_frames, hop_frames=hop_frames)
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, len(starts), window_frames, 2))
    np.testing.assert_allclose(
        stitch(first + 3 * second, starts, frames),
        stitch(first, starts, frames) + 3 * stitch(second, starts, frames),
        atol=1e-12,
    )
    assert np.abs(stitch(first, starts, frames)).max() <= np.abs(first).max() + 1e-12


def test_at_half_overlap_the_weight_is_a_raised_cosine():
    starts = window_starts(12, window_frames=8, hop_frames=4)
    step = stitch(np.repeat([0.0, 1.0], 8).reshape(2, 8, 1), starts, 12)[:, 0]
    np.testing.assert_allclose(step[:4], 0)
    np.testing.assert_allclose(step[4:8], np.sin(np.pi * (np.arange(4) + 0.5) / 8) ** 2)
    np.testing.assert_allclose(step[8:], 1)


@pytest.mark.parametrize(("window_frames", "hop_frames"), [(243, 122), (243, 200), (81, 27), (27, 20)])
def test_windows_that_disagree_meet_without_a_seam(window_frames, hop_frames):
    frames = window_frames + 3 * hop_frames
    starts = window_starts(frames, window_frames=window_frames, hop_frames=hop_frames)
    heights = np.arange(len(starts), dtype=float)
    windows = np.broadcast_to(heights[:, None, None], (len(starts), window_frames, 1))
    track = stitch(windows, starts, frames)[:, 0]
    steps = np.diff(track)
    assert (steps >= -1e-12).all()
    overlap = min(window_frames - hop_frames, hop_frames)
    assert steps.max() < 4 / overlap, "rises over the overlap, nowhere at once"
    assert steps[starts[1:] - 1].max() < 0.05, "a window enters with hardly any weight"


@KINDS
def test_many_windows_are_stitched_block_by_block_as_one_by_one(kind):
    frames, length = 30_000, 9
    starts = window_starts(frames, window_frames=length, hop_frames=4)
    windows = np.random.default_rng(0).normal(size=(len(starts), length, 1))
    weight = np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2
    above, below = np.zeros((frames, 1)), np.zeros((frames, 1))
    for start, window in zip(starts, windows, strict=True):
        above[start : start + length] += weight[:, None] * window
        below[start : start + length] += weight[:, None]
    np.testing.assert_allclose(stitch(kind(windows), starts, frames), above / below, atol=1e-12)


@pytest.mark.parametrize(
    ("starts", "frames"), [([0, 5], 9), ([1, 5], 9), ([0, 4], 9), ([5, 0], 9), ([0], 4), ([], 4)]
)
def test_windows_that_leave_gaps_are_refused(starts, frames):
    with pytest.raises(InputError, match="stitch"):
        stitch(np.zeros((len(starts) or 1, 4, 1)), np.array(starts, dtype=int), frames + (starts == [0]))
