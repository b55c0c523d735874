"""A person made of named points, for files of any format."""

import json

import numpy as np
import pytest

_PLACES = {
    "nose": (0, -76), "eye": (3, -80), "ear": (7, -78), "mouth": (2, -72), "upper_neck": (0, -68),
    "neck": (0, -55), "head_top": (0, -95), "shoulder": (18, -55), "elbow": (24, -28), "wrist": (26, -4),
    "pinky": (27, 2), "index": (26, 4), "thumb": (24, 2), "mid_hip": (0, 0), "hip": (10, 0), "knee": (11, 42),
    "ankle": (11, 84),
    "heel": (10, 88), "big_toe": (14, 92), "small_toe": (17, 91), "foot_index": (15, 92),
    "eye_inner": (2, -80), "eye_outer": (4, -80),
}  # fmt: skip
"""Places around the middle of the hips, y down; x of the subject's left side. From head to toe 187."""


@pytest.fixture
def person():
    """person(skeleton, at=(x, y), height=200, unseen=()) -> (J, 3): x, y, confidence, facing the camera."""

    def build(skeleton, *, at=(500.0, 400.0), height=200.0, confidence=0.8, unseen=()):
        points = np.zeros((len(skeleton), 3))
        for index, joint in enumerate(skeleton.joints):
            side = -1 if joint.startswith("right_") else 1
            x, y = _PLACES[joint.removeprefix("left_").removeprefix("right_")]
            if joint not in unseen:
                points[index] = at[0] + side * x * height / 187, at[1] + y * height / 187, confidence
        return points

    return build


@pytest.fixture
def write_openpose():
    """write_openpose(folder, frames, name=...): a list of people, each (J, 3), for every frame."""

    def write(folder, frames, *, name="video_{:012d}_keypoints.json"):
        folder.mkdir(parents=True, exist_ok=True)
        for number, people in enumerate(frames):
            content = {
                "version": 1.3,
                "people": [
                    {"person_id": [-1], "pose_keypoints_2d": np.asarray(points).reshape(-1).tolist()}
                    for points in people
                ],
            }
            (folder / name.format(number)).write_text(json.dumps(content))
        return folder

    return write
