from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
import torch
from command import mpm
from made_up_people import make_track
from scipy.signal import savgol_coeffs

from mpm_model.errors import InputError
from mpm_model.learning.detector_noise import SWAP_GROUPS, DetectorNoiseConfig, detect
from mpm_model.pose.skeletons import H36M_17
from pipelines import noise_estimates as estimates
from pipelines.detections.registry import find_sources, read_source
from pipelines.detections.track import Track
from pipelines.fit_noise import fit_noise, run
from pipelines.run_config import FinetuneConfig, load

FRAMES = 1500
DETECTOR = DetectorNoiseConfig(
    scale=1,
    jitter_std=0.005,
    jitter_time_s=0.03,
    bias_std=0.01,
    quality_spread=0.5,
    quality_time_s=0.25,
    median_confidence=0.75,
    confidence_spread=0.7,
    confidence_truth=0.8,
    swaps_per_s=0.1,
    swap_s=0.15,
    dropouts_per_s=0.2,
    dropout_s=0.12,
    outlier_probability=0.004,
    outlier_std=0.2,
)


def seen_by(config: DetectorNoiseConfig, *, rate_hz: float = 50.0, people: int = 12) -> list[Track]:
    """People who swing their arms and legs for half a minute, as such a detector sees them."""
    person = make_track(frames=FRAMES, rate_hz=rate_hz)
    true_px = torch.from_numpy(person.keypoints_px).expand(people, -1, -1, -1)
    seen_px, confidence, is_hidden = detect(
        true_px,
        torch.zeros(true_px.shape[:3], dtype=torch.bool),
        rate_hz=rate_hz,
        skeleton=H36M_17,
        config=config,
        seed=0,
        epoch=0,
        sample_ids=np.arange(people),
    )
    confidence = confidence.masked_fill(is_hidden, 0.0)
    return [
        Track(
            keypoints_px=seen_px[number].numpy(),
            confidence=confidence[number].numpy(),
            frames=np.arange(FRAMES),
            skeleton=H36M_17,
            source="made up",
            person=str(number),
            rate_hz=rate_hz,
            width_px=640,
            height_px=800,
        )
        for number in range(people)
    ]


@pytest.fixture(scope="module")
def fitted():
    return fit_noise(seen_by(DETECTOR))


TOLERANCES = {
    "jitter_time_s": 0.15, "quality_spread": 0.1, "quality_time_s": 0.15, "median_confidence": 0.02,
    "confidence_spread": 0.05, "confidence_truth": 0.1, "swaps_per_s": 0.3, "swap_s": 0.3,
    "dropouts_per_s": 0.15, "dropout_s": 0.15, "outlier_probability": 0.2, "outlier_std": 0.1,
}  # fmt: skip
"""Relative to the truth."""


@pytest.mark.parametrize("setting", TOLERANCES)
def test_a_known_detector_is_recovered(fitted, setting):
    expected = getattr(DETECTOR, setting)
    assert getattr(fitted.config, setting) == pytest.approx(expected, rel=TOLERANCES[setting])


def test_every_joints_jitter_is_recovered(fitted):
    for kind, error in DETECTOR.joint_error.items():
        jitter_std = fitted.config.joint_error[kind] * fitted.config.jitter_std
        assert jitter_std == pytest.approx(error * DETECTOR.jitter_std, rel=0.1), kind


def test_what_was_fitted_is_a_setting_of_a_run(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "seen"
    folder.mkdir()
    for track in seen_by(DETECTOR, people=2):
        np.savez(
            folder / f"{track.person}.npz",
            keypoints_px=track.keypoints_px,
            confidence=track.confidence,
            skeleton="h36m_17",
        )
    out = tmp_path / "noise.yaml"
    code, said, errors = mpm(
        capsys, monkeypatch, "fit-noise", folder, "--out", out, "--rate-hz", 50, "--image-size", "640x800"
    )
    assert (code, errors) == (0, "")
    assert "bias_std: the default; without truth" in said
    text = out.read_text()
    assert text.startswith("# How a detector errs, by mpm fit-noise")
    configuration = tmp_path / "run.yaml"
    configuration.write_text(f"seed: 0\nepochs: 1\nbatch_windows: 2\n{text}")
    detector = load(FinetuneConfig, str(configuration)).view.detector
    assert detector.scale == 1
    assert detector.median_confidence == pytest.approx(DETECTOR.median_confidence, abs=0.02)


def test_the_real_sample_gives_a_noise_to_train_with(sample_tracks):
    fit = fit_noise(sample_tracks)
    assert fit.people == 6
    assert 0.002 < fit.config.jitter_std < 0.01
    assert 0.5 < fit.config.median_confidence < 0.7
    assert {"bias_std", "swaps_per_s", "swap_s"} == set(fit.notes)
    assert fit.config.bias_std == DetectorNoiseConfig().bias_std


@pytest.fixture(scope="module")
def sample_tracks():
    folder = str(resources.files("pipelines") / "sample" / "detections" / "pose2sim")
    return [replace(track, rate_hz=60.0) for source in find_sources(folder) for track in read_source(source)]


def test_a_detector_that_is_always_sure_tells_nothing_by_it():
    tracks = [
        replace(track, confidence=(track.confidence > 0).astype(np.float32))
        for track in seen_by(DETECTOR, people=2)
    ]
    fit = fit_noise(tracks)
    for name in ("median_confidence", "confidence_spread", "confidence_truth", "quality_time_s"):
        assert "tell nothing" in fit.notes[name]
        assert getattr(fit.config, name) == getattr(DetectorNoiseConfig(), name)


def test_a_detector_that_never_misses_in_long_enough_a_time_has_no_misses():
    fit = fit_noise(seen_by(replace(DETECTOR, dropouts_per_s=0, swaps_per_s=0, outlier_probability=0)))
    assert fit.config.dropouts_per_s == fit.config.swaps_per_s == 0
    assert fit.config.outlier_probability < 0.1 * DETECTOR.outlier_probability


def test_swaps_are_found_and_undone():
    clean = make_track(frames=200).keypoints_px
    swapped = clean.copy()
    legs = H36M_17.select(*SWAP_GROUPS["legs"])
    swapped[90:97, legs] = clean[90:97, H36M_17.mirror[legs]]
    made = [
        estimates.make_run(points, np.ones((200, 17)), rate_hz=50.0, skeleton=H36M_17)
        for points in (clean, swapped)
    ]
    np.testing.assert_allclose(made[1].keypoints, made[0].keypoints)
    assert np.flatnonzero(made[1].is_swapped[:, 0]).tolist() == list(range(90, 97))
    assert not made[1].is_swapped[:, 1].any()
    assert not made[0].is_swapped.any()


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_what_the_cubic_takes_away_from_noise_is_known(correlation):
    kernel = -savgol_coeffs(9, 3)
    kernel[4] += 1
    lag = np.abs(np.arange(10)[:, None] - np.arange(10))
    covariance = correlation**lag
    here, next_to = np.zeros(10), np.zeros(10)
    here[:9] = next_to[1:] = kernel
    variance, following = estimates.residual_moments(kernel, correlation)
    assert variance == pytest.approx(here @ covariance @ here)
    assert following == pytest.approx(here @ covariance @ next_to)


def test_absence_for_long_is_no_miss():
    is_missed = np.zeros((400, 2), dtype=bool)
    is_missed[100:300, 0] = True
    is_missed[10:13, 1] = is_missed[20:23, 1] = True
    counted = estimates.count_bursts(is_missed, rate_hz=50.0)
    assert (counted.starts, counted.ends, counted.on_frames) == (2, 2, 6)


def test_too_little_to_see_is_refused_with_what_is_wanted():
    track = seen_by(DETECTOR, people=1)[0]
    short = replace(
        track,
        keypoints_px=track.keypoints_px[:30],
        confidence=track.confidence[:30],
        frames=track.frames[:30],
    )
    with pytest.raises(InputError, match=r"made up: wanted at least 1,000 keypoints .* give longer videos"):
        fit_noise([short])


def test_a_rate_that_nobody_says_and_an_output_of_another_kind_are_refused(tmp_path):
    folder = str(resources.files("pipelines") / "sample" / "detections" / "pose2sim")
    with pytest.raises(InputError, match="give --rate-hz"):
        run([folder], out=str(tmp_path / "noise.yaml"))
    with pytest.raises(InputError, match="wanted the name of a YAML file"):
        run([folder], out=str(tmp_path / "noise.json"))
