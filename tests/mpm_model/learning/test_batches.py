import numpy as np
import pytest
import torch

from mpm_model.errors import InputError
from mpm_model.learning.batches import Corpus, ViewConfig, draw_batch, indices_at, mirror_world
from mpm_model.pose.metrics import bone_lengths
from mpm_model.pose.skeletons import H36M_17


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """Forty windows of nine frames of upright, wobbling stick people."""
    rng = np.random.default_rng(0)
    heights_m = {"ankle": 0.1, "knee": 0.5, "hip": 0.95, "pelvis": 0.95, "spine": 1.2, "thorax": 1.45}
    heights_m |= {"nose": 1.6, "head_top": 1.75, "shoulder": 1.42, "elbow": 1.15, "wrist": 0.9}

    def side_m(joint: str) -> float:
        return {"left": -0.2, "right": 0.2}.get(joint.split("_")[0], 0.0)

    def height_m(joint: str) -> float:
        return heights_m[joint.removeprefix("left_").removeprefix("right_")]

    upright_m = np.array([[side_m(joint), 0.05, height_m(joint)] for joint in H36M_17.joints])
    joints_world_m = (
        upright_m + rng.normal(0, 0.02, (40, 9, 17, 3)) + rng.normal(0, 2, (40, 1, 1, 3)) * [1, 1, 0]
    )
    return Corpus(
        joints_world_m=torch.from_numpy(joints_world_m.astype(np.float32)),
        is_valid=torch.ones(40, 9, 17, dtype=torch.bool),
        sample_ids=rng.integers(0, 2**62, 40),
        skeleton=H36M_17,
    )


CONFIG = ViewConfig(normalisation="person", noise_std=0.02, hidden_ratio=0.1, hidden_limb_probability=0.3)


def test_a_sample_is_the_same_in_any_batch(corpus):
    whole = draw_batch(corpus, np.arange(40), seed=3, epoch=5, config=CONFIG)
    part = draw_batch(corpus, np.array([31, 2]), seed=3, epoch=5, config=CONFIG)
    for name in ("keypoints", "is_hidden", "joints_rel_m", "is_valid"):
        torch.testing.assert_close(getattr(whole, name)[[31, 2]], getattr(part, name), rtol=1e-5, atol=1e-5)


def test_every_epoch_sees_new_views(corpus):
    first, second = (draw_batch(corpus, np.arange(4), seed=0, epoch=epoch, config=CONFIG) for epoch in (0, 1))
    assert (first.joints_rel_m - second.joints_rel_m).abs().amax((1, 2, 3)).min() > 0.05


def test_targets_are_relative_to_the_pelvis_and_keep_every_bone(corpus):
    batch = draw_batch(corpus, np.arange(40), seed=0, epoch=0, config=ViewConfig(mirror_probability=0.0))
    assert (batch.joints_rel_m[:, :, H36M_17.index("pelvis")] == 0).all()
    seen = bone_lengths(batch.joints_rel_m.numpy(), H36M_17)
    np.testing.assert_allclose(seen, bone_lengths(corpus.joints_world_m.numpy(), H36M_17), atol=1e-4)


def test_workers_share_a_batch_without_loss_or_overlap():
    whole = indices_at(7, samples=50, batch_windows=12, seed=1)
    shares = [indices_at(7, samples=50, batch_windows=12, seed=1, rank=r, world_size=3) for r in range(3)]
    assert {epoch for epoch, _ in shares} == {whole[0]} == {1}
    assert sorted(np.concatenate([indices for _, indices in shares])) == sorted(whole[1])


def test_an_epoch_shows_every_window_at_most_once():
    seen = np.concatenate([indices_at(step, samples=50, batch_windows=12, seed=1)[1] for step in range(4)])
    assert len(np.unique(seen)) == 48


def test_a_mirrored_window_has_its_left_side_on_the_right(corpus):
    joints, valid = corpus.joints_world_m[:1], corpus.is_valid[:1].clone()
    valid[0, 0, H36M_17.index("left_wrist")] = False
    mirrored, mirrored_valid = mirror_world(joints, valid, torch.ones(1, 1, 1, dtype=torch.bool), H36M_17)
    left, right = H36M_17.index("left_knee"), H36M_17.index("right_knee")
    torch.testing.assert_close(mirrored[..., left, :] * torch.tensor([-1.0, 1, 1]), joints[..., right, :])
    assert not mirrored_valid[0, 0, H36M_17.index("right_wrist")]
    assert mirrored_valid[0, 0, H36M_17.index("left_wrist")]


def test_hidden_shares_are_those_asked_for(corpus):
    batch = draw_batch(
        corpus, np.arange(40), seed=0, epoch=0, config=ViewConfig(normalisation="person", hidden_ratio=0.2)
    )
    assert batch.is_hidden.float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert (batch.keypoints[batch.is_hidden] == 0).all()


def test_what_is_invalid_is_hidden_and_never_a_target(corpus):
    valid = corpus.is_valid.clone()
    valid[:, :, H36M_17.index("left_wrist")] = False
    holed = Corpus(corpus.joints_world_m, valid, corpus.sample_ids, H36M_17)
    batch = draw_batch(holed, np.arange(40), seed=0, epoch=0, config=ViewConfig(mirror_probability=0.0))
    assert (batch.is_hidden == ~batch.is_valid).all()
    assert not batch.is_valid[:, :, H36M_17.index("left_wrist")].any()


def test_wrong_settings_are_refused_together():
    with pytest.raises(InputError, match=r"normalisation .*'box'; hidden_ratio .*2; noise_std .*-1"):
        ViewConfig(normalisation="box", hidden_ratio=2, noise_std=-1)
