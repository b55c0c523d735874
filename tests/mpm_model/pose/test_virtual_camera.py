"""Drawn cameras film people as people do."""

import math

import numpy as np
import pytest
import torch

from mpm_model.errors import InputError
from mpm_model.learning.counted import counted_uniform
from mpm_model.pose.camera import Camera, project, world_to_camera
from mpm_model.pose.skeletons import H36M_17
from mpm_model.pose.virtual_camera import DRAWS_PER_CAMERA, VirtualCameraConfig, draw_cameras

STANDING_M = {
    "pelvis": (0, 0, 0.95),
    "right_hip": (0, -0.13, 0.93), "right_knee": (0.02, -0.13, 0.5), "right_ankle": (0, -0.13, 0.08),
    "left_hip": (0, 0.13, 0.93), "left_knee": (0.02, 0.13, 0.5), "left_ankle": (0, 0.13, 0.08),
    "spine": (0, 0, 1.2), "thorax": (0, 0, 1.45), "nose": (0.1, 0, 1.6), "head_top": (0, 0, 1.75),
    "left_shoulder": (0, 0.18, 1.42), "left_elbow": (0, 0.22, 1.15), "left_wrist": (0.1, 0.24, 0.92),
    "right_shoulder": (0, -0.18, 1.42), "right_elbow": (0, -0.22, 1.15), "right_wrist": (0.1, -0.24, 0.92),
}  # fmt: skip
"""Somebody who stands at the origin and faces along x."""


def walk(windows: int, frames: int = 27, *, way_m: float = 1.0) -> torch.Tensor:
    """Somebody upright who goes `way_m` in a direction of their own in each window, (B, T, J, 3)."""
    pose_m = torch.tensor([STANDING_M[joint] for joint in H36M_17.joints], dtype=torch.float32)
    angle_rad = torch.linspace(0, 6, windows)
    along = torch.stack([angle_rad.cos(), angle_rad.sin(), torch.zeros(windows)], -1)
    path_m = torch.linspace(0, way_m, frames)[None, :, None] * along[:, None] + torch.tensor([3.0, -2.0, 0.0])
    return pose_m + path_m[:, :, None]


def uniform(windows: int) -> torch.Tensor:
    ids = np.arange(windows)
    drawn = counted_uniform("camera", seed=0, epoch=0, sample_ids=ids, count=DRAWS_PER_CAMERA)
    return torch.from_numpy(drawn).float()


def film(joints_world_m: torch.Tensor, **config) -> tuple[Camera, torch.Tensor, torch.Tensor]:
    """Camera, joints in camera space, keypoints."""
    is_valid = torch.ones(joints_world_m.shape[:3], dtype=torch.bool)
    camera = draw_cameras(
        uniform(len(joints_world_m)), joints_world_m, is_valid, VirtualCameraConfig(**config)
    )
    joints_cam_m = world_to_camera(joints_world_m, camera)
    return camera, joints_cam_m, project(joints_cam_m, camera)


def is_inside(keypoints_px: torch.Tensor, camera: Camera) -> torch.Tensor:
    size_px = torch.stack([camera.width_px, camera.height_px], -1)[:, None, None]
    return ((keypoints_px >= 0) & (keypoints_px <= size_px)).all(-1)


@pytest.mark.parametrize("way_m", [0.0, 1.0, 8.0])
@pytest.mark.parametrize("barrel", [0.0, 0.1])
def test_the_whole_motion_is_in_view_and_in_front(way_m, barrel):
    camera, joints_cam_m, keypoints_px = film(walk(500, way_m=way_m), barrel=barrel)
    assert is_inside(keypoints_px, camera).all()
    assert joints_cam_m[..., 2].min() >= 0.5 - 1e-4


def test_the_middle_of_the_person_is_in_the_image():
    joints_world_m = walk(500)
    camera, *_ = film(joints_world_m)
    middle_m = joints_world_m.mean((1, 2), keepdim=True)
    assert is_inside(project(world_to_camera(middle_m, camera), camera), camera).all()


def test_the_head_of_somebody_upright_is_above_the_feet():
    _, _, keypoints_px = film(walk(500))
    head, feet = H36M_17.index("head_top"), H36M_17.select("left_ankle", "right_ankle")
    assert (keypoints_px[:, :, [head], 1] < keypoints_px[:, :, feet, 1]).all()


def test_images_are_not_mirrored():
    joints_world_m = walk(500, way_m=0.0)
    camera, _, keypoints_px = film(joints_world_m)
    nose_side = camera.position_world_m[:, 0] - joints_world_m[:, 0, 0, 0]
    left, right = H36M_17.select("left_shoulder", "right_shoulder")
    is_left_at_right = keypoints_px[:, 0, left, 0] > keypoints_px[:, 0, right, 0]
    is_clear = nose_side.abs() > 1
    assert (is_left_at_right == (nose_side > 0))[is_clear].all(), "from the front, the left is at the right"


def test_people_fill_between_a_quarter_and_nine_tenths_of_the_limiting_side():
    camera, _, keypoints_px = film(walk(2000))
    size_px = torch.stack([camera.width_px, camera.height_px], -1)
    fill = ((keypoints_px.amax((1, 2)) - keypoints_px.amin((1, 2))) / size_px).amax(-1)
    # The box is fitted, and a person may be a quarter less than their box.
    assert fill.min() > 0.75 * 0.25
    assert fill.max() <= 0.9
    assert 0.4 < fill.median() < 0.6


def test_cameras_stand_at_the_heights_of_the_config():
    joints_world_m = walk(2000)
    camera, *_ = film(joints_world_m)
    height_m = camera.position_world_m[:, 2] - joints_world_m[..., 2].amin((1, 2))
    assert height_m.min() > 0.35
    assert height_m.max() < 2.65
    assert ((height_m > 1.0) & (height_m < 1.6)).float().mean() == pytest.approx(0.7, abs=0.03)


def test_a_narrow_height_without_seldom_ones_is_kept():
    joints_world_m = walk(200)
    camera, *_ = film(joints_world_m, height_m=(1.5, 1.5), usual_height_m=(1.5, 1.5), usual_height_share=1.0)
    height_m = camera.position_world_m[:, 2] - joints_world_m[..., 2].amin((1, 2))
    torch.testing.assert_close(height_m, torch.full((200,), 1.5), rtol=0, atol=0.03)


def test_people_are_filmed_from_all_sides():
    joints_world_m = walk(4000, way_m=0.0)
    camera, *_ = film(joints_world_m)
    from_person_m = camera.position_world_m - joints_world_m.mean((1, 2))
    azimuth = torch.atan2(from_person_m[:, 1], from_person_m[:, 0]) / (2 * math.pi) + 0.5
    counts = torch.histc(azimuth, 8, 0, 1)
    assert (counts - 500).abs().max() < 90


def test_field_of_view_sizes_and_roll_are_those_of_the_config():
    camera, *_ = film(walk(2000))
    longer_px = torch.maximum(camera.width_px, camera.height_px)
    view_rad = 2 * torch.atan(longer_px / 2 / camera.focal_px[:, 0])
    assert math.radians(30) <= view_rad.min() + 1e-5
    assert view_rad.max() <= math.radians(80) + 1e-5
    sizes = set(zip(camera.width_px.int().tolist(), camera.height_px.int().tolist(), strict=True))
    assert sizes == set(VirtualCameraConfig().image_sizes_px)
    # The sky in the image is the third column of the rotation.
    roll_rad = torch.atan2(camera.rotation[:, 0, 2], -camera.rotation[:, 1, 2])
    assert roll_rad.abs().max() <= math.radians(4) + 1e-5
    torch.testing.assert_close(camera.center_px * 2, torch.stack([camera.width_px, camera.height_px], -1))


def test_cameras_do_not_go_back_beyond_their_reach_for_what_can_be_filmed_larger():
    joints_world_m = walk(500)
    for reach_m, farthest_m in ((10.0, 11.5), (1000.0, torch.inf)):
        camera, *_ = film(joints_world_m, reach_m=reach_m)
        far_m = (camera.position_world_m - joints_world_m.mean((1, 2))).norm(dim=-1).max()
        assert min(reach_m, 15) < far_m < farthest_m


def test_a_camera_depends_on_its_own_window_and_numbers_alone():
    joints_world_m, draws = walk(8), uniform(8)
    is_valid = torch.ones(joints_world_m.shape[:3], dtype=torch.bool)
    together = draw_cameras(draws, joints_world_m, is_valid, VirtualCameraConfig())
    alone = draw_cameras(draws[3:4], joints_world_m[3:4], is_valid[3:4], VirtualCameraConfig())
    for name, value in vars(together).items():
        torch.testing.assert_close(value[3:4], vars(alone)[name])


def test_the_view_does_not_depend_on_where_the_world_begins():
    joints_world_m = walk(50)
    _, joints_cam_m, _ = film(joints_world_m)
    _, moved_cam_m, _ = film(joints_world_m + torch.tensor([5.0, -7.0, 2.0]))
    torch.testing.assert_close(moved_cam_m, joints_cam_m, rtol=0, atol=1e-3)


@pytest.mark.parametrize("garbage", [0.0, 1e6, torch.nan])
def test_joints_that_are_not_valid_do_not_move_the_camera(garbage):
    joints_world_m, draws = walk(20), uniform(20)
    is_valid = torch.ones(joints_world_m.shape[:3], dtype=torch.bool)
    is_valid[:, :, H36M_17.index("left_wrist")] = False
    expected = draw_cameras(draws, joints_world_m, is_valid, VirtualCameraConfig())
    spoiled_m = joints_world_m.masked_fill(~is_valid[..., None], garbage)
    camera = draw_cameras(draws, spoiled_m, is_valid, VirtualCameraConfig())
    torch.testing.assert_close(camera.translation_m, expected.translation_m, rtol=0, atol=0)


def test_a_window_without_valid_joints_still_gets_a_camera():
    is_valid = torch.zeros(4, 27, 17, dtype=torch.bool)
    camera = draw_cameras(uniform(4), torch.full((4, 27, 17, 3), torch.nan), is_valid, VirtualCameraConfig())
    for value in vars(camera).values():
        assert value.isfinite().all()


def test_numbers_that_single_precision_rounds_to_one_are_no_exception():
    joints_world_m = walk(2)
    draws = torch.full((2, DRAWS_PER_CAMERA), 1 - 2**-40, dtype=torch.float64)
    is_valid = torch.ones(joints_world_m.shape[:3], dtype=torch.bool)
    camera = draw_cameras(draws, joints_world_m, is_valid, VirtualCameraConfig())
    assert is_inside(project(world_to_camera(joints_world_m, camera), camera), camera).all()


def test_a_config_that_cannot_be_is_refused_with_all_faults():
    with pytest.raises(
        InputError, match=r"fill must rise within 0..1.*barrel must be in 0..0.2, got 0.5.*nearest_m"
    ):
        VirtualCameraConfig(fill=(0.5, 1.2), barrel=0.5, nearest_m=0.0)
