"""Converted checkpoints at work: `mpm lift`, `mpm evaluate`, `mpm inspect`, `mpm view`, 17 and 16 joints."""

from pathlib import Path

import numpy as np
import pytest

from mpm_model.errors import InputError
from mpm_model.pose.skeletons import SKELETONS
from pipelines.poses_table import read_poses
from tests.command import mpm
from tests.pipelines.reference_goldens import LIFTING, TOLERANCE, golden
from tests.pipelines.reference_goldens import convert as convert

WIDTH_PX, HEIGHT_PX = 1024, 768


def write_tracks(folder: Path, wanted: dict[str, np.ndarray], skeleton: str) -> Path:
    """An npz file for each window of a golden: its 2D in pixels, by the inverse of `screen`."""
    folder.mkdir()
    half_px = np.array([WIDTH_PX, HEIGHT_PX]) / 2
    for window, keypoints_screen in enumerate(wanted["keypoints_2d"].astype(np.float64)):
        np.savez(
            folder / f"{window}.npz",
            keypoints_px=(keypoints_screen * half_px[0] + half_px).astype(np.float32),
            skeleton=skeleton,
            rate_hz=25.0,
            width_px=WIDTH_PX,
            height_px=HEIGHT_PX,
        )
    return folder


@pytest.mark.parametrize("name", LIFTING)
def test_lifting_through_the_command_gives_what_the_paper_gives(capsys, monkeypatch, tmp_path, convert, name):
    wanted, checkpoint = golden(name), convert(name)
    tracks = write_tracks(tmp_path / "tracks", wanted, checkpoint.skeleton.name)
    lift = ("lift", tracks, "--checkpoint", tmp_path / "models" / name)
    for mode in ("fast", "exact"):
        code, _, error = mpm(capsys, monkeypatch, *lift, "--out", tmp_path / mode, "--mode", mode)
        assert code == 0, error
        poses = {Path(track.source).stem: track for track in read_poses(str(tmp_path / mode), skeleton=None)}
        assert len(poses) == len(wanted["keypoints_2d"])
        for window, sequence_m in enumerate(wanted["joints_3d_sequence"]):
            track = poses[str(window)]
            assert track.skeleton == checkpoint.skeleton
            lifted_m, expected_m = track.joints_rel_m, sequence_m
            if mode == "exact":  # of one window only the frame in its middle sees no frame repeated
                middle = len(sequence_m) // 2
                lifted_m, expected_m = lifted_m[[middle]], wanted["joints_3d_center"][window]
            assert np.abs(lifted_m - expected_m).max() <= TOLERANCE


def test_poses_of_sixteen_joints_are_viewed_and_inspected(capsys, monkeypatch, tmp_path, convert):
    name = "lift_f81_l3_c32_j16"
    convert(name)
    tracks = write_tracks(tmp_path / "tracks", golden(name), "h36m_16")
    out = tmp_path / "poses"
    lift = ("lift", tracks, "--checkpoint", tmp_path / "models" / name, "--out", out)
    assert mpm(capsys, monkeypatch, *lift)[0] == 0
    code, said, error = mpm(capsys, monkeypatch, "inspect", out)
    assert (code, error) == (0, "")
    assert "skeleton: h36m_16" in said
    assert "left thigh" in said
    assert mpm(capsys, monkeypatch, "view", out, "--out", tmp_path / "page.html")[0] == 0
    page = (tmp_path / "page.html").read_text()
    assert "left_wrist" in page
    assert "thorax" not in page
    with pytest.raises(InputError, match="wanted skeleton 'h36m_17', got 'h36m_16'"):
        read_poses(str(out))


@pytest.mark.parametrize(("name", "joints"), [("lift_f27_l3_c64_j17", 17), ("lift_f81_l3_c32_j16", 16)])
def test_detections_of_any_skeleton_come_to_the_joints_of_the_checkpoint(
    capsys, monkeypatch, tmp_path, convert, name, joints
):
    convert(name)
    rng = np.random.default_rng(0)
    for skeleton in ("coco_17", "h36m_17", "h36m_16"):
        np.savez(
            tmp_path / f"{skeleton}.npz",
            keypoints_px=rng.uniform(100, 600, (30, len(SKELETONS[skeleton]), 2)),
            skeleton=skeleton,
            rate_hz=25.0,
            width_px=WIDTH_PX,
            height_px=HEIGHT_PX,
        )
        lift = ("lift", tmp_path / f"{skeleton}.npz", "--checkpoint", tmp_path / "models" / name)
        assert mpm(capsys, monkeypatch, *lift, "--out", tmp_path / skeleton)[0] == 0
        (track,) = read_poses(str(tmp_path / skeleton), skeleton=None)
        assert track.joints_rel_m.shape == (30, joints, 3)


def test_converted_networks_are_evaluated(capsys, monkeypatch, tmp_path, convert):
    cmu = Path(__file__).parents[2] / "pipelines" / "sample" / "mocap" / "cmu" / "02"
    windows = tmp_path / "windows"
    prepare = (
        "prepare",
        cmu,
        "--reader",
        "asf_amc",
        "--rate-hz",
        25,
        "--window-frames",
        27,
        "--out",
        windows,
    )
    assert mpm(capsys, monkeypatch, *prepare, "--out", windows)[0] == 0
    for name, protocol, figure in (
        ("lift_f27_l3_c64_j17", "lifting", "MPJPE mm"),
        ("pretrain_f27_l3_c64_j17", "reconstruction", "hidden 3D mm"),
    ):
        convert(name)
        evaluate = ("evaluate", "--checkpoint", tmp_path / "models" / name, "--data", windows)
        code, said, error = mpm(capsys, monkeypatch, *evaluate, "--protocol", protocol)
        assert code == 0, error
        assert figure in said
    convert("lift_f81_l3_c32_j16")
    evaluate = ("evaluate", "--checkpoint", tmp_path / "models" / "lift_f81_l3_c32_j16", "--data", windows)
    code, _, error = mpm(capsys, monkeypatch, *evaluate, "--protocol", "lifting")
    assert code == 2
    assert "its skeleton is h36m_16, wanted h36m_17" in error
