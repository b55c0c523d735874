from dataclasses import fields, replace

import numpy as np
import pytest

from mpm_model.errors import InputError
from pipelines.poses_table import PoseTrack, read_poses, write_poses
from pipelines.schema import TableMetadata

METADATA = TableMetadata(config="{}", made_by="a test")


def make_track(source: str, person: str, frames: list[int]) -> PoseTrack:
    rng = np.random.default_rng(len(frames))
    count = len(frames)
    return PoseTrack(
        source=source,
        person=person,
        frames=np.array(frames),
        time_s=np.array(frames) / 60,
        joints_rel_m=rng.normal(size=(count, 17, 3)).astype(np.float32),
        is_observed=rng.random((count, 17)) < 0.5,
        keypoints_px=rng.uniform(0, 1000, (count, 17, 2)).astype(np.float32),
        confidence=rng.random((count, 17)).astype(np.float32),
        width_px=1920,
        height_px=None,
        error_50_mm=rng.random((count, 17)).astype(np.float32) if source == "b" else None,
        root_cam_m=rng.random((count, 3)).astype(np.float32) if source == "b" else None,
        up_cam=np.array([0, -1, 0], np.float32) if source == "a" else None,
    )


def test_tracks_come_back_as_they_were_in_their_order(tmp_path):
    tracks = [make_track("b", "0", [3, 4, 9]), make_track("b", "1", [3]), make_track("a", "0", [0, 1])]
    path = tmp_path / "poses.parquet"
    path.write_bytes(write_poses(tracks, metadata=METADATA))
    found = read_poses(str(path))
    assert [(track.source, track.person) for track in found] == [("b", "0"), ("b", "1"), ("a", "0")]
    for before, after in zip(tracks, found, strict=True):
        for field in fields(PoseTrack):
            wanted, got = getattr(before, field.name), getattr(after, field.name)
            if isinstance(wanted, np.ndarray):
                assert got.dtype == wanted.dtype, field.name
                np.testing.assert_array_equal(got, wanted)
            else:
                assert got == wanted, field.name


def test_a_track_is_one_row_a_frame(tmp_path):
    path = tmp_path / "poses.parquet"
    path.write_bytes(write_poses([make_track("a", "0", [5, 7])], metadata=METADATA))
    (track,) = read_poses(str(path))
    assert track.frames.tolist() == [5, 7]
    assert track.time_s == pytest.approx([5 / 60, 7 / 60])


def test_no_tracks_make_a_file_without_tracks(tmp_path):
    path = tmp_path / "poses.parquet"
    path.write_bytes(write_poses([], metadata=METADATA))
    assert read_poses(str(path)) == []


def test_joints_of_another_count_are_our_own_fault():
    track = make_track("a", "0", [0])
    with pytest.raises(ValueError, match="dimension"):
        write_poses([replace(track, joints_rel_m=np.zeros((1, 16, 3)))], metadata=METADATA)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file or folder; wanted poses that lift wrote"):
        read_poses(str(tmp_path / "nowhere"))


def test_a_text_file_is_refused(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(InputError, match=r"wanted a folder, .*notes\.txt is a file"):
        read_poses(str(path))
