"""Rotary positions and standard norms: what they promise, in closed form or by moving things about."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.lifting import LiftingModel
from mpm_model.network.masked import MaskedPoseModel, seen_frames
from mpm_model.network.transformer import TransformerLayer, turns_at
from mpm_model.network.trunk import PoseEmbedding, Trunk

T, J = 9, 5
CONFIG = PoseTransformerConfig(
    frames=T,
    joints=J,
    width=16,
    layers=2,
    heads=4,
    feed_forward=32,
    frame_hidden=32,
    dropout=0.0,
    frame_dropout=0.0,
    positions="rotary",
    norms="standard",
)
SPATIAL = replace(CONFIG, spatial_layers=2, spatial_width=8)


def seeded(kind: type, config: PoseTransformerConfig = CONFIG, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return kind(config, **options).eval()


def none_hidden(frames: int, windows: int = 2) -> torch.Tensor:
    return torch.zeros(windows, frames, J, dtype=torch.bool)


def test_a_pair_of_features_turns_by_its_place_times_its_rate():
    place = torch.tensor([0.0, 1.0, 7.0])
    features = torch.zeros(1, 1, 3, 4)
    features[..., 0] = features[..., 1] = 1.0  # both pairs, the fast and the slow, start at angle 0
    fast, slow = place, place * 1000.0**-0.5
    expected = torch.stack((fast.cos(), slow.cos(), fast.sin(), slow.sin()), dim=-1)
    torch.testing.assert_close(turns_at(place, 4).apply(features)[0, 0], expected)


@given(first=st.integers(0, 500), second=st.integers(0, 500), shift=st.integers(-500, 500))
@settings(deadline=None)
def test_products_of_turned_features_depend_on_the_difference_of_places_alone(first, second, shift):
    draw = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 8, generator=draw, dtype=torch.float64)

    def product(at: int, other: int) -> float:
        places = torch.tensor([[at], [other]], dtype=torch.float64)
        return float((turns_at(places[0], 8).apply(query) * turns_at(places[1], 8).apply(key)).sum())

    expected = product(first, second)
    assert product(first + shift, second + shift) == pytest.approx(expected, abs=1e-9)


def test_features_at_place_zero_do_not_turn_and_none_changes_its_length():
    features = torch.randn(2, 4, 6, 8)
    assert torch.equal(turns_at(torch.zeros(6), 8).apply(features), features)
    turned = turns_at(torch.arange(6.0), 8).apply(features)
    torch.testing.assert_close(turned.norm(dim=-1), features.norm(dim=-1))


@pytest.mark.parametrize("shift", [-40, 1, 300])
def test_shifting_all_frames_by_a_constant_changes_nothing(shift):
    trunk = seeded(Trunk)
    embedded = torch.randn(2, 6, CONFIG.frame_hidden)
    places = torch.tensor([[0, 1, 4, 5, 7, 8], [2, 3, 4, 5, 6, 30]])
    with torch.inference_mode():
        expected = trunk(embedded, frame_index=places)
        torch.testing.assert_close(trunk(embedded, frame_index=places + shift), expected, rtol=0, atol=1e-4)


def test_other_differences_of_places_change_something():
    trunk = seeded(Trunk)
    embedded = torch.randn(1, 6, CONFIG.frame_hidden)
    with torch.inference_mode():
        near = trunk(embedded, frame_index=torch.arange(6)[None])
        wide = trunk(embedded, frame_index=3 * torch.arange(6)[None])
    assert (near - wide).abs().max() > 1e-2


def test_frames_told_in_another_order_answer_the_same_as_long_as_their_places_go_with_them():
    trunk = seeded(Trunk)
    embedded, places, order = torch.randn(1, 8, CONFIG.frame_hidden), torch.arange(8), torch.randperm(8)
    with torch.inference_mode():
        expected = trunk(embedded, frame_index=places[None])[:, order]
        came = trunk(embedded[:, order], frame_index=places[order][None])
    torch.testing.assert_close(came, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", [CONFIG, SPATIAL], ids=["plain", "spatial"])
@pytest.mark.parametrize("frames", [1, 2, 9, 40])
def test_windows_of_any_length_go_in(config, frames):
    model = seeded(MaskedPoseModel, config)
    hidden = none_hidden(frames)
    with torch.inference_mode():
        keypoints = model.reconstruct_2d(
            torch.randn(2, frames, J, 2), is_hidden_joint=hidden, is_hidden_frame=None
        )
        joints = model.reconstruct_3d(
            torch.randn(2, frames, J, 3), is_hidden_joint=hidden, is_hidden_frame=None
        )
    assert keypoints.shape == (2, frames, J, 2)
    assert joints.shape == (2, frames, J, 3)


def test_windows_of_other_joints_are_refused():
    model = seeded(MaskedPoseModel)
    with pytest.raises(ValueError, match=r"keypoints must be \(B, any, 5, 2\), got \(1, 9, 4, 2\)"):
        model.encode_2d(torch.zeros(1, 9, 4, 2), is_hidden_joint=none_hidden(9), is_hidden_frame=None)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), hidden_frames=st.integers(0, T - 1))
def test_a_masked_encoder_encodes_the_visible_frames_alone_at_their_places(seed, hidden_frames):
    model = seeded(MaskedPoseModel)
    draw = torch.Generator().manual_seed(seed)
    keypoints = torch.randn(3, T, J, 2, generator=draw)
    is_hidden_frame = torch.rand(3, T, generator=draw).argsort(1).argsort(1) < hidden_frames
    seen = seen_frames(is_hidden_frame)
    with torch.inference_mode():
        features = model.encode_2d(
            keypoints, is_hidden_joint=none_hidden(T, 3), is_hidden_frame=is_hidden_frame
        )
        for row in range(3):
            alone = model.embed_2d(keypoints[row : row + 1, seen[row]])
            expected = model.encoder_norm(model.trunk(alone, frame_index=seen[row : row + 1]))
            torch.testing.assert_close(features[row, seen[row]], expected[0], rtol=0, atol=1e-5)
    assert torch.equal(
        features[is_hidden_frame], model.hidden_frame.detach().expand(int(is_hidden_frame.sum()), -1)
    )


def test_visible_frames_that_follow_each_other_are_encoded_as_a_short_window():
    model = seeded(MaskedPoseModel)
    keypoints = torch.randn(2, T, J, 2)
    is_hidden_frame = torch.ones(2, T, dtype=torch.bool)
    is_hidden_frame[:, 3:7] = False
    with torch.inference_mode():
        whole = model.encode_2d(keypoints, is_hidden_joint=none_hidden(T), is_hidden_frame=is_hidden_frame)
        short = model.encode_2d(keypoints[:, 3:7], is_hidden_joint=none_hidden(4), is_hidden_frame=None)
    torch.testing.assert_close(whole[:, 3:7], short, rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", [CONFIG, SPATIAL], ids=["plain", "spatial"])
@pytest.mark.parametrize("kind", [MaskedPoseModel, LiftingModel])
def test_with_standard_norms_a_sample_in_training_does_not_depend_on_the_others(kind, config):
    model = seeded(kind, config).train()
    keypoints, is_hidden = torch.randn(4, T, J, 2), torch.rand(4, T, J) < 0.3

    def answer(rows: slice) -> torch.Tensor:
        if kind is LiftingModel:
            return model(keypoints[rows], is_hidden=is_hidden[rows]).center
        return model.reconstruct_2d(keypoints[rows], is_hidden_joint=is_hidden[rows], is_hidden_frame=None)

    together = answer(slice(None))
    for row in range(4):
        torch.testing.assert_close(answer(slice(row, row + 1))[0], together[row], rtol=0, atol=1e-5)


def test_with_the_papers_norms_a_sample_in_training_does_depend_on_the_others():
    model = seeded(MaskedPoseModel, replace(CONFIG, norms="paper")).train()
    keypoints = torch.randn(4, T, J, 2)
    together = model.reconstruct_2d(keypoints, is_hidden_joint=none_hidden(T, 4), is_hidden_frame=None)
    alone = model.reconstruct_2d(keypoints[:1], is_hidden_joint=none_hidden(T, 1), is_hidden_frame=None)
    assert (together[0] - alone[0]).abs().max() > 1e-2


def test_standard_norms_keep_no_running_statistics_and_rotary_positions_no_table():
    names = set(seeded(LiftingModel).state_dict())
    assert not [name for name in names if "running" in name]
    assert "trunk.position" not in names
    assert "decoder_position" not in seeded(MaskedPoseModel).state_dict()


def test_joints_of_a_frame_mix_and_frames_do_not():
    embed = seeded(PoseEmbedding, SPATIAL, coordinates=2)
    poses = torch.randn(1, 3, J, 2)
    moved = poses.clone()
    moved[0, 1, 4] += 1.0
    with torch.inference_mode():
        mixed, after = (embed.mixer(each.flatten(0, 1)) for each in (poses, moved))
        changed = (embed(poses) - embed(moved)).abs().amax(-1)[0] > 0
    assert ((mixed - after).abs().amax(-1) > 1e-6).tolist() == [[False] * J, [True] * J, [False] * J]
    assert changed.tolist() == [False, True, False]


def test_every_parameter_of_a_spatial_rotary_network_is_trained():
    model = seeded(MaskedPoseModel, SPATIAL).train()
    is_hidden_frame = torch.zeros(2, T, dtype=torch.bool)
    is_hidden_frame[:, 1] = True
    answer = model(
        torch.randn(2, T, J, 2),
        torch.randn(2, T, J, 3),
        is_hidden_joint_2d=torch.rand(2, T, J) < 0.3,
        is_hidden_frame_2d=is_hidden_frame,
        is_hidden_joint_3d=torch.rand(2, T, J) < 0.3,
        is_hidden_frame_3d=is_hidden_frame,
    )
    (answer.keypoints.square().mean() + answer.joints.square().mean()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_the_layer_without_turns_is_the_layer_with_all_places_alike():
    layer = seeded(TransformerLayer)
    features = torch.randn(2, T, CONFIG.width)
    with torch.inference_mode():
        alike = layer(features, turns_at(torch.full((T,), 5.0), CONFIG.width // CONFIG.heads))
        torch.testing.assert_close(alike, layer(features), rtol=0, atol=1e-5)
