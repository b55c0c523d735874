import math

import numpy as np
import pytest
import torch
from walking_person import standing, swinging

from mpm_model.pose.rotation import rotation_about, tilt_rotation
from mpm_model.pose.skeletons import H36M_17
from mpm_model.pose.upright import to_upright, up_direction, upright_rotation

LEVEL_UP = np.array([0.0, -1.0, 0.0])


def tilted(pitch_deg, roll_deg):
    """A level camera's axes to those of one that looks down and is rolled."""
    angles = (torch.tensor(math.radians(degrees), dtype=torch.float64) for degrees in (pitch_deg, roll_deg))
    return tilt_rotation(*angles).numpy()


def degrees_apart(first, second):
    return math.degrees(math.acos(np.clip(first @ second, -1, 1)))


def errand():
    """Stands for a second at each of six places on a floor, walks a second in between; level axes."""
    places_m = np.array([(-1.5, 4.0), (0.0, 6.5), (1.5, 4.5), (0.5, 3.5), (-1.0, 6.0), (0.5, 5.0)])
    time_s = np.arange(0, 11, 0.02)
    ahead = np.clip(np.arange(0, 12, 2)[:, None] + [0.0, 1.0], 0, 11).ravel()
    x, z = (np.interp(time_s, ahead, np.repeat(axis, 2)) for axis in places_m.T)
    is_walking = time_s % 2 > 1
    joints_m = np.where(is_walking[:, None, None], swinging(time_s), standing(len(time_s)))
    return time_s, joints_m, np.stack([x, np.full(len(x), 0.6), z], axis=-1)


@pytest.mark.parametrize("lean_deg", [0, 10])
def test_the_floor_of_a_pitched_and_rolled_camera_is_found(lean_deg):
    time_s, joints_m, root_m = errand()
    lean = rotation_about("x", torch.tensor(math.radians(lean_deg), dtype=torch.float64)).numpy()
    turn = tilted(20, 5)
    noise_m = np.random.default_rng(0).normal(scale=0.01, size=joints_m.shape)
    # The body leans about its feet, as a lifter makes it lean; the feet stay on the floor.
    ankles_m = joints_m[:, H36M_17.select("left_ankle", "right_ankle")].mean(1, keepdims=True)
    leaning_m = (joints_m - ankles_m) @ lean.T + ankles_m
    pelvis_m = leaning_m[:, :1]
    found = up_direction(
        (leaning_m - pelvis_m + noise_m) @ turn.T,
        time_s=time_s,
        skeleton=H36M_17,
        root_cam_m=(root_m + pelvis_m[:, 0]) @ turn.T,
    )
    assert found.basis == "floor"
    assert degrees_apart(found.up_cam, turn @ LEVEL_UP) < 2
    assert np.linalg.norm(found.up_cam) == pytest.approx(1)


def test_feet_that_nobody_saw_make_no_floor():
    time_s, joints_m, root_m = errand()
    is_observed = np.ones(joints_m.shape[:2], bool)
    is_observed[:, H36M_17.select("left_ankle", "right_ankle")] = False
    found = up_direction(
        joints_m, time_s=time_s, skeleton=H36M_17, root_cam_m=root_m, is_observed=is_observed
    )
    assert found.basis == "body"


@pytest.mark.parametrize("root_m", [None, np.broadcast_to([0.0, 0.5, 4.0], (300, 3))], ids=["none", "still"])
def test_without_a_floor_the_body_says_what_is_up(root_m):
    time_s, turn = np.arange(300) / 50, tilted(20, 5)
    found = up_direction(swinging(time_s) @ turn.T, time_s=time_s, skeleton=H36M_17, root_cam_m=root_m)
    assert found.basis == "body"
    assert degrees_apart(found.up_cam, turn @ LEVEL_UP) < 2


def test_one_frame_of_who_stands_is_enough_and_one_of_who_sits_is_not():
    alone = up_direction(standing(1), time_s=np.zeros(1), skeleton=H36M_17, root_cam_m=np.ones((1, 3)))
    np.testing.assert_allclose(alone.up_cam, LEVEL_UP, atol=1e-9)
    sitting_m = standing(1)
    knees, ankles = (H36M_17.select(f"left_{part}", f"right_{part}") for part in ("knee", "ankle"))
    sitting_m[:, knees] += [0.0, -0.42, -0.42]
    sitting_m[:, ankles] += [0.0, -0.42, -0.42]
    assert up_direction(sitting_m, time_s=np.zeros(1), skeleton=H36M_17) is None


def test_upright_axes_are_the_camera_s_right_and_forward_made_level():
    np.testing.assert_allclose(upright_rotation(LEVEL_UP), [[1, 0, 0], [0, 0, 1], [0, -1, 0]], atol=1e-12)
    turn = tilted(20, 5)
    rotation = upright_rotation(turn @ LEVEL_UP)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    forward = to_upright(np.array([0.0, 0.0, 1.0]), turn @ LEVEL_UP)
    assert forward[0] == pytest.approx(0, abs=1e-12)
    assert forward[1] > 0
    np.testing.assert_allclose(to_upright(turn @ LEVEL_UP, turn @ LEVEL_UP), [0, 0, 1], atol=1e-12)


def test_a_camera_that_looks_straight_down_has_its_image_s_up_as_forward():
    rotation = upright_rotation(np.array([0.0, 0.0, -1.0]))
    np.testing.assert_allclose(rotation, [[1, 0, 0], [0, -1, 0], [0, 0, -1]], atol=1e-12)
