"""The cost of networks, counted by hand and by the counter."""

from dataclasses import replace

import pytest
import torch

from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.cost import macs_per_frame
from mpm_model.network.lifting import LiftingModel
from mpm_model.network.masked import UnifiedPoseModel

T, J, C, D, L, F, H = 9, 5, 2, 16, 2, 24, 32
"""Frames, joints, channels, width, layers, feed-forward width, frame-layer width."""
TINY = PoseTransformerConfig(frames=T, joints=J, width=D, layers=L, heads=4, feed_forward=F, frame_hidden=H)
LAYER = 4 * D * D + 2 * D * F + 2 * T * D
"""One transformer layer: query, key, value and out; expand and contract; T products with keys and values."""
WAY_IN = J * C * H + 2 * H * H + H * D
HEAD = D * J * 3


def cost(kind: type, config: PoseTransformerConfig, head: str, frames: int | None = None) -> float:
    return macs_per_frame(
        kind(config),
        frames=frames or config.frames,
        joints=config.joints,
        channels=config.keypoint_channels,
        head=head,
    )


def test_the_all_frame_head_costs_its_linear_layers_and_attention():
    assert cost(LiftingModel, TINY, "sequence") == WAY_IN + L * LAYER + HEAD


def test_the_centre_costs_the_strided_layers_more():
    reduction = 0
    for frames in (9, 3):  # each layer leaves a third, by a convolution of kernel 3
        reduction += frames * (4 * D * D + 2 * frames * D + D * F) + frames // 3 * 3 * F * D
    window = T * (WAY_IN + L * LAYER + HEAD) + reduction + HEAD
    assert cost(LiftingModel, TINY, "forward") * T == pytest.approx(window, rel=1e-12)


@pytest.mark.parametrize("head", ["sequence", "forward"])
@pytest.mark.parametrize("options", [{}, {"positions": "rotary", "norms": "standard"}], ids=["paper", "ours"])
def test_the_unified_network_costs_its_decoder_too(head, options):
    config = replace(TINY, decoder_layers=3, keypoint_channels=5, **options)
    expected = WAY_IN + J * 3 * H + (L + 3) * LAYER + HEAD
    assert cost(UnifiedPoseModel, config, head) == expected


def test_layers_over_joints_cost_their_own():
    width = 8
    config = replace(TINY, spatial_layers=2, spatial_width=width)
    of_a_joint = C * width + 2 * (4 * width**2 + 2 * width * 2 * width + 2 * J * width)
    expected = J * of_a_joint + J * width * H + 2 * H * H + H * D + L * LAYER + HEAD
    assert cost(LiftingModel, config, "sequence") == expected


def test_only_attention_grows_with_the_window():
    config = replace(TINY, positions="rotary", norms="standard")
    short, long = (cost(UnifiedPoseModel, config, "sequence", frames=frames) for frames in (9, 90))
    assert long - short == (L + 1) * 2 * (90 - 9) * D


def test_the_papers_sizes_cost_what_the_paper_says():
    """3.3 MMAC a frame of the all-frame head; 1.018 GMAC a window of the centre's, by the paper's counter."""
    config = PoseTransformerConfig()
    assert round(cost(LiftingModel, config, "sequence") / 1e6, 1) == 3.3
    assert cost(LiftingModel, config, "sequence") == 3_280_640
    assert cost(LiftingModel, config, "forward") * 243 == pytest.approx(1.018e9, rel=0.01)


def test_counting_leaves_the_network_as_it_was():
    model = LiftingModel(TINY).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    macs_per_frame(model, frames=T, joints=J, channels=C, head="sequence")
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
