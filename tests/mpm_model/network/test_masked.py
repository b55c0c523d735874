"""Masked pose modelling: what is hidden stays hidden, sample by sample."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.masked import MaskedPoseModel, seen_frames

B, T, J = 3, 7, 5
CONFIG = PoseTransformerConfig(
    frames=T, joints=J, width=16, layers=2, heads=4, feed_forward=32, frame_hidden=32
)


def network(seed: int = 0) -> MaskedPoseModel:
    torch.manual_seed(seed)
    return MaskedPoseModel(CONFIG).eval()


def draw(seed: int, *, hidden_frames: int = 3) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    poses = {
        "keypoints": torch.randn(B, T, J, 2, generator=generator),
        "joints": torch.randn(B, T, J, 3, generator=generator),
    }
    masks = {}
    for space in ("2d", "3d"):
        masks[f"is_hidden_joint_{space}"] = torch.rand(B, T, J, generator=generator) < 0.4
        masks[f"is_hidden_frame_{space}"] = (
            torch.rand(B, T, generator=generator).argsort(1).argsort(1) < hidden_frames
        )
    return poses, masks


def test_the_papers_sizes_make_four_million_parameters():
    with torch.device("meta"):
        model = MaskedPoseModel(PoseTransformerConfig())
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == 4.02


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), hidden_frames=st.integers(0, T - 1))
def test_hidden_values_do_not_influence_the_output(seed, hidden_frames):
    model = network()
    poses, masks = draw(seed, hidden_frames=hidden_frames)
    hidden_2d = masks["is_hidden_joint_2d"] | masks["is_hidden_frame_2d"][..., None]
    hidden_3d = masks["is_hidden_joint_3d"] | masks["is_hidden_frame_3d"][..., None]
    altered = {
        "keypoints": poses["keypoints"].masked_fill(hidden_2d[..., None], 1e9),
        "joints": poses["joints"].masked_fill(hidden_3d[..., None], torch.nan),
    }
    with torch.inference_mode():
        for came, wanted in zip(model(**altered, **masks), model(**poses, **masks), strict=True):
            assert torch.equal(came, wanted)


def test_seen_values_do_influence_the_output():
    model = network()
    poses, masks = draw(1)
    frame = int((~masks["is_hidden_frame_2d"][0]).nonzero()[0])
    masks["is_hidden_joint_2d"][0, frame, 2] = False
    altered = poses["keypoints"].clone()
    altered[0, frame, 2] += 1
    with torch.inference_mode():
        before = model(**poses, **masks)
        after = model(altered, poses["joints"], **masks)
    assert not torch.equal(before.keypoints[0], after.keypoints[0])
    assert torch.equal(before.joints, after.joints)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_a_sample_does_not_depend_on_the_others(seed):
    model = network()
    poses, masks = draw(seed)
    with torch.inference_mode():
        together = model(**poses, **masks)
        for sample in range(B):
            alone = model(
                **{name: pose[sample : sample + 1] for name, pose in poses.items()},
                **{name: mask[sample : sample + 1] for name, mask in masks.items()},
            )
            torch.testing.assert_close(alone.keypoints[0], together.keypoints[sample], atol=1e-5, rtol=0)
            torch.testing.assert_close(alone.joints[0], together.joints[sample], atol=1e-5, rtol=0)


def test_every_parameter_is_trained_by_a_step_of_both_modalities():
    model = network().train()
    poses, masks = draw(2)
    reconstruction = model(**poses, **masks)
    (reconstruction.keypoints.square().mean() + reconstruction.joints.square().mean()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_batch_norm_is_never_told_of_hidden_values():
    poses, masks = draw(3)
    hidden = masks["is_hidden_joint_2d"] | masks["is_hidden_frame_2d"][..., None]
    statistics = []
    for keypoints in (poses["keypoints"], poses["keypoints"].masked_fill(hidden[..., None], 1e6)):
        model = network().train()
        model.reconstruct_2d(
            keypoints,
            is_hidden_joint=masks["is_hidden_joint_2d"],
            is_hidden_frame=masks["is_hidden_frame_2d"],
        )
        statistics.append(model.embed_2d.norm.running_mean)
    assert torch.equal(*statistics)


def test_the_same_seed_makes_the_same_network():
    ours, theirs, other = network(4), network(4), network(5)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert not torch.equal(ours.hidden_frame, other.hidden_frame)


def test_seen_frames_are_in_order():
    is_hidden = torch.tensor([[True, False, True, False], [False, False, True, True]])
    assert seen_frames(is_hidden).tolist() == [[1, 3], [0, 1]]


@pytest.mark.parametrize("hidden", [[[True, False], [False, False]], [[True, True], [True, True]]])
def test_frames_hidden_unevenly_or_all_are_refused(hidden):
    with pytest.raises(ValueError, match="same number of frames"):
        seen_frames(torch.tensor(hidden))


def test_windows_of_another_length_are_refused():
    poses, masks = draw(0)
    with pytest.raises(ValueError, match=r"keypoints must be \(B, 7, 5, 2\), got \(3, 1, 5, 2\)"):
        network()(poses["keypoints"][:, :1], poses["joints"], **masks)
