"""The test set of MPI-INF-3DHP in its own layout, with answers known by hand."""

import h5py
import numpy as np
import pytest
import torch
from command import mpm
from made_up_people import make_track

from mpm_model.checkpoint import Checkpoint, save_checkpoint
from mpm_model.errors import InputError
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.lifting import LiftingModel
from mpm_model.pose.skeletons import COCO_17, H36M_16, H36M_17
from pipelines.protocols import mpi_inf_3dhp
from pipelines.protocols.clips import flipped
from pipelines.protocols.mpi_inf_3dhp import FITS, measure, read_clips, score, through

FRAMES = {"TS1": 40, "TS2": 20, "TS3": 20, "TS4": 20, "TS5": 10, "TS6": 10}
SEQUENCE_MEAN, FRAME_MEAN = "mean over 6 sequences", "all frames"
PUBLISHED_16 = [14, 8, 9, 10, 11, 12, 13, 15, 16, 0, 5, 6, 7, 2, 3, 4]
"""The order of 16 joints as the paper's code takes it, where joint 0 is first put halfway to 16."""


def write_test_set(folder, **replaced):
    for name, frames in FRAMES.items():
        track = make_track(frames=frames)
        joints_m = FITS[H36M_17.name].from_model.points(track.joints_rel_m + np.array([0, 0, 3]))
        keypoints_px = FITS[H36M_17.name].from_model.points(track.keypoints_px)
        content = {
            "annot2": keypoints_px[:, None],
            "annot3": 1e6 + np.zeros((frames, 1, 17, 3)),
            "univ_annot3": 1000 * joints_m[:, None],
            "valid_frame": (np.arange(frames) % 2 == 0).astype(float)[:, None],
        }
        (folder / name).mkdir()
        with h5py.File(folder / name / "annot_data.mat", "w") as file:
            for key, value in (content | replaced).items():
                if value is not None:
                    file[key] = value
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_test_set(tmp_path_factory.mktemp("3dhp"))


@pytest.fixture(scope="module")
def clips(folder):
    return read_clips(str(folder))[0]


def scores(predict, clips):
    return {row.name: row.scores for row in score(predict, clips)}


def off(joint, metres):
    """A predictor that is right but for one joint."""

    def predict(clip):
        off_m = np.zeros_like(clip.joints_cam_m)
        off_m[:, clip.skeleton.index(joint), 0] = metres(clip)
        return clip.joints_cam_m + off_m

    return predict


def test_sequences_have_their_sizes_and_valid_frames(clips):
    assert [clip.name for clip in clips] == list(FRAMES)
    assert [(clip.width_px, clip.height_px) for clip in clips] == [(2048, 2048)] * 4 + [(1920, 1080)] * 2
    assert [clip.is_valid.sum() for clip in clips] == [20, 10, 10, 10, 5, 5]


def test_the_truth_is_all_right(clips):
    for row in scores(lambda clip: clip.joints_cam_m + 1.0, clips).values():
        assert row["PCK %"] == 100
        assert row["AUC %"] == pytest.approx(100 * 30 / 31)
        assert row["MPJPE mm"] == pytest.approx(0, abs=1e-3)


def test_sequences_are_averaged_beside_all_frames(clips):
    found = scores(off("left_wrist", lambda clip: 0.17 if clip.name == "TS1" else 0.0), clips)
    assert found["TS1"]["PCK %"] == pytest.approx(100 * 13 / 14)
    assert found["TS1"]["MPJPE mm"] == pytest.approx(10, abs=1e-3)
    assert found[SEQUENCE_MEAN]["MPJPE mm"] == pytest.approx(10 / 6, abs=1e-3)
    assert found[FRAME_MEAN]["MPJPE mm"] == pytest.approx(10 * 20 / 60, abs=1e-3)
    assert found[FRAME_MEAN]["PCK %"] == pytest.approx(100 * (1 - 20 / 60 / 14))


@pytest.mark.parametrize("joint", ["spine", "head"])
def test_joints_beyond_the_fourteen_count_in_mpjpe_alone(clips, joint):
    found = scores(off(joint, lambda _: 1.7), clips)[FRAME_MEAN]
    assert found["PCK %"] == 100
    assert found["MPJPE mm"] == pytest.approx(100, abs=1e-2)


def test_frames_that_are_not_valid_are_not_measured(clips):
    found = scores(lambda clip: clip.joints_cam_m + 9.0 * ~clip.is_valid[:, None, None], clips)
    assert found[FRAME_MEAN]["MPJPE mm"] == pytest.approx(0, abs=1e-3)


def test_sixteen_joints_are_those_of_the_paper():
    points = np.random.default_rng(0).normal(size=(17, 3))
    published = points.copy()
    published[0] = (points[0] + points[16]) / 2
    np.testing.assert_allclose(FITS[H36M_16.name].to_model.points(points), published[PUBLISHED_16])


def test_a_perfect_model_of_17_joints_is_perfect_and_one_of_16_but_for_the_neck(clips):
    def perfect(clip):
        return clip.joints_cam_m

    found = scores(through(perfect, FITS[H36M_17.name]), clips)[FRAME_MEAN]
    assert found["MPJPE mm"] == pytest.approx(0, abs=1e-3)
    found = scores(through(perfect, FITS[H36M_16.name]), clips)[FRAME_MEAN]
    assert found["MPJPE mm"] == pytest.approx(20 / 17, abs=1e-3)  # the neck is 2 cm above the shoulders
    assert found["PCK %"] == 100


def test_a_flip_takes_a_pull_to_one_side_away(clips):
    pulled = through(off("spine", lambda _: 0.17), FITS[H36M_16.name])
    plain = scores(pulled, clips)[FRAME_MEAN]["MPJPE mm"]
    assert plain - scores(flipped(pulled), clips)[FRAME_MEAN]["MPJPE mm"] == pytest.approx(10, abs=1e-3)


def test_keypoints_at_zero_are_nobody_seen(tmp_path):
    keypoints_px = np.full((10, 1, 17, 2), 500.0)
    keypoints_px[3] = 0
    content = {
        "annot2": keypoints_px,
        "univ_annot3": np.zeros((10, 1, 17, 3)),
        "valid_frame": np.ones((10, 1)),
    }
    clips, _ = read_clips(str(write_test_set(tmp_path, **content)))
    assert [(clip.confidence == 0).all(-1).nonzero()[0].tolist() for clip in clips] == [[3]] * 6


@pytest.mark.parametrize(
    ("replaced", "said"),
    [
        ({"univ_annot3": None}, "univ_annot3 must be .* got nothing"),
        ({"annot2": np.zeros((2, 28))}, r"annot2 must be \(40, 1, 17, 2\), got \(2, 28\)"),
        ({"univ_annot3": np.full((40, 1, 17, 3), np.nan)}, "finite joints"),
        ({"valid_frame": np.full((40, 1), b"yes")}, "valid_frame must be numbers"),
    ],
)
def test_a_sequence_that_is_not_as_published_is_refused(tmp_path, replaced, said):
    with pytest.raises(InputError, match=said):
        read_clips(str(write_test_set(tmp_path, **replaced)))


def test_an_absent_sequence_and_a_file_that_is_no_hdf5_are_named(tmp_path):
    with pytest.raises(InputError, match="TS1, TS2, TS3, TS4, TS5, TS6 absent"):
        read_clips(str(tmp_path))
    write_test_set(tmp_path)
    (tmp_path / "TS3" / "annot_data.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(InputError, match=r"TS3/annot_data\.mat: wanted a MATLAB 7\.3 file"):
        read_clips(str(tmp_path))


def test_a_damaged_sequence_is_read_or_refused_and_never_anything_else(monkeypatch, folder):
    whole = (folder / "TS5" / "annot_data.mat").read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(0, 2400, 3):  # where the file says what it holds
            damaged[place] = rng.integers(0, 256)
        monkeypatch.setattr(mpi_inf_3dhp.storage, "read_bytes", lambda _, content=bytes(damaged): content)
        try:
            mpi_inf_3dhp._read_sequence("annot_data.mat")
        except InputError:
            refused += 1
    assert refused > 30


def make_checkpoint(skeleton):
    torch.manual_seed(0)
    config = PoseTransformerConfig(
        frames=27, width=32, layers=1, heads=4, feed_forward=32, frame_hidden=32, joints=len(skeleton)
    )
    return Checkpoint(
        model=LiftingModel(config), skeleton=skeleton, normalisation="screen", rate_hz=25.0, card={}
    )


@pytest.mark.parametrize(("skeleton", "said"), [(H36M_16, "predicted shoulders"), (H36M_17, "thorax")])
def test_the_command_measures_models_of_16_and_17_joints(
    capsys, monkeypatch, tmp_path, folder, skeleton, said
):
    save_checkpoint(tmp_path / "lifter", make_checkpoint(skeleton))
    command = ["evaluate", "--checkpoint", tmp_path / "lifter", "--protocol", "3dhp", "--data", folder]
    code, out, err = mpm(capsys, monkeypatch, *command)
    assert code == 0, err
    assert "(60 frames, 2D of the annotation, no test-time flip;" in out
    assert f"note: {len(skeleton)} joints" in out
    assert said in out
    for row in (*FRAMES, SEQUENCE_MEAN, FRAME_MEAN):
        assert f"\n{row} " in out


def test_a_checkpoint_of_another_skeleton_is_refused(folder):
    with pytest.raises(InputError, match="h36m_17 or h36m_16, got coco_17"):
        measure(make_checkpoint(COCO_17), [str(folder)])
