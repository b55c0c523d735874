import gzip
import json
import pickle

import fsspec
import numpy as np
import pytest

from mpm_model.errors import InputError
from mpm_model.pose.skeletons import BODY_25, COCO_17
from pipelines.detections.registry import ReadOptions, find_sources, read_source


def test_a_tree_gives_one_source_a_video_and_passes_over_the_rest(tmp_path, person, write_openpose):
    for camera in ("cam1", "cam2"):
        write_openpose(tmp_path / "pose" / camera, [[person(BODY_25)]] * 3)
    result = [{"image_id": 1, "keypoints": person(COCO_17).reshape(-1).tolist(), "score": 1}]
    (tmp_path / "result.json").write_text(json.dumps(result))
    np.savez(tmp_path / "track.npz", keypoints_px=np.ones((2, 17, 2)), skeleton="coco_17")
    (tmp_path / "README.txt").write_text("about")
    sources = find_sources(str(tmp_path))
    assert [
        (source.name.removeprefix(f"{tmp_path}/"), source.format, len(source.files)) for source in sources
    ] == [
        ("pose/cam1", "openpose", 3),
        ("pose/cam2", "openpose", 3),
        ("result.json", "coco", 1),
        ("track.npz", "tracks", 1),
    ]
    assert pickle.loads(pickle.dumps(sources)) == sources
    assert all(read_source(source) for source in sources)


def test_a_broken_first_frame_does_not_hide_the_format(tmp_path, person, write_openpose):
    folder = write_openpose(tmp_path / "video", [[person(BODY_25)]] * 12)
    sorted(folder.iterdir())[0].write_text("")
    (source,) = find_sources(str(folder))
    assert source.format == "openpose"
    assert read_source(source)[0].frames.tolist() == list(range(1, 12))


def test_json_of_another_kind_among_good_files_is_refused_alone(tmp_path, person):
    result = [{"image_id": 1, "keypoints": person(COCO_17).reshape(-1).tolist()}]
    (tmp_path / "good.json").write_text(json.dumps(result))
    (tmp_path / "settings.json").write_text('{"theme": "dark"}')
    good, other = find_sources(str(tmp_path))
    assert read_source(good)
    with pytest.raises(
        InputError, match=r"wanted 2D detections, got settings.json, JSON of another kind \(theme\)"
    ):
        read_source(other)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", b"", "a.json, an empty file"),
        ("a.json", b"\x89PNG\r\n\x1a\n", "a.json, a PNG image"),
        ("a.amc", b"#!OML:ASF H:\\x\n:FULLY-SPECIFIED\n", "a.amc, an AMC recording"),
        ("a.bvh", b"HIERARCHY\nROOT Hips", "a.bvh, a BVH recording"),
        ("a.json", b"{}", r"a.json, JSON of another kind \(no keys\)"),
        ("a.json", b"[1, 2]", r"JSON of another kind \(a list\)"),
        ("a.json", b'{"fps": 3', r"a.json, JSON that breaks at byte 9 of 9"),
        ("a.csv", b"frame,x,y\n", "a.csv, which begins b'frame,x,y"),
        ("a.bin", b"\xfe\xff\x00\x01", "a.bin, which begins"),
        ("a.json.gz", gzip.compress(b"{}" * 99)[:20], "does not unpack"),
    ],
)
def test_a_file_of_another_kind_is_named_for_what_it_is(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=r"wanted 2D detections \(OpenPose, MediaPipe or COCO JSON.*" + said):
        find_sources(str(tmp_path / name))


def test_an_empty_folder_and_a_folder_of_other_files_say_so(tmp_path):
    with pytest.raises(InputError, match="got an empty folder"):
        find_sources(str(tmp_path))
    for name in ("a.png", "b.png", "c.png", "d.png"):
        (tmp_path / name).write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match=r"got 4 other files \(a.png, b.png, c.png\)"):
        find_sources(str(tmp_path))


def test_nothing_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file or folder"):
        find_sources(str(tmp_path / "nowhere"))


def test_a_format_given_is_not_guessed(tmp_path):
    (tmp_path / "a.json").write_text('{"frames": []}')
    (source,) = find_sources(str(tmp_path), ReadOptions(format="mediapipe"))
    assert source.format == "mediapipe"


def test_all_faults_of_the_options_are_named_at_once():
    with pytest.raises(InputError) as error:
        ReadOptions(format="openpoze", rate_hz=-1.0, width_px=0)
    for part in (
        "openpose_body25b",
        "'openpoze'",
        "rate_hz must lie in 0.1..10,000, got -1.0",
        "width_px must lie in 1..100,000, got 0",
    ):
        assert part in str(error.value)


def test_a_bucket_is_read_like_a_disk(tmp_path, person, write_openpose):
    folder = write_openpose(tmp_path / "cam1", [[person(BODY_25)]] * 3)
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/detections/cam1", recursive=True)
    try:
        (source,) = find_sources("memory://detections")
        assert source.name.startswith("memory://")
        assert read_source(source)[0].frames.tolist() == [0, 1, 2]
    finally:
        memory.rm("/detections", recursive=True)
