"""Occlusion is information: a limb nobody saw is better hidden than at (0, 0), by the weights that ship."""

import numpy as np
import pytest

from mpm_model.lifter import Lifter
from mpm_model.pose.metrics import MM_PER_M
from mpm_model.pose.skeletons import H36M_17
from pipelines.detections.track import Track
from pipelines.lift_track import lift_track
from pipelines.protocols.hidden import LIMBS
from tests.benchmarks.seams import MODEL_RATE_HZ, Shown, people


def error_mm(person: Shown, confidence: np.ndarray, keypoints_px: np.ndarray, joints: list[int]) -> float:
    """Mean distance of these joints from the truth, as `mpm lift` gives them."""
    track = Track(
        keypoints_px=keypoints_px,
        confidence=confidence,
        frames=np.arange(len(keypoints_px)),
        skeleton=H36M_17,
        source="a test",
        person="0",
        rate_hz=MODEL_RATE_HZ,
        width_px=person.width_px,
        height_px=person.height_px,
    )
    pose = lift_track(track, Lifter.load())
    assert not pose.is_observed[:, joints].any() or confidence[:, joints].all()
    return MM_PER_M * float(
        np.linalg.norm((pose.joints_rel_m - person.joints_rel_m)[:, joints], axis=-1).mean()
    )


@pytest.mark.parametrize("limb", LIMBS)
def test_a_limb_of_confidence_0_has_less_than_half_the_error_of_one_at_the_corner(limb):
    """On people that nobody trained on."""
    joints = H36M_17.select(*LIMBS[limb])
    hidden_mm, cornered_mm = [], []
    for person in people("mocap"):
        if not person.is_held_out:
            continue
        confidence, cornered_px = person.confidence.copy(), person.keypoints_px.copy()
        cornered_px[:, joints] = 0
        cornered_mm.append(error_mm(person, np.ones_like(confidence), cornered_px, joints))
        confidence[:, joints] = 0
        hidden_mm.append(error_mm(person, confidence, person.keypoints_px, joints))
    assert len(hidden_mm) >= 4
    assert np.mean(hidden_mm) < 0.5 * np.mean(cornered_mm), (np.mean(hidden_mm), np.mean(cornered_mm))
    print(f"\n{limb}: hidden {np.mean(hidden_mm):.0f} mm, at (0, 0) {np.mean(cornered_mm):.0f} mm")
