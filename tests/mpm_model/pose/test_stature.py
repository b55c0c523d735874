import numpy as np
import pytest
from walking_person import STATURE_M, standing, swinging

from mpm_model.pose.skeletons import H36M_16, H36M_17, H36M_17_TO_16
from mpm_model.pose.stature import stature_m


def test_a_standing_body_is_as_tall_as_its_parts():
    assert stature_m(standing(3), H36M_17) == pytest.approx(STATURE_M)


def test_who_bends_is_as_tall():
    joints_m = swinging(np.arange(100) / 50)
    hip, *leg = H36M_17.select("left_hip", "left_knee", "left_ankle")
    joints_m[:, leg] = joints_m[:, [hip]] + (joints_m[:, leg] - joints_m[:, [hip]])[..., [2, 0, 1]]
    assert stature_m(joints_m, H36M_17) == pytest.approx(STATURE_M)


def test_a_body_of_half_the_size_is_half_as_tall():
    assert stature_m(0.5 * standing(3), H36M_17) == pytest.approx(0.5 * STATURE_M)


def test_a_body_without_thorax_has_its_chest_between_the_shoulders():
    joints_m = H36M_17_TO_16.points(standing(3))
    crown, nose = joints_m[:, H36M_16.index("head_top")], joints_m[:, H36M_16.index("nose")]
    joints_m[:, H36M_16.index("head_top")] = (crown + nose) / 2  # as MPI-INF-3DHP has it
    assert stature_m(joints_m, H36M_16) == pytest.approx((0.83 + 0.48 + 0.32) / 0.961)
