from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from mpm_model.errors import InputError
from mpm_model.pose.skeletons import BODY_25B, H36M_17
from pipelines.detections.registry import ReadOptions, find_sources, read_source
from pipelines.detections.track import Track
from pipelines.detections.tracks_output import track_to_npz, tracks_to_parquet


def make_track(skeleton=BODY_25B, *, frames=(3, 4, 8), **changes):
    rng = np.random.default_rng(len(skeleton))
    known = {
        "keypoints_px": rng.uniform(1, 900, (len(frames), len(skeleton), 2)).astype(np.float32),
        "confidence": rng.uniform(0.1, 1, (len(frames), len(skeleton))).astype(np.float32),
        "frames": np.array(frames),
        "skeleton": skeleton,
        "source": "s3://bucket/cam01",
        "person": "1",
        "rate_hz": 59.94,
        "width_px": 1088,
        "height_px": 1920,
        "notes": ("A note.",),
    }
    return Track(**{**known, **changes})


def assert_same(found, wanted, *, but=()):
    for name in ("skeleton", "source", "person", "rate_hz", "width_px", "height_px", "notes"):
        if name not in but:
            assert getattr(found, name) == getattr(wanted, name), name
    for name in ("keypoints_px", "confidence", "frames"):
        assert np.array_equal(getattr(found, name), getattr(wanted, name)), name


def read(path, **options):
    (source,) = find_sources(str(path), ReadOptions(**options))
    assert source.format == "tracks"
    return read_source(source, ReadOptions(**options))


def test_parquet_gives_back_every_track(tmp_path):
    path = tmp_path / "tracks.parquet"
    tracks = [
        make_track(),
        make_track(H36M_17, person="2", rate_hz=None, width_px=None, height_px=None, notes=()),
    ]
    path.write_bytes(tracks_to_parquet(tracks))
    for found, wanted in zip(read(path), tracks, strict=True):
        assert_same(found, wanted)


def test_the_parquet_table_keeps_its_columns(tmp_path):
    path = tmp_path / "tracks.parquet"
    path.write_bytes(tracks_to_parquet([make_track()]))
    table = pq.read_table(path)
    assert table.schema.metadata[b"mpm.schema"] == b"tracks/1"
    assert set(table.column_names) >= {
        "source", "person", "skeleton", "rate_hz", "width_px", "height_px", "frames",
        "keypoints_px", "confidence",
    }  # fmt: skip
    assert np.shape(table["keypoints_px"][0].as_py()) == (3, 25, 2)


def test_runs_of_one_person_become_one_track(tmp_path):
    path = tmp_path / "tracks.parquet"
    early, late = make_track(frames=(1, 2)), make_track(frames=(5, 6), notes=("Another.",))
    path.write_bytes(tracks_to_parquet([late, early]))
    (track,) = read(path)
    assert track.frames.tolist() == [1, 2, 5, 6]
    assert track.notes == ("A note.", "Another.")
    path.write_bytes(tracks_to_parquet([early, make_track(frames=(2, 3), rate_hz=30.0)]))
    with pytest.raises(InputError, match=r"differ in rate_hz; .* overlap in their frames"):
        read(path)


def test_npz_gives_back_the_track(tmp_path):
    path = tmp_path / "track.npz"
    path.write_bytes(track_to_npz(make_track()))
    (track,) = read(path)
    assert_same(track, make_track(), but=("notes",))


def test_an_npz_of_keypoints_alone_is_enough_and_what_is_assumed_is_noted(tmp_path):
    path = tmp_path / "track.npz"
    keypoints_px = np.full((2, 17, 2), 7.0)
    keypoints_px[1, 3] = np.nan
    np.savez(path, keypoints_px=keypoints_px, skeleton="h36m_17")
    (track,) = read(path, rate_hz=30.0, width_px=640, height_px=480)
    assert track.frames.tolist() == [0, 1]
    assert track.confidence.sum() == 2 * 17 - 1
    assert track.keypoints_px[1, 3].tolist() == [0, 0]
    assert (track.rate_hz, track.width_px, track.height_px) == (30.0, 640, 480)
    assert (track.source, track.person) == (str(path), "0")
    assert [("numbers no frames" in note, "no confidence" in note) for note in track.notes] == [
        (True, False),
        (False, True),
    ]


def test_what_the_file_says_wins_over_the_options(tmp_path):
    path = tmp_path / "track.npz"
    path.write_bytes(track_to_npz(replace(make_track(), rate_hz=None)))
    (track,) = read(path, rate_hz=25.0, width_px=1)
    assert (track.rate_hz, track.width_px) == (25.0, 1088)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"skeleton": "h36m_17"}, "wanted arrays keypoints_px .* got skeleton"),
        (
            {"keypoints_px": np.ones((2, 17, 2)), "skeleton": "h37m"},
            "wanted a skeleton of h36m_17, .* got 'h37m'",
        ),
        (
            {"keypoints_px": np.ones((2, 16, 2)), "skeleton": "h36m_17"},
            r"wanted keypoints_px \(N, 17, 2\), got",
        ),
        (
            {"keypoints_px": np.ones((2, 17, 2)), "skeleton": "h36m_17", "confidence": np.ones((3, 17))},
            r"wanted confidence \(2, 17\)",
        ),
        (
            {"keypoints_px": np.ones((2, 17, 2)), "skeleton": "h36m_17", "frames": np.array([4, 4])},
            "frames must increase strictly",
        ),
    ],
)
def test_an_npz_that_cannot_be_used_says_why(arrays, message, tmp_path):
    path = tmp_path / "track.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=message):
        read(path)


@pytest.mark.parametrize("name", ["tracks.parquet", "track.npz"])
def test_a_file_cut_in_half_is_refused(name, tmp_path):
    path = tmp_path / name
    content = tracks_to_parquet([make_track()]) if name.endswith("parquet") else track_to_npz(make_track())
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=rf"{name}: wanted a.*cannot be read"):
        read(path)


def test_another_table_is_refused_by_its_schema(tmp_path):
    path = tmp_path / "poses.parquet"
    path.write_bytes(tracks_to_parquet([make_track()]))
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({b"mpm.schema": b"poses/1"}), path)
    with pytest.raises(InputError, match="wanted a table of tracks/1, got poses/1"):
        read(path)
    pq.write_table(table.select(["source", "person"]).replace_schema_metadata({}), path)
    with pytest.raises(InputError, match="got a table without skeleton"):
        read(path)
    pq.write_table(table.slice(0, 0), path)
    with pytest.raises(InputError, match="got a table without rows"):
        read(path)
