import numpy as np
import pytest
from walking_person import seen_px, straight_path, swinging

from mpm_model.pose.focal_length import find_focal_px
from mpm_model.pose.intrinsics import Intrinsics


@pytest.mark.parametrize("focal_px", [900.0, 1400.0, 2400.0])
@pytest.mark.parametrize(("noise_px", "share"), [(0.0, 0.005), (2.0, 0.1)])
def test_a_person_near_the_camera_tells_its_focal_length(focal_px, noise_px, share):
    time_s = np.arange(150) / 50
    joints_m = swinging(time_s)
    root_m = straight_path(time_s, start_m=(-0.5, 0.1, 5.0), speed_m_per_s=(0.2, 0.0, -0.8))
    camera = Intrinsics(focal_px=(focal_px, focal_px), center_px=(960.0, 540.0))
    keypoints_px = seen_px(joints_m, root_m, camera)
    keypoints_px += np.random.default_rng(0).normal(scale=noise_px, size=keypoints_px.shape)
    found_px = find_focal_px(
        joints_m, keypoints_px, np.ones((150, 17)), time_s=time_s, width_px=1920, height_px=1080
    )
    assert found_px == pytest.approx(focal_px, rel=share)


def test_a_body_of_another_size_has_the_same_focal_length():
    time_s = np.arange(50) / 50
    joints_m = swinging(time_s)
    camera = Intrinsics(focal_px=(1200.0, 1200.0), center_px=(500.0, 800.0))
    keypoints_px = seen_px(joints_m, straight_path(time_s, start_m=(0, 0, 4.0)), camera)
    found_px = find_focal_px(
        0.6 * joints_m, keypoints_px, np.ones((50, 17)), time_s=time_s, width_px=1000, height_px=1600
    )
    assert found_px == pytest.approx(1200.0, rel=0.02)
