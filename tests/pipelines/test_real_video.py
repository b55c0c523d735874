"""The comparison on real video measures what it says: closed forms on the bundled sample."""

import numpy as np
import pytest
import torch

from mpm_model.pose.camera import project, world_to_camera
from mpm_model.pose.skeletons import H36M_17
from tests.benchmarks import real_video
from tests.benchmarks.real_video import (
    ALL,
    LIMBS,
    Truth,
    compare,
    read_cameras,
    read_truth,
    read_views,
    score,
)

CAMERAS = ("cam01", "cam02", "cam03", "cam04")


class KnowsTheTruth:
    """Stands in for `Lifter`: gives the truth, as another camera would see it at another scale."""

    window_frames, rate_hz, min_confidence, skeleton, error_bands = 27, 60.0, 0.1, H36M_17, None

    def context_frames(self, rate_hz):
        return 29

    def __call__(self, keypoints_px, confidence, *, rate_hz, width_px, height_px, first_frame, only):
        assert (rate_hz, width_px, height_px) == (60.0, 1088, 1920)
        assert (first_frame, only) == (0, slice(0, len(keypoints_px)))
        camera = read_cameras()[2]
        joints_cam_m = world_to_camera(torch.from_numpy(read_truth().joints_world_m), camera).numpy()
        return (1.3 * (joints_cam_m - joints_cam_m[:, :1]))[: len(keypoints_px)]


def test_the_truth_in_place_of_lifting_has_no_error():
    mean_pose_m = read_truth().joints_world_m.mean(axis=0)
    *cameras, together, mediapipe, still = compare(KnowsTheTruth(), mean_pose_rel_m=mean_pose_m)
    assert [row.name for row in cameras] == list(CAMERAS)
    for row in (*cameras, together):
        assert row.limbs_mm == pytest.approx(0, abs=1e-6)
        assert row.all_mm == pytest.approx(0, abs=1e-6)
    assert [row.frames for row in (*cameras, together, mediapipe, still)] == [100] * 4 + [400, 100, 100]
    assert 20 < mediapipe.limbs_mm < 100
    assert 5 < still.limbs_mm < 150


def test_a_mirrored_pose_is_no_match():
    truth = read_truth()
    mirrored = score("", truth.joints_world_m * [1, 1, -1], np.arange(100), truth)
    assert mirrored.limbs_mm > 50


def test_frames_are_compared_by_their_number_and_joints_that_are_missing_are_left_out():
    truth = read_truth()
    later = np.arange(90, 110)
    row = score("", truth.joints_world_m[later.clip(0, 99)], later, truth)
    assert (row.frames, row.limbs_mm) == (10, pytest.approx(0, abs=1e-6))
    nose = H36M_17.index("nose")
    is_valid = truth.is_valid.copy()
    is_valid[:, nose] = False
    spoiled_m = truth.joints_world_m.copy()
    spoiled_m[:, nose] += 1.0
    assert score("", spoiled_m, np.arange(100), truth).all_mm > 1
    holed = Truth(truth.joints_world_m, is_valid)
    assert score("", spoiled_m, np.arange(100), holed).all_mm == pytest.approx(0, abs=1e-6)


def test_limbs_are_the_twelve_joints_that_all_detectors_name_alike():
    assert len(LIMBS) == 12
    assert {H36M_17.joints[joint] for joint in set(ALL) - set(LIMBS)} == {
        "pelvis", "spine", "thorax", "nose", "head_top",
    }  # fmt: skip


def test_truth_and_detections_belong_together_in_every_camera_at_the_same_frame():
    views = read_views()
    assert tuple(view.name for view in views) == CAMERAS
    for view in views:
        assert view.error_px < 25, view.name  # of a person 750-920 px high
        assert view.offset_frames == 0, view.name
    assert [view.people for view in views] == [2, 2, 1, 1]
    assert all(view.other_px > 200 for view in views if view.people > 1)


def test_a_wrong_frame_offset_is_seen():
    truth = read_truth()
    late = Truth(np.roll(truth.joints_world_m, 2, axis=0), truth.is_valid)
    for view, camera in zip(read_views(), read_cameras(), strict=True):
        assert real_video.choose_person(view.name, [view.track], camera, late).offset_frames == -2


def test_cameras_stand_where_the_file_says_and_see_the_person_upright():
    joints_world_m = torch.from_numpy(read_truth().joints_world_m)
    head, ankle = H36M_17.index("head_top"), H36M_17.index("left_ankle")
    for camera in read_cameras():
        assert torch.det(camera.rotation).item() == pytest.approx(1, abs=1e-6)
        assert 1.6 < camera.position_world_m[2].item() < 2.1
        keypoints_px = project(world_to_camera(joints_world_m, camera), camera)
        assert (keypoints_px[:, head, 1] < keypoints_px[:, ankle, 1]).all()
    np.testing.assert_allclose(read_cameras()[0].position_world_m, [1.46023, -1.90916, 1.89651], atol=1e-5)


def test_the_table_says_what_was_checked_and_measured():
    text = "\n".join(real_video.describe(compare(KnowsTheTruth())))
    for words in (*CAMERAS, "four cameras", "MediaPipe, cam01", "best offset, frames", "12 limbs mm"):
        assert words in text
