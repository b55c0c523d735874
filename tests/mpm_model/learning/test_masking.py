import numpy as np
import pytest

from mpm_model.errors import InputError
from mpm_model.learning.masking import LIMBS, MaskConfig, draw_hidden, draw_hidden_tubes
from mpm_model.pose.skeletons import H36M_17

FRAMES, JOINTS = 243, 17


def draw(ids: np.ndarray, *, seed: int = 0, epoch: int = 0, stream: str = "2d"):
    return draw_hidden(
        stream, seed=seed, epoch=epoch, sample_ids=ids, frames=FRAMES, joints=JOINTS, config=MaskConfig()
    )


def test_a_thousand_masks_hide_the_papers_share():
    hidden = draw(np.arange(1000))
    assert (hidden.is_hidden_frame.sum(axis=1) == 145).all()
    assert (hidden.is_hidden_joint.sum(axis=2) == 5).all()
    expected = 1 - (98 / 243) * (12 / 17)
    assert hidden.is_hidden.mean() == pytest.approx(expected, abs=1e-12)
    assert round(100 * expected, 1) == 71.5


def test_sixteen_joints_hide_five_too():
    assert MaskConfig().hidden_joints(16) == 5


def test_masks_are_drawn_per_sample():
    hidden = draw(np.arange(1000))
    assert len(np.unique(hidden.is_hidden_frame, axis=0)) == 1000
    assert len(np.unique(hidden.is_hidden_joint.reshape(1000, -1), axis=0)) == 1000


def test_every_frame_and_joint_is_hidden_equally_often():
    hidden = draw(np.arange(1000))
    # Standard deviation of a share of 0.6 over 1000 samples is 0.0155; five of them.
    assert np.abs(hidden.is_hidden_frame.mean(axis=0) - 145 / 243).max() < 5 * 0.0155
    assert np.abs(hidden.is_hidden_joint.mean(axis=(0, 1)) - 5 / 17).max() < 0.01


def test_the_same_seed_gives_the_same_masks_in_any_batch():
    ids = np.array([17, 4, 2**62, 99])
    whole, part = draw(ids), draw(ids[[2, 0]])
    np.testing.assert_array_equal(whole.is_hidden_frame[[2, 0]], part.is_hidden_frame)
    np.testing.assert_array_equal(whole.is_hidden_joint[[2, 0]], part.is_hidden_joint)


@pytest.mark.parametrize("change", [{"seed": 1}, {"epoch": 1}, {"stream": "3d"}])
def test_another_seed_epoch_or_modality_gives_other_masks(change):
    ids = np.arange(8)
    assert (draw(ids).is_hidden_frame != draw(ids, **change).is_hidden_frame).any(axis=1).all()


def test_a_tube_hides_one_limb_in_every_frame():
    is_hidden = draw_hidden_tubes(
        "limb", seed=0, epoch=0, sample_ids=np.arange(200), frames=9, groups=LIMBS, skeleton=H36M_17
    )
    assert (is_hidden == is_hidden[:, :1]).all()
    limbs = {tuple(np.flatnonzero(row)) for row in is_hidden[:, 0]}
    assert limbs == {tuple(sorted(H36M_17.select(*limb))) for limb in LIMBS}


def test_ratios_out_of_range_are_refused_together():
    with pytest.raises(InputError, match=r"frame_ratio.*got 1\.0; joint_ratio.*got -0\.1"):
        MaskConfig(frame_ratio=1.0, joint_ratio=-0.1)
