import numpy as np
import pytest
import torch

from mpm_model.checkpoint import Checkpoint, save_checkpoint
from mpm_model.completer import Completer, bridge_gaps, fill_root
from mpm_model.errors import InputError
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.lifting import LiftingModel
from mpm_model.network.masked import MaskedPoseModel, UnifiedPoseModel
from mpm_model.pose.skeletons import H36M_17

TINY = PoseTransformerConfig(frames=27, width=32, layers=1, heads=4, feed_forward=32, frame_hidden=32)
WRIST = H36M_17.index("left_wrist")
PELVIS = H36M_17.index("pelvis")


def make_checkpoint(kind: type = MaskedPoseModel) -> Checkpoint:
    torch.manual_seed(0)
    return Checkpoint(
        model=kind(TINY), skeleton=H36M_17, normalisation="person", rate_hz=25.0, card={"made_by": "a test"}
    )


def make_track(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """A rigid person on a path, and a left wrist that is hidden throughout."""
    rng = np.random.default_rng(1)
    path_m = np.linspace(0, 3, frames)[:, None, None] * [1.0, 0.1, 2.0]
    is_hidden = np.zeros((frames, 17), dtype=bool)
    is_hidden[:, WRIST] = True
    return (rng.normal(0, 0.4, (1, 17, 3)) + path_m).astype(np.float32), is_hidden


@pytest.mark.parametrize("kind", [MaskedPoseModel, UnifiedPoseModel])
def test_three_lines_complete(tmp_path, kind):
    save_checkpoint(tmp_path / "completer", make_checkpoint(kind))
    completer = Completer.load(tmp_path / "completer")
    joints_m, is_hidden = make_track(100)
    completed_m = completer(joints_m, is_hidden, rate_hz=60)
    assert completed_m.dtype == np.float32
    assert np.isfinite(completed_m).all()
    np.testing.assert_array_equal(completed_m[~is_hidden], joints_m[~is_hidden])


@pytest.mark.parametrize("frames", [1, 2, 26, 27, 28, 53, 200])
def test_any_length_and_rate_gives_a_pose_per_frame(frames):
    completer = Completer(make_checkpoint())
    for rate_hz in (None, 12.5, 25.0, 60.0):
        assert completer(*make_track(frames), rate_hz=rate_hz).shape == (frames, 17, 3)


@pytest.mark.parametrize("keep_seen", [True, False])
@pytest.mark.parametrize("rate_hz", [25.0, 60.0])
def test_what_is_hidden_has_no_influence(keep_seen, rate_hz):
    completer = Completer(make_checkpoint(), keep_seen=keep_seen)
    joints_m, is_hidden = make_track(80)
    is_hidden[30:34] |= np.arange(17) != PELVIS
    spoiled_m = np.where(is_hidden[..., None], np.nan, joints_m)
    np.testing.assert_array_equal(
        completer(joints_m, is_hidden, rate_hz=rate_hz), completer(spoiled_m, is_hidden, rate_hz=rate_hz)
    )


def test_one_window_is_the_network_and_seen_joints_may_be_re_estimated():
    checkpoint = make_checkpoint()
    joints_m, is_hidden = make_track(27)
    root_m = joints_m[:, [PELVIS]]
    with torch.inference_mode():
        expected_m = checkpoint.model.eval().reconstruct_3d(
            torch.from_numpy(joints_m - root_m)[None],
            is_hidden_joint=torch.from_numpy(is_hidden)[None],
            is_hidden_frame=None,
        )[0]
    expected_m = expected_m.numpy() + root_m
    np.testing.assert_allclose(
        Completer(checkpoint, keep_seen=False)(joints_m, is_hidden), expected_m, atol=1e-6
    )
    np.testing.assert_allclose(
        Completer(checkpoint)(joints_m, is_hidden)[:, WRIST], expected_m[:, WRIST], atol=1e-6
    )


def test_where_a_person_stands_makes_no_difference():
    completer = Completer(make_checkpoint())
    joints_m, is_hidden = make_track(40)
    moved_m = completer(joints_m + np.float32([3, -2, 5]), is_hidden) - np.float32([3, -2, 5])
    np.testing.assert_allclose(moved_m, completer(joints_m, is_hidden), atol=1e-4)


def test_a_hidden_root_is_refused_or_interpolated_as_asked():
    joints_m, is_hidden = make_track(60)
    is_hidden[20:30, PELVIS] = True
    with pytest.raises(InputError, match=r"pelvis is hidden in 10 of 60 frames.*hidden_root interpolate"):
        Completer(make_checkpoint())(joints_m, is_hidden)
    completer = Completer(make_checkpoint(), hidden_root="interpolate")
    completed_m = completer(np.where(is_hidden[..., None], np.nan, joints_m), is_hidden)
    np.testing.assert_allclose(completed_m[:, PELVIS], joints_m[:, PELVIS], atol=1e-5)  # it moves straight
    is_hidden[:, PELVIS] = True
    with pytest.raises(InputError, match="pelvis is hidden in every frame"):
        completer(joints_m, is_hidden)


def test_the_root_stands_still_beyond_the_frames_that_have_it():
    root_m = np.arange(5.0)[:, None] * np.ones(3)
    is_hidden = np.array([True, False, True, False, True])
    assert fill_root(np.where(is_hidden[:, None], 0, root_m), is_hidden)[:, 0].tolist() == [1, 1, 2, 3, 3]
    assert fill_root(root_m, np.arange(5) != 2)[:, 0].tolist() == [2] * 5


def test_a_short_gap_is_a_straight_line_and_a_long_one_is_the_model_s():
    joints_m, is_hidden = make_track(60)  # moves straight
    is_hidden[:] = False
    is_hidden[10:12, WRIST] = True  # less than 0.1 s at 25 Hz
    is_hidden[30:33, WRIST] = True
    is_hidden[:3, 3] = True  # nothing before it
    completed_m = Completer(make_checkpoint())(joints_m, is_hidden)
    np.testing.assert_allclose(completed_m[10:12], joints_m[10:12], atol=1e-5)
    assert np.abs(completed_m - joints_m)[30:33, WRIST].min() > 1e-4
    assert np.abs(completed_m - joints_m)[:3, 3].min() > 1e-4
    by_model_m = Completer(make_checkpoint(), short_gap_s=0)(joints_m, is_hidden)
    assert np.abs(by_model_m - joints_m)[10:12, WRIST].min() > 1e-4


def test_gaps_are_bridged_joint_by_joint():
    points = np.arange(6.0)[:, None, None] * [[1.0], [2.0]]
    is_hidden = np.zeros((6, 2), dtype=bool)
    is_hidden[2:4, 0] = is_hidden[1:4, 1] = is_hidden[5, 0] = True
    bridged, still = bridge_gaps(np.where(is_hidden[..., None], 99, points), is_hidden, longest_frames=2)
    assert bridged[:5, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert np.argwhere(still).tolist() == [[1, 1], [2, 1], [3, 1], [5, 0]]


def test_wrong_input_is_refused_all_at_once():
    completer = Completer(make_checkpoint())
    with pytest.raises(InputError, match=r"\(N, 17, 3\).*got \(5, 16, 3\); is_hidden must be bool"):
        completer(np.zeros((5, 16, 3)), np.ones((5, 17)))
    joints_m, is_hidden = make_track(3)
    joints_m[1, 3] = np.nan
    with pytest.raises(InputError, match="finite"):
        completer(joints_m, is_hidden)
    with pytest.raises(InputError, match="refuse, interpolate"):
        Completer(make_checkpoint(), hidden_root="guess")


def test_a_checkpoint_that_does_not_complete_is_refused(tmp_path):
    with pytest.raises(InputError, match="completion or unified"):
        Completer(make_checkpoint(LiftingModel))
    save_checkpoint(tmp_path / "lifter", make_checkpoint(LiftingModel))
    with pytest.raises(InputError, match="masked"):
        Completer.load(tmp_path / "lifter")
