import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpm_model.pose.skeleton import opposite
from mpm_model.pose.skeletons import (
    BLAZEPOSE_33,
    BODY_25,
    BODY_25B,
    COCO_17,
    COCO_18,
    H36M_17,
    SKELETONS,
    TO_H36M_17,
)

all_skeletons = pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
all_conversions = pytest.mark.parametrize("conversion", TO_H36M_17.values(), ids=TO_H36M_17)


@all_skeletons
def test_every_skeleton_is_one_tree(skeleton):
    parent_of = dict(zip(skeleton.joints, skeleton.parents, strict=True))
    assert list(parent_of.values()).count(None) == 1
    for joint in skeleton.joints:
        steps = 0
        while parent_of[joint] is not None:
            joint, steps = parent_of[joint], steps + 1
            assert steps < len(skeleton), "the parents go round in circles"


@all_skeletons
def test_every_skeleton_is_symmetric(skeleton):
    parent_of = dict(zip(skeleton.joints, skeleton.parents, strict=True))
    for joint, parent in parent_of.items():
        if opposite(joint) != joint:
            assert parent_of[opposite(joint)] == opposite(parent)


def test_the_orders_are_those_of_the_formats():
    assert [len(s) for s in (H36M_17, COCO_17, COCO_18, BODY_25, BODY_25B, BLAZEPOSE_33)] == [
        17,
        17,
        18,
        25,
        25,
        33,
    ]
    for skeleton, joint, index in (
        (H36M_17, "left_hip", 4), (H36M_17, "thorax", 8), (H36M_17, "right_wrist", 16),
        (COCO_17, "right_shoulder", 6), (COCO_17, "left_ankle", 15),
        (COCO_18, "neck", 1), (COCO_18, "right_hip", 8), (COCO_18, "left_ear", 17),
        (BODY_25, "neck", 1), (BODY_25, "mid_hip", 8), (BODY_25, "left_ankle", 14),
        (BODY_25, "right_eye", 15), (BODY_25, "left_big_toe", 19), (BODY_25, "right_heel", 24),
        (BODY_25B, "left_eye", 1), (BODY_25B, "upper_neck", 17), (BODY_25B, "head_top", 18),
        (BODY_25B, "left_big_toe", 19), (BODY_25B, "right_heel", 24),
        (BLAZEPOSE_33, "left_ear", 7), (BLAZEPOSE_33, "left_shoulder", 11), (BLAZEPOSE_33, "right_hip", 24),
        (BLAZEPOSE_33, "right_foot_index", 32),
    ):  # fmt: skip
        assert skeleton.index(joint) == index, (skeleton.name, joint)


def test_every_skeleton_has_a_conversion_that_gives_all_seventeen_joints():
    assert set(TO_H36M_17) == set(SKELETONS)
    for name, conversion in TO_H36M_17.items():
        assert conversion.source.name == name
        assert conversion.target is H36M_17
        assert set(conversion.weights) == set(H36M_17.joints)


def test_human36m_becomes_itself():
    assert np.array_equal(TO_H36M_17["h36m_17"].matrix, np.eye(17))
    assert not TO_H36M_17["h36m_17"].approximations


@all_conversions
@given(seed=st.integers(0, 2**32 - 1))
def test_conversions_move_scale_and_turn_with_the_points(conversion, seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(len(conversion.source), 2))
    linear, shift = rng.normal(size=(2, 2)), rng.normal(size=2)
    moved = conversion.points(points @ linear + shift)
    assert np.allclose(moved, conversion.points(points) @ linear + shift)


@all_conversions
@given(seed=st.integers(0, 2**32 - 1))
def test_conversions_commute_with_the_mirror(conversion, seed):
    points = np.random.default_rng(seed).normal(size=(len(conversion.source), 2))
    mirrored = conversion.points(points[conversion.source.mirror])
    assert np.allclose(mirrored, conversion.points(points)[H36M_17.mirror])


@all_conversions
def test_every_joint_that_is_another_point_of_the_body_says_so(conversion):
    if conversion.source is not H36M_17:
        made = {joint for joint, parts in conversion.weights.items() if len(parts) > 1}
        assert made | {"nose"} <= set(conversion.approximations)


# A person facing the camera, y down: the middle of the hips at (100, 200), of the shoulders at (100, 120).
FRONT = {
    "left_hip": (110, 200), "right_hip": (90, 200), "mid_hip": (100, 200),
    "left_shoulder": (120, 120), "right_shoulder": (80, 120), "neck": (100, 120),
    "left_ear": (105, 100), "right_ear": (95, 100), "nose": (100, 102),
    "upper_neck": (100, 110), "head_top": (100, 83),
}  # fmt: skip


@pytest.mark.parametrize(
    ("skeleton", "head_top"),
    [
        (COCO_17, (100, 84)), (COCO_18, (100, 84)), (BODY_25, (100, 84)),  # 120 + 1.8 x (100 - 120)
        (BODY_25B, (100, 83)),  # the detector's own
        (BLAZEPOSE_33, (100, 80)),  # 120 + 2 x (100 - 120)
    ],
    ids=lambda value: getattr(value, "name", None),
)  # fmt: skip
def test_the_midline_of_a_person_facing_the_camera_is_known_by_hand(skeleton, head_top):
    points = np.array([FRONT.get(joint, (0, 0)) for joint in skeleton.joints], float)
    converted = TO_H36M_17[skeleton.name].points(points)
    wanted = {
        "pelvis": (100, 200),
        "spine": (100, 160),
        "thorax": (100, 120),
        "nose": (100, 102),
        "head_top": head_top,
    }
    for joint, place in {**wanted, "left_hip": (110, 200), "right_shoulder": (80, 120)}.items():
        assert converted[H36M_17.index(joint)] == pytest.approx(place), joint


@pytest.mark.parametrize("skeleton", [COCO_17, BODY_25B, BLAZEPOSE_33], ids=lambda skeleton: skeleton.name)
def test_a_hip_that_nobody_saw_takes_pelvis_and_spine_with_it(skeleton):
    confidence = np.full(len(skeleton), 0.8, np.float32)
    confidence[skeleton.index("left_hip")] = 0
    converted = TO_H36M_17[skeleton.name].confidence(confidence)
    unseen = {joint for joint in H36M_17.joints if converted[H36M_17.index(joint)] == 0}
    assert unseen == {"left_hip", "pelvis", "spine"}
