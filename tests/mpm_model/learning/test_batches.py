"""Batches: the same for any cut, what a camera and a detector saw, and the truth beside it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from stick_people import EVERYTHING, SIMPLE, stick_people

from mpm_model.errors import InputError
from mpm_model.learning.batches import Batch, ViewConfig, draw_batch, mirror_world
from mpm_model.learning.corpus import Corpus
from mpm_model.learning.detector_noise import DetectorNoiseConfig
from mpm_model.learning.masking import LIMBS
from mpm_model.learning.order import Samples
from mpm_model.pose.metrics import bone_lengths
from mpm_model.pose.normalize import NORMALISATIONS
from mpm_model.pose.skeletons import H36M_17


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return stick_people()


STILL = ViewConfig(mirror_probability=0.0)


def draw(
    corpus: Corpus, config: ViewConfig, *, windows: int = 40, copy: int = 0, seed: int = 0, epoch: int = 0
) -> Batch:
    indices = np.arange(windows)
    samples = Samples(indices, np.full_like(indices, copy))
    return draw_batch(corpus, samples, seed=seed, epoch=epoch, config=config)


TENSORS = ("keypoints", "is_hidden", "true_keypoints", "has_image", "joints_rel_m", "is_valid")


@pytest.mark.parametrize("config", [SIMPLE, EVERYTHING], ids=["simple", "everything"])
@pytest.mark.parametrize("size", [1, 2, 7, 20])
def test_a_sample_is_the_same_in_any_batch_to_the_last_bit(corpus, config, size):
    whole = draw(corpus, config, seed=3, epoch=5)
    for start in range(0, len(corpus), size):
        rows = np.arange(start, min(start + size, len(corpus)))[::-1].copy()
        part = draw_batch(corpus, Samples.once(rows), seed=3, epoch=5, config=config)
        for name in TENSORS:
            assert torch.equal(getattr(whole, name)[rows], getattr(part, name)), name
        assert whole.sample_ids[rows].tolist() == part.sample_ids.tolist()


def test_every_epoch_sees_new_views(corpus):
    first, second = (draw(corpus, SIMPLE, windows=4, epoch=epoch) for epoch in (0, 1))
    assert (first.joints_rel_m - second.joints_rel_m).abs().amax((1, 2, 3)).min() > 0.05


def test_every_copy_of_a_window_sees_another_view_of_the_same_motion(corpus):
    first, second = (draw(corpus, STILL, copy=copy) for copy in (0, 1))
    assert (second.sample_ids == first.sample_ids + 1).all()
    assert (first.joints_rel_m - second.joints_rel_m).abs().amax((1, 2, 3)).median() > 0.1
    lengths_m = [bone_lengths(batch.joints_rel_m.numpy(), H36M_17) for batch in (first, second)]
    np.testing.assert_allclose(*lengths_m, atol=1e-4)


def test_two_cameras_a_window_film_it_in_turn(corpus):
    config = replace(STILL, cameras_per_window=2)
    first, second, third, fourth = (draw(corpus, config, epoch=epoch) for epoch in range(4))
    for now, later in ((first, third), (second, fourth)):
        assert torch.equal(now.keypoints, later.keypoints)
        assert torch.equal(now.joints_rel_m, later.joints_rel_m)
    assert (first.joints_rel_m - second.joints_rel_m).abs().amax((1, 2, 3)).median() > 0.1


def test_nothing_but_the_camera_comes_again(corpus):
    config = replace(STILL, cameras_per_window=2, noise_std=0.02, hidden_ratio=0.5)
    first, third = (draw(corpus, config, epoch=epoch) for epoch in (0, 2))
    assert torch.equal(first.true_keypoints, third.true_keypoints)
    is_seen = ~first.is_hidden & ~third.is_hidden
    assert (first.keypoints != third.keypoints)[is_seen].float().mean() > 0.99
    assert (first.is_hidden == third.is_hidden).float().mean().item() == pytest.approx(0.5, abs=0.05)
    mirrored = ViewConfig(mirror_probability=0.5, cameras_per_window=2)
    first, third = (draw(corpus, mirrored, epoch=epoch) for epoch in (0, 2))
    is_same = (first.joints_rel_m == third.joints_rel_m).flatten(1).all(1)
    assert 8 < is_same.sum() < 32  # of 40, each with probability 1/2


def test_targets_are_relative_to_the_pelvis_and_keep_every_bone(corpus):
    batch = draw(corpus, STILL)
    assert (batch.joints_rel_m[:, :, H36M_17.index("pelvis")] == 0).all()
    seen = bone_lengths(batch.joints_rel_m.numpy(), H36M_17)
    np.testing.assert_allclose(seen, bone_lengths(corpus.joints_world_m.numpy(), H36M_17), atol=1e-4)


def test_a_mirrored_window_has_its_left_side_on_the_right(corpus):
    joints, valid = corpus.joints_world_m[:1], corpus.is_valid[:1].clone()
    valid[0, 0, H36M_17.index("left_wrist")] = False
    mirrored, mirrored_valid = mirror_world(joints, valid, torch.ones(1, 1, 1, dtype=torch.bool), H36M_17)
    left, right = H36M_17.index("left_knee"), H36M_17.index("right_knee")
    torch.testing.assert_close(mirrored[..., left, :] * torch.tensor([-1.0, 1, 1]), joints[..., right, :])
    assert not mirrored_valid[0, 0, H36M_17.index("right_wrist")]
    assert mirrored_valid[0, 0, H36M_17.index("left_wrist")]


def test_hidden_shares_are_those_asked_for(corpus):
    batch = draw(corpus, ViewConfig(normalisation="person", hidden_ratio=0.2))
    assert batch.is_hidden.float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert (batch.keypoints[batch.is_hidden] == 0).all()


def test_a_tube_in_the_view_hides_one_limb_through_the_window_in_the_share_asked_for(corpus):
    batch = draw(corpus, ViewConfig(hidden_tube_probability=0.5))
    assert (batch.is_hidden == batch.is_hidden[:, :1]).all()
    limbs = {tuple(sorted(H36M_17.select(*limb))) for limb in LIMBS.values()}
    hidden = [tuple(np.flatnonzero(row)) for row in batch.is_hidden[:, 0]]
    assert set(hidden) == limbs | {()}
    assert 8 < hidden.count(()) < 32  # of 40, each with probability 1/2


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_a_perfect_detector_sees_the_true_keypoints(corpus, normalisation):
    batch = draw(corpus, ViewConfig(normalisation=normalisation))
    assert torch.equal(batch.keypoints[..., :2], batch.true_keypoints)
    assert batch.has_image.all()


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_true_keypoints_are_in_the_frame_of_what_was_seen(corpus, normalisation):
    """Noise moves what is seen; what is asked for stays where it is, as near as the noise is small."""
    batch = draw(corpus, ViewConfig(normalisation=normalisation, noise_std=0.01))
    off = (batch.keypoints[..., :2] - batch.true_keypoints).flatten(1)
    size = batch.true_keypoints.amax(2).sub(batch.true_keypoints.amin(2)).amax(-1).mean(1)
    torch.testing.assert_close(off.std(1), 0.01 * size, rtol=0.2, atol=0)


def test_what_a_detector_missed_is_still_asked_for(corpus):
    config = ViewConfig(detector=DetectorNoiseConfig(scale=1.0, dropouts_per_s=5.0))
    batch = draw(corpus, config)
    assert batch.is_hidden.any()
    assert batch.has_image.all()
    assert batch.true_keypoints.abs().max() <= 16 / 9  # an upright image is that much higher than wide


def test_an_image_of_unknown_size_leaves_the_second_pair_empty(corpus):
    batch = draw(corpus, ViewConfig(normalisation="both", unknown_image_probability=0.5))
    is_unknown = (batch.keypoints[..., 2:] == 0).flatten(1).all(1)
    assert 8 < is_unknown.sum() < 32  # of 40, each with probability 1/2
    known = draw(corpus, ViewConfig(normalisation="both"))
    assert torch.equal(batch.keypoints[~is_unknown], known.keypoints[~is_unknown])
    assert torch.equal(batch.keypoints[..., :2], known.keypoints[..., :2])
    assert torch.equal(batch.true_keypoints, known.true_keypoints)


@pytest.mark.parametrize("has_confidence", [False, True])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_a_view_says_how_many_channels_it_makes(corpus, normalisation, has_confidence):
    config = ViewConfig(normalisation=normalisation, has_confidence=has_confidence)
    assert draw(corpus, config, windows=2).keypoints.shape[-1] == config.keypoint_channels


def test_confidence_is_the_last_channel_and_a_perfect_detector_is_sure(corpus):
    sure = draw(corpus, ViewConfig(has_confidence=True, hidden_ratio=0.1)).keypoints[..., -1]
    hidden = draw(corpus, ViewConfig(hidden_ratio=0.1)).is_hidden
    assert torch.equal(sure, (~hidden).float())
    real = ViewConfig(has_confidence=True, detector=DetectorNoiseConfig(scale=1.0))
    batch = draw(corpus, real)
    confidence = batch.keypoints[..., -1][~batch.is_hidden]
    assert confidence.min() > 0
    assert confidence.max() < 1
    assert confidence.std() > 0.05


def test_what_is_invalid_is_hidden_and_never_a_target(corpus):
    valid = corpus.is_valid.clone()
    valid[:, :, H36M_17.index("left_wrist")] = False
    batch = draw(replace(corpus, is_valid=valid), STILL)
    assert (batch.is_hidden == ~batch.is_valid).all()
    assert (batch.has_image == batch.is_valid).all()
    assert not batch.is_valid[:, :, H36M_17.index("left_wrist")].any()


def test_wrong_settings_are_refused_together():
    with pytest.raises(
        InputError,
        match=r"normalisation .*'box'; hidden_ratio .*2; cameras_per_window .*-2; noise_std .*-1; "
        r"tube_kinds must be of limb, .* got tail",
    ):
        ViewConfig(
            normalisation="box",
            hidden_ratio=2,
            noise_std=-1,
            cameras_per_window=-2,
            tube_kinds=("limb", "tail"),
        )
    with pytest.raises(InputError, match="at least one kind"):
        ViewConfig(hidden_tube_probability=0.5, tube_kinds=())


def test_an_input_that_needs_the_image_size_cannot_do_without():
    with pytest.raises(InputError, match=r"unknown_image_probability must be 0: .* screen"):
        ViewConfig(normalisation="screen", unknown_image_probability=0.1)


def test_perfect_detectors_come_among_erring_ones_as_often_as_asked(corpus):
    erring = DetectorNoiseConfig(scale=1.0)
    perfect = draw(corpus, ViewConfig(has_confidence=True))
    always = ViewConfig(has_confidence=True, detector=erring, perfect_detector_probability=1.0)
    assert torch.equal(draw(corpus, always).keypoints, perfect.keypoints)
    batch = draw(corpus, replace(always, perfect_detector_probability=0.5))
    noisy = draw(corpus, replace(always, perfect_detector_probability=0.0))
    is_perfect = (batch.keypoints == perfect.keypoints).flatten(1).all(1)
    assert 8 < is_perfect.sum() < 32  # of 40, each with probability 1/2
    assert torch.equal(batch.keypoints[~is_perfect], noisy.keypoints[~is_perfect])
