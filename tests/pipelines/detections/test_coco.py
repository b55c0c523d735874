import json

import numpy as np
import pytest

from mpm_model.errors import InputError
from mpm_model.pose.skeletons import COCO_17
from pipelines.detections.registry import ReadOptions, find_sources, read_source


@pytest.fixture
def write(tmp_path):
    def write_json(content):
        path = tmp_path / "coco.json"
        path.write_text(json.dumps(content))
        return path

    return write_json


def read(path, **options):
    (source,) = find_sources(str(path), ReadOptions(**options))
    assert source.format == "coco"
    return read_source(source, ReadOptions(**options))


def entry(points, **fields):
    return {"keypoints": np.asarray(points).reshape(-1).tolist(), "image_id": 1, "category_id": 1, **fields}


def test_levels_of_visibility_become_confidence(write, person):
    points = person(COCO_17, confidence=2)
    points[COCO_17.index("left_wrist"), 2] = 1
    points[COCO_17.index("left_ear")] = 0
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}],
        "annotations": [entry(points), entry(points + np.array([5, 0, 0])), entry(np.zeros((17, 3)))],
    }
    content["annotations"].append(entry(points, iscrowd=1))
    path = write(content)
    tracks = read(path)
    assert [(track.source, track.person) for track in tracks] == [
        (f"{path}#a.jpg", "0"),
        (f"{path}#a.jpg", "1"),
    ]
    track = tracks[0]
    assert (track.width_px, track.height_px, track.rate_hz) == (640, 480, None)
    assert track.frames.tolist() == [0]
    assert sorted(set(track.confidence[0].tolist())) == [0, 0.5, 1]
    assert track.confidence[0, COCO_17.index("left_wrist")] == 0.5
    assert any("2 entries without a keypoint, or of a crowd" in note for note in track.notes)
    assert any("visible and hidden" in note for note in track.notes)


def test_scores_of_a_result_file_are_the_confidence(write, person):
    points = person(COCO_17, confidence=0.7)
    points[0, 2], points[1, 2] = 1.3, -0.1
    first, second = read(
        write([entry(points, score=0.9), entry(points, image_id=2)]), width_px=640, height_px=480
    )
    assert first.confidence[0, :3].tolist() == pytest.approx([1, 0, 0.7])
    assert first.width_px == 640
    assert not first.notes
    assert second.source.endswith("#2")


def test_track_ids_make_tracks_over_frames(write, person):
    images = [{"id": 10 + t, "file_name": f"clip/{t:06d}.jpg", "width": 640, "height": 480} for t in range(3)]
    annotations = [
        entry(person(COCO_17, at=(100 + t, 90), confidence=2), image_id=10 + t, track_id=who)
        for t in range(3)
        for who in (7, 8)
        if (t, who) != (1, 8)
    ]
    path = write({"images": images, "annotations": annotations})
    seven, eight = read(path, rate_hz=25.0)
    assert (seven.person, seven.frames.tolist(), eight.frames.tolist()) == ("7", [0, 1, 2], [0, 2])
    assert (seven.source, seven.rate_hz, seven.width_px) == (str(path), 25.0, 640)


def test_several_tracked_videos_in_a_file_stay_apart(write, person):
    images = [{"id": n, "frame_id": n % 2, "vid_id": f"v{n // 2}"} for n in range(4)]
    annotations = [entry(person(COCO_17, confidence=2), image_id=n, track_id=0) for n in range(4)]
    path = write({"images": images, "annotations": annotations})
    assert [(t.source, t.frames.tolist()) for t in read(path)] == [
        (f"{path}#v0", [0, 1]),
        (f"{path}#v1", [0, 1]),
    ]


def test_of_a_person_twice_in_a_frame_the_surer_is_kept(write, person):
    weak = entry(person(COCO_17, at=(1, 1), confidence=0.2), track_id=1)
    sure = entry(person(COCO_17, at=(300, 300), confidence=0.9), track_id=1)
    (track,) = read(write([weak, sure]))
    assert track.confidence.min() == pytest.approx(0.9)
    assert "1 entries repeat a person" in track.notes[-1]


def test_other_keypoints_than_cocos_are_refused(write, person):
    with pytest.raises(InputError, match=r"entry 0 \(image 0.jpg\) holds 78 numbers, not 17 x 3"):
        read(write([entry(np.ones((26, 3)), image_id="0.jpg")]))
    other = {"categories": [{"keypoints": ["nose", "head_bottom"]}], "images": [], "annotations": []}
    with pytest.raises(InputError, match=r"wanted COCO's 17 keypoints .* got 2: nose, head_bottom"):
        read(write({**other, "annotations": [entry(person(COCO_17))]}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": [], "annotations": [entry(np.zeros((17, 3)))]}, "got nobody in 1 entries"),
        ({"images": 3, "annotations": [entry(np.ones((17, 3)))]}, "with lists `images` and `annotations`"),
        ([{"keypoints": [1]}, entry(np.ones((17, 3)))], "entry 0 has no image_id"),
        (
            [entry(np.ones((17, 3)), track_id=1), entry(np.ones((17, 3)))],
            "a track_id on all entries or on none",
        ),
    ],
)
def test_files_that_cannot_be_used_say_why(content, message, write):
    with pytest.raises(InputError, match=message):
        read(write(content))


def test_a_file_cut_in_half_names_the_byte(write, person):
    path = write([entry(person(COCO_17))] * 5)
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"wanted COCO keypoints, got JSON that breaks at byte \d+ of"):
        read(path)
