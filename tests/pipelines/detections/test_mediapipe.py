import json
from pathlib import Path

import numpy as np
import pytest

from mpm_model.errors import InputError
from mpm_model.pose.skeletons import BLAZEPOSE_33
from pipelines.detections.registry import ReadOptions, find_sources, read_source

GOLDEN = Path(__file__).parents[2] / "golden" / "detections" / "mediapipe_cam01_4_frames.json.gz"
SIZE = {"width_px": 1000, "height_px": 500}


def read(path, **options):
    (source,) = find_sources(str(path), ReadOptions(**options))
    assert source.format == "mediapipe"
    return read_source(source, ReadOptions(**options))


@pytest.fixture
def write(tmp_path):
    def write_json(content):
        path = tmp_path / "pose.json"
        path.write_text(json.dumps(content))
        return path

    return write_json


def landmarks(points, *, as_dicts=False):
    """33 landmarks of points in pixels of a 1000 x 500 image."""
    rows = [[x / 1000, y / 500, 0.0, sure] for x, y, sure in points.tolist()]
    return [dict(zip(("x", "y", "z", "visibility"), row, strict=True)) for row in rows] if as_dicts else rows


def test_the_real_file_gives_one_person_in_pixels():
    (track,) = read(GOLDEN)
    assert track.skeleton is BLAZEPOSE_33
    assert (track.rate_hz, track.width_px, track.height_px) == (60.0, 1080, 1920)
    assert track.frames.tolist() == [0, 1, 2, 3]
    # The first landmark of the file, 0.47158265, 0.23130943, times the size.
    assert track.keypoints_px[0, 0] == pytest.approx([509.309, 444.114], abs=1e-3)
    assert track.confidence[0, 0] == pytest.approx(0.99985397)
    head, ankle = (track.keypoints_px[:, BLAZEPOSE_33.index(joint), 1] for joint in ("nose", "left_ankle"))
    assert (ankle - head > 500).all()


@pytest.mark.parametrize("as_dicts", [False, True], ids=["lists", "dicts"])
def test_close_variants_are_read_alike(as_dicts, write, person):
    points = person(BLAZEPOSE_33)
    found = landmarks(points, as_dicts=as_dicts)
    frames = {
        "entries": [{"frame": 0, "pose_landmarks": found}, {"frame": 2, "pose_landmarks": found}],
        "other key": [{"landmarks": found}, None, {"landmarks": found}],
        "bare": [found, [], found],
        "several people": [[found], [], [found]],
        "null": [{"pose_landmarks": found}, {"pose_landmarks": None}, {"pose_landmarks": found}],
    }
    for name, variant in frames.items():
        for content in (variant, {"frames": variant}):
            (track,) = read(write(content), format="mediapipe", **SIZE)
            assert track.frames.tolist() == [0, 2], name
            assert np.allclose(track.keypoints_px[1], points[:, :2], atol=1e-3), name
            assert np.allclose(track.confidence, 0.8), name


def test_what_the_file_says_wins_over_the_options(write, person):
    content = {
        "width": 1000,
        "height": 500,
        "fps": 25,
        "frames": [{"pose_landmarks": landmarks(person(BLAZEPOSE_33))}],
    }
    (track,) = read(write(content), rate_hz=60.0, width_px=1, height_px=1)
    assert (track.rate_hz, track.width_px, track.height_px) == (25.0, 1000, 500)


def test_fractions_without_a_size_ask_for_it(write, person):
    path = write({"frames": [{"pose_landmarks": landmarks(person(BLAZEPOSE_33))}]})
    with pytest.raises(InputError, match="say --image-size 1920x1080"):
        read(path)


def test_several_people_are_followed(write, person):
    def frame(t):
        pair = [landmarks(person(BLAZEPOSE_33, at=(x + t, 250))) for x in (200, 700)]
        return {"pose_landmarks": pair[:: (-1) ** t]}

    tracks = read(write({"width": 1000, "height": 500, "frames": [frame(t) for t in range(12)]}))
    assert [len(track.frames) for track in tracks] == [12, 12]
    for track in tracks:
        assert np.abs(np.diff(track.keypoints_px[:, 0, 0]) - 1).max() < 0.01


def test_wrong_landmarks_name_their_frames(write, person):
    good = {"pose_landmarks": landmarks(person(BLAZEPOSE_33))}
    bad = {"pose_landmarks": landmarks(person(BLAZEPOSE_33))[:32]}
    odd = {"pose_landmarks": [["a", "b", "c", "d"]] * 33}
    lone = {"pose_landmarks": [[1, 2]] * 33}
    path = write({"width": 9, "height": 9, "frames": [good, bad, odd, lone, {"x": 1}, good]})
    with pytest.raises(InputError) as error:
        read(path)
    for part in (
        "frame 1: wanted 33 landmarks",
        "got 32 landmarks",
        "frame 2:",
        "frame 3:",
        "and 1 more frames",
    ):
        assert part in str(error.value)


def test_a_repeated_frame_is_read_once_and_noted(write, person):
    entry = {"frame": 5, "pose_landmarks": landmarks(person(BLAZEPOSE_33))}
    (track,) = read(write({"width": 1000, "height": 500, "frames": [entry, entry]}))
    assert track.frames.tolist() == [5]
    assert "1 frames repeat" in track.notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"width": 9, "height": 9, "frames": [{"pose_landmarks": []}] * 4}, "got nobody in 4 frames"),
        ({"width": 9, "height": 9, "pose_landmarks": []}, "with a list `frames`"),
        (
            {"width": -9, "height": "9", "frames": [{"pose_landmarks": []}]},
            "width must be a positive number, got -9",
        ),
    ],
)
def test_files_that_cannot_be_used_say_why(content, message, write):
    with pytest.raises(InputError, match=message):
        read(write(content))


def test_a_file_cut_in_half_names_the_byte(write, person):
    path = write(
        {"width": 9, "height": 9, "frames": [{"pose_landmarks": landmarks(person(BLAZEPOSE_33))}] * 9}
    )
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(
        InputError, match=rf"MediaPipe Pose results, got JSON that breaks at byte \d+ of {len(whole) // 2}"
    ):
        read(path)
