"""Lifting, and its start from pre-training."""

from dataclasses import replace

import pytest
import torch

from mpm_model.errors import InputError
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.lifting import LiftingModel
from mpm_model.network.masked import MaskedPoseModel

CONFIG = PoseTransformerConfig(
    frames=9, joints=5, width=16, layers=2, heads=4, feed_forward=32, frame_hidden=32, frame_dropout=0.2
)


def test_the_papers_sizes_make_seven_million_parameters():
    with torch.device("meta"):
        model = LiftingModel(PoseTransformerConfig())
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == 7.01


@pytest.mark.parametrize("frames", [1, 3, 9, 45, 351])
def test_every_length_that_can_be_built_gives_one_centre_frame(frames):
    model = LiftingModel(replace(CONFIG, frames=frames)).eval()
    with torch.inference_mode():
        lifted = model(torch.randn(2, frames, 5, 2))
    assert lifted.center.shape == (2, 1, 5, 3)
    assert lifted.sequence.shape == (2, frames, 5, 3)


def test_a_length_that_cannot_be_strided_is_refused():
    with pytest.raises(InputError, match="got 64"):
        LiftingModel(replace(CONFIG, frames=64))


def test_sequence_alone_is_the_sequence_of_forward():
    model = LiftingModel(CONFIG).eval()
    keypoints, is_hidden = torch.randn(2, 9, 5, 2), torch.rand(2, 9, 5) < 0.3
    with torch.inference_mode():
        assert torch.equal(
            model.sequence(keypoints, is_hidden), model(keypoints, is_hidden=is_hidden).sequence
        )


def test_hidden_joints_enter_as_the_token_whatever_they_held():
    model = LiftingModel(CONFIG).eval()
    keypoints, is_hidden = torch.randn(2, 9, 5, 2), torch.rand(2, 9, 5) < 0.3
    with torch.inference_mode():
        by_mask = model(keypoints.masked_fill(is_hidden[..., None], torch.nan), is_hidden=is_hidden)
        by_hand = model(torch.where(is_hidden[..., None], model.hidden_keypoint, keypoints))
    assert torch.equal(by_mask.center, by_hand.center)
    assert torch.equal(by_mask.sequence, by_hand.sequence)


def test_every_parameter_is_trained_by_a_step():
    model = LiftingModel(CONFIG)
    lifted = model(torch.randn(2, 9, 5, 2), is_hidden=torch.rand(2, 9, 5) < 0.3)
    (lifted.center.square().mean() + lifted.sequence.square().mean()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_a_start_takes_over_the_way_in_and_nothing_else():
    pretrained, model = MaskedPoseModel(CONFIG).eval(), LiftingModel(CONFIG).eval()
    untouched = {
        name: tensor.clone()
        for name, tensor in model.state_dict().items()
        if name.startswith(("reduction", "center_head", "sequence_head"))
    }
    model.start_from(pretrained)
    theirs = pretrained.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, untouched[name] if name in untouched else theirs[name]), name
    before = pretrained.hidden_keypoint.detach().clone()
    with torch.no_grad():
        model.hidden_keypoint += 1
    assert torch.equal(pretrained.hidden_keypoint.detach(), before)


def test_a_start_names_every_size_that_differs():
    pretrained = MaskedPoseModel(replace(CONFIG, frames=27, layers=1, dropout=0.3))
    with pytest.raises(InputError, match="frames is 9 here and 27 there; layers is 2 here and 1 there"):
        LiftingModel(CONFIG).start_from(pretrained)


def test_windows_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"keypoints must be \(B, 9, 5, 2\), got \(2, 1, 5, 2\)"):
        LiftingModel(CONFIG).sequence(torch.zeros(2, 1, 5, 2))
