from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from made_up_people import make_track

from mpm_model.errors import InputError
from mpm_model.lifter import Lifter
from mpm_model.pose.camera import world_to_camera
from mpm_model.pose.intrinsics import Intrinsics
from mpm_model.pose.stature import stature_m
from pipelines.lift_track import lift_track
from pipelines.placing import Placing, place
from tests.benchmarks.real_video import read_cameras, read_truth, read_views

INTRINSICS = Intrinsics(focal_px=(700.0, 700.0), center_px=(320.0, 400.0))


def filmed(intrinsics=INTRINSICS, **replaced):
    """The swinging person, seen in perspective while it walks to the right; the true path beside it."""
    pose = make_track(frames=100, **replaced)
    root_m = np.stack([0.4 * pose.time_s - 0.4, np.zeros(100), np.full(100, 3.5)], axis=-1)
    joints_cam_m = pose.joints_rel_m.astype(np.float64) + root_m[:, None]
    keypoints_px = intrinsics.to_px(joints_cam_m[..., :2] / joints_cam_m[..., 2:])
    return replace(pose, keypoints_px=keypoints_px.astype(np.float32)), root_m


def test_without_intrinsics_or_height_a_pose_stays_relative_and_says_so():
    pose, _ = filmed()
    placed, notes = place(pose, Placing())
    assert placed == pose
    assert notes == ("relative to the pelvis: neither intrinsics nor a height say where the person is",)


def test_intrinsics_give_the_path_in_the_model_s_metres():
    pose, root_m = filmed()
    placed, notes = place(pose, Placing(intrinsics=INTRINSICS))
    np.testing.assert_allclose(placed.root_cam_m, root_m, rtol=0, atol=1e-4)
    assert placed.joints_rel_m is pose.joints_rel_m
    assert placed.up_cam is None
    assert len(notes) == 1
    assert "in the model's metres" in notes[0]


def test_keypoints_that_enter_as_hidden_place_nobody():
    pose, root_m = filmed()
    pose.keypoints_px[:, 5:] = 0
    pose.is_observed[:, 5:] = False
    placed, _ = place(pose, Placing(intrinsics=INTRINSICS))
    np.testing.assert_allclose(placed.root_cam_m, root_m, rtol=0, atol=1e-3)


def test_a_stated_height_scales_pose_errors_and_path_alike():
    pose, root_m = filmed(error_50_mm=np.full((100, 17), 40.0), error_90_mm=np.full((100, 17), 90.0))
    height_m = 0.6 * stature_m(pose.joints_rel_m, pose.skeleton)
    placed, notes = place(pose, Placing(intrinsics=INTRINSICS, height_m=height_m))
    assert stature_m(placed.joints_rel_m, pose.skeleton) == pytest.approx(height_m, rel=1e-5)
    np.testing.assert_allclose(placed.joints_rel_m, 0.6 * pose.joints_rel_m, atol=1e-6)
    np.testing.assert_allclose(placed.root_cam_m, 0.6 * root_m, rtol=0, atol=1e-4)
    np.testing.assert_allclose(placed.error_50_mm, 24.0, rtol=1e-5)
    np.testing.assert_allclose(placed.error_90_mm, 54.0, rtol=1e-5)
    assert notes[0].startswith("scaled by 0.600: lifted 1.6")
    assert notes[1] == "placed by the intrinsics and the height given"


def test_a_height_alone_looks_for_the_focal_length_and_says_what_it_is_worth():
    pose, root_m = filmed()
    placed, notes = place(pose, Placing(height_m=stature_m(pose.joints_rel_m, pose.skeleton)))
    np.testing.assert_allclose(placed.root_cam_m[:, 2], root_m[:, 2], rtol=0.02)
    assert "no intrinsics: a focal length of" in notes[1]
    assert "of those for 20 to 100 degrees; depth is only as good as it, usually within 30%" in notes[1]


def test_a_height_alone_places_nobody_in_an_image_of_unknown_size():
    pose, _ = filmed(width_px=None, height_px=None)
    placed, notes = place(pose, Placing(height_m=1.2))
    assert placed.root_cam_m is None
    assert stature_m(placed.joints_rel_m, pose.skeleton) == pytest.approx(1.2)
    assert "which takes the image's size" in notes[1]


def test_a_track_that_shows_too_little_is_not_placed():
    pose, _ = filmed()
    pose.is_observed[:, 3:] = False
    for placing in (Placing(intrinsics=INTRINSICS), Placing(height_m=1.7)):
        placed, notes = place(pose, placing)
        assert placed.root_cam_m is None
        assert notes[-1] == "relative to the pelvis: no frame shows 4 joints, which a place takes"


def test_intrinsics_of_another_image_size_are_noticed():
    pose, _ = filmed()
    elsewhere = Intrinsics(focal_px=(2000.0, 2000.0), center_px=(960.0, 540.0))
    _, notes = place(pose, Placing(intrinsics=elsewhere))
    assert "the principal point lies outside the image" in notes[0]


def test_up_is_found_with_and_without_a_place():
    pose, _ = filmed()
    for placing in (Placing(is_upright=True), Placing(intrinsics=INTRINSICS, is_upright=True)):
        placed, notes = place(pose, placing)
        np.testing.assert_allclose(placed.up_cam, [0, -1, 0], atol=0.05)
        assert notes[-1].startswith("up is the long axis of the upright body")


def test_who_lies_says_nothing_of_up():
    pose, _ = filmed()
    curled = replace(pose, joints_rel_m=0.2 * np.random.default_rng(0).normal(size=(100, 17, 3)))
    placed, notes = place(curled, Placing(is_upright=True))
    assert placed.up_cam is None
    assert notes[-1] == "up is not known: the person hardly ever stands or walks upright"


@pytest.mark.parametrize("height_m", [0.4, 2.7, float("nan"), 180.0])
def test_heights_that_nobody_has_are_refused(height_m):
    with pytest.raises(InputError, match=r"height_m must be in 0\.5\.\.2\.6 metres"):
        Placing(height_m=height_m)


@pytest.mark.parametrize(
    ("placing", "is_whole", "context_s"),
    [
        (Placing(), False, 0.0),
        (Placing(intrinsics=INTRINSICS), False, 1.0),
        (Placing(height_m=1.7), True, 0.0),
        (Placing(intrinsics=INTRINSICS, is_upright=True), True, 1.0),
    ],
)
def test_what_is_measured_over_a_track_needs_all_of_it(placing, is_whole, context_s):
    assert placing.needs_whole_track is is_whole
    assert placing.context_s == context_s


@cache
def lifter():
    return Lifter.load()


@pytest.mark.parametrize("view", range(4))
def test_a_person_in_real_video_is_placed_within_twenty_centimetres_of_what_four_cameras_see(view):
    pose, camera = lift_track(read_views()[view].track, lifter()), read_cameras()[view]
    focal_px, center_px, distortion = (
        tuple(values.tolist()) for values in (camera.focal_px, camera.center_px, camera.distortion)
    )
    intrinsics = Intrinsics(focal_px=focal_px, center_px=center_px, distortion=distortion)
    placed, _ = place(pose, Placing(intrinsics=intrinsics, is_upright=True))
    true_m = world_to_camera(torch.from_numpy(read_truth().joints_world_m[pose.frames, 0]), camera).numpy()
    assert np.linalg.norm(placed.root_cam_m - true_m, axis=-1).mean() < 0.2
    up_cam = camera.rotation[:, 2].numpy()
    assert np.degrees(np.arccos(placed.up_cam @ up_cam)) < 15
