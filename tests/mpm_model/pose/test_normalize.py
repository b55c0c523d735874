"""Pixels to network input and back; joints to their root and back."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mpm_model.errors import InputError
from mpm_model.pose.normalize import (
    NORMALISATIONS,
    from_root,
    input_channels,
    normalize_keypoints,
    normalize_targets,
    person_frame,
    person_to_px,
    px_to_person,
    px_to_screen,
    root_relative,
    screen_to_px,
)
from mpm_model.pose.skeleton import Skeleton
from mpm_model.pose.skeletons import H36M_17

SIZE = {"width_px": torch.tensor([1000.0, 1080.0]), "height_px": torch.tensor([800.0, 1920.0])}


def keypoints(seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return 500 + 100 * torch.randn(2, 5, 17, 2, generator=draw)


def hidden(seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(2, 5, 17, generator=draw) < 0.3


def test_the_width_becomes_minus_one_to_one_and_the_aspect_is_kept():
    corners_px = torch.tensor([[[[0.0, 0.0], [1000.0, 800.0], [500.0, 400.0]]]])
    corners = px_to_screen(corners_px, width_px=torch.tensor([1000.0]), height_px=torch.tensor([800.0]))
    torch.testing.assert_close(corners[0, 0], torch.tensor([[-1.0, -0.8], [1.0, 0.8], [0.0, 0.0]]))


def test_each_window_has_its_own_image_size():
    keypoints_px = keypoints()
    width_px, height_px = SIZE["width_px"][:, None, None], SIZE["height_px"][:, None, None]
    expected = torch.stack(
        [keypoints_px[..., 0] / width_px * 2 - 1, keypoints_px[..., 1] / width_px * 2 - height_px / width_px],
        -1,
    )
    torch.testing.assert_close(px_to_screen(keypoints_px, **SIZE), expected)


def test_screen_to_px_undoes_px_to_screen():
    torch.testing.assert_close(screen_to_px(px_to_screen(keypoints(), **SIZE), **SIZE), keypoints())


def test_a_square_of_keypoints_frames_the_person_by_hand():
    # Four keypoints, all 10 px from (50, 20) along each axis: root mean square distance sqrt(200).
    keypoints_px = torch.tensor([[40.0, 10.0], [60.0, 10.0], [40.0, 30.0], [60.0, 30.0]])[None, None]
    frame = person_frame(keypoints_px, torch.zeros(1, 1, 4, dtype=torch.bool))
    torch.testing.assert_close(frame.center_px.flatten(), torch.tensor([50.0, 20.0]))
    torch.testing.assert_close(frame.scale_px.flatten(), torch.tensor([2 * 200**0.5]))


@pytest.mark.parametrize("garbage", [torch.nan, torch.inf, 1e30])
def test_hidden_keypoints_have_no_influence(garbage):
    keypoints_px, is_hidden = keypoints(), hidden()
    spoiled_px = keypoints_px.masked_fill(is_hidden[..., None], garbage)
    for normalisation in NORMALISATIONS:
        expected = normalize_keypoints(keypoints_px, is_hidden, normalisation=normalisation, **SIZE)
        found = normalize_keypoints(spoiled_px, is_hidden, normalisation=normalisation, **SIZE)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        assert (found[is_hidden] == 0).all()


@given(seed=st.integers(0, 2**31), scale=st.floats(0.1, 10), shift=st.floats(-2000, 2000))
def test_person_input_does_not_change_when_the_image_is_scaled_and_shifted(seed, scale, shift):
    keypoints_px, is_hidden = keypoints(seed).double(), hidden(seed)
    expected = px_to_person(keypoints_px, person_frame(keypoints_px, is_hidden))
    moved_px = keypoints_px * scale + shift
    torch.testing.assert_close(px_to_person(moved_px, person_frame(moved_px, is_hidden)), expected)


def test_visible_keypoints_of_a_person_are_centred_with_a_spread_of_one_half():
    keypoints_px, is_hidden = keypoints(), hidden()
    person = px_to_person(keypoints_px, person_frame(keypoints_px, is_hidden))
    for row in range(2):
        visible = person[row][~is_hidden[row]]
        torch.testing.assert_close(visible.mean(0), torch.zeros(2), rtol=0, atol=1e-5)
        assert visible.square().sum(-1).mean().sqrt() == pytest.approx(0.5, rel=1e-5)


def test_person_to_px_undoes_px_to_person():
    frame = person_frame(keypoints(), hidden())
    torch.testing.assert_close(person_to_px(px_to_person(keypoints(), frame), frame), keypoints())


def test_a_window_that_shows_nothing_or_one_point_has_scale_one():
    keypoints_px = torch.full((2, 5, 17, 2), 333.3)
    is_hidden = torch.tensor([True, False])[:, None, None].expand(2, 5, 17)
    frame = person_frame(keypoints_px, is_hidden)
    assert frame.scale_px.flatten().tolist() == [1.0, 1.0]
    torch.testing.assert_close(frame.center_px[:, 0, 0], torch.tensor([[0.0, 0.0], [333.3, 333.3]]))


def normalized(normalisation: str, confidence: torch.Tensor | None = None, **size: torch.Tensor):
    return normalize_keypoints(
        keypoints(), hidden(), normalisation=normalisation, confidence=confidence, **(SIZE | size)
    )


def test_both_is_person_and_screen_beside_each_other():
    both = normalized("both")
    assert torch.equal(both[..., :2], normalized("person"))
    assert torch.equal(both[..., 2:], normalized("screen"))


def test_of_an_image_of_unknown_size_the_second_pair_is_zero():
    nothing = torch.zeros(2)
    both = normalized("both", width_px=nothing, height_px=nothing)
    assert torch.equal(both[..., :2], normalized("person"))
    assert (both[..., 2:] == 0).all()


def test_each_window_knows_its_own_image_size_or_does_not():
    both = normalized("both", width_px=torch.tensor([0.0, 1080.0]), height_px=torch.tensor([0.0, 1920.0]))
    assert (both[0, ..., 2:] == 0).all()
    assert torch.equal(both[1], normalized("both")[1])


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_confidence_becomes_the_last_channel_and_is_zero_where_hidden(normalisation):
    confidence = torch.rand(2, 5, 17)
    without, within = normalized(normalisation), normalized(normalisation, confidence)
    assert (without.shape[-1], within.shape[-1]) == input_channels(normalisation)
    assert torch.equal(within[..., :-1], without)
    assert torch.equal(within[..., -1], confidence.masked_fill(hidden(), 0.0))


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_targets_of_what_was_seen_are_its_first_two_channels(normalisation):
    targets = normalize_targets(
        keypoints(), seen_px=keypoints(), is_hidden=hidden(), normalisation=normalisation, **SIZE
    )
    is_seen = ~hidden()
    assert torch.equal(targets[is_seen], normalized(normalisation)[..., :2][is_seen])
    assert (targets[hidden()] != 0).all()  # hidden from the network, but asked for


@pytest.mark.parametrize("normalisation", ["person", "both"])
def test_targets_stand_in_the_frame_of_what_was_seen(normalisation):
    """What was seen twice as large and shifted is the frame: the truth is half the size in it."""
    true_px = keypoints()
    seen_px = 2 * true_px + 30
    frame = person_frame(seen_px, hidden())
    targets = normalize_targets(
        true_px, seen_px=seen_px, is_hidden=hidden(), normalisation=normalisation, **SIZE
    )
    torch.testing.assert_close(targets, (true_px - frame.center_px) / frame.scale_px)
    person = px_to_person(true_px, person_frame(true_px, hidden()))
    torch.testing.assert_close(targets - targets[:, :1, :1], 0.5 * (person - person[:, :1, :1]))


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(InputError, match="must be one of screen, person, both, got 'scren'"):
        normalize_keypoints(keypoints(), hidden(), normalisation="scren", **SIZE)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_root_relative_joints_have_their_root_at_zero_and_come_back(kind):
    joints_m = kind(np.random.default_rng(0).normal(size=(2, 5, 17, 3)))
    joints_rel_m, root_m = root_relative(joints_m, H36M_17)
    assert root_m.shape == (2, 5, 1, 3)
    assert (joints_rel_m[..., H36M_17.index("pelvis"), :] == 0).all()
    assert (root_m[..., 0, :] == joints_m[..., H36M_17.index("pelvis"), :]).all()
    np.testing.assert_allclose(from_root(joints_rel_m, root_m), joints_m)


def test_a_skeleton_without_one_root_has_no_root_relative_joints():
    apart = Skeleton(name="apart", joints=("nose", "neck"), parents=(None, None))
    with pytest.raises(InputError, match=r"apart must have one root.*'nose', 'neck'"):
        root_relative(np.zeros((2, 3)), apart)
