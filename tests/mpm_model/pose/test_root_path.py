import numpy as np
import pytest
from walking_person import INTRINSICS, seen_px, standing, straight_path, swinging

from mpm_model.pose.intrinsics import Intrinsics
from mpm_model.pose.root_path import NEAREST_M, _motion_ties, root_path, sight_miss_m

RATE_HZ = 50.0


def times(frames, *, rate_hz=RATE_HZ):
    return np.arange(frames) / rate_hz


def solve(joints_m, keypoints_px, time_s, *, weight=None, intrinsics=INTRINSICS):
    weight = np.ones(keypoints_px.shape[:2]) if weight is None else weight
    return root_path(joints_m, keypoints_px, weight, time_s=time_s, intrinsics=intrinsics)


def walk(frames=200, **path):
    time_s = times(frames)
    joints_m, root_m = swinging(time_s), straight_path(time_s, **path)
    return time_s, joints_m, root_m, seen_px(joints_m, root_m)


@pytest.mark.parametrize("frames", [1, 2, 3, 200])
def test_a_straight_walk_towards_the_camera_comes_back(frames):
    time_s, joints_m, root_m, keypoints_px = walk(frames)
    np.testing.assert_allclose(solve(joints_m, keypoints_px, time_s), root_m, rtol=0, atol=1e-6)


def test_it_comes_back_through_a_lens():
    time_s, joints_m, root_m, _ = walk()
    lens = Intrinsics(focal_px=(900.0, 910.0), center_px=(960.0, 540.0), distortion=(-0.1, 0.02, 1e-3, 0, 0))
    keypoints_px = seen_px(joints_m, root_m, lens)
    found_m = solve(joints_m, keypoints_px, time_s, intrinsics=lens)
    np.testing.assert_allclose(found_m, root_m, rtol=0, atol=1e-6)


def test_a_walk_in_a_circle_is_cut_by_less_than_a_centimetre():
    time_s = times(400)
    joints_m = swinging(time_s)
    angle_rad = time_s * 1.2  # at 1.2 m/s round a metre
    root_m = np.stack([np.cos(angle_rad), 0.03 * np.cos(9 * angle_rad), 5 + np.sin(angle_rad)], axis=-1)
    found_m = solve(joints_m, seen_px(joints_m, root_m), time_s)
    assert np.abs(found_m - root_m).max() < 0.01


def test_two_pixels_of_noise_cost_two_centimetres_of_depth_and_some_millimetres_across():
    time_s, joints_m, root_m, keypoints_px = walk()
    noise_px = np.random.default_rng(0).normal(scale=2.0, size=keypoints_px.shape)
    off_m = solve(joints_m, keypoints_px + noise_px, time_s) - root_m
    assert np.sqrt(np.square(off_m[:, 2]).mean()) < 0.02
    assert np.sqrt(np.square(off_m[:, :2]).mean()) < 0.005


def test_missing_frames_take_the_time_they_take():
    time_s, joints_m, root_m, keypoints_px = walk()
    kept = np.r_[0:50, 80:120, 121:123, 190:200]
    found_m = solve(joints_m[kept], keypoints_px[kept], time_s[kept])
    np.testing.assert_allclose(found_m, root_m[kept], rtol=0, atol=1e-6)


def test_hidden_joints_have_no_say_whatever_they_hold():
    time_s, joints_m, root_m, keypoints_px = walk()
    weight = np.ones(keypoints_px.shape[:2])
    weight[:, :8] = 0
    keypoints_px[:, :4] = np.nan
    keypoints_px[:, 4:8] = -1e5
    found_m = solve(joints_m, keypoints_px, time_s, weight=weight)
    np.testing.assert_allclose(found_m, root_m, rtol=0, atol=1e-6)


def test_frames_that_show_too_little_are_carried_by_their_neighbours():
    time_s, joints_m, root_m, keypoints_px = walk()
    weight = np.ones(keypoints_px.shape[:2])
    weight[60:100, 3:] = 0
    keypoints_px[60:100] += 300
    found_m = solve(joints_m, keypoints_px, time_s, weight=weight)
    np.testing.assert_allclose(found_m, root_m, rtol=0, atol=1e-6)


def test_what_is_long_unseen_is_a_straight_line_and_stays_where_it_was_at_the_ends():
    time_s = times(600)
    joints_m, root_m = swinging(time_s), straight_path(time_s, speed_m_per_s=(0.0, 0.0, 0.3))
    weight = np.ones(joints_m.shape[:2])
    weight[:100] = weight[200:400] = weight[500:] = 0
    found_m = solve(joints_m, seen_px(joints_m, root_m), time_s, weight=weight)
    np.testing.assert_allclose(found_m[50:550], root_m[50:550], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found_m[:50], np.broadcast_to(root_m[50], (50, 3)), rtol=0, atol=1e-5)
    np.testing.assert_allclose(found_m[550:], np.broadcast_to(root_m[549], (50, 3)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("wild", [1, 3, 5])
def test_wild_keypoints_move_the_path_by_millimetres(wild):
    time_s, joints_m, root_m, keypoints_px = walk()
    rng = np.random.default_rng(wild)
    for frame in range(len(time_s)):
        joints = rng.choice(17, size=wild, replace=False)
        keypoints_px[frame, joints] += rng.uniform(150, 600, size=(wild, 2)) * rng.choice([-1, 1], (wild, 2))
    assert np.abs(solve(joints_m, keypoints_px, time_s) - root_m).max() < 0.01


def test_trust_decides_between_two_halves_that_disagree():
    time_s, joints_m, root_m, keypoints_px = walk()
    keypoints_px[:, ::2] += 15
    weight = np.ones(keypoints_px.shape[:2])
    even = np.abs(solve(joints_m, keypoints_px, time_s, weight=weight) - root_m)[:, 0].mean()
    weight[:, ::2] = 0.1
    trusted = np.abs(solve(joints_m, keypoints_px, time_s, weight=weight) - root_m)[:, 0].mean()
    assert trusted < 0.5 * even


def test_a_body_twice_as_large_is_twice_as_far():
    time_s, joints_m, root_m, keypoints_px = walk()
    np.testing.assert_allclose(solve(2 * joints_m, keypoints_px, time_s), 2 * root_m, rtol=0, atol=1e-6)


def test_a_piece_with_a_second_on_either_side_has_the_path_of_the_whole():
    time_s, joints_m, _, keypoints_px = walk(500, start_m=(-1.0, 0.2, 10.0), speed_m_per_s=(0.2, 0.0, -0.4))
    rng = np.random.default_rng(0)
    keypoints_px += rng.normal(scale=3.0, size=keypoints_px.shape)
    weight = rng.uniform(0.3, 1.0, size=keypoints_px.shape[:2])
    whole_m = solve(joints_m, keypoints_px, time_s, weight=weight)
    piece, context = slice(200, 300), slice(150, 350)
    piece_m = solve(joints_m[context], keypoints_px[context], time_s[context], weight=weight[context])
    assert np.abs(piece_m[50:150] - whole_m[piece]).max() < 0.001


def test_nobody_is_behind_the_camera():
    rng = np.random.default_rng(0)
    joints_m, keypoints_px = rng.normal(size=(40, 17, 3)), rng.uniform(0, 2000, size=(40, 17, 2))
    found_m = solve(joints_m, keypoints_px, times(40))
    assert np.isfinite(found_m).all()
    assert (joints_m + found_m[:, None])[..., 2].min() >= NEAREST_M - 1e-9


def test_a_track_that_shows_too_little_is_refused():
    weight = np.zeros((5, 17))
    weight[:, :3] = 1
    with pytest.raises(ValueError, match="wanted a frame in which 4 joints are seen, got none of 5"):
        solve(standing(5), np.zeros((5, 17, 2)), times(5), weight=weight)


def test_the_ties_are_the_integral_of_the_squared_acceleration():
    time_s = np.array([0.0, 0.1, 0.3, 0.35, 1.0])
    diagonal, above = _motion_ties(time_s)
    # The path t^3 along x: acceleration 6 t, of which the square's integral from 0 to 1 is 12.
    states = np.zeros((5, 6))
    states[:, 0], states[:, 3] = time_s**3, 3 * time_s**2
    energy = np.einsum("ni,nij,nj->", states, diagonal, states)
    energy += 2 * np.einsum("ni,nij,nj->", states[:-1], above, states[1:])
    assert energy == pytest.approx(12 * 0.03**2 / 4, rel=1e-4)


def test_the_miss_is_measured_across_the_line_of_sight_in_metres():
    root_m = np.array([[0.0, 0.0, 4.0]])
    keypoints_px = seen_px(standing(1), root_m) + np.array([110.0, 0.0])
    np.testing.assert_allclose(
        sight_miss_m(standing(1), keypoints_px, root_m, intrinsics=INTRINSICS)[0, 0], 0.4
    )
