"""Sizes that can be built, and how many parameters they make."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpm_model.errors import InputError
from mpm_model.network.config import PoseTransformerConfig, strides


@pytest.mark.parametrize(
    ("frames", "steps"),
    [
        (1, ()),
        (9, (3, 3)),
        (27, (3,) * 3),
        (81, (3,) * 4),
        (243, (3,) * 5),
        (351, (3, 3, 3, 13)),
        (45, (3, 3, 5)),
    ],
)
def test_strides_are_the_factors_of_three_and_what_remains(frames, steps):
    assert strides(frames) == steps


@given(frames=st.integers(1, 2000))
def test_strides_multiply_to_the_frames_or_are_refused(frames):
    rest = frames
    while rest % 3 == 0:
        rest //= 3
    if rest in (1, 5, 7, 11, 13):
        assert math.prod(strides(frames)) == frames
    else:
        with pytest.raises(InputError, match=f"got {frames};"):
            strides(frames)


def test_lengths_nearby_are_named():
    with pytest.raises(InputError, match="got 100; the nearest are 99 and 117"):
        strides(100)


def test_all_faults_of_a_config_are_named_at_once():
    with pytest.raises(
        InputError, match=r"frames must .* got 0; heads must .* got 2.5; dropout must .* got 1"
    ) as error:
        PoseTransformerConfig(frames=0, heads=2.5, dropout=1)
    assert "network sizes" in str(error.value)


def test_heads_must_share_the_width():
    with pytest.raises(InputError, match="width 20 cannot be divided among 8 heads"):
        PoseTransformerConfig(width=20)


def test_a_width_of_one_has_no_spread():
    with pytest.raises(InputError, match="width must be at least 2"):
        PoseTransformerConfig(width=1, heads=1)


def test_all_faults_of_the_new_settings_are_named_at_once():
    with pytest.raises(
        InputError,
        match=r"spatial_layers must .* got -1; spatial_width must .* got 6; keypoint_channels must .* got 6; "
        r"positions must be one of table, rotary, got 'sine'; norms must .* got 'batch'",
    ):
        PoseTransformerConfig(
            spatial_layers=-1, spatial_width=6, keypoint_channels=6, positions="sine", norms="batch"
        )


def test_rotary_positions_need_pairs_of_features():
    with pytest.raises(InputError, match="an even width per head, got 3"):
        PoseTransformerConfig(width=12, heads=4, positions="rotary")
