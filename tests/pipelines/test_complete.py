"""`mpm complete`: hidden joints of 3D poses are filled in."""

import dataclasses

import numpy as np
import pytest
import torch
from command import mpm
from made_up_people import make_track

from mpm_model.checkpoint import Checkpoint, save_checkpoint
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.lifting import LiftingModel
from mpm_model.network.masked import MaskedPoseModel, UnifiedPoseModel
from mpm_model.pose.skeletons import H36M_17
from pipelines.partial_poses import WORLD_TO_CAMERA
from pipelines.poses_table import read_poses, write_poses
from pipelines.schema import TableMetadata

TINY = PoseTransformerConfig(frames=27, width=32, layers=1, heads=4, feed_forward=32, frame_hidden=32)
ARM = H36M_17.select("left_elbow", "left_wrist")
PELVIS = H36M_17.index("pelvis")


def make_checkpoint(folder, kind=UnifiedPoseModel):
    torch.manual_seed(0)
    checkpoint = Checkpoint(
        model=kind(TINY), skeleton=H36M_17, normalisation="person", rate_hz=25.0, card={"made_by": "a test"}
    )
    save_checkpoint(folder, checkpoint)
    return folder


@pytest.fixture
def completer(tmp_path):
    return make_checkpoint(tmp_path / "completer")


@pytest.fixture
def run(capsys, monkeypatch, completer):
    def typed(*arguments, code=0):
        found, out, err = mpm(capsys, monkeypatch, "complete", *arguments, "--checkpoint", completer)
        assert found == code, err
        if code:
            assert err.count("\n") == 1
        return err if code else out

    return typed


def walking_m(frames=60):
    """The made-up person on a path, camera axes, left arm NaN throughout."""
    path_m = np.linspace(0, 2, frames)[:, None, None] * [1.0, 0.0, 0.5] + [3.0, 1.0, 4.0]
    joints_m = (make_track(frames=frames).joints_rel_m + path_m).astype(np.float32)
    joints_m[:, ARM] = np.nan
    return joints_m


def write_npz(path, **arrays):
    np.savez(path, **({"rate_hz": 50.0, "skeleton": "h36m_17"} | arrays))
    return path


def test_an_npz_becomes_poses_that_view_and_inspect_take(run, capsys, monkeypatch, tmp_path):
    joints_m = walking_m()
    source, out = write_npz(tmp_path / "capture.npz", joints_m=joints_m), tmp_path / "poses"
    assert "completed; 60 poses of 1 person" in run(source, "--out", out)
    (track,) = read_poses(str(out))
    is_given = np.isfinite(joints_m).all(-1)
    np.testing.assert_array_equal(track.is_observed, is_given)
    assert np.isfinite(track.joints_rel_m).all()
    rel_m = joints_m - joints_m[:, [PELVIS]]
    np.testing.assert_allclose(track.joints_rel_m[is_given], rel_m[is_given], atol=1e-5)
    np.testing.assert_allclose(track.time_s, np.arange(60) / 50)
    for arguments in (["view", out, "--out", tmp_path / "page.html"], ["inspect", out]):
        code, said, err = mpm(capsys, monkeypatch, *arguments)
        assert code == 0, err
    assert "11.8 % of the joints filled in" in said
    assert "nothing to do" in run(source, "--out", out)
    assert "another job" in run(source, "--out", out, "--hidden-root", "interpolate", code=2)


def test_the_world_is_turned_for_the_model_and_back(run, tmp_path):
    joints_m = walking_m()
    run(write_npz(tmp_path / "camera.npz", joints_m=joints_m), "--out", tmp_path / "camera_out.npz")
    world = write_npz(tmp_path / "world.npz", joints_m=joints_m @ WORLD_TO_CAMERA)
    run(world, "--out", tmp_path / "world_out.npz", "--space", "world")
    camera_m, world_m = (np.load(tmp_path / f"{name}_out.npz")["joints_m"] for name in ("camera", "world"))
    assert np.isfinite(world_m).all()
    np.testing.assert_allclose(world_m @ WORLD_TO_CAMERA.T, camera_m, atol=1e-5)
    head, z = H36M_17.index("head_top"), 2
    assert (world_m[:, head, z] > world_m[:, PELVIS, z]).all()
    given = np.isfinite(joints_m)
    np.testing.assert_array_equal(camera_m[given], joints_m[given])


def test_axes_that_look_wrong_are_said_to(run, tmp_path):
    world = write_npz(tmp_path / "world.npz", joints_m=walking_m() @ WORLD_TO_CAMERA)
    assert "another --space" in run(world, "--out", tmp_path / "poses")
    assert "another --space" not in run(world, "--out", tmp_path / "poses_world", "--space", "world")


@pytest.mark.parametrize("flag", ["nan", "is_valid"])
def test_what_is_hidden_has_no_influence(run, tmp_path, flag):
    joints_m, is_valid = walking_m(), np.ones((60, 17), dtype=bool)
    if flag == "is_valid":
        joints_m[:, ARM], is_valid[:, ARM] = 77.0, False
    run(write_npz(tmp_path / "a.npz", joints_m=joints_m, is_valid=is_valid), "--out", tmp_path / "a_out.npz")
    run(write_npz(tmp_path / "b.npz", joints_m=walking_m()), "--out", tmp_path / "b_out.npz")
    a, b = (np.load(tmp_path / f"{name}_out.npz") for name in "ab")
    np.testing.assert_array_equal(a["joints_m"], b["joints_m"])
    np.testing.assert_array_equal(a["is_given"], b["is_given"])


def test_a_poses_table_keeps_its_2d_and_its_frames_over_gaps(run, tmp_path):
    whole = make_track(frames=90)
    is_observed = whole.is_observed.copy()
    is_observed[:, [*ARM, PELVIS]] = False  # the table is relative to the pelvis, seen or not
    kept = np.flatnonzero((np.arange(90) < 20) | (np.arange(90) >= 80))
    kept = np.delete(kept, [5, 6])
    per_frame = ("frames", "time_s", "joints_rel_m", "keypoints_px", "confidence")
    track = dataclasses.replace(
        whole, is_observed=is_observed[kept], **{name: getattr(whole, name)[kept] for name in per_frame}
    )
    source = tmp_path / "poses.parquet"
    source.write_bytes(write_poses([track], metadata=TableMetadata(config="{}", made_by="a test")))
    run(source, "--out", tmp_path / "out")
    (found,) = read_poses(str(tmp_path / "out"))
    for name in ("frames", "time_s", "keypoints_px", "confidence"):
        np.testing.assert_array_equal(getattr(found, name), getattr(track, name))
    is_given = found.is_observed
    assert is_given[:, PELVIS].all()
    assert not is_given[:, ARM].any()
    np.testing.assert_allclose(found.joints_rel_m[is_given], track.joints_rel_m[is_given], atol=1e-6)
    assert np.abs(found.joints_rel_m[:, ARM] - track.joints_rel_m[:, ARM]).max() > 0.01


def test_seen_joints_are_re_estimated_when_asked(run, tmp_path):
    joints_m = walking_m()
    source = write_npz(tmp_path / "capture.npz", joints_m=joints_m)
    run(source, "--out", tmp_path / "out.npz", "--no-keep-seen")
    head = H36M_17.index("head_top")
    assert np.abs(np.load(tmp_path / "out.npz")["joints_m"] - joints_m)[:, head].max() > 1e-3


def test_a_hidden_pelvis_is_refused_or_interpolated_and_said(run, tmp_path):
    joints_m = walking_m()
    joints_m[10:14] = np.nan
    source = write_npz(tmp_path / "capture.npz", joints_m=joints_m)
    message = run(source, "--out", tmp_path / "out", code=2)
    assert "pelvis is hidden in 4 of 60 frames" in message
    assert not (tmp_path / "out").exists()
    assert "straight through 4 frames" in run(
        source, "--out", tmp_path / "out", "--hidden-root", "interpolate"
    )


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"joints_m": np.zeros((5, 16, 3))}, "joints_m must be (N, 17, 3)"),
        ({"joints": np.zeros((5, 17, 3))}, "lacks joints_m"),
        ({"joints_m": 1000 * walking_m()}, "in metres"),
        ({"joints_m": walking_m(), "rate_hz": 0.0}, "rate_hz must be one positive number"),
        ({"joints_m": walking_m(), "skeleton": "smpl"}, "skeleton must be h36m_17, got 'smpl'"),
        ({"joints_m": walking_m(), "is_valid": np.ones((60, 5))}, "is_valid must be (60, 17)"),
        ({"joints_m": np.full((5, 17, 3), np.nan)}, "pelvis is hidden in every frame"),
        ({"joints_m": np.array(["text"])}, "joints_m must"),
    ],
)
def test_an_npz_of_another_kind_is_one_clear_line(run, tmp_path, arrays, said):
    source = write_npz(tmp_path / "bad.npz", **arrays)
    assert said in run(source, "--out", tmp_path / "out", code=2)
    assert not (tmp_path / "out").exists()


def test_files_that_are_no_poses_are_one_clear_line(run, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 and then nothing")
    assert "cannot be read" in run(tmp_path / "bad.npz", "--out", out, code=2)
    assert "no such file" in run(tmp_path / "absent", "--out", out, code=2)
    source = write_npz(tmp_path / "capture.npz", joints_m=walking_m())
    assert "camera, world" in run(source, "--out", out, "--space", "image", code=2)
    assert "refuse, interpolate" in run(source, "--out", out, "--hidden-root", "guess", code=2)
    assert "already" in run(source, "--out", source, code=2)
    assert not out.exists()


def test_a_checkpoint_that_does_not_complete_is_refused(capsys, monkeypatch, tmp_path):
    source = write_npz(tmp_path / "capture.npz", joints_m=walking_m())
    lifter = make_checkpoint(tmp_path / "lifter", LiftingModel)
    code, _, err = mpm(
        capsys, monkeypatch, "complete", source, "--out", tmp_path / "out", "--checkpoint", lifter
    )
    assert code == 2
    assert "'masked' or 'unified'" in err
    masked = make_checkpoint(tmp_path / "masked", MaskedPoseModel)
    arguments = ["complete", source, "--out", tmp_path / "out", "--checkpoint", masked]
    assert mpm(capsys, monkeypatch, *arguments)[0] == 0
