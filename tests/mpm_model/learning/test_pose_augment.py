import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mpm_model.errors import InputError
from mpm_model.learning.pose_augment import PoseAugmentConfig, augment_pose
from mpm_model.pose.skeletons import BODY_25, H36M_17

STILL = PoseAugmentConfig(
    probability=1, bone_angle_rad=0, bone_length_ratio=0, body_size_ratio=0, turn_rad=0, tilt_rad=0
)
"""Changes nothing, for changing one thing at a time."""


def people(windows: int = 32, frames: int = 9, joints: int = 17):
    rng = np.random.default_rng(0)
    joints_world_m = rng.normal(size=(windows, frames, joints, 3)) + np.array([2.0, -1.0, 3.0])
    return torch.from_numpy(joints_world_m), torch.ones(windows, frames, joints, dtype=torch.bool)


def augment(joints_world_m, is_valid, config, *, ids=None, skeleton=H36M_17):
    ids = np.arange(len(is_valid)) if ids is None else ids
    return augment_pose(
        joints_world_m, is_valid, skeleton=skeleton, config=config, seed=1, epoch=2, sample_ids=ids
    )


def lengths_m(joints_m, skeleton=H36M_17):
    child, parent = skeleton.bone_indices.T
    return (joints_m[:, :, child] - joints_m[:, :, parent]).norm(dim=-1)


def test_ranges_of_nothing_change_nothing():
    joints_m, is_valid = people()
    torch.testing.assert_close(augment(joints_m, is_valid, STILL), joints_m)


def test_a_share_of_the_windows_is_left_as_it_was():
    joints_m, is_valid = people(windows=400)
    changed_m = augment(joints_m, is_valid, PoseAugmentConfig(probability=0.3))
    is_changed = (changed_m != joints_m).flatten(1).any(1)
    assert is_changed.float().mean() == pytest.approx(0.3, abs=0.07)


@pytest.mark.parametrize("skeleton", [H36M_17, BODY_25], ids=lambda skeleton: skeleton.name)
def test_turning_bones_keeps_every_length(skeleton):
    joints_m, is_valid = people(joints=len(skeleton))
    config = PoseAugmentConfig(probability=1, bone_length_ratio=0, body_size_ratio=0)
    changed_m = augment(joints_m, is_valid, config, skeleton=skeleton)
    assert (changed_m - joints_m).norm(dim=-1).mean() > 0.1
    torch.testing.assert_close(lengths_m(changed_m, skeleton), lengths_m(joints_m, skeleton))


def test_lengths_scale_by_one_ratio_for_a_window_and_both_sides():
    joints_m, is_valid = people(windows=300)
    config = PoseAugmentConfig(probability=1, bone_length_ratio=0.2, body_size_ratio=0)
    ratio = lengths_m(augment(joints_m, is_valid, config), H36M_17) / lengths_m(joints_m)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    children = [child for child, _ in H36M_17.bones]
    left, right = (
        [children.index(f"{side}_{part}") for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")]
        for side in ("left", "right")
    )
    torch.testing.assert_close(ratio[:, :, left], ratio[:, :, right])
    assert ratio.min() == pytest.approx(0.8, abs=0.01)
    assert ratio.max() == pytest.approx(1.2, abs=0.01)


def test_the_body_scales_as_a_whole():
    joints_m, is_valid = people()
    ratio = lengths_m(augment(joints_m, is_valid, replace(STILL, body_size_ratio=0.1))) / lengths_m(joints_m)
    torch.testing.assert_close(ratio, ratio[:, :1, :1].expand_as(ratio))
    assert 0.9 <= ratio.min() < 0.95 < 1.05 < ratio.max() <= 1.1


def test_bones_turn_by_no_more_than_the_stated_angle_against_their_parent():
    joints_m, is_valid = people(windows=200)
    changed_m = augment(joints_m, is_valid, replace(STILL, bone_angle_rad=0.2))
    knee, hip = H36M_17.select("left_knee", "left_hip")
    ankle = H36M_17.index("left_ankle")

    def cosine(pose_m):
        thigh, shin = pose_m[:, :, knee] - pose_m[:, :, hip], pose_m[:, :, ankle] - pose_m[:, :, knee]
        return torch.cosine_similarity(thigh, shin, dim=-1)

    bent_rad = (cosine(changed_m).acos() - cosine(joints_m).acos()).abs()
    assert 0.1 < bent_rad.max() <= 0.2


def test_the_turn_is_about_the_vertical_and_the_pelvis_stays_between_the_hips():
    joints_m, is_valid = people()
    turned_m = augment(joints_m, is_valid, replace(STILL, turn_rad=math.pi))
    torch.testing.assert_close(turned_m[..., 2], joints_m[..., 2])
    torch.testing.assert_close(turned_m[..., :2].norm(dim=-1), joints_m[..., :2].norm(dim=-1))
    pelvis, left, right = H36M_17.select("pelvis", "left_hip", "right_hip")
    joints_m[:, :, pelvis] = (joints_m[:, :, left] + joints_m[:, :, right]) / 2
    changed_m = augment(joints_m, is_valid, PoseAugmentConfig(probability=1))
    torch.testing.assert_close(changed_m[:, :, pelvis], (changed_m[:, :, left] + changed_m[:, :, right]) / 2)


def test_the_lowest_joint_keeps_its_height_and_a_still_pose_stays_still():
    joints_m, is_valid = people()
    joints_m = joints_m[:, :1].expand(-1, 9, -1, -1)
    changed_m = augment(joints_m, is_valid, PoseAugmentConfig(probability=1))
    torch.testing.assert_close(changed_m[..., 2].flatten(1).amin(1), joints_m[..., 2].flatten(1).amin(1))
    torch.testing.assert_close(changed_m, changed_m[:, :1].expand_as(changed_m))


def test_valid_joints_do_not_depend_on_the_place_of_invalid_ones():
    joints_m, is_valid = people()
    is_valid[:, 3:5, H36M_17.index("left_knee")] = False
    is_valid[:, 0, H36M_17.index("pelvis")] = False
    is_valid[:, :, H36M_17.index("nose")] = False
    elsewhere_m = joints_m.masked_fill(~is_valid[..., None], torch.nan)
    config = PoseAugmentConfig(probability=1)
    changed_m = augment(joints_m, is_valid, config)
    torch.testing.assert_close(augment(elsewhere_m, is_valid, config)[is_valid], changed_m[is_valid])
    # Nor does anything jump where a joint comes and goes: the whole leg below the hip changes by one matrix.
    ankle, hip = H36M_17.select("left_ankle", "left_hip")
    leg_m, changed_leg_m = (pose_m[:, :, ankle] - pose_m[:, :, hip] for pose_m in (joints_m, changed_m))
    ratio = changed_leg_m.norm(dim=-1) / leg_m.norm(dim=-1)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))


def test_the_same_samples_change_alike_in_any_batch():
    joints_m, is_valid = people()
    config = PoseAugmentConfig(probability=0.5)
    rows = np.array([5, 30, 2])
    whole = augment(joints_m, is_valid, config)
    torch.testing.assert_close(augment(joints_m[rows], is_valid[rows], config, ids=rows), whole[rows])


def test_all_that_is_wrong_with_a_config_is_said_at_once():
    with pytest.raises(InputError, match=r"probability must be in 0..1, got 2.*bone_length_ratio"):
        PoseAugmentConfig(probability=2, bone_length_ratio=-0.1)
