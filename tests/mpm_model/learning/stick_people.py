"""Stick people who stand upright and wobble, for tests of what is drawn from windows."""

import numpy as np
import torch

from mpm_model.learning.batches import ViewConfig
from mpm_model.learning.corpus import Corpus
from mpm_model.learning.detector_noise import DetectorNoiseConfig
from mpm_model.learning.pose_augment import PoseAugmentConfig
from mpm_model.pose.skeletons import H36M_17

HEIGHTS_M = {
    "ankle": 0.1, "knee": 0.5, "hip": 0.95, "pelvis": 0.95, "spine": 1.2, "thorax": 1.45, "nose": 1.6,
    "head_top": 1.75, "shoulder": 1.42, "elbow": 1.15, "wrist": 0.9,
}  # fmt: skip

SIMPLE = ViewConfig(normalisation="person", noise_std=0.02, hidden_ratio=0.1, hidden_tube_probability=0.3)
EVERYTHING = ViewConfig(
    normalisation="both",
    pose=PoseAugmentConfig(probability=0.5),
    detector=DetectorNoiseConfig(scale=1.0),
    perfect_detector_probability=0.1,
    noise_std=0.02,
    hidden_ratio=0.1,
    hidden_tube_probability=0.3,
    tube_kinds=("limb", "random_3"),
    hidden_burst_probability=0.3,
    unknown_image_probability=0.3,
    has_confidence=True,
)
"""All that can be drawn is drawn."""


def stick_people(windows: int = 40, frames: int = 9) -> Corpus:
    """Windows of people who stand somewhere within a few metres; every joint is valid."""
    rng = np.random.default_rng(0)

    def side_m(joint: str) -> float:
        return {"left": -0.2, "right": 0.2}.get(joint.split("_")[0], 0.0)

    def height_m(joint: str) -> float:
        return HEIGHTS_M[joint.removeprefix("left_").removeprefix("right_")]

    upright_m = np.array([[side_m(joint), 0.05, height_m(joint)] for joint in H36M_17.joints])
    wobble_m = rng.normal(0, 0.02, (windows, frames, 17, 3))
    place_m = rng.normal(0, 2, (windows, 1, 1, 3)) * [1, 1, 0]
    return Corpus(
        joints_world_m=torch.from_numpy((upright_m + wobble_m + place_m).astype(np.float32)),
        is_valid=torch.ones(windows, frames, 17, dtype=torch.bool),
        sample_ids=rng.integers(0, 2**62, windows),
        skeleton=H36M_17,
        rate_hz=25.0,
        dataset=np.zeros(windows, dtype=np.int64),
        dataset_names=("made up",),
    )
