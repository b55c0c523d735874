import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up_people import STANDING_M, make_track

from mpm_model.errors import InputError
from mpm_model.pose.skeletons import H36M_17
from pipelines.detections.track import Track
from pipelines.detections.tracks_output import tracks_to_parquet
from pipelines.inspect import run
from pipelines.inspect_tables import MAX_TRACKS, describe_bones
from pipelines.manifest import JOB, Input, Job, Receipt
from pipelines.parts import PartResult, finish, make_part, plan_shards
from pipelines.poses_table import poses_to_table, write_poses
from pipelines.schema import TableMetadata, to_parquet
from pipelines.windows_table import Windows, windows_to_table

METADATA = TableMetadata(config='{"checkpoint": "lifter"}', made_by="mpm lift, version 1")
STANDING_UP_M = np.array([STANDING_M[joint] for joint in H36M_17.joints])[:, [0, 2, 1]] * [1, 1, -1]


def make_windows(number, *, split="train", subject="07"):
    text = {"dataset": "cmu", "subject": subject, "action": "walk", "recording": "07_01", "split": split}
    return Windows(
        ids=np.arange(number),
        joints_world_m=np.tile(STANDING_UP_M.astype(np.float32), (number, 5, 1, 1)),
        is_valid=np.ones((number, 5, 17), dtype=bool),
        start_frame=np.arange(number),
        rate_hz=50.0,
        **{name: np.full(number, value) for name, value in text.items()},
    )


def write_folder(folder, kind, table, receipts):
    """What `prepare` or `lift` leaves, with one part."""
    inputs = tuple(Input(url=receipt.url, size_bytes=1, stamp="") for receipt in receipts)
    job = Job(kind=kind, config={}, inputs=inputs, made_by="a test")
    folder.mkdir()
    (folder / JOB).write_text(job.model_dump_json())
    (shard,) = plan_shards(job)
    commit = make_part(
        shard, out=str(folder), work=lambda _: PartResult(table=table, receipts=tuple(receipts))
    )
    finish(str(folder), job, [commit])
    return str(folder)


def test_a_windows_folder_is_counted_by_split_and_data_set(tmp_path):
    windows = [make_windows(3), make_windows(2, split="test", subject="02")]
    receipts = [
        Receipt(url="a.amc", size_bytes=1, status="done", rows=3, frames=20, seconds=0.4, dataset="cmu",
                people=("cmu/07",), recording="07_01", split="train", dropped={"too_short": 4}),
        Receipt(url="b.amc", size_bytes=1, status="done", rows=2, frames=10, seconds=2.0, dataset="cmu",
                people=("cmu/02",), recording="02_01", split="test"),
        Receipt(url="c.amc", size_bytes=1, status="bad", reason="it is cut short"),
    ]  # fmt: skip
    table = windows_to_table(windows, metadata=METADATA, window_frames=5)
    lines = run(write_folder(tmp_path / "windows", "windows", table, receipts))
    text = "\n".join(lines)
    assert "schema: windows/1" in text
    assert "3 inputs, 1 bad; 1 part; dropped: too_short 4" in text
    assert "bad: c.amc: it is cut short" in text
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("  ")}
    assert rows["train"] == ["1", "3", "1", "0"]
    assert rows["test"] == ["1", "2", "1", "2"]
    assert rows["all"] == ["3", "5", "2", "2"]
    assert "windows of 5 frames at 50 Hz" in text
    assert lines[-1].split() == ["cmu", "5", "0.420", "0.420", "100", "%", "100.0", "%"]


def test_an_unfinished_folder_is_refused(tmp_path):
    job = Job(kind="windows", config={}, inputs=(), made_by="a test")
    (tmp_path / JOB).write_text(job.model_dump_json())
    with pytest.raises(InputError, match="did not finish"):
        run(str(tmp_path))


def test_a_file_of_windows_is_counted_from_its_rows(tmp_path):
    table = windows_to_table(
        [make_windows(3), make_windows(1, split="test")], metadata=METADATA, window_frames=5
    )
    (tmp_path / "part.parquet").write_bytes(to_parquet(table))
    lines = run(str(tmp_path / "part.parquet"))
    assert "4 windows" in lines
    assert ["train", "cmu", "3", "1"] in [line.split() for line in lines]


@pytest.mark.parametrize(
    ("change", "cells"),
    [
        (lambda joints_m: joints_m, ["0.420", "0.420", "100 %"]),
        (lambda joints_m: joints_m * 1000, ["420.119 ?", "420.476 ?", "100 %"]),
        (lambda joints_m: joints_m[..., [0, 2, 1]], ["0.420", "0.420", "0 % ?"]),
    ],
    ids=["right", "in millimetres", "y up"],
)
def test_wrong_units_and_axes_are_marked(change, cells):
    joints_m = change(np.tile(STANDING_UP_M, (4, 1, 1)))
    found = describe_bones(joints_m, np.ones((4, 17), dtype=bool), H36M_17)
    assert found == cells


def test_poses_are_told_track_by_track_with_their_quality(tmp_path):
    track = make_track(source="videos/cam1")
    is_observed = track.is_observed.copy()
    is_observed[:30, H36M_17.index("nose")] = False
    frames = np.r_[0:30, 35:65]
    track = replace(track, is_observed=is_observed, frames=frames, time_s=frames / 50)
    short = make_track(source="videos/cam2", frames=4)
    (tmp_path / "poses.parquet").write_bytes(write_poses([track, short], metadata=METADATA))
    lines = run(str(tmp_path / "poses.parquet"))
    text = "\n".join(lines)
    assert "made by: mpm lift, version 1" in text
    assert "2 tracks in 2 sources, 64 frames" in lines
    assert (
        "videos/cam1, person 0: 60 frames (1.30 s), 1 gap (5 frames), 2.9 % of the joints filled in" in lines
    )
    assert "vary less in 3D than in the 2D input: median 0.0 % against" in text
    assert "less in 8 of 8 limbs" in text
    assert "misses the keypoints by 0.0 % of the person's size" in text
    assert "no limb was seen in 10 frames or more" in text
    assert "in 1 of 1 track measured" in text
    thigh = next(line for line in lines if line.startswith("  left thigh"))
    assert thigh.split()[:6] == ["left", "thigh", "60", "0.420", "0.0", "%"]


def test_limbs_that_vary_more_in_3d_are_said_to(tmp_path):
    track = make_track()
    wild = np.random.default_rng(0).normal(scale=0.3, size=track.joints_rel_m.shape)
    wild = replace(track, joints_rel_m=(track.joints_rel_m + wild).astype(np.float32))
    (tmp_path / "poses.parquet").write_bytes(write_poses([wild], metadata=METADATA))
    text = "\n".join(run(str(tmp_path / "poses.parquet")))
    assert "do not vary less in 3D" in text
    assert "in 0 of 1 track measured" in text


def test_a_poses_folder_of_many_tracks_lists_the_first_and_counts_the_rest(tmp_path):
    tracks = [make_track(source=f"videos/{i:03}", frames=12) for i in range(MAX_TRACKS + 3)]
    receipts = [Receipt(url="videos", size_bytes=1, status="done", rows=12 * len(tracks))]
    url = write_folder(tmp_path / "poses", "poses", poses_to_table(tracks, metadata=METADATA), receipts)
    lines = run(url)
    assert sum(", person 0: " in line for line in lines) == MAX_TRACKS
    assert "... and 3 tracks more" in lines


def test_tracks_of_2d_keypoints_are_told_by_person(tmp_path):
    track = make_track()
    confidence = track.confidence.copy()
    confidence[:, 0] = 0
    detected = Track(
        keypoints_px=track.keypoints_px, confidence=confidence, frames=track.frames, skeleton=H36M_17,
        source="cam1", person="0", rate_hz=None, width_px=640, height_px=480, notes=("rate was not said",),
    )  # fmt: skip
    (tmp_path / "tracks.parquet").write_bytes(tracks_to_parquet([detected]))
    lines = run(str(tmp_path / "tracks.parquet"))
    assert any("tracks, h36m_17, 640 x 480 px, rate not known, 1 person" in line for line in lines)
    assert "  note: rate was not said" in lines
    assert lines[-2].split() == ["cam1", "0", "60", "0", "59", "94.1", "%", "0.80"]


BVH = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
"""


def test_bad_recordings_are_named_and_one_alone_is_refused(tmp_path):
    (tmp_path / "a.bvh").write_text(BVH)
    with pytest.raises(InputError, match=r"a\.bvh"):
        run(str(tmp_path / "a.bvh"))
    (tmp_path / "b.bvh").write_text(BVH)
    lines = run(str(tmp_path))
    assert "2 recordings for reader bvh" in lines[0]
    assert sum(line.startswith("  bad: ") for line in lines) == 2


def test_parquet_of_another_kind_is_told_by_its_columns(tmp_path):
    pq.write_table(pa.table({"price": [1.0, 2.0]}), tmp_path / "sales.parquet")
    lines = run(str(tmp_path / "sales.parquet"))
    assert "Parquet, schema none of ours; 2 rows in 1 row group" in lines[0]
    assert lines[1] == "  price: double"


def test_a_checkpoint_is_told_by_its_network_and_card(tmp_path):
    checkpoint = pytest.importorskip("mpm_model.checkpoint")
    from mpm_model.network.config import PoseTransformerConfig
    from mpm_model.network.lifting import LiftingModel

    config = PoseTransformerConfig(frames=9, layers=1, width=16, feed_forward=32, heads=2)
    model = LiftingModel(config)
    checkpoint.save_checkpoint(
        tmp_path / "lifter",
        checkpoint.Checkpoint(
            model=model, skeleton=H36M_17, normalisation="person", rate_hz=25.0,
            card={"scores": {"MPJPE mm": 61.0}, "long": [0.0] * 500},
        ),
    )  # fmt: skip
    lines = run(str(tmp_path / "lifter"))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert f"a lifting network of {parameters / 1e6:.2f} M parameters" in lines[0]
    assert "  network width: 16" in lines
    assert '  card scores: {"MPJPE mm": 61.0}' in lines
    assert max(map(len, lines[1:])) < 220


def test_a_checkpoint_that_lacks_a_file_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({}))
    with pytest.raises(InputError, match=r"lacks model\.safetensors, card\.json"):
        run(str(tmp_path))


def test_anything_else_is_refused_with_what_it_is_and_what_would_do(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"notes\.txt.*b'hello'.*wanted|wanted.*b'hello'.*\.amc, \.bvh"):
        run(str(tmp_path / "notes.txt"))
    with pytest.raises(InputError, match="no such file or folder"):
        run(str(tmp_path / "absent"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="an empty folder"):
        run(str(tmp_path / "empty"))
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="cut short"):
        run(str(tmp_path / "cut.parquet"))
