from dataclasses import replace

import numpy as np
import pytest
from made_up_people import make_track

from mpm_model.pose.skeletons import H36M_17
from pipelines.quality import image_error, measure_quality, person_size_px


def test_limbs_of_constant_length_vary_only_in_the_image():
    quality = measure_quality(make_track())
    assert len(quality.limbs) == 8
    assert quality.steadier_limbs == 8
    for limb in quality.limbs.values():
        assert limb.variation_3d < 1e-5
        assert limb.variation_2d > 0.05
        assert limb.frames == 60
    assert quality.limbs["left thigh"].length_m == pytest.approx(np.hypot(0.01, 0.42), abs=1e-6)
    assert quality.median_variation(3) < quality.median_variation(2)


def test_a_limb_that_is_long_in_half_of_the_frames_varies_by_half_the_difference_over_the_mean():
    joints_rel_m = make_track().joints_rel_m.astype(np.float64)
    knee, ankle = H36M_17.select("left_knee", "left_ankle")
    joints_rel_m[0::2, ankle] = joints_rel_m[0::2, knee] + [0, 0.3, 0]
    joints_rel_m[1::2, ankle] = joints_rel_m[1::2, knee] + [0, 0.5, 0]
    limb = measure_quality(make_track(joints_rel_m=joints_rel_m)).limbs["left shin"]
    assert limb.variation_3d == pytest.approx(0.1 / 0.4)
    assert limb.robust_variation_3d == pytest.approx(1.4826 * 0.1 / 0.4)


def test_one_wild_frame_moves_the_plain_figure_and_not_the_robust_one():
    track = make_track()
    joints_rel_m = track.joints_rel_m.copy()
    joints_rel_m[30, H36M_17.index("left_wrist")] += 2.0
    limb = measure_quality(make_track(joints_rel_m=joints_rel_m)).limbs["left forearm"]
    assert limb.variation_3d > 0.5
    assert limb.robust_variation_3d < 1e-4


def test_walking_towards_the_camera_is_no_variation():
    track = make_track(frames=300)
    growth = np.linspace(1, 3, 300)[:, None, None]
    still = np.repeat(track.keypoints_px[:1], 300, axis=0)
    limb = measure_quality(make_track(frames=300, keypoints_px=growth * still)).limbs["right upper arm"]
    assert limb.variation_2d < 0.02


def test_a_longer_left_thigh_is_an_asymmetry_of_its_share():
    track = make_track()
    joints_rel_m = track.joints_rel_m.copy()
    hip, knee = H36M_17.select("left_hip", "left_knee")
    joints_rel_m[:, knee] = joints_rel_m[:, hip] + 1.1 * (joints_rel_m[:, knee] - joints_rel_m[:, hip])
    asymmetry = measure_quality(make_track(joints_rel_m=joints_rel_m)).asymmetry
    assert asymmetry["thigh"] == pytest.approx(2 * 0.1 / 2.1, abs=1e-5)
    assert asymmetry["forearm"] == pytest.approx(0, abs=1e-5)


def test_jitter_of_an_alternating_joint_is_four_times_its_swing():
    frames = 40
    still_m = np.repeat(make_track().joints_rel_m[:1], frames, axis=0).astype(np.float64)
    still_px = 400 * still_m[..., :2]
    still_m[0::2, 1:, 2] += 0.001
    still_m[1::2, 1:, 2] -= 0.001
    quality = measure_quality(make_track(frames=frames, joints_rel_m=still_m, keypoints_px=still_px))
    assert quality.jitter_3d_mm == pytest.approx(4.0)
    assert quality.jitter_3d_across_mm == pytest.approx(0.0, abs=1e-9)
    assert quality.jitter_2d_mm == pytest.approx(0.0, abs=1e-9)


def test_jitter_of_the_input_is_in_the_bodys_millimetres():
    quality = measure_quality(make_track(frames=2000, jitter_px=2.0))
    # A second difference of white noise has sqrt(6) its deviation; relative to the pelvis, sqrt(2) more; 2D
    # length of it: Rayleigh mean sqrt(pi / 2). 2 px at 400 px per metre are 5 mm.
    wanted_mm = 5.0 * np.sqrt(6) * np.sqrt(2) * np.sqrt(np.pi / 2)
    assert quality.jitter_2d_mm == pytest.approx(wanted_mm, rel=0.05)
    assert quality.jitter_3d_mm < 10


def test_jitter_does_not_reach_over_gaps():
    frames = np.r_[0:20, 50:70]
    joints_rel_m = np.repeat(make_track().joints_rel_m[:1], 40, axis=0)
    joints_rel_m[20:, 1:] += 0.5
    track = make_track(frames=40, joints_rel_m=joints_rel_m)
    assert measure_quality(replace(track, frames=frames, time_s=frames / 50)).jitter_3d_mm == 0.0


def test_a_pose_whose_image_is_the_input_misses_nothing_whatever_its_scale_and_place():
    track = make_track()
    assert measure_quality(track).image_error == pytest.approx(0, abs=1e-3)
    moved = replace(track, joints_rel_m=0.3 * track.joints_rel_m + np.float32(2.0))
    assert measure_quality(moved).image_error == pytest.approx(0, abs=1e-3)


def test_a_pose_that_never_moves_is_steady_and_misses_the_input():
    track = make_track()
    frozen = replace(track, joints_rel_m=np.repeat(track.joints_rel_m[12:13], 60, axis=0))
    quality = measure_quality(frozen)
    assert quality.steadier_limbs == 8
    assert quality.image_error > 0.05


def test_a_pose_upside_down_misses_the_input_wholly():
    track = make_track(frames=20)
    upside_down = replace(track, joints_rel_m=track.joints_rel_m * np.float32([-1, -1, 1]))
    assert measure_quality(upside_down).image_error == 1.0


def test_the_image_error_is_the_distance_over_the_size():
    across_m = np.array([[[-1, 0], [1, 0], [-1, 0], [1, 0], [-1, 0], [1, 0]]], dtype=float)
    keypoints_px = across_m + np.array([[[0, 1], [0, 1], [0, -1], [0, -1], [0, 0], [0, 0]]])
    # The squares off the line add up to 4, all squares to 10; the best scale is 1.
    assert image_error(across_m, keypoints_px, np.ones((1, 6), dtype=bool)) == pytest.approx(np.sqrt(4 / 10))


def test_joints_that_nobody_saw_take_no_part():
    track = make_track()
    joints_rel_m = track.joints_rel_m.copy()
    is_observed = track.is_observed.copy()
    wrist = H36M_17.index("left_wrist")
    is_observed[20:40, wrist] = False
    joints_rel_m[20:40, wrist] += 1.0
    limb = measure_quality(make_track(joints_rel_m=joints_rel_m, is_observed=is_observed)).limbs[
        "left forearm"
    ]
    assert limb.frames == 40
    assert limb.variation_3d < 1e-5


def test_a_pose_collapsed_to_a_point_has_no_variation_to_speak_of():
    quality = measure_quality(make_track(joints_rel_m=np.zeros((60, 17, 3))))
    assert np.isnan([limb.ratio for limb in quality.limbs.values()]).all()
    assert quality.steadier_limbs == 0


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_a_track_too_short_to_measure_says_nothing(frames):
    quality = measure_quality(make_track(frames=frames))
    assert quality.limbs == {}
    assert quality.asymmetry == {}
    assert np.isnan(quality.median_variation(3))


def test_a_person_nobody_saw_has_no_size():
    track = make_track()
    nobody = np.zeros_like(track.is_observed)
    assert np.isnan(person_size_px(track.keypoints_px, nobody, step_s=0.02)).all()
    assert measure_quality(make_track(is_observed=nobody)).limbs == {}
    assert np.isnan(measure_quality(make_track(is_observed=nobody)).jitter_3d_mm)
