"""Projection and its inverses."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mpm_model.pose.camera import (
    Camera,
    back_project,
    camera_to_world,
    distort,
    project,
    undistort,
    world_to_camera,
)
from mpm_model.pose.rotation import level_rotation, tilt_rotation

PHONE = (-0.12, 0.05, 0.001, -0.002, -0.01)
"""A mild lens, k1 k2 p1 p2 k3."""


def camera(*batch: int, distortion=(0.0,) * 5, seed: int = 0, dtype=torch.float64) -> Camera:
    """Cameras in different places, looking in different directions, of 1000 x 800 px."""
    draw = torch.Generator().manual_seed(seed)
    angle_rad = torch.rand(*batch, 3, generator=draw, dtype=dtype)
    return Camera(
        rotation=tilt_rotation(angle_rad[..., 0], angle_rad[..., 1]) @ level_rotation(6 * angle_rad[..., 2]),
        translation_m=torch.randn(*batch, 3, generator=draw, dtype=dtype),
        focal_px=900 + 200 * torch.rand(*batch, 2, generator=draw, dtype=dtype),
        center_px=torch.tensor([510.0, 390.0], dtype=dtype).repeat(*batch, 1),
        distortion=torch.tensor(distortion, dtype=dtype).repeat(*batch, 1),
        width_px=torch.full(batch, 1000.0, dtype=dtype),
        height_px=torch.full(batch, 800.0, dtype=dtype),
    )


def simple(distortion=(0.0,) * 5) -> Camera:
    """At the origin, looking along z, focal lengths 1000 and 500, centre (320, 240)."""
    return Camera(
        rotation=torch.eye(3),
        translation_m=torch.zeros(3),
        focal_px=torch.tensor([1000.0, 500.0]),
        center_px=torch.tensor([320.0, 240.0]),
        distortion=torch.tensor(distortion),
        width_px=torch.tensor(640.0),
        height_px=torch.tensor(480.0),
    )


def test_a_pinhole_projects_by_hand():
    joints_cam_m = torch.tensor([[0.0, 0.0, 3.0], [0.2, -0.4, 2.0]])
    expected_px = torch.tensor([[320.0, 240.0], [420.0, 140.0]])
    torch.testing.assert_close(project(joints_cam_m, simple()), expected_px)


@pytest.mark.parametrize(
    ("distortion", "expected"),
    [
        # At (0.5, 1.0) the squared radius is 1.25.
        ((0.1, 0, 0, 0, 0), (0.5 * 1.125, 1.125)),
        ((0, 0.1, 0, 0, 0), (0.5 * 1.15625, 1.15625)),
        ((0, 0, 0, 0, 0.1), (0.5 * 1.1953125, 1.1953125)),
        ((0, 0, 0.01, 0, 0), (0.5 + 2 * 0.01 * 0.5, 1 + 0.01 * (1.25 + 2))),
        ((0, 0, 0, 0.01, 0), (0.5 + 0.01 * (1.25 + 0.5), 1 + 2 * 0.01 * 0.5)),
    ],
)
def test_each_coefficient_of_the_lens_does_what_the_formula_says(distortion, expected):
    seen = distort(torch.tensor([0.5, 1.0]), simple(distortion))
    torch.testing.assert_close(seen, torch.tensor(expected))


@pytest.mark.parametrize("depth_m", [0.0, -2.0])
def test_what_is_not_in_front_has_no_image(depth_m):
    joints_cam_m = torch.tensor([[0.1, 0.1, depth_m], [0.1, 0.1, 1.0]])
    keypoints_px = project(joints_cam_m, simple())
    assert keypoints_px[0].isnan().all()
    assert keypoints_px[1].isfinite().all()


def test_a_camera_stands_where_it_says():
    cameras = camera(4)
    at_m = world_to_camera(cameras.position_world_m[:, None], cameras)
    torch.testing.assert_close(at_m, torch.zeros_like(at_m))


def test_world_to_camera_is_the_formula():
    cameras = camera(2, 3)
    joints_world_m = torch.randn(2, 3, 5, 17, 3, dtype=torch.float64)
    expected_m = torch.einsum("bvij,bvtkj->bvtki", cameras.rotation, joints_world_m)
    expected_m = expected_m + cameras.translation_m[:, :, None, None]
    torch.testing.assert_close(world_to_camera(joints_world_m, cameras), expected_m)


@pytest.mark.parametrize(
    ("batch", "points"), [((), (4, 17)), ((3,), (3,)), ((3,), (3, 4, 17)), ((3, 4), (3, 4, 17))]
)
@pytest.mark.parametrize("distortion", [(0.0,) * 5, PHONE], ids=["pinhole", "lens"])
def test_back_projection_undoes_projection(batch, points, distortion):
    cameras = camera(*batch, distortion=distortion)
    joints_cam_m = torch.randn(*points, 3, dtype=torch.float64) * 0.8
    joints_cam_m[..., 2] += 5
    keypoints_px = project(joints_cam_m, cameras)
    assert keypoints_px.shape == (*points, 2)
    found_m = back_project(keypoints_px, joints_cam_m[..., 2], cameras)
    torch.testing.assert_close(found_m, joints_cam_m)


def test_each_window_is_seen_by_its_own_camera():
    cameras = camera(3, distortion=PHONE)
    joints_world_m = torch.randn(3, 4, 17, 3, dtype=torch.float64)
    together = world_to_camera(joints_world_m, cameras)
    for row in range(3):
        alone = Camera(**{name: value[row] for name, value in vars(cameras).items()})
        torch.testing.assert_close(together[row], world_to_camera(joints_world_m[row], alone))
        torch.testing.assert_close(
            project(together, cameras)[row], project(together[row], alone), equal_nan=True
        )


@given(seed=st.integers(0, 2**31))
def test_camera_to_world_undoes_world_to_camera(seed):
    cameras = camera(2, seed=seed)
    joints_world_m = torch.randn(2, 3, 17, 3, dtype=torch.float64)
    torch.testing.assert_close(
        camera_to_world(world_to_camera(joints_world_m, cameras), cameras), joints_world_m
    )


@given(
    x=st.floats(-0.7, 0.7),
    y=st.floats(-0.7, 0.7),
    k1=st.floats(-0.25, 0.3),
    k2=st.floats(-0.05, 0.1),
    p1=st.floats(-0.01, 0.01),
    p2=st.floats(-0.01, 0.01),
)
def test_undistortion_converges_for_real_lenses(x, y, k1, k2, p1, p2):
    lens = camera(1, distortion=(k1, k2, p1, p2, 0.0))
    straight = torch.tensor([[x, y]], dtype=torch.float64)
    torch.testing.assert_close(undistort(distort(straight, lens), lens), straight, rtol=0, atol=1e-9)


def test_undistortion_converges_in_single_precision():
    lens = camera(1, distortion=PHONE, dtype=torch.float32)
    straight = torch.rand(1, 1000, 2) * 1.6 - 0.8
    torch.testing.assert_close(undistort(distort(straight, lens), lens), straight, rtol=0, atol=1e-5)


def test_what_the_lens_cannot_show_has_no_ray():
    # x (1 - 0.3 x^2) is highest at x = 1.054, where it is 0.703.
    lens = simple((-0.3, 0.0, 0.0, 0.0, 0.0))
    straight = undistort(torch.tensor([[0.69, 0.0], [0.72, 0.0]]), lens)
    assert straight[0].isfinite().all()
    assert straight[1].isnan().all()


def test_points_that_do_not_begin_with_the_cameras_batch_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 17, 3\) do not begin with the batch axes \(3,\)"):
        world_to_camera(torch.zeros(4, 17, 3), camera(3))
    with pytest.raises(ValueError, match="do not begin"):
        project(torch.zeros(4, 17, 3), camera(3))


def test_a_camera_whose_parts_do_not_fit_is_refused():
    parts = vars(camera(3))
    with pytest.raises(ValueError, match=r"rotation must be \(3, 3, 3\), got \(3, 3\); focal_px must be"):
        Camera(**(parts | {"rotation": torch.eye(3), "focal_px": torch.zeros(3)}))
