"""Lifting a track: any length and rate, and the network behind it untouched."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from mpm_model.checkpoint import Checkpoint, save_checkpoint
from mpm_model.errors import InputError
from mpm_model.lifter import Lifter, interpolate, resample_keypoints
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.lifting import LiftingModel
from mpm_model.network.masked import MaskedPoseModel, UnifiedPoseModel
from mpm_model.pose.normalize import input_channels, normalize_keypoints
from mpm_model.pose.skeletons import H36M_17

TINY = PoseTransformerConfig(frames=27, width=32, layers=1, heads=4, feed_forward=32, frame_hidden=32)


def make_checkpoint(
    normalisation: str = "person", kind: type = LiftingModel, *, has_confidence: bool = False
) -> Checkpoint:
    torch.manual_seed(0)
    channels = input_channels(normalisation)[has_confidence]
    return Checkpoint(
        model=kind(replace(TINY, keypoint_channels=channels)).eval(),
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


@pytest.mark.parametrize("kind", [LiftingModel, UnifiedPoseModel])
@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_the_confidence_enters_where_the_network_wants_it(kind, mode):
    checkpoint = make_checkpoint(kind=kind, has_confidence=True)
    track_px = make_track(27)
    confidence = np.random.default_rng(2).uniform(0, 1.2, (27, 17)).astype(np.float32)
    lifted = Lifter(checkpoint, mode=mode)(track_px, confidence)
    is_hidden = torch.from_numpy(confidence < 0.1)[None]
    keypoints = normalize_keypoints(
        torch.from_numpy(track_px)[None],
        is_hidden,
        normalisation="person",
        width_px=torch.zeros(1),
        height_px=torch.zeros(1),
        confidence=torch.from_numpy(confidence.clip(0, 1))[None],
    )
    with torch.inference_mode():
        expected = checkpoint.model(keypoints, is_hidden=is_hidden)
    if mode == "fast":
        np.testing.assert_allclose(lifted, expected.sequence[0].numpy(), atol=1e-5)
    else:
        np.testing.assert_allclose(lifted[13], expected.center[0, 0].numpy(), atol=1e-5)


def test_without_that_wish_the_confidence_decides_only_what_is_hidden():
    track_px = make_track(40)
    sure, unsure = np.ones((40, 17), np.float32), np.full((40, 17), 0.5, np.float32)
    plain = Lifter(make_checkpoint())
    np.testing.assert_array_equal(plain(track_px, sure), plain(track_px, unsure))
    knowing = Lifter(make_checkpoint(has_confidence=True))
    assert np.abs(knowing(track_px, sure) - knowing(track_px, unsure)).max() > 1e-3


def test_no_confidence_is_full_confidence():
    lifter = Lifter(make_checkpoint(has_confidence=True))
    track_px = make_track(40)
    np.testing.assert_array_equal(lifter(track_px), lifter(track_px, np.ones((40, 17), np.float32)))


def test_the_confidence_is_resampled_with_the_track():
    """A person who stands still while the detector grows surer, seen at twice the model's rate."""
    lifter = Lifter(make_checkpoint(has_confidence=True))
    track_px = make_track(1).repeat(51, axis=0)
    confidence = np.linspace(0.2, 1.0, 51, dtype=np.float32)[:, None].repeat(17, axis=1)
    at_its_own_rate = lifter(track_px[::2], confidence[::2])
    twice_as_often = lifter(track_px, confidence, rate_hz=50)
    np.testing.assert_allclose(twice_as_often[::2], at_its_own_rate, atol=1e-5)
    assert np.ptp(at_its_own_rate, axis=0).max() > 1e-3


def test_a_model_of_both_takes_the_image_size_where_it_is_known():
    checkpoint = make_checkpoint(normalisation="both", kind=UnifiedPoseModel)
    lifter, track_px = Lifter(checkpoint), make_track(27)
    for size in ({}, {"width_px": 1000, "height_px": 800}):
        keypoints = normalize_keypoints(
            torch.from_numpy(track_px)[None],
            torch.zeros(1, 27, 17, dtype=torch.bool),
            normalisation="both",
            width_px=torch.tensor([float(size.get("width_px", 0))]),
            height_px=torch.tensor([float(size.get("height_px", 0))]),
        )
        assert bool(size) == bool(keypoints[..., 2:].any())
        with torch.inference_mode():
            expected = checkpoint.model.sequence(keypoints)[0].numpy()
        np.testing.assert_allclose(lifter(track_px, **size), expected, atol=1e-5)


def test_half_an_image_size_is_refused():
    lifter = Lifter(make_checkpoint(normalisation="both"))
    for size in ({"width_px": 1000}, {"height_px": 800}):
        with pytest.raises(InputError, match="give both width_px and height_px, or neither"):
            lifter(make_track(27), **size)


def test_a_unified_checkpoint_lifts_in_both_modes():
    track_px = make_track(60)
    for mode in ("fast", "exact"):
        joints_rel_m = Lifter(make_checkpoint(kind=UnifiedPoseModel), mode=mode)(track_px)
        assert joints_rel_m.shape == (60, 17, 3)
        assert np.isfinite(joints_rel_m).all()


def test_loading_nothing_loads_the_weights_that_ship(tmp_path, monkeypatch):
    checkpoint = make_checkpoint(kind=UnifiedPoseModel, has_confidence=True)
    save_checkpoint(tmp_path / "weights", checkpoint, is_half=True)
    monkeypatch.setattr("mpm_model.lifter.shipped_weights", lambda: tmp_path / "weights")
    shipped, named = Lifter.load(), Lifter.load(tmp_path / "weights")
    assert shipped.has_confidence
    track_px = make_track(40)
    np.testing.assert_array_equal(shipped(track_px), named(track_px))


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
