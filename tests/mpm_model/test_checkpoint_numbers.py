"""Checkpoints in half precision, and the channels that a network of a normalisation takes."""

from dataclasses import replace

import pytest
import torch

from mpm_model.checkpoint import Checkpoint, Network, load_checkpoint, save_checkpoint
from mpm_model.errors import InputError
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.lifting import LiftingModel
from mpm_model.network.masked import UnifiedPoseModel
from mpm_model.pose.skeletons import H36M_17

CONFIG = PoseTransformerConfig(frames=9, width=16, layers=1, heads=2, feed_forward=16, frame_hidden=16)
ROTARY = replace(CONFIG, positions="rotary", norms="standard", spatial_layers=1)


def checkpoint(model: Network, normalisation: str = "person") -> Checkpoint:
    return Checkpoint(model=model, skeleton=H36M_17, normalisation=normalisation, rate_hz=25.0, card={})


def test_in_half_precision_every_weight_is_off_by_half_a_unit_in_the_last_place_at_most(tmp_path):
    model = LiftingModel(CONFIG)
    model.trunk.block[0].norm.num_batches_tracked.fill_(100_003)  # no number of half precision
    with torch.no_grad():
        model.hidden_keypoint[:] = torch.tensor([3e-7, -2.0])
    save_checkpoint(tmp_path, checkpoint(model), is_half=True)
    loaded = load_checkpoint(tmp_path).model.state_dict()
    for name, tensor in model.state_dict().items():
        assert loaded[name].dtype == tensor.dtype
        if not tensor.is_floating_point():
            assert torch.equal(loaded[name], tensor)
            continue
        # 11 significant bits, and no finer than 2^-24.
        bound = (tensor.abs() * 2.0**-11).clamp(min=2.0**-25)
        assert ((loaded[name] - tensor).abs() <= bound).all(), name
        assert torch.equal(loaded[name].half().float(), loaded[name])


def test_in_half_precision_a_checkpoint_is_half_as_large_and_lifts_alike(tmp_path):
    model = UnifiedPoseModel(replace(CONFIG, width=64, feed_forward=256, frame_hidden=256)).eval()
    save_checkpoint(tmp_path / "whole", checkpoint(model))
    save_checkpoint(tmp_path / "half", checkpoint(model), is_half=True)
    size = {name: (tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")}
    assert size["half"] < 0.52 * size["whole"]
    keypoints = torch.randn(2, 9, 17, 2)
    with torch.inference_mode():
        whole, half = (load_checkpoint(tmp_path / name).model.sequence(keypoints) for name in size)
    assert 0 < (whole - half).abs().max() < 2**-7


@pytest.mark.parametrize(
    ("normalisation", "channels", "has_confidence"),
    [
        ("screen", 2, False),
        ("person", 2, False),
        ("both", 4, False),
        ("screen", 3, True),
        ("person", 3, True),
        ("both", 5, True),
    ],
)
def test_channels_say_whether_the_confidence_enters(tmp_path, normalisation, channels, has_confidence):
    model = UnifiedPoseModel(replace(ROTARY, keypoint_channels=channels))
    save_checkpoint(tmp_path, checkpoint(model, normalisation))
    assert load_checkpoint(tmp_path).has_confidence == has_confidence


@pytest.mark.parametrize(
    ("normalisation", "channels"), [("screen", 4), ("person", 5), ("both", 2), ("both", 3)]
)
def test_channels_that_do_not_go_with_the_normalisation_are_refused(normalisation, channels):
    model = LiftingModel(replace(CONFIG, keypoint_channels=channels))
    message = f"keypoint_channels {channels} does not go with normalisation {normalisation}"
    with pytest.raises(InputError, match=message):
        checkpoint(model, normalisation)
