import gzip
import json

import numpy as np
import pytest

from mpm_model.errors import InputError
from mpm_model.pose.skeletons import BODY_25, BODY_25B, COCO_17, COCO_18
from pipelines import storage
from pipelines.detections.registry import ReadOptions, find_sources, read_source


def read(folder, **options):
    (source,) = find_sources(str(folder), ReadOptions(**options))
    return read_source(source, ReadOptions(**options))


def cut_in_half(path):
    path.write_text(path.read_text()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "skeleton", [BODY_25, BODY_25B, COCO_18, COCO_17], ids=lambda skeleton: skeleton.name
)
def test_the_skeleton_is_told_from_the_points(skeleton, tmp_path, person, write_openpose):
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(12):
        points = person(skeleton)
        points[:, :2] += rng.normal(0, 2, (len(skeleton), 2))
        frames.append([points])
    (track,) = read(write_openpose(tmp_path / "video", frames))
    assert track.skeleton is skeleton
    assert np.allclose(track.keypoints_px[3], frames[3][0][:, :2], atol=1e-3)


@pytest.mark.parametrize(
    "points", [np.zeros((25, 2)), np.linspace(0, 100, 50).reshape(25, 2)], ids=["one spot", "a line"]
)
def test_points_that_may_be_either_body_25_ask_for_the_format(points, tmp_path, write_openpose):
    either = np.concatenate([points + 5, np.ones((25, 1))], axis=1)
    folder = write_openpose(tmp_path / "video", [[either]] * 12)
    with pytest.raises(InputError, match=r"--format openpose_body25 or --format openpose_body25b"):
        read(folder)
    assert read(folder, format="openpose_body25")[0].skeleton is BODY_25
    assert read(folder, format="openpose_body25b")[0].skeleton is BODY_25B


def test_a_format_of_25_points_is_not_forced_on_18(tmp_path, person, write_openpose):
    folder = write_openpose(tmp_path / "video", [[person(COCO_18)]])
    with pytest.raises(InputError, match="wanted body_25, got bodies of 18 points"):
        read(folder, format="openpose_body25")


def test_other_numbers_of_points_are_refused(tmp_path, write_openpose):
    folder = write_openpose(tmp_path / "video", [[np.ones((15, 3))]] * 3)
    with pytest.raises(InputError, match=r"wanted bodies of 25 .* got bodies of 15 points"):
        read(folder)


def test_rate_and_size_come_from_the_options_alone(tmp_path, person, write_openpose):
    folder = write_openpose(tmp_path / "video", [[person(BODY_25)]])
    (track,) = read(folder)
    assert (track.rate_hz, track.width_px, track.height_px) == (None, None, None)
    (track,) = read(folder, rate_hz=60.0, width_px=1088, height_px=1920)
    assert (track.rate_hz, track.width_px, track.height_px) == (60.0, 1088, 1920)
    assert track.source == str(folder)


@pytest.mark.parametrize("name", ["cam01.{:04d}.json", "2021_run3_{:012d}_keypoints.json", "{:d}.json"])
def test_the_frame_is_the_last_number_of_the_name(name, tmp_path, person, write_openpose):
    folder = write_openpose(tmp_path / "video", [[person(BODY_25)]] * 12, name=name)
    assert read(folder)[0].frames.tolist() == list(range(12))


def test_packed_frames_are_read(tmp_path, person, write_openpose):
    folder = write_openpose(tmp_path / "video", [[person(BODY_25)]] * 3)
    for path in list(folder.iterdir()):
        (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert read(folder)[0].frames.tolist() == [0, 1, 2]


def test_a_folder_may_hold_several_videos(tmp_path, person, write_openpose):
    for name in ("left", "right"):
        write_openpose(tmp_path / "both", [[person(BODY_25)]] * 2, name=name + "_{:04d}.json")
    sources = find_sources(str(tmp_path))
    assert [source.name for source in sources] == [f"{tmp_path}/both/{name}_*" for name in ("left", "right")]
    assert [len(source.files) for source in sources] == [2, 2]


def test_a_frame_given_twice_is_read_once_and_noted(tmp_path, person, write_openpose):
    folder = write_openpose(tmp_path / "video", [[person(BODY_25)]] * 4)
    first = sorted(folder.iterdir())[0]
    (folder / f"{first.name}.gz").write_bytes(gzip.compress(first.read_bytes()))
    (track,) = read(folder)
    assert track.frames.tolist() == [0, 1, 2, 3]
    assert "1 files repeat the number" in track.notes[0]


def test_keypoints_that_nobody_saw_have_no_confidence(tmp_path, person, write_openpose):
    points = person(BODY_25, unseen=("left_ear",))
    for joint, value in (
        ("left_wrist", [np.nan, 3, 0.9]),
        ("right_wrist", [3, 4, np.nan]),
        ("nose", [3, 4, -0.2]),
    ):
        points[BODY_25.index(joint)] = value
    points[BODY_25.index("neck"), 2] = 1.02
    (track,) = read(write_openpose(tmp_path / "video", [[points]] * 3))
    unseen = {joint for joint in BODY_25.joints if track.confidence[0, BODY_25.index(joint)] == 0}
    assert unseen == {"left_ear", "left_wrist", "right_wrist", "nose"}
    assert (track.keypoints_px[0, BODY_25.select(*unseen)] == 0).all()
    assert track.confidence[0, BODY_25.index("neck")] == 1


def test_frames_without_people_are_gaps(tmp_path, person, write_openpose):
    frames = [[person(BODY_25)] if t not in (3, 4) else [] for t in range(20)]
    (track,) = read(write_openpose(tmp_path / "video", frames))
    assert track.frames.tolist() == [t for t in range(20) if t not in (3, 4)]


def test_a_person_without_a_body_is_passed_over(tmp_path, person, write_openpose):
    (track,) = read(write_openpose(tmp_path / "video", [[person(BODY_25), np.zeros((0, 3))]] * 3))
    assert len(track.frames) == 3


@pytest.mark.parametrize("people", [[], [np.zeros((25, 3))]], ids=["no people", "people without a keypoint"])
def test_a_video_of_nobody_is_refused(people, tmp_path, write_openpose):
    with pytest.raises(InputError, match="wanted people, got nobody in 7 frames"):
        read(write_openpose(tmp_path / "video", [people] * 7))


def test_few_bad_frames_are_gaps_and_named(tmp_path, person, write_openpose):
    folder = write_openpose(tmp_path / "video", [[person(BODY_25)]] * 20, name="cam.{:04d}.json")
    cut_in_half(folder / "cam.0003.json")
    (folder / "cam.0007.json").write_text('{"people": [{"pose_keypoints_2d": [1, 2, 3, 4]}]}')
    (track,) = read(folder)
    assert track.frames.tolist() == [t for t in range(20) if t not in (3, 7)]
    assert "2 of 20 frames could not be read" in track.notes[0]
    assert "cam.0003.json: wanted one frame of OpenPose, got JSON that breaks at byte" in track.notes[0]
    assert "cam.0007.json: pose_keypoints_2d must hold x, y, confidence" in track.notes[0]


def test_a_storage_that_fails_is_no_bad_frame(tmp_path, person, write_openpose, monkeypatch):
    folder = write_openpose(tmp_path / "video", [[person(BODY_25)]] * 20, name="cam.{:04d}.json")
    (source,) = find_sources(str(folder))
    read_bytes = storage.read_bytes

    def fail_once(url):
        if url.endswith("0003.json"):
            raise storage.StorageError(f"{url}: does not answer")
        return read_bytes(url)

    monkeypatch.setattr(storage, "read_bytes", fail_once)
    with pytest.raises(storage.StorageError, match=r"cam.0003.json: does not answer"):
        read_source(source)


def test_a_packed_frame_with_wrong_bytes_is_bad(tmp_path, person, write_openpose):
    folder = write_openpose(tmp_path / "video", [[person(BODY_25)]] * 20, name="cam.{:04d}.json")
    path = folder / "cam.0004.json"
    packed = bytearray(gzip.compress(path.read_bytes()))
    packed[20:40] = bytes(20)
    (folder / "cam.0004.json.gz").write_bytes(packed)
    path.unlink()
    (track,) = read(folder)
    assert "cam.0004.json.gz: wanted a gzip file, got one that does not unpack" in track.notes[0]


def test_a_frame_of_another_skeleton_is_bad(tmp_path, person, write_openpose):
    folder = write_openpose(tmp_path / "video", [[person(BODY_25)]] * 19 + [[person(COCO_18)]])
    (track,) = read(folder)
    assert "wanted 25 points as in most frames, got 54 numbers" in track.notes[0]


def test_many_bad_frames_are_refused_and_the_first_are_named(tmp_path, person, write_openpose):
    folder = write_openpose(tmp_path / "video", [[person(BODY_25)]] * 20, name="cam.{:04d}.json")
    for number in range(3, 8):
        cut_in_half(folder / f"cam.{number:04d}.json")
    with pytest.raises(
        InputError, match=r"5 of 20 frames cannot be read: \S*cam.0003.json.*cam.0005.json.*\.\.\.$"
    ):
        read(folder)


def test_a_single_frame_cut_in_half_is_refused_with_the_byte(tmp_path, person, write_openpose):
    folder = write_openpose(tmp_path / "video", [[person(BODY_25)]])
    (path,) = folder.iterdir()
    cut_in_half(path)
    with pytest.raises(
        InputError, match=rf"{path.name}: wanted .* breaks at byte \d+ of {path.stat().st_size}"
    ):
        read(path)


def test_fractions_in_place_of_pixels_are_refused(tmp_path, person, write_openpose):
    points = person(BODY_25)
    points[:, :2] /= 1000
    with pytest.raises(InputError, match=r"wanted keypoints in pixels, got numbers .* --keypoint_scale 0"):
        read(write_openpose(tmp_path / "video", [[points]] * 3))


def test_null_is_a_keypoint_that_nobody_saw(tmp_path, person):
    numbers = person(BODY_25).reshape(-1).tolist()
    numbers[0:3] = [None, None, None]
    path = tmp_path / "frame_0.json"
    path.write_text(json.dumps({"people": [{"pose_keypoints_2d": numbers}]}))
    (track,) = read(path)
    assert track.confidence[0, 0] == 0
    assert (track.confidence[0, 1:] > 0).all()
