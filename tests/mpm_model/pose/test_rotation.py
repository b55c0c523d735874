"""Rotations turn the way they say."""

import math

import pytest
import torch

from mpm_model.pose.rotation import level_rotation, rotation_about, tilt_rotation

RIGHT, DOWN, FORWARD = torch.eye(3, dtype=torch.float64)
QUARTER = torch.tensor(math.pi / 2, dtype=torch.float64)


@pytest.mark.parametrize(("axis", "before", "after"), [("x", 1, 2), ("y", 2, 0), ("z", 0, 1)])
def test_a_quarter_turn_takes_one_axis_to_the_next(axis, before, after):
    axes = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(rotation_about(axis, QUARTER) @ axes[before], axes[after])


@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_all_rotations_are_rotations(shape):
    angle_rad = torch.linspace(-3, 3, math.prod(shape), dtype=torch.float64).reshape(shape)
    for rotation in (
        *(rotation_about(axis, angle_rad) for axis in "xyz"),
        level_rotation(angle_rad),
        tilt_rotation(angle_rad, angle_rad / 2),
    ):
        assert rotation.shape == (*shape, 3, 3)
        identity = torch.eye(3, dtype=torch.float64).expand_as(rotation)
        torch.testing.assert_close(rotation @ rotation.mT, identity)
        torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(shape, dtype=torch.float64))


def test_a_level_camera_looks_along_its_azimuth_with_the_sky_above():
    north = level_rotation(QUARTER)
    torch.testing.assert_close(north @ torch.tensor([0.0, 1, 0], dtype=torch.float64), FORWARD)
    torch.testing.assert_close(north @ torch.tensor([0.0, 0, 1], dtype=torch.float64), -DOWN)
    torch.testing.assert_close(north @ torch.tensor([1.0, 0, 0], dtype=torch.float64), RIGHT)


def test_a_camera_pitched_down_sees_what_was_ahead_higher_up():
    ahead = tilt_rotation(torch.tensor(0.2), torch.tensor(0.0)) @ FORWARD.float()
    assert ahead[1] == pytest.approx(-math.sin(0.2))


def test_positive_roll_turns_the_image_clockwise():
    right = tilt_rotation(torch.tensor(0.0), torch.tensor(0.1)) @ RIGHT.float()
    assert right[1] == pytest.approx(math.sin(0.1)), "what was at the right sinks"
