from dataclasses import replace

import numpy as np
import pytest

from mpm_model.errors import InputError
from mpm_model.pose.skeletons import BODY_25B, COCO_17, H36M_17
from pipelines.detections.common_skeleton import to_h36m_17
from pipelines.detections.track import Track


def make_track(points, skeleton):
    return Track(
        keypoints_px=points[None, :, :2].astype(np.float32),
        confidence=points[None, :, 2].astype(np.float32),
        frames=np.array([5]),
        skeleton=skeleton,
        source="video",
        person="0",
        rate_hz=60.0,
        width_px=1088,
        height_px=1920,
        notes=("Before.",),
    )


def test_a_track_becomes_the_common_skeleton_and_says_how(person):
    track = to_h36m_17(make_track(person(BODY_25B, at=(500, 400)), BODY_25B))
    assert track.skeleton is H36M_17
    assert track.keypoints_px.dtype == track.confidence.dtype == np.float32
    assert track.keypoints_px[0, H36M_17.index("pelvis")] == pytest.approx([500, 400])
    assert (track.confidence == np.float32(0.8)).all()
    assert track.notes[0] == "Before."
    assert "spine: halfway from pelvis to thorax" in track.notes[1]
    assert (track.frames.tolist(), track.rate_hz, track.width_px) == ([5], 60.0, 1088)


def test_a_keypoint_that_nobody_saw_contributes_to_nothing(person):
    points = person(COCO_17)
    unseen = COCO_17.index("left_ear")
    points[unseen] = 0
    track = to_h36m_17(make_track(points, COCO_17))
    head_top = H36M_17.index("head_top")
    assert track.confidence[0, head_top] == 0
    assert track.keypoints_px[0, head_top].tolist() == [0, 0]
    assert (np.delete(track.confidence[0], head_top) > 0).all()


def test_the_common_skeleton_stays_as_it_is(person):
    track = make_track(np.ones((17, 3)), H36M_17)
    converted = to_h36m_17(track)
    assert converted.notes == track.notes
    assert np.array_equal(converted.keypoints_px, track.keypoints_px)


def test_a_skeleton_without_a_conversion_is_refused(person):
    track = make_track(person(BODY_25B), BODY_25B)
    with pytest.raises(
        InputError, match="person 0: no conversion from mine to h36m_17; there is one from h36m_17, coco"
    ):
        to_h36m_17(replace(track, skeleton=replace(BODY_25B, name="mine")))
