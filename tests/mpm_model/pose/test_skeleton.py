import numpy as np
import pytest

from mpm_model.errors import InputError
from mpm_model.pose.skeleton import Conversion, Skeleton, opposite

TRUNK = Skeleton(
    name="trunk",
    joints=("pelvis", "left_hip", "right_hip"),
    parents=(None, "pelvis", "pelvis"),
)
HIPS = Skeleton(name="hips", joints=("right_hip", "left_hip"), parents=(None, None))
TO_TRUNK = Conversion(
    source=HIPS,
    target=TRUNK,
    weights={"left_hip": {"left_hip": 1.0}, "pelvis": {"left_hip": 0.5, "right_hip": 0.5}},
    approximations={"pelvis": "the middle of the hips"},
)


def test_left_and_right_are_opposite_and_the_midline_is_its_own():
    assert [opposite(joint) for joint in ("left_hip", "right_hip", "pelvis")] == [
        "right_hip",
        "left_hip",
        "pelvis",
    ]


def test_indices_follow_from_the_names():
    assert len(TRUNK) == 3
    assert TRUNK.index("right_hip") == 2
    assert TRUNK.select("right_hip", "pelvis").tolist() == [2, 0]
    assert TRUNK.mirror.tolist() == [0, 2, 1]
    assert TRUNK.bones == (("left_hip", "pelvis"), ("right_hip", "pelvis"))
    assert TRUNK.bone_indices.tolist() == [[1, 0], [2, 0]]


def test_an_unknown_joint_is_answered_with_the_joints_there_are():
    with pytest.raises(KeyError, match=r"trunk has no joint 'nose'; it has pelvis, left_hip, right_hip"):
        TRUNK.index("nose")


def test_all_faults_of_a_skeleton_are_named_at_once():
    with pytest.raises(InputError) as error:
        Skeleton(name="bad", joints=("left_hip", "left_hip"), parents=("pelvis",))
    message = str(error.value)
    for fault in ("repeat", "2 joints but 1 parents", "'pelvis' is no joint", "no opposite 'right_hip'"):
        assert fault in message


def test_all_faults_of_a_conversion_are_named_at_once():
    with pytest.raises(InputError) as error:
        Conversion(
            source=HIPS,
            target=TRUNK,
            weights={"nose": {"left_hip": 1.0}, "pelvis": {"left_hip": 0.5, "ear": 0.4}},
            approximations={"left_hip": "nothing"},
        )
    message = str(error.value)
    for fault in (
        "'nose' is no joint of trunk",
        "'ear' is no joint of hips",
        "sum to 0.9",
        "unknown joint 'left_hip'",
    ):
        assert fault in message


def test_converted_points_are_the_weighted_sums():
    hips = np.array([[0.0, 0.0], [4.0, 2.0]], np.float32)  # right, left
    assert TO_TRUNK.points(hips).tolist() == [[2, 1], [4, 2], [0, 0]]
    assert TO_TRUNK.points(hips).dtype == np.float32


def test_a_joint_that_cannot_be_given_is_invalid_and_without_confidence():
    assert TO_TRUNK.validity(np.array([True, True])).tolist() == [True, True, False]
    assert TO_TRUNK.confidence(np.array([0.9, 0.6])).tolist() == [0.6, 0.6, 0.0]


def test_one_unseen_part_makes_the_whole_unseen_and_no_other():
    assert TO_TRUNK.validity(np.array([False, True])).tolist() == [False, True, False]
    assert TO_TRUNK.confidence(np.array([0.0, 0.6])).tolist() == [0.0, 0.6, 0.0]


def test_nan_in_one_joint_does_not_leak_into_joints_without_it():
    converted = TO_TRUNK.points(np.array([[np.nan, 0.0], [4.0, 2.0]]))
    assert converted[1].tolist() == [4, 2]
    assert np.isnan(converted[0, 0])
