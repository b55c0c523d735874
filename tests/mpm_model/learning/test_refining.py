import dataclasses

import numpy as np
import pytest
import torch

from mpm_model.errors import InputError
from mpm_model.learning.batches import Corpus, ViewConfig
from mpm_model.learning.detector_noise import DetectorNoiseConfig
from mpm_model.learning.order import Samples
from mpm_model.learning.refining import (
    Refinable,
    back_projected_m,
    draw_refinable,
    refine,
    refinement,
    root_position_m,
    train_refinement,
)
from mpm_model.learning.training import OptimiserConfig
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.masked import UnifiedPoseModel
from mpm_model.network.refinement import RefinementConfig, RefinementModel
from mpm_model.pose.camera import Camera, project
from mpm_model.pose.normalize import root_relative
from mpm_model.pose.skeletons import H36M_17

BATCH, FRAMES = 3, 4


def make_view(k1: float = -0.08):
    """People in front of cameras with a lens: keypoints, truth in camera space, camera; float64."""
    generator = torch.Generator().manual_seed(0)

    def spread(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64) * 2 - 1

    joints_cam_m = 0.6 * spread(BATCH, FRAMES, 17, 3) + 0.5 * spread(BATCH, FRAMES, 1, 3)
    joints_cam_m = joints_cam_m + torch.tensor([0.0, 0.0, 4.0], dtype=torch.float64)
    distortion = torch.zeros(BATCH, 5, dtype=torch.float64)
    distortion[:, 0] = k1
    camera = Camera(
        rotation=torch.eye(3, dtype=torch.float64).expand(BATCH, 3, 3),
        translation_m=torch.zeros(BATCH, 3, dtype=torch.float64),
        focal_px=torch.full((BATCH, 2), 1100.0, dtype=torch.float64),
        center_px=torch.tensor([[960.0, 540.0]], dtype=torch.float64).expand(BATCH, 2),
        distortion=distortion,
        width_px=torch.full((BATCH,), 1920.0, dtype=torch.float64),
        height_px=torch.full((BATCH,), 1080.0, dtype=torch.float64),
    )
    is_hidden = spread(BATCH, FRAMES, 17) < -0.6
    is_hidden[0, 0, 0] = True  # the root itself
    keypoints_px = project(joints_cam_m, camera).masked_fill(is_hidden[..., None], 7.0)
    return keypoints_px, joints_cam_m, is_hidden, camera


def test_an_exact_pose_and_camera_give_the_exact_root_and_the_back_projection_is_the_truth():
    keypoints_px, joints_cam_m, is_hidden, camera = make_view()
    rel_m, root_m = root_relative(joints_cam_m, H36M_17)
    found_m = root_position_m(keypoints_px, rel_m, is_hidden, camera)
    torch.testing.assert_close(found_m, root_m[..., 0, :], atol=1e-9, rtol=0)
    placed_m = back_projected_m(keypoints_px, rel_m, is_hidden, camera)
    torch.testing.assert_close(placed_m, rel_m, atol=1e-9, rtol=0)


def test_exact_depths_correct_wrong_x_and_y_when_the_root_is_an_oracle():
    keypoints_px, joints_cam_m, is_hidden, camera = make_view()
    rel_m, root_m = root_relative(joints_cam_m, H36M_17)
    wrong_m = rel_m.clone()
    wrong_m[..., 5, 0] += 0.1
    wrong_m[..., 6, 0] -= 0.1
    is_hidden = torch.zeros_like(is_hidden)
    keypoints_px = project(joints_cam_m, camera)
    oracle_m = back_projected_m(keypoints_px, wrong_m, is_hidden, camera, oracle_depth_m=root_m[..., 0, 2])
    torch.testing.assert_close(oracle_m, rel_m, atol=1e-9, rtol=0)  # the two errors cancel in the mean
    estimated_m = back_projected_m(keypoints_px, wrong_m, is_hidden, camera)
    assert (estimated_m - rel_m).norm(dim=-1).mean() > 1e-4


def test_a_pose_too_large_stands_farther_by_the_same_factor():
    keypoints_px, joints_cam_m, is_hidden, camera = make_view()
    rel_m, root_m = root_relative(joints_cam_m, H36M_17)
    found_m = root_position_m(keypoints_px, 1.2 * rel_m, is_hidden, camera)
    torch.testing.assert_close(found_m, 1.2 * root_m[..., 0, :], atol=1e-9, rtol=0)


def test_what_is_hidden_has_no_influence_and_stays_as_it_was_lifted():
    keypoints_px, joints_cam_m, is_hidden, camera = make_view()
    rel_m, _ = root_relative(joints_cam_m, H36M_17)
    rel_m = rel_m + 0.02 * torch.sin(100 * rel_m)
    spoiled_px = keypoints_px.masked_fill(is_hidden[..., None], torch.nan)
    placed_m = back_projected_m(keypoints_px, rel_m, is_hidden, camera)
    torch.testing.assert_close(
        back_projected_m(spoiled_px, rel_m, is_hidden, camera), placed_m, atol=0, rtol=0
    )
    torch.testing.assert_close(placed_m[is_hidden], rel_m[is_hidden], atol=0, rtol=0)
    assert not torch.equal(placed_m[~is_hidden], rel_m[~is_hidden])


@pytest.mark.parametrize("why", ["one joint", "one point", "behind"])
def test_where_no_root_can_be_found_the_lifted_pose_stays(why):
    keypoints_px, joints_cam_m, is_hidden, camera = make_view()
    rel_m, _ = root_relative(joints_cam_m, H36M_17)
    is_hidden = torch.zeros_like(is_hidden)
    if why == "one joint":
        is_hidden[:, :, 1:] = True
    elif why == "one point":
        keypoints_px = keypoints_px[:, :, :1].expand(-1, -1, 17, -1)
    else:
        rel_m = -rel_m
    assert root_position_m(keypoints_px, rel_m, is_hidden, camera).isnan().all()
    assert torch.equal(back_projected_m(keypoints_px, rel_m, is_hidden, camera), rel_m)


def test_the_oracle_is_used_only_under_its_name():
    keypoints_px, joints_cam_m, is_hidden, camera = make_view()
    rel_m, root_m = root_relative(joints_cam_m, H36M_17)
    model = RefinementModel(RefinementConfig(hidden=8)).double()
    arguments = (model, rel_m, keypoints_px, is_hidden, camera)
    with pytest.raises(InputError, match="goes with root_depth oracle"):
        refine(*arguments, true_root_depth_m=root_m[..., 0, 2])
    with pytest.raises(InputError, match="goes with root_depth oracle"):
        refine(*arguments, root_depth="oracle")
    with pytest.raises(InputError, match="estimated, oracle"):
        refine(*arguments, root_depth="guessed")
    for options in ({}, {"root_depth": "oracle", "true_root_depth_m": root_m[..., 0, 2]}):
        # Both sides are the truth, so is any mixture.
        torch.testing.assert_close(refine(*arguments, **options), rel_m, atol=1e-9, rtol=0)


def test_training_learns_to_trust_the_image_where_the_lifter_errs():
    rel_m = root_relative(make_view()[1], H36M_17)[0].float()

    def draw(step: int) -> Refinable:
        noise_m = 0.05 * torch.randn(rel_m.shape, generator=torch.Generator().manual_seed(step))
        noise_m[..., 2] = 0
        return Refinable(rel_m + noise_m, rel_m, rel_m, torch.ones(rel_m.shape[:-1], dtype=torch.bool))

    before = torch.get_rng_state()
    model = train_refinement(
        draw,
        config=RefinementConfig(hidden=32, dropout=0.1),
        optimiser=OptimiserConfig(learning_rate=1e-2, decay="cosine"),
        steps=150,
        seed=0,
    )
    assert torch.equal(torch.get_rng_state(), before)
    _, metrics = refinement(model, draw(1000))
    assert metrics["loss"] < 0.2 * metrics["loss_lifted"]


@pytest.mark.parametrize("root_depth", ["estimated", "oracle"])
def test_views_are_drawn_lifted_and_back_projected(root_depth):
    rng = np.random.default_rng(0)
    joints_world_m = rng.normal(0, 0.4, (2, 27, 17, 3)).astype(np.float32)
    is_valid = torch.ones(2, 27, 17, dtype=torch.bool)
    is_valid[0, :, 3] = False
    corpus = Corpus(
        joints_world_m=torch.from_numpy(joints_world_m),
        is_valid=is_valid,
        sample_ids=np.array([5, 9]),
        skeleton=H36M_17,
        rate_hz=25.0,
        dataset=np.zeros(2, dtype=np.int64),
        dataset_names=("made",),
    )
    sizes = PoseTransformerConfig(
        frames=27, width=32, layers=1, heads=4, feed_forward=32, frame_hidden=32, keypoint_channels=3
    )
    view = ViewConfig(normalisation="person", has_confidence=True, detector=DetectorNoiseConfig(scale=1.0))
    torch.manual_seed(0)
    lifting = UnifiedPoseModel(sizes)
    arguments = {"seed": 0, "epoch": 1, "config": view, "root_depth": root_depth}
    both = draw_refinable(lifting, corpus, Samples.once(np.array([0, 1])), **arguments)
    for field in dataclasses.fields(Refinable):
        value = getattr(both, field.name)
        assert value.shape[:3] == (2, 27, 17)
        assert value.isfinite().all()
    alone = draw_refinable(lifting, corpus, Samples.once(np.array([1])), **arguments)
    torch.testing.assert_close(alone.back_projected_m[0], both.back_projected_m[1], atol=1e-4, rtol=1e-4)
    assert torch.equal(both.back_projected_m[0, :, 3], both.lifted_m[0, :, 3])
