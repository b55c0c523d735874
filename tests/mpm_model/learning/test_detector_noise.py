import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from mpm_model.errors import InputError
from mpm_model.learning.detector_noise import (
    SWAP_GROUPS,
    DetectorNoiseConfig,
    bursts,
    detect,
    person_size_px,
)
from mpm_model.pose.skeletons import H36M_17

RATE_HZ = 50.0
QUIET = DetectorNoiseConfig(
    scale=1, joint_error={}, jitter_std=0, bias_std=0, swaps_per_s=0, dropouts_per_s=0, outlier_probability=0
)
"""A detector that does nothing wrong, for changing one thing at a time."""


def look(config: DetectorNoiseConfig, *, windows: int = 64, frames: int = 100, rate_hz: float = RATE_HZ):
    """Errors as shares of the person's size, confidence and misses, of people whose joints stand still."""
    keypoints_px, is_hidden = people(windows, frames)
    seen_px, confidence, is_missed = detect(
        keypoints_px,
        is_hidden,
        rate_hz=rate_hz,
        skeleton=H36M_17,
        config=config,
        seed=3,
        epoch=1,
        sample_ids=np.arange(windows),
    )
    error = (seen_px - keypoints_px) / person_size_px(keypoints_px, is_hidden)
    return error, confidence, is_missed


def people(windows: int, frames: int):
    rng = np.random.default_rng(0)
    pose_px = torch.from_numpy(rng.uniform(100, 500, (windows, 1, 17, 2))).float()
    return pose_px.expand(-1, frames, -1, -1).clone(), torch.zeros(windows, frames, 17, dtype=torch.bool)


def test_scale_0_is_a_perfect_and_sure_detector():
    keypoints_px, is_hidden = people(4, 27)
    is_hidden[1, :, 5] = True
    seen_px, confidence, is_missed = detect(
        keypoints_px,
        is_hidden,
        rate_hz=RATE_HZ,
        skeleton=H36M_17,
        config=DetectorNoiseConfig(scale=0),
        seed=0,
        epoch=0,
        sample_ids=np.arange(4),
    )
    assert torch.equal(seen_px, keypoints_px)
    assert torch.equal(is_missed, is_hidden)
    assert torch.equal(confidence, (~is_hidden).float())


def test_the_same_samples_are_seen_alike_in_any_batch():
    keypoints_px, is_hidden = people(8, 27)
    config = DetectorNoiseConfig(scale=1, swaps_per_s=1, dropouts_per_s=1, outlier_probability=0.1)

    def see(rows):
        return detect(
            keypoints_px[rows],
            is_hidden[rows],
            rate_hz=RATE_HZ,
            skeleton=H36M_17,
            config=config,
            seed=0,
            epoch=0,
            sample_ids=np.arange(8)[rows],
        )

    for whole, part in zip(see(np.arange(8)), see(np.array([6, 2])), strict=True):
        torch.testing.assert_close(part, whole[[6, 2]])


def test_jitter_has_the_stated_size_and_time():
    config = replace(QUIET, jitter_std=0.01, jitter_time_s=0.05, quality_spread=0.0)
    for rate_hz in (25.0, 100.0):
        error, *_ = look(config, rate_hz=rate_hz)
        assert error.std() == pytest.approx(0.01, rel=0.02)
        correlation = (error[:, 1:] * error[:, :-1]).mean() / error.square().mean()
        assert correlation == pytest.approx(math.exp(-1 / (rate_hz * 0.05)), abs=0.01)


def test_joints_err_as_stated_on_both_sides():
    config = replace(QUIET, jitter_std=0.01, quality_spread=0.0, joint_error={"wrist": 3.0, "pelvis": 0.0})
    error, *_ = look(config)
    std = error.square().mean((0, 1, 3)).sqrt()
    wrists = H36M_17.select("left_wrist", "right_wrist")
    assert std[wrists].numpy() == pytest.approx(0.03, rel=0.05)
    assert std[H36M_17.index("pelvis")] == 0
    assert std[H36M_17.index("nose")] == pytest.approx(0.01, rel=0.05)


def test_bias_stays_through_a_window():
    error, *_ = look(replace(QUIET, bias_std=0.02))
    torch.testing.assert_close(error, error[:, :1].expand_as(error), atol=1e-6, rtol=0)
    assert error.std() == pytest.approx(0.02, rel=0.05)


def test_low_confidence_means_larger_error():
    error, confidence, _ = look(replace(QUIET, jitter_std=0.01, quality_spread=0.5, confidence_truth=1.0))
    low, high = np.quantile(confidence, [0.2, 0.8])
    assert error[confidence < low].std() > 2 * error[confidence > high].std()
    # Where the confidence knows all, the logarithm of the scale is linear in its logit.
    center = math.log(QUIET.median_confidence / (1 - QUIET.median_confidence))
    quality = (confidence.logit() - center) / QUIET.confidence_spread
    assert (error * (0.5 * quality).exp()[..., None]).std() == pytest.approx(0.01, rel=0.02)
    assert quality.std() == pytest.approx(1, abs=0.05)
    assert confidence.median() == pytest.approx(QUIET.median_confidence, abs=0.01)


def test_a_confidence_that_knows_nothing_tells_nothing():
    error, confidence, _ = look(replace(QUIET, jitter_std=0.01, confidence_truth=0.0))
    is_low = confidence < confidence.median()
    assert error[is_low].std() == pytest.approx(float(error[~is_low].std()), rel=0.1)


@pytest.mark.parametrize("rate_hz", [25.0, 100.0])
def test_bursts_are_as_frequent_and_as_long_as_stated(rate_hz):
    uniform = torch.from_numpy(np.random.default_rng(0).random((400, 500, 5)))
    is_on = bursts(uniform, starts_per_s=0.5, mean_s=0.4, rate_hz=rate_hz)
    assert is_on.float().mean() == pytest.approx(0.5 * 0.4 / (1 + 0.5 * 0.4), rel=0.03)
    stays = (is_on[:, 1:] & is_on[:, :-1]).sum() / is_on[:, :-1].sum()
    total_per_s = 0.5 + 1 / 0.4
    share = 0.5 / total_per_s
    assert stays == pytest.approx(share + (1 - share) * math.exp(-total_per_s / rate_hz), abs=0.01)
    assert is_on[:, 0].float().mean() == pytest.approx(float(is_on[:, -1].float().mean()), abs=0.03)


def test_misses_are_hidden_unsure_and_more_frequent_where_quality_is_low():
    error, confidence, is_missed = look(replace(QUIET, dropouts_per_s=0.5, dropout_s=0.1, confidence_truth=1))
    assert (confidence[is_missed] == 0).all()
    assert is_missed.float().mean() == pytest.approx(0.05, rel=0.15)
    follows = is_missed[:, 1:] & ~is_missed[:, :-1]
    before = confidence[:, :-1][follows]
    assert before.mean() < confidence[~is_missed].mean() - 0.05
    assert error.abs().max() == 0


def test_outliers_are_as_many_and_as_far_as_stated():
    error, *_ = look(replace(QUIET, outlier_probability=0.01, outlier_std=0.2), windows=256)
    is_outlier = error.abs().sum(-1) > 0
    assert is_outlier.float().mean() == pytest.approx(0.01, rel=0.1)
    assert error[is_outlier].std() == pytest.approx(0.2, rel=0.05)


def test_a_swap_exchanges_whole_limbs_with_what_is_hidden():
    keypoints_px, is_hidden = people(64, 50)
    is_hidden[:, :, H36M_17.index("left_ankle")] = True
    seen_px, _, is_missed = detect(
        keypoints_px,
        is_hidden,
        rate_hz=RATE_HZ,
        skeleton=H36M_17,
        config=replace(QUIET, swaps_per_s=1.0, swap_s=0.2),
        seed=0,
        epoch=0,
        sample_ids=np.arange(64),
    )
    is_moved = (seen_px != keypoints_px).any(-1)
    assert torch.equal(
        is_missed[..., H36M_17.index("right_ankle")], is_moved[..., H36M_17.index("right_knee")]
    )
    for group in ("legs", "arms"):
        of_group = is_moved[..., H36M_17.select(*SWAP_GROUPS[group])]
        assert (of_group == of_group[..., :1]).all()
        # Its own bursts or those of the body, not both: each is on for p of the time.
        share = 0.2 / 1.2
        assert of_group.float().mean() == pytest.approx(2 * share * (1 - share), rel=0.15)
    torch.testing.assert_close(seen_px[is_moved], keypoints_px[:, :, H36M_17.mirror][is_moved])
    assert not is_moved[..., H36M_17.select("pelvis", "spine", "thorax", "nose", "head_top")].any()


def test_all_that_is_wrong_with_a_config_is_said_at_once():
    with pytest.raises(InputError, match=r"jitter_std.*swap_s must be positive.*ankel.*wrist.*-1"):
        DetectorNoiseConfig(jitter_std=-1, swap_s=0, joint_error={"ankel": 2, "wrist": -1})
    with pytest.raises(InputError, match="median_confidence"):
        DetectorNoiseConfig(median_confidence=1.0)
