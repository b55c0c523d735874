"""What completion may not see."""

import numpy as np
import torch

from mpm_model.learning.batches import Batch
from mpm_model.learning.objectives import CompletionConfig, hidden_in_3d
from mpm_model.pose.skeletons import H36M_17

ROOT = H36M_17.index("pelvis")


def batch(windows: int = 200, frames: int = 20) -> Batch:
    shape = (windows, frames, len(H36M_17))
    ids = np.arange(windows)
    return Batch(
        keypoints=torch.zeros(*shape, 2),
        is_hidden=torch.zeros(shape, dtype=torch.bool),
        true_keypoints=torch.zeros(*shape, 2),
        has_image=torch.ones(shape, dtype=torch.bool),
        joints_rel_m=torch.zeros(*shape, 3),
        is_valid=torch.ones(shape, dtype=torch.bool),
        sample_ids=ids,
        window_ids=ids,
    )


def hidden(config: CompletionConfig) -> torch.Tensor:
    return hidden_in_3d(batch(), config=config, skeleton=H36M_17, seed=0, epoch=0)


def test_without_bursts_the_same_joints_are_hidden_in_every_frame():
    is_hidden = hidden(CompletionConfig())
    assert (is_hidden == is_hidden[:, :1]).all()


def test_a_burst_hides_every_joint_but_the_root_and_leaves_other_frames_alone():
    is_hidden = hidden(CompletionConfig(burst_probability=1.0))
    assert not is_hidden[..., ROOT].any()
    others = is_hidden[..., [joint for joint in range(len(H36M_17)) if joint != ROOT]]
    assert (others.all(-1) == others.any(-1)).all()
    assert not is_hidden.any(-1).all(1).any()


def test_bursts_come_as_often_as_asked():
    is_hidden = hidden(CompletionConfig(burst_probability=0.3))
    is_burst = (is_hidden != is_hidden[:, :1]).any(1).any(-1) | is_hidden[..., 1:].all(-1).any(1)
    assert 0.2 < is_burst.float().mean() < 0.4


def test_what_was_never_captured_is_hidden():
    one = batch()
    one.is_valid[3, 4, 5] = False
    assert hidden_in_3d(one, config=CompletionConfig(), skeleton=H36M_17, seed=0, epoch=0)[3, 4, 5]
