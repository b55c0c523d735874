"""The bundled real detections."""

from pathlib import Path

import numpy as np
import pytest

import pipelines
from mpm_model.pose.skeletons import BODY_25, BODY_25B, H36M_17, TO_H36M_17
from pipelines.detections.common_skeleton import to_h36m_17
from pipelines.detections.registry import ReadOptions, find_sources, read_source

SAMPLE = Path(pipelines.__file__).parent / "sample" / "detections"
OPTIONS = ReadOptions(rate_hz=60.0, width_px=1088, height_px=1920)


@pytest.fixture(scope="module")
def cameras():
    sources = find_sources(str(SAMPLE / "pose2sim"), OPTIONS)
    return {source.name.rsplit("/", 1)[1]: read_source(source, OPTIONS) for source in sources}


def test_four_cameras_see_the_main_person_always_and_two_a_second(cameras):
    assert {name: [len(track.frames) for track in tracks] for name, tracks in cameras.items()} == {
        "cam01": [100, 100],
        "cam02": [100, 100],
        "cam03": [100],
        "cam04": [100],
    }
    assert all(track.skeleton is BODY_25B for tracks in cameras.values() for track in tracks)


def test_nobody_jumps_as_a_switch_of_people_would(cameras):
    for tracks in cameras.values():
        for track in tracks:
            is_seen = track.confidence > 0
            both = is_seen[1:] & is_seen[:-1]
            steps_px = np.linalg.norm(np.diff(track.keypoints_px, axis=0), axis=-1)
            assert (steps_px * both).sum(1).max() / both.sum(
                1
            ).min() < 50  # the people stand 250 px apart or more


def test_the_person_found_in_two_pieces_is_whole(cameras):
    assert (cameras["cam01"][0].confidence[37] > 0).all()
    assert "1 detections" in cameras["cam01"][0].notes[0]


def test_the_extrapolated_top_of_the_head_is_near_the_one_detected(cameras):
    """The weights for BODY_25 (ears, neck) on BODY_25B's points, where the detector gives the top as well."""
    weights = TO_H36M_17[BODY_25.name].weights["head_top"]
    misses = []
    for tracks in cameras.values():
        track = tracks[0]
        place = dict(zip(BODY_25B.joints, track.keypoints_px.swapaxes(0, 1), strict=True))
        place["neck"] = (place["left_shoulder"] + place["right_shoulder"]) / 2
        head_top = sum(weight * place[joint] for joint, weight in weights.items())
        ears = track.confidence[:, BODY_25B.select("left_ear", "right_ear")].min(1) > 0
        miss_px = np.linalg.norm(head_top - place["head_top"], axis=-1)
        misses.append((miss_px / np.linalg.norm(place["head_top"] - place["upper_neck"], axis=-1))[ears])
    misses = np.concatenate(misses)
    assert len(misses) > 300
    assert np.median(misses) < 0.11
    assert np.quantile(misses, 0.9) < 0.21


def test_all_tracks_become_the_common_skeleton(cameras):
    for tracks in cameras.values():
        common = to_h36m_17(tracks[0])
        assert common.skeleton is H36M_17
        assert (common.confidence[:, H36M_17.index("pelvis")] > 0).mean() > 0.9


def test_the_coco_sample_has_twelve_people_with_keypoints():
    (source,) = find_sources(str(SAMPLE / "coco"))
    tracks = read_source(source)
    assert len(tracks) == 12
    assert len({track.source for track in tracks}) == 4
    assert tracks[0].keypoints_px[0, 0].tolist() == [367, 81]


def test_the_sample_is_small_and_carries_its_licences():
    files = [path for path in SAMPLE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 450_000
    assert all((SAMPLE / name / "LICENSE").exists() for name in ("pose2sim", "coco"))
