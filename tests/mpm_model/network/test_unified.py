"""One network for lifting and completion, and its start from pre-training."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.masked import MaskedPoseModel, UnifiedPoseModel

B, T, J = 3, 7, 5
PAPER = PoseTransformerConfig(
    frames=T, joints=J, width=16, layers=2, heads=4, feed_forward=32, frame_hidden=32
)
OURS = replace(PAPER, positions="rotary", norms="standard", keypoint_channels=5, spatial_layers=1)
CONFIGS = pytest.mark.parametrize("config", [PAPER, OURS], ids=["paper", "ours"])


def seeded(kind: type, config: PoseTransformerConfig, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return kind(config).eval()


def draw(
    config: PoseTransformerConfig, seed: int = 0, frames: int = T
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Keypoints, joints, which are hidden."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(B, frames, J, config.keypoint_channels, generator=generator),
        torch.randn(B, frames, J, 3, generator=generator),
        torch.rand(B, frames, J, generator=generator) < 0.4,
    )


@CONFIGS
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_hidden_values_do_not_influence_the_output(config, seed):
    model = seeded(UnifiedPoseModel, config)
    keypoints, joints, is_hidden = draw(config, seed)
    spoiled = is_hidden[..., None]
    with torch.inference_mode():
        for garbage in (torch.nan, 1e9):
            assert torch.equal(
                model.sequence(keypoints.masked_fill(spoiled, garbage), is_hidden),
                model.sequence(keypoints, is_hidden),
            )
            assert torch.equal(
                model.complete(joints.masked_fill(spoiled, garbage), is_hidden=is_hidden),
                model.complete(joints, is_hidden=is_hidden),
            )


@CONFIGS
def test_seen_values_do_influence_the_output(config):
    model = seeded(UnifiedPoseModel, config)
    keypoints, joints, is_hidden = draw(config)
    is_hidden[0, 3, 2] = False
    for values, ask in (
        (keypoints, lambda values: model.sequence(values, is_hidden)),
        (joints, lambda values: model.complete(values, is_hidden=is_hidden)),
    ):
        altered = values.clone()
        altered[0, 3, 2] += 1
        with torch.inference_mode():
            before, after = ask(values), ask(altered)
        assert (before[0] - after[0]).abs().max() > 1e-4
        torch.testing.assert_close(before[1:], after[1:], rtol=0, atol=1e-6)


@CONFIGS
def test_it_takes_over_a_pretrained_network_and_lifts_and_completes_as_that_does(config):
    pretrained, model = seeded(MaskedPoseModel, config), seeded(UnifiedPoseModel, config, seed=1)
    keypoints, joints, is_hidden = draw(config)
    all_frames = {"is_hidden_joint": is_hidden, "is_hidden_frame": None}
    with torch.inference_mode():
        assert not torch.equal(model.sequence(keypoints, is_hidden), pretrained.lift(keypoints, **all_frames))
        model.load_state_dict(pretrained.state_dict())
        assert torch.equal(model.sequence(keypoints, is_hidden), pretrained.lift(keypoints, **all_frames))
        assert torch.equal(
            model.complete(joints, is_hidden=is_hidden), pretrained.reconstruct_3d(joints, **all_frames)
        )


@CONFIGS
def test_no_frame_hidden_is_a_mask_of_frames_that_hides_none(config):
    model = seeded(MaskedPoseModel, config)
    keypoints, _, is_hidden = draw(config)
    none = torch.zeros(B, T, dtype=torch.bool)
    with torch.inference_mode():
        without = model.lift(keypoints, is_hidden_joint=is_hidden, is_hidden_frame=None)
        within = model.lift(keypoints, is_hidden_joint=is_hidden, is_hidden_frame=none)
    torch.testing.assert_close(without, within, rtol=0, atol=1e-6)


@CONFIGS
def test_the_centre_is_the_frame_in_the_middle(config):
    model = seeded(UnifiedPoseModel, config)
    keypoints, _, is_hidden = draw(config)
    with torch.inference_mode():
        lifted = model(keypoints, is_hidden=is_hidden)
        assert torch.equal(lifted.sequence, model.sequence(keypoints, is_hidden))
    assert torch.equal(lifted.center, lifted.sequence[:, 3:4])


@CONFIGS
def test_no_mask_means_that_every_joint_was_seen(config):
    model = seeded(UnifiedPoseModel, config)
    keypoints, _, is_hidden = draw(config)
    with torch.inference_mode():
        assert torch.equal(model.sequence(keypoints), model.sequence(keypoints, torch.zeros_like(is_hidden)))


@pytest.mark.parametrize("frames", [1, 4, 30])
def test_with_rotary_positions_any_length_is_lifted_and_completed(frames):
    model = seeded(UnifiedPoseModel, OURS)
    keypoints, joints, is_hidden = draw(OURS, frames=frames)
    with torch.inference_mode():
        assert model(keypoints, is_hidden=is_hidden).center.shape == (B, 1, J, 3)
        assert model.sequence(keypoints).shape == (B, frames, J, 3)
        assert model.complete(joints, is_hidden=is_hidden).shape == (B, frames, J, 3)
