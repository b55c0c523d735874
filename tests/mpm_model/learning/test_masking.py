"""What is hidden: as much as is asked for, each sample its own, tubes by their kind."""

from typing import NamedTuple

import numpy as np
import pytest
from devices import DEVICES

from mpm_model.errors import InputError
from mpm_model.learning.counted import counted_uniform, ids_on
from mpm_model.learning.masking import TUBES, MaskConfig, draw_bursts, draw_hidden, draw_tubes
from mpm_model.pose.skeleton import Skeleton
from mpm_model.pose.skeletons import H36M_17

FRAMES, JOINTS = 243, 17


class Masks(NamedTuple):
    """`Hidden` as arrays."""

    is_hidden_frame: np.ndarray
    is_hidden_joint: np.ndarray
    is_hidden: np.ndarray


def draw(
    ids: np.ndarray,
    *,
    seed: int = 0,
    epoch: int = 0,
    stream: str = "2d",
    config: MaskConfig = MaskConfig(),  # noqa: B008
    device: str = "cpu",
) -> Masks:
    hidden = draw_hidden(
        stream,
        seed=seed,
        epoch=epoch,
        sample_ids=ids_on(device, ids),
        frames=FRAMES,
        joints=JOINTS,
        config=config,
        device=device,
    )
    assert {hidden.is_hidden_frame.device.type, hidden.is_hidden_joint.device.type} == {device}
    return Masks(
        hidden.is_hidden_frame.cpu().numpy(),
        hidden.is_hidden_joint.cpu().numpy(),
        hidden.is_hidden.cpu().numpy(),
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "config",
    [
        MaskConfig(),
        MaskConfig(frame_ratio=0.0, joint_ratio=0.0),
        MaskConfig(frame_ratio=0.996, joint_ratio=0.999),
    ],
    ids=["paper", "nothing", "all but one frame"],
)
def test_what_ranks_lowest_among_the_counted_numbers_is_hidden_on_every_device(device, config):
    # The masks that published runs were trained with, by their definition.
    ids = np.array([0, 5, 2**62, 977])
    drawn = counted_uniform("mask/2d", seed=3, epoch=9, sample_ids=ids, count=FRAMES * (JOINTS + 1))

    def rank(values: np.ndarray) -> np.ndarray:
        return values.argsort(-1, kind="stable").argsort(-1)

    masks = draw(ids, seed=3, epoch=9, config=config, device=device)
    np.testing.assert_array_equal(
        masks.is_hidden_frame, rank(drawn[:, :FRAMES]) < config.hidden_frames(FRAMES)
    )
    np.testing.assert_array_equal(
        masks.is_hidden_joint,
        rank(drawn[:, FRAMES:].reshape(4, FRAMES, JOINTS)) < config.hidden_joints(JOINTS),
    )


def test_a_thousand_masks_hide_the_papers_share():
    hidden = draw(np.arange(1000))
    assert (hidden.is_hidden_frame.sum(axis=1) == 145).all()
    assert (hidden.is_hidden_joint.sum(axis=2) == 5).all()
    expected = 1 - (98 / 243) * (12 / 17)
    assert hidden.is_hidden.mean() == pytest.approx(expected, abs=1e-12)
    assert round(100 * expected, 1) == 71.5


def test_sixteen_joints_hide_five_too():
    assert MaskConfig().hidden_joints(16) == 5


def test_masks_are_drawn_per_sample():
    hidden = draw(np.arange(1000))
    assert len(np.unique(hidden.is_hidden_frame, axis=0)) == 1000
    assert len(np.unique(hidden.is_hidden_joint.reshape(1000, -1), axis=0)) == 1000


def test_every_frame_and_joint_is_hidden_equally_often():
    hidden = draw(np.arange(1000))
    # Standard deviation of a share of 0.6 over 1000 samples is 0.0155; five of them.
    assert np.abs(hidden.is_hidden_frame.mean(axis=0) - 145 / 243).max() < 5 * 0.0155
    assert np.abs(hidden.is_hidden_joint.mean(axis=(0, 1)) - 5 / 17).max() < 0.01


def test_the_same_seed_gives_the_same_masks_in_any_batch():
    ids = np.array([17, 4, 2**62, 99])
    whole, part = draw(ids), draw(ids[[2, 0]])
    np.testing.assert_array_equal(whole.is_hidden_frame[[2, 0]], part.is_hidden_frame)
    np.testing.assert_array_equal(whole.is_hidden_joint[[2, 0]], part.is_hidden_joint)


@pytest.mark.parametrize("change", [{"seed": 1}, {"epoch": 1}, {"stream": "3d"}])
def test_another_seed_epoch_or_modality_gives_other_masks(change):
    ids = np.arange(8)
    assert (draw(ids).is_hidden_frame != draw(ids, **change).is_hidden_frame).any(axis=1).all()


IDS = np.arange(400)


def tubes(
    *kinds: str, ids: np.ndarray = IDS, epoch: int = 0, stream: str = "3d", device: str = "cpu"
) -> np.ndarray:
    return (
        draw_tubes(stream, seed=0, epoch=epoch, sample_ids=ids, kinds=kinds, skeleton=H36M_17, device=device)
        .cpu()
        .numpy()
    )


LIMB_SIDES = {"leg": ("hip", "knee", "ankle"), "arm": ("shoulder", "elbow", "wrist")}


def joints_of(*limbs: str) -> frozenset[str]:
    """`left_leg` -> left_hip, left_knee, left_ankle."""
    return frozenset(
        f"{side}_{joint}" for side, limb in (limb.split("_") for limb in limbs) for joint in LIMB_SIDES[limb]
    )


@pytest.mark.parametrize(
    ("kind", "groups"),
    [
        ("limb", [("left_leg",), ("right_leg",), ("left_arm",), ("right_arm",)]),
        ("legs", [("left_leg", "right_leg")]),
        ("arms", [("left_arm", "right_arm")]),
        ("side", [("left_leg", "left_arm"), ("right_leg", "right_arm")]),
    ],
)
def test_each_kind_of_tube_hides_what_it_says_each_group_as_often(kind, groups):
    hidden = [frozenset(np.array(H36M_17.joints)[row]) for row in tubes(kind)]
    assert set(hidden) == {joints_of(*group) for group in groups}
    for group in set(hidden):
        # Standard deviation of a count of 400 is at most 10; four of them.
        assert abs(hidden.count(group) - 400 / len(groups)) < 40


@pytest.mark.parametrize(("kind", "count"), [("random_3", 3), ("random_6", 6)])
def test_a_random_tube_hides_so_many_joints_all_but_the_root_as_often(kind, count):
    is_hidden = tubes(kind, ids=np.arange(2000))
    assert (is_hidden.sum(1) == count).all()
    share = is_hidden.mean(0)
    assert share[H36M_17.index("pelvis")] == 0
    others = np.delete(share, H36M_17.index("pelvis"))
    assert np.abs(others - count / 16).max() < 5 * np.sqrt(0.25 / 2000)


def test_no_tube_hides_the_root():
    assert not tubes(*TUBES)[:, H36M_17.index("pelvis")].any()


def test_kinds_of_tubes_come_equally_often():
    counts = tubes("legs", "random_3", ids=np.arange(2000)).sum(1)
    assert set(counts) == {3, 6}
    assert (counts == 3).mean() == pytest.approx(0.5, abs=0.05)


def test_a_samples_tube_is_the_same_in_any_batch_and_another_in_every_epoch():
    np.testing.assert_array_equal(tubes(*TUBES)[[7, 3]], tubes(*TUBES, ids=IDS[[7, 3]]))
    for change in ({"epoch": 1}, {"stream": "view"}):
        assert (tubes("random_6") != tubes("random_6", **change)).any(1).mean() > 0.9


@pytest.mark.parametrize("device", DEVICES)
def test_the_tubes_and_bursts_of_a_seed_stay_what_they_are_on_every_device(device):
    # A pin: released runs are repeated with these.
    names = np.array(H36M_17.joints)
    hidden = [sorted(names[row]) for row in tubes("limb", "random_3", ids=IDS[:4], device=device)]
    assert hidden == [
        ["right_ankle", "right_hip", "right_knee"],
        ["right_elbow", "right_shoulder", "right_wrist"],
        ["left_knee", "right_wrist", "thorax"],
        ["left_ankle", "left_hip", "left_knee"],
    ]
    is_hidden = draw_bursts(
        "x", seed=1, epoch=2, sample_ids=IDS[:4], frames=20, longest_share=0.6, device=device
    )
    stretches = [(min(row), max(row)) for row in (each.nonzero()[:, 0].tolist() for each in is_hidden)]
    assert stretches == [(1, 11), (9, 19), (7, 18), (13, 18)]


def test_a_group_of_joints_that_a_skeleton_lacks_is_refused_by_name():
    headless = Skeleton(name="ball", joints=("pelvis",), parents=(None,))
    with pytest.raises(KeyError, match="ball has no joint 'left_hip'"):
        draw_tubes("x", seed=0, epoch=0, sample_ids=IDS, kinds=("limb",), skeleton=headless)


def test_ratios_out_of_range_are_refused_together():
    with pytest.raises(InputError, match=r"frame_ratio.*got 1\.0; joint_ratio.*got -0\.1"):
        MaskConfig(frame_ratio=1.0, joint_ratio=-0.1)


def test_a_burst_is_one_stretch_of_frames_and_no_longer_than_its_share():
    ids = np.arange(500)
    is_hidden = draw_bursts("x", seed=1, epoch=2, sample_ids=ids, frames=20, longest_share=0.6).numpy()
    lengths = is_hidden.sum(1)
    assert lengths.min() == 1
    assert lengths.max() == 12
    edges = np.abs(np.diff(np.pad(is_hidden.astype(int), ((0, 0), (1, 1))), axis=1)).sum(1)
    assert (edges == 2).all()
    assert is_hidden[:, 0].any()
    assert is_hidden[:, -1].any()
