import subprocess
import sys

import numpy as np
import pytest
import torch

from mpm_model.checkpoint import Checkpoint, save_checkpoint
from mpm_model.errors import InputError
from mpm_model.lifter import Lifter, interpolate, resample_keypoints
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.lifting import LiftingModel
from mpm_model.network.masked import MaskedPoseModel
from mpm_model.pose.skeletons import H36M_17

TINY = PoseTransformerConfig(frames=27, width=32, layers=1, heads=4, feed_forward=32, frame_hidden=32)


def make_checkpoint(normalisation: str = "person", kind: type = LiftingModel) -> Checkpoint:
    torch.manual_seed(0)
    return Checkpoint(
        model=kind(TINY),
        skeleton=H36M_17,
        normalisation=normalisation,
        rate_hz=25.0,
        card={"made_by": "a test"},
    )


def make_track(frames: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    path_px = np.linspace(0, 300, frames)[:, None, None] * [1.0, 0.1]
    return (rng.normal(500, 80, (1, 17, 2)) + path_px).astype(np.float32)


def test_three_lines_lift(tmp_path):
    save_checkpoint(tmp_path / "lifter", make_checkpoint())
    lifter = Lifter.load(tmp_path / "lifter")
    joints_rel_m = lifter(make_track(100), rate_hz=60)
    assert joints_rel_m.shape == (100, 17, 3)
    assert joints_rel_m.dtype == np.float32
    assert np.isfinite(joints_rel_m).all()


@pytest.mark.parametrize("frames", [1, 2, 26, 27, 28, 53, 200])
@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_any_length_and_rate_gives_a_pose_per_frame(frames, mode):
    lifter = Lifter(make_checkpoint(), mode=mode)
    for rate_hz in (None, 12.5, 25.0, 60.0):
        assert lifter(make_track(frames), rate_hz=rate_hz).shape == (frames, 17, 3)


def test_fast_is_the_network_where_one_window_is_enough():
    checkpoint = make_checkpoint(normalisation="screen")
    track_px = make_track(27)
    lifted = Lifter(checkpoint)(track_px, width_px=1000, height_px=800)
    screen = torch.from_numpy((track_px - [500, 400]) / 500).float()
    with torch.inference_mode():
        expected = checkpoint.model.sequence(screen[None])[0].numpy()
    np.testing.assert_allclose(lifted, expected, atol=1e-5)


def test_exact_is_the_centre_of_a_window_around_each_frame():
    checkpoint = make_checkpoint(normalisation="screen")
    track_px = make_track(60)
    lifted = Lifter(checkpoint, mode="exact")(track_px, width_px=1000, height_px=800)
    screen = torch.from_numpy((track_px - [500, 400]) / 500).float()
    with torch.inference_mode():
        expected = checkpoint.model(screen[None, 20 - 13 : 20 + 14]).center[0, 0].numpy()
    np.testing.assert_allclose(lifted[20], expected, atol=1e-5)


def test_what_nobody_saw_has_no_influence():
    lifter = Lifter(make_checkpoint())
    track_px, confidence = make_track(40), np.ones((40, 17), np.float32)
    confidence[10:30, 5] = 0.05
    moved_px = track_px.copy()
    moved_px[10:30, 5] = 1e4
    np.testing.assert_allclose(lifter(track_px, confidence), lifter(moved_px, confidence), atol=1e-5)


def test_a_person_centred_model_forgets_place_and_size():
    lifter = Lifter(make_checkpoint())
    track_px = make_track(40)
    np.testing.assert_allclose(lifter(track_px * 3 + [70, -20]), lifter(track_px), atol=1e-3)


def test_resampling_there_and_back_keeps_a_straight_motion():
    times_s = np.arange(31) / 60
    values = times_s[:, None] * [1.0, -2.0]
    there_s = np.arange(14) / 25
    np.testing.assert_allclose(
        interpolate(values, times_s, there_s)[:13], there_s[:13, None] * [1.0, -2.0], atol=1e-12
    )


def test_resampling_takes_the_seen_one_of_two_neighbours():
    keypoints_px = np.array([[[0.0, 0.0]], [[10.0, 10.0]], [[99.0, 99.0]]])
    is_hidden = np.array([[False], [False], [True]])
    at_px, hidden = resample_keypoints(keypoints_px, is_hidden, np.arange(3.0), np.array([0.5, 1.25, 1.75]))
    np.testing.assert_allclose(at_px[:2, 0, 0], [5.0, 10.0])
    assert hidden[:, 0].tolist() == [False, False, True]


def test_wrong_input_is_refused_all_at_once():
    lifter = Lifter(make_checkpoint(normalisation="screen"))
    with pytest.raises(InputError, match=r"\(N, 17, 2\).*got \(5, 16, 2\); confidence must.*image size"):
        lifter(np.zeros((5, 16, 2)), np.ones((5, 17)))
    with pytest.raises(InputError, match="instead of NaN"):
        lifter(np.full((5, 17, 2), np.nan), width_px=10, height_px=10)


def test_a_checkpoint_that_does_not_lift_is_refused(tmp_path):
    with pytest.raises(InputError, match="fine-tune it"):
        Lifter(make_checkpoint(kind=MaskedPoseModel))
    save_checkpoint(tmp_path / "masked", make_checkpoint(kind=MaskedPoseModel))
    with pytest.raises(InputError, match="lifting"):
        Lifter.load(tmp_path / "masked")
    with pytest.raises(InputError, match="fast, exact"):
        Lifter(make_checkpoint(), mode="slow")


def test_loading_and_lifting_import_no_compiler(tmp_path):
    """torch's compiler takes longer to import than a video to lift."""
    save_checkpoint(tmp_path / "lifter", make_checkpoint())
    code = (
        "import sys, numpy; from mpm_model.lifter import Lifter; "
        f"Lifter.load({str(tmp_path / 'lifter')!r})(numpy.ones((30, 17, 2), 'float32')); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
