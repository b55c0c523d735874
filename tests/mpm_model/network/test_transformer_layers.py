"""Layers of the transformer."""

import pytest
import torch

from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.transformer import LayerNorm, StridedLayer, TransformerLayer

CONFIG = PoseTransformerConfig(frames=9, width=8, heads=2, feed_forward=16, frame_hidden=16)


def test_layer_norm_divides_by_the_unbiased_deviation():
    features = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    wanted = (features - 2.5) / ((5 / 3) ** 0.5 + 1e-6)
    torch.testing.assert_close(LayerNorm(4)(features), wanted)


def test_layer_norm_of_equal_features_is_its_bias_and_has_a_gradient():
    norm = LayerNorm(4)
    with torch.no_grad():
        norm.bias.fill_(0.5)
    features = torch.full((3, 4), 7.0, requires_grad=True)
    out = norm(features)
    out.sum().backward()
    assert torch.equal(out, torch.full((3, 4), 0.5))
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_a_layer_that_adds_nothing_passes_its_input_on():
    layer = TransformerLayer(CONFIG).eval()
    for linear in (layer.attention.out, layer.contract):
        torch.nn.init.zeros_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    features = torch.randn(2, 9, 8)
    assert torch.equal(layer(features), features)


@pytest.mark.parametrize("stride", [3, 13])
def test_a_strided_layer_that_adds_nothing_keeps_every_strideth_frame(stride):
    layer = StridedLayer(CONFIG, stride=stride).eval()
    for part in (layer.attention.out, layer.contract):
        torch.nn.init.zeros_(part.weight)
        torch.nn.init.zeros_(part.bias)
    features = torch.randn(2, 3 * stride, 8)
    assert torch.equal(layer(features), features[:, [0, stride, 2 * stride]])


def test_attention_does_not_care_for_the_order_of_frames():
    layer = TransformerLayer(CONFIG).eval()
    features, order = torch.randn(2, 9, 8), torch.randperm(9)
    torch.testing.assert_close(layer(features)[:, order], layer(features[:, order]))
