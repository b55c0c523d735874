"""What one does without a model."""

import numpy as np
import pytest
from made_up_windows import make_windows

from mpm_model.errors import InputError
from mpm_model.pose.skeletons import H36M_17
from pipelines.protocols.interpolation import (
    fill_image,
    fill_in_time,
    fill_space,
    mean_body,
    mean_body_of_card,
)


def test_interpolation_of_a_straight_motion_is_exact():
    rng = np.random.default_rng(0)
    points = np.linspace(0, 1, 20)[:, None, None] * rng.normal(size=(1, 4, 2)) + rng.normal(size=(1, 4, 2))
    is_hidden = rng.random((20, 4)) < 0.4
    is_hidden[[0, -1]] = False
    spoiled = np.where(is_hidden[..., None], np.nan, points)
    np.testing.assert_allclose(fill_in_time(spoiled, is_hidden), points, atol=1e-12)


@pytest.mark.parametrize("limb", [("left_shoulder", "left_elbow", "left_wrist"), ("right_hip", "right_knee")])
def test_the_mean_body_itself_is_filled_in_exactly_in_space_however_it_is_turned_and_sized(limb):
    body = mean_body(make_windows())
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    joints_m = np.tile(1.3 * body.joints_trunk_m @ turn, (5, 1, 1))
    is_hidden = np.zeros((5, 17), dtype=bool)
    is_hidden[:, H36M_17.select(*limb)] = True
    spoiled_m = np.where(is_hidden[..., None], np.nan, joints_m)
    np.testing.assert_allclose(fill_space(spoiled_m, is_hidden, body), joints_m, atol=1e-6)


def test_the_mean_body_itself_is_filled_in_exactly_in_the_image():
    body = mean_body_of_card({"mean_training_pose_rel_m": mean_body(make_windows()).joints_trunk_m.tolist()})
    keypoints_px = np.tile(300 * body.joints_image_m + [500, 400], (5, 1, 1))
    for hidden in (("left_hip", "left_knee", "left_ankle"), ("pelvis",), ("right_elbow",)):
        is_hidden = np.zeros((5, 17), dtype=bool)
        is_hidden[:, H36M_17.select(*hidden)] = True
        spoiled_px = np.where(is_hidden[..., None], np.nan, keypoints_px)
        np.testing.assert_allclose(fill_image(spoiled_px, is_hidden, body), keypoints_px, atol=1e-6)


def test_a_track_that_shows_nothing_cannot_be_filled_in():
    with pytest.raises(InputError, match="no joint is ever seen"):
        fill_image(np.zeros((3, 17, 2)), np.ones((3, 17), dtype=bool), mean_body(make_windows()))
