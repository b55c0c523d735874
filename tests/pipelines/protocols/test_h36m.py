"""Human3.6M's protocol on files of the public layout whose answers are known by hand."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from command import mpm
from made_up_h36m import FRAMES, world_joints, write_files

from mpm_model.checkpoint import Checkpoint, save_checkpoint
from mpm_model.errors import InputError
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.lifting import LiftingModel
from mpm_model.pose.skeletons import H36M_17
from pipelines.protocols.clips import flipped, mirror
from pipelines.protocols.h36m import score
from pipelines.protocols.h36m_files import calibration, read_clips, source_of, to_camera

ACTION_MEAN, FRAME_MEAN = "mean over 2 actions", "mean over all frames"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return [str(path) for path in write_files(tmp_path_factory.mktemp("h36m"))]


@pytest.fixture(scope="module")
def clips(files):
    return read_clips(files)[0]


def scores(predict, clips):
    return {row.name: row.scores for row in score(predict, clips)}


def test_every_action_of_both_people_comes_through_four_cameras(clips):
    assert len(clips) == 2 * len(FRAMES) * 4
    assert {clip.group for clip in clips} == {"Walking", "Sitting"}
    assert {(clip.width_px, clip.height_px) for clip in clips} == {(1000, 1002), (1000, 1000)}
    for clip in clips:
        frames = FRAMES[clip.name.split("/")[1]]
        assert clip.joints_cam_m.shape == (frames, 17, 3)
        assert clip.keypoints_px.shape == (frames, 17, 2)


def test_every_camera_stands_upright_in_the_hall_and_sees_the_person(clips):
    pelvis, head = H36M_17.index("pelvis"), H36M_17.index("head_top")
    for clip in clips:
        assert (clip.joints_cam_m[..., 2] > 3).all()
        assert (clip.joints_cam_m[..., 2] < 8).all()
        assert (clip.joints_cam_m[:, head, 1] < clip.joints_cam_m[:, pelvis, 1] - 0.6).all()


def test_a_camera_is_where_its_place_says_and_keeps_lengths_and_handedness():
    placed = calibration()["cameras"][0]["placed"]["S9"]
    position_m = np.array(placed["position_world_mm"]) / 1000
    assert np.abs(to_camera(position_m[None, None], placed)).max() < 1e-6
    axes = to_camera((position_m + np.eye(3))[None], placed)[0].astype(float)  # rows: world axes as seen
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-5)
    assert np.linalg.det(axes) == pytest.approx(1, abs=1e-5)


def test_the_truth_has_no_error_and_a_shift_none_once_the_roots_are_together(clips):
    for shift_m in (0.0, np.array([1.0, -2.0, 3.0])):
        for row in scores(lambda clip, shift_m=shift_m: clip.joints_cam_m + shift_m, clips).values():
            assert max(row.values()) < 1e-2


def test_actions_are_averaged_before_their_mean_and_frames_in_the_frame_mean(clips):
    """One wrist is 170 mm off in Walking (10 mm a joint) and 510 mm in Sitting (30 mm a joint)."""
    wrist = H36M_17.index("left_wrist")

    def predict(clip):
        off_m = np.zeros_like(clip.joints_cam_m)
        off_m[:, wrist, 0] = {"Walking": 0.17, "Sitting": 0.51}[clip.group]
        return clip.joints_cam_m + off_m

    found = scores(predict, clips)
    assert found["Walking"]["MPJPE mm"] == pytest.approx(10, abs=1e-3)
    assert found["Sitting"]["MPJPE mm"] == pytest.approx(30, abs=1e-3)
    assert found[ACTION_MEAN]["MPJPE mm"] == pytest.approx(20, abs=1e-3)
    assert found[FRAME_MEAN]["MPJPE mm"] == pytest.approx((32 * 10 + 8 * 30) / 40, abs=1e-3)
    assert found[FRAME_MEAN]["MPJVE mm/frame"] == pytest.approx(0, abs=1e-3)


def test_velocity_and_acceleration_of_a_joint_that_trembles(clips):
    wrist = H36M_17.index("left_wrist")

    def predict(clip):
        off_m = np.zeros_like(clip.joints_cam_m)
        off_m[::2, wrist, 0] = 0.017
        return clip.joints_cam_m + off_m

    found = scores(predict, clips)[ACTION_MEAN]
    assert found["MPJVE mm/frame"] == pytest.approx(1, abs=1e-3)
    assert found["acceleration mm/frame²"] == pytest.approx(2, abs=1e-3)


def test_size_and_turn_are_forgiven_by_whom_they_should_and_a_mirror_by_nobody(clips):
    turn = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    larger = scores(lambda clip: 1.3 * clip.joints_cam_m, clips)[FRAME_MEAN]
    assert larger["MPJPE mm"] > 50
    assert larger["N-MPJPE mm"] == pytest.approx(0, abs=1e-2)
    assert larger["P-MPJPE mm"] == pytest.approx(0, abs=1e-2)
    turned = scores(lambda clip: clip.joints_cam_m @ turn, clips)[FRAME_MEAN]
    assert turned["N-MPJPE mm"] > 50
    assert turned["P-MPJPE mm"] == pytest.approx(0, abs=1e-2)
    mirrored = scores(lambda clip: clip.joints_cam_m * [1, 1, -1], clips)[FRAME_MEAN]
    assert mirrored["P-MPJPE mm"] > 5


def test_the_flip_takes_a_constant_pull_to_one_side_away(clips):
    spine = H36M_17.index("spine")

    def pulled(clip):
        off_m = np.zeros_like(clip.joints_cam_m)
        off_m[:, spine, 0] = 0.17
        return clip.joints_cam_m + off_m

    assert scores(pulled, clips)[FRAME_MEAN]["MPJPE mm"] == pytest.approx(10, abs=1e-3)
    assert scores(flipped(pulled), clips)[FRAME_MEAN]["MPJPE mm"] == pytest.approx(0, abs=1e-3)


def test_a_mirrored_clip_mirrored_again_is_the_clip(clips):
    once = mirror(clips[0])
    left, right = H36M_17.select("left_wrist", "right_wrist")
    np.testing.assert_allclose(
        once.keypoints_px[:, left, 0], clips[0].width_px - clips[0].keypoints_px[:, right, 0], rtol=1e-5
    )
    np.testing.assert_allclose(mirror(once).keypoints_px, clips[0].keypoints_px, atol=1e-3)
    np.testing.assert_array_equal(mirror(once).joints_cam_m, clips[0].joints_cam_m)


def test_the_2d_is_named_by_its_file():
    assert source_of("s3://x/data_2d_h36m_gt.npz") == "2D gt"
    assert source_of("data_2d_h36m_cpn_ft_h36m_dbb.npz") == "2D cpn (cpn_ft_h36m_dbb)"
    assert source_of("data_2d_h36m_cpn_ft_h36m_dbb.npz", "cpn") == "2D cpn (cpn_ft_h36m_dbb)"


def test_where_the_name_of_the_2d_says_nothing_the_user_must():
    assert source_of("mine.npz", "hrnet") == "2D hrnet"
    with pytest.raises(InputError, match="--keypoints-source"):
        source_of("mine.npz")
    with pytest.raises(InputError, match="--keypoints-source"):
        source_of("mine.npz", "")
    with pytest.raises(InputError, match="by its name the 2D is gt, by --keypoints-source cpn"):
        source_of("data_2d_h36m_gt.npz", "cpn")


def test_the_hash_is_of_what_is_measured(tmp_path, files):
    assert read_clips(files)[2] == read_clips(files[::-1])[2]
    (tmp_path / "longer").mkdir()
    longer = write_files(tmp_path / "longer", extra_frames=9)
    assert read_clips([str(path) for path in longer])[2] != read_clips(files)[2]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"extra_frames": -1}, "has 7 frames, fewer than the 3D's 8"),
        ({"num_joints": 16}, "num_joints must be 17, got 16"),
        ({"layout_name": "coco"}, "layout_name must be 'h36m', got 'coco'"),
        ({"keypoints_symmetry": [[1], [4]]}, "keypoints_symmetry"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, changes, said):
    with pytest.raises(InputError, match=said):
        read_clips([str(path) for path in write_files(tmp_path, **changes)])


def test_a_missing_or_doubled_file_is_named(files):
    with pytest.raises(InputError, match="no positions_2d there"):
        read_clips(files[:1])
    with pytest.raises(InputError, match="both hold positions_3d"):
        read_clips([files[0], files[0]])


def test_3d_without_a_test_subject_is_refused(tmp_path, files):
    path = tmp_path / "data_3d_h36m.npz"
    np.savez(path, positions_3d=np.array({"S9": {"Walking": world_joints(5)}}, dtype=object))
    with pytest.raises(InputError, match="the 3D lacks S11"):
        read_clips([str(path), files[1]])


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def test_a_malicious_file_is_refused_in_one_line_and_not_executed(capsys, monkeypatch, tmp_path, files):
    marker = tmp_path / "was_here"
    path = tmp_path / "data_3d_h36m.npz"
    np.savez(path, positions_3d=np.array({"S9": {"Walking": Evil(str(marker))}}, dtype=object))
    save_checkpoint(tmp_path / "lifter", make_checkpoint())
    code, _, err = mpm(
        capsys, monkeypatch, "evaluate", "--checkpoint", tmp_path / "lifter", "--protocol", "h36m",
        "--data", path, "--data", files[1],
    )  # fmt: skip
    assert code == 2
    assert err.count("\n") == 1
    assert "positions_3d names posix.mkdir, which is not plain data" in err
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half of it", b"no npz at all"])
def test_a_damaged_file_is_refused(tmp_path, files, content):
    path = tmp_path / "data_3d_h36m.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match="wanted an npz file"):
        read_clips([str(path), files[1]])


def make_checkpoint(skeleton=H36M_17):
    torch.manual_seed(0)
    config = PoseTransformerConfig(
        frames=27, width=32, layers=1, heads=4, feed_forward=32, frame_hidden=32, joints=len(skeleton)
    )
    return Checkpoint(
        model=LiftingModel(config), skeleton=skeleton, normalisation="screen", rate_hz=25.0, card={}
    )


def test_the_command_measures_an_untrained_lifter_and_says_what_was_measured(
    capsys, monkeypatch, tmp_path, files
):
    save_checkpoint(tmp_path / "lifter", make_checkpoint())
    data = [word for path in files for word in ("--data", path)]
    command = ["evaluate", "--checkpoint", tmp_path / "lifter", "--protocol", "h36m", *data]
    plain, both = tmp_path / "plain.json", tmp_path / "flip.json"
    code, out, err = mpm(capsys, monkeypatch, *command, "--json", plain)
    assert code == 0, err
    assert "protocol h36m/1 on h36m/S9, h36m/S11 (320 frames, 2D gt, no test-time flip;" in out
    assert [line.split("  ")[0] for line in out.splitlines()[3:]] == [
        "Sitting", "Walking", ACTION_MEAN, FRAME_MEAN,
    ]  # fmt: skip
    assert "note: the model sees the 2D at its own 25 Hz" in out
    code, out, err = mpm(capsys, monkeypatch, *command, "--flip", "--json", both)
    assert code == 0, err
    assert "mean with the mirrored input" in out
    one, two = json.loads(plain.read_text()), json.loads(both.read_text())
    assert one["checkpoint_sha256"] == two["checkpoint_sha256"]
    assert one["rows"] != two["rows"]
    code, _, err = mpm(capsys, monkeypatch, "table", plain, both)
    assert code == 2
    assert "flip is 'no test-time flip'" in err


def test_the_command_takes_the_source_of_the_2d_where_the_protocol_has_one(
    capsys, monkeypatch, tmp_path, files
):
    save_checkpoint(tmp_path / "lifter", make_checkpoint())
    renamed = tmp_path / "mine.npz"
    renamed.write_bytes(Path(files[1]).read_bytes())
    command = ["evaluate", "--checkpoint", tmp_path / "lifter", "--data", files[0], "--data", renamed]
    said = ["--keypoints-source", "hrnet"]
    code, out, err = mpm(capsys, monkeypatch, *command, "--protocol", "h36m", *said)
    assert code == 0, err
    assert "(320 frames, 2D hrnet, no test-time flip;" in out
    code, _, err = mpm(capsys, monkeypatch, *command, "--protocol", "lifting", *said, "--flip")
    assert code == 2
    assert "--flip: protocol lifting has no test-time flip" in err
    assert "--keypoints-source: protocol lifting says itself where its 2D is from; leave it out" in err
