"""Errors whose values are known by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpm_model.pose.metrics import (
    acceleration_mm,
    auc_percent,
    bone_lengths,
    keypoint_error_px,
    mpjpe_mm,
    mpjve_mm,
    n_mpjpe_mm,
    p_mpjpe_mm,
    pck_percent,
    procrustes_align,
)
from mpm_model.pose.skeletons import H36M_17

ALL_3D = (mpjpe_mm, p_mpjpe_mm, n_mpjpe_mm, mpjve_mm, acceleration_mm)
SEEDS = st.integers(0, 2**32 - 1)


def poses(seed: int, *batch: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(*batch, 17, 3))


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return rotation * np.sign(np.linalg.det(rotation))


def test_mpjpe_of_a_shift_is_its_length():
    pose_m = np.zeros((2, 5, 17, 3))
    assert mpjpe_mm(pose_m + np.array([0.03, 0.0, 0.04]), pose_m) == pytest.approx(50.0)


def test_mpjpe_is_a_mean_over_valid_joints_not_over_frames():
    pose_m = np.zeros((2, 17, 3))
    shifted_m = pose_m + np.array([[[0.1, 0.0, 0.0]], [[0.0, 0.4, 0.0]]])
    is_valid = np.zeros((2, 17), dtype=bool)
    is_valid[0, :3], is_valid[1, :1] = True, True
    assert mpjpe_mm(shifted_m, pose_m, is_valid) == pytest.approx((3 * 100 + 1 * 400) / 4)


@given(seed=SEEDS, scale=st.floats(0.2, 5.0))
def test_p_mpjpe_ignores_rotation_scale_and_shift(seed, scale):
    rng = np.random.default_rng(seed)
    target_m = rng.normal(size=(17, 3))
    moved_m = scale * target_m @ random_rotation(rng) + rng.normal(size=3)
    assert mpjpe_mm(procrustes_align(moved_m, target_m), target_m) < 1e-6


def test_p_mpjpe_does_not_ignore_a_mirror():
    target_m = np.random.default_rng(0).normal(size=(17, 3))
    assert mpjpe_mm(procrustes_align(target_m * [-1, 1, 1], target_m), target_m) > 10


@given(seed=SEEDS)
def test_no_small_change_of_the_alignment_comes_nearer(seed):
    rng = np.random.default_rng(seed)
    aligned_m, target_m = poses(seed, 1)[0], rng.normal(size=(17, 3))
    aligned_m = procrustes_align(aligned_m, target_m)
    best = np.square(aligned_m - target_m).sum()
    for _ in range(5):
        skew = 1e-3 * np.cross(np.eye(3), rng.normal(size=3))
        turned_m = aligned_m @ (np.eye(3) + skew + skew @ skew / 2)
        moved_m = turned_m * (1 + 1e-3 * rng.normal()) + 1e-3 * rng.normal(size=3)
        assert np.square(moved_m - target_m).sum() >= best - 1e-9


def test_each_frame_is_aligned_by_itself():
    predicted_m, target_m = poses(0, 2, 3), poses(1, 2, 3)
    together = procrustes_align(predicted_m, target_m)
    for view in range(2):
        for frame in range(3):
            alone = procrustes_align(predicted_m[view, frame], target_m[view, frame])
            np.testing.assert_allclose(together[view, frame], alone)


def test_a_pose_that_is_one_point_is_moved_to_the_middle():
    target_m = poses(0, 1)
    aligned_m = procrustes_align(np.ones((1, 17, 3)), target_m)
    np.testing.assert_allclose(aligned_m, np.broadcast_to(target_m.mean(1, keepdims=True), (1, 17, 3)))


@given(seed=SEEDS, scale=st.floats(0.1, 10.0))
def test_n_mpjpe_ignores_scale_alone(seed, scale):
    target_m = poses(seed, 4)
    assert n_mpjpe_mm(scale * target_m, target_m) < 1e-6
    assert n_mpjpe_mm(target_m + np.array([1.0, 0.0, 0.0]), target_m) > 10


def test_n_mpjpe_by_hand():
    # The best scale of (1, 0, 0) and (0, 1, 0) onto (2, 0, 0) and (0, 4, 0) is 3: one metre off each.
    predicted_m = np.array([[[1.0, 0, 0], [0, 1.0, 0]]])
    assert n_mpjpe_mm(predicted_m, predicted_m * [2, 4, 1]) == pytest.approx(1000)


@given(seed=SEEDS)
def test_every_alignment_may_only_help(seed):
    predicted_m, target_m = poses(seed, 6), poses(seed + 1, 6)
    squared = np.square(predicted_m - target_m).sum()
    assert np.square(procrustes_align(predicted_m, target_m) - target_m).sum() <= squared + 1e-9


def test_mpjve_sees_a_drift_and_not_an_offset():
    frames = np.arange(10.0)[:, None, None]
    target_m = np.zeros((10, 17, 3))
    assert mpjve_mm(target_m + np.array([0.5, 0, 0]), target_m) == pytest.approx(0)
    assert mpjve_mm(target_m + frames * [0.003, 0.004, 0], target_m) == pytest.approx(5)


def test_acceleration_sees_a_bend_and_not_a_drift():
    frames = np.arange(10.0)[:, None, None]
    target_m = np.zeros((10, 17, 3))
    assert acceleration_mm(target_m + frames * [0.5, 0, 0], target_m) == pytest.approx(0, abs=1e-9)
    assert acceleration_mm(target_m + frames**2 / 2 * [0.003, 0.004, 0], target_m) == pytest.approx(5)


def test_a_difference_needs_all_its_frames():
    target_m = np.zeros((5, 17, 3))
    predicted_m = target_m.copy()
    predicted_m[2] += [1.0, 0, 0]
    is_valid = np.ones((5, 17), dtype=bool)
    assert mpjve_mm(predicted_m, target_m, is_valid) == pytest.approx(500)
    is_valid[2] = False
    assert mpjve_mm(predicted_m, target_m, is_valid) == 0
    assert np.isnan(acceleration_mm(predicted_m, target_m, is_valid))


@pytest.mark.parametrize("metric", ALL_3D)
@pytest.mark.parametrize("garbage", [1e6, np.nan])
@given(seed=SEEDS)
def test_joints_that_are_not_valid_never_matter(metric, garbage, seed):
    predicted_m, target_m = poses(seed, 2, 6), poses(seed + 1, 2, 6)
    is_valid = np.random.default_rng(seed).random((2, 6, 17)) < 0.8
    expected = metric(predicted_m, target_m, is_valid)
    spoiled_m = np.where(is_valid[..., None], predicted_m, garbage)
    assert metric(spoiled_m, np.where(is_valid[..., None], target_m, garbage), is_valid) == expected


@pytest.mark.parametrize("metric", ALL_3D)
def test_all_joints_valid_is_the_same_as_saying_nothing(metric):
    predicted_m, target_m = poses(0, 2, 6), poses(1, 2, 6)
    everywhere = np.ones((2, 6, 17), dtype=bool)
    assert metric(predicted_m, target_m) == metric(predicted_m, target_m, everywhere)


@pytest.mark.parametrize("metric", ALL_3D)
def test_where_nothing_is_valid_there_is_no_mean(metric):
    pose_m = poses(0, 1, 6)
    assert np.isnan(metric(pose_m, pose_m, np.zeros((1, 6, 17), dtype=bool)))


@pytest.mark.parametrize("metric", ALL_3D)
def test_a_perfect_prediction_has_no_error_in_single_precision_either(metric):
    pose_m = poses(0, 2, 6).astype(np.float32)
    assert metric(pose_m, pose_m) == pytest.approx(0, abs=1e-3)


def test_keypoint_error_is_in_pixels():
    keypoints_px = np.zeros((2, 17, 2))
    is_valid = np.arange(17) % 2 == np.zeros((2, 1))
    spoiled_px = np.where(is_valid[..., None], keypoints_px + np.array([3.0, 4.0]), np.nan)
    assert keypoint_error_px(spoiled_px, keypoints_px, is_valid) == pytest.approx(5)


def test_bone_lengths_are_distances_to_the_parents():
    joints_m = np.zeros((2, 17, 3))
    joints_m[:, H36M_17.index("left_wrist")] = [0.0, 0.2, 0.0]
    lengths_m = bone_lengths(joints_m, H36M_17)
    assert lengths_m.shape == (2, 16)
    by_bone = dict(zip(H36M_17.bones, lengths_m[0], strict=True))
    assert by_bone.pop(("left_wrist", "left_elbow")) == pytest.approx(0.2)
    assert set(by_bone.values()) == {0.0}


def shifts(*lengths_m: float) -> tuple[np.ndarray, np.ndarray]:
    """One joint for each length, that far from the truth."""
    target_m = np.zeros((1, len(lengths_m), 3))
    predicted_m = target_m.copy()
    predicted_m[0, :, 1] = lengths_m
    return predicted_m, target_m


def test_a_joint_at_the_threshold_is_not_below_it():
    assert pck_percent(*shifts(0.15)) == 0
    assert pck_percent(*shifts(np.nextafter(0.15, 0))) == 100
    assert pck_percent(*shifts(0.0, 0.149, 0.151, 2.0)) == 50
    assert pck_percent(*shifts(0.0), threshold_mm=0) == 0


def test_auc_is_the_mean_over_31_thresholds():
    assert auc_percent(*shifts(0.0)) == pytest.approx(100 * 30 / 31)  # nothing is below a threshold of 0
    assert auc_percent(*shifts(0.0875)) == pytest.approx(100 * 13 / 31)  # 90, 95, ..., 150
    assert auc_percent(*shifts(0.15)) == 0
    assert auc_percent(*shifts(0.0, 0.5)) == pytest.approx(100 * 15 / 31)


@given(seed=SEEDS)
def test_auc_is_the_mean_of_pck(seed):
    predicted_m, target_m = 0.1 * poses(seed, 4), 0.1 * poses(seed + 1, 4)
    is_valid = np.random.default_rng(seed).random((4, 17)) < 0.7
    each = [pck_percent(predicted_m, target_m, is_valid, threshold_mm=5.0 * step) for step in range(31)]
    assert auc_percent(predicted_m, target_m, is_valid) == pytest.approx(np.mean(each))


def test_shares_count_valid_joints_alone_and_are_nan_of_nothing():
    predicted_m, target_m = shifts(0.01, np.nan)
    is_valid = np.array([[True, False]])
    assert pck_percent(predicted_m, target_m, is_valid) == 100
    assert np.isnan(pck_percent(predicted_m, target_m, np.zeros((1, 2), dtype=bool)))
    assert np.isnan(auc_percent(predicted_m, target_m, np.zeros((1, 2), dtype=bool)))


def test_p_mpjpe_of_a_mirrored_person_is_not_zero():
    """A person and its mirror image with left and right swapped are alike; without the swap they are not."""
    target_m = np.random.default_rng(3).normal(size=(5, 17, 3))
    assert p_mpjpe_mm(target_m * [-1, 1, 1], target_m) > 100
    assert p_mpjpe_mm(-target_m, target_m) > 100
