import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_up_people import make_track
from PIL import Image
from torch import nn

from mpm_model.learning.batches import Corpus
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.lifting import LiftingModel
from mpm_model.network.masked import MaskedPoseModel, Reconstruction, UnifiedPoseModel
from mpm_model.pose.skeletons import H36M_17
from pipelines.pose_strips import Strip, draw_strips
from pipelines.run_config import FinetuneConfig, PretrainConfig
from pipelines.train_picture import choose_windows, draw_reconstruction, look

FRAMES = 9
NETWORK = PoseTransformerConfig(frames=FRAMES, width=32, layers=1, heads=4, feed_forward=32, frame_hidden=32)
PRETRAIN = PretrainConfig(seed=3, epochs=1, batch_windows=2, network=NETWORK)
VERMILION = np.array([0xD5, 0x5E, 0x00])


def finetune(task):
    return FinetuneConfig(seed=3, epochs=1, batch_windows=2, task=task, network=NETWORK)


def make_corpus(windows=(5, 4)):
    """Windows of a swinging person who faces the world's -y, of as many data sets as numbers are given."""
    count = sum(windows)
    joints_cam_m = make_track(frames=FRAMES * count).joints_rel_m.reshape(count, FRAMES, 17, 3)
    x, down, forward = np.moveaxis(joints_cam_m, -1, 0)
    return Corpus(
        joints_world_m=torch.from_numpy(np.stack([x, forward, 1 - down], axis=-1)),
        is_valid=torch.ones(count, FRAMES, 17, dtype=torch.bool),
        sample_ids=np.arange(count) + 100,
        skeleton=H36M_17,
        rate_hz=50.0,
        dataset=np.repeat(np.arange(len(windows)), windows),
        dataset_names=tuple(f"set_{number}" for number in range(len(windows))),
    )


class Echo(nn.Module):
    """Answers with what it is given, hidden or not, off by a little; keeps what was hidden from it."""

    def __init__(self, off=0.0):
        super().__init__()
        self.off = off

    def forward(self, keypoints, joints, **hidden):
        self.hidden = hidden
        return Reconstruction(keypoints=keypoints[..., :2] + self.off, joints=joints + self.off)


def vermilion_pixels(content, *, below_px=40):
    with Image.open(io.BytesIO(content)) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=int)
    return int((np.abs(pixels[below_px:] - VERMILION).max(-1) < 30).sum())


def test_what_is_drawn_as_given_is_what_the_model_was_given():
    model = Echo()
    strip_2d, strip_3d = look(model, choose_windows(make_corpus(), 2), config=PRETRAIN)
    for strip, stream in ((strip_2d, "2d"), (strip_3d, "3d")):
        is_hidden_frame = model.hidden[f"is_hidden_frame_{stream}"][..., None]
        is_hidden = (model.hidden[f"is_hidden_joint_{stream}"] | is_hidden_frame).numpy()
        assert np.array_equal(strip.is_given, ~is_hidden)
        assert np.array_equal(strip.is_judged, is_hidden)
        assert (~is_hidden.all(-1)).sum() == 2 * (FRAMES - PRETRAIN.mask.hidden_frames(FRAMES))
    assert (strip_2d.is_given != strip_3d.is_given).any(), "each modality has masks of its own"


def test_only_a_wrong_answer_has_errors_to_show():
    right = draw_reconstruction(Echo(), make_corpus(), config=PRETRAIN)
    wrong = draw_reconstruction(Echo(off=0.3), make_corpus(), config=PRETRAIN)
    assert vermilion_pixels(right) == 0
    assert vermilion_pixels(wrong) > 500


@pytest.mark.parametrize(
    ("config", "kind", "labels"),
    [
        (PRETRAIN, MaskedPoseModel, ["2D", "3D"]),
        (finetune("lifting"), LiftingModel, ["2D, given", "3D, lifted"]),
        (finetune("completion"), MaskedPoseModel, ["3D, completed"]),
        (finetune("unified"), UnifiedPoseModel, ["2D, given", "3D, lifted", "3D, completed"]),
    ],
    ids=["pretraining", "lifting", "completion", "unified"],
)
def test_every_task_has_its_picture(config, kind, labels):
    torch.manual_seed(0)
    model = kind(NETWORK)
    assert [strip.label for strip in look(model, choose_windows(make_corpus(), 2), config=config)] == labels
    picture = draw_reconstruction(model, make_corpus(), config=config, title="step 10")
    with Image.open(io.BytesIO(picture)) as image:
        assert image.format == "PNG"
        assert image.width == 900
    assert len(picture) < 150_000
    assert draw_reconstruction(model, make_corpus(), config=config, title="step 10") == picture


def test_lifted_poses_are_judged_wherever_they_are_known_and_completed_ones_where_hidden():
    model = UnifiedPoseModel(NETWORK)
    given, lifted, completed = look(model, choose_windows(make_corpus(), 2), config=finetune("unified"))
    assert given.answer is None
    assert lifted.given is None
    assert np.array_equal(lifted.is_judged, lifted.is_known)
    assert np.array_equal(completed.is_judged, ~completed.is_given)
    assert 0 < completed.is_judged.sum() < completed.is_judged.size


def test_drawing_leaves_the_model_and_the_generator_as_they_were():
    model = MaskedPoseModel(NETWORK).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    draw_reconstruction(model, make_corpus(), config=PRETRAIN)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()
    draw_reconstruction(model, make_corpus(), config=PRETRAIN)
    assert not model.training


def test_each_data_set_is_shown_and_one_alone_gives_all_windows():
    assert choose_windows(make_corpus((5, 4, 3)), 2).dataset.tolist() == [0, 1]
    alone = choose_windows(make_corpus((8,)), 2)
    assert alone.sample_ids.tolist() == [102, 106]
    one = choose_windows(make_corpus((1,)), 2)
    assert len(one) == 1
    with pytest.raises(ValueError, match="no windows"):
        choose_windows(replace(one, sample_ids=one.sample_ids[:0]), 2)


@pytest.mark.parametrize("far", [1e6, float("nan")], ids=["far", "nan"])
def test_an_answer_out_of_all_measure_is_still_a_picture(far):
    truth = np.zeros((1, 2, 17, 3))
    strip = Strip(
        label="3D",
        truth=truth,
        is_known=np.ones((1, 2, 17), dtype=bool),
        given=truth,
        is_given=np.zeros((1, 2, 17), dtype=bool),
        answer=truth + far,
    )
    with Image.open(io.BytesIO(draw_strips([strip], skeleton=H36M_17, title=""))) as image:
        assert image.width == 900
