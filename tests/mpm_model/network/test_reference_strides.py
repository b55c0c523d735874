"""Lengths that the paper's code takes to one frame in steps of its own: 1, 9 and 351 frames.

There are no goldens of these: `expected` computes the network from the paper and the keys of the files, with
nothing of ours, and is itself held against the goldens of 27 frames.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mpm_model.errors import InputError
from mpm_model.network.reference import load_reference

GOLDEN = Path(__file__).parents[2] / "golden" / "reference_mpm"
NAME = "lift_f27_l3_c64_j17"
HEADS = 8
TOLERANCE = 1e-5
STEPS = {1: [1], 9: [1, 3, 3], 27: [3, 3, 3], 351: [3, 9, 13]}


def norm(state: dict[str, Tensor], key: str, x: Tensor) -> Tensor:
    spread = x.std(-1, keepdim=True) + 1e-6
    return state[f"{key}.a_2"] * (x - x.mean(-1, keepdim=True)) / spread + state[f"{key}.b_2"]


def batch_norm(state: dict[str, Tensor], key: str, x: Tensor) -> Tensor:
    scale = state[f"{key}.weight"] / (state[f"{key}.running_var"] + 1e-5).sqrt()
    return (x - state[f"{key}.running_mean"]) * scale + state[f"{key}.bias"]


def linear(state: dict[str, Tensor], key: str, x: Tensor) -> Tensor:
    weight = state[f"{key}.weight"]
    return x @ weight.reshape(len(weight), -1).T + state[f"{key}.bias"]


def attention(state: dict[str, Tensor], key: str, x: Tensor) -> Tensor:
    query, key_, value = (
        linear(state, f"{key}.linears.{part}", x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        for part in range(3)
    )
    scores = query @ key_.transpose(-1, -2) / query.shape[-1] ** 0.5
    return linear(state, f"{key}.linears.3", (scores.softmax(-1) @ value).transpose(1, 2).flatten(2))


def layer(state: dict[str, Tensor], key: str, x: Tensor, step: int | None) -> Tensor:
    x = x + attention(state, f"{key}.self_attn", norm(state, f"{key}.sublayer.0.norm", x))
    hidden = linear(state, f"{key}.feed_forward.w_1", norm(state, f"{key}.sublayer.1.norm", x)).relu()
    if step is None:
        return x + linear(state, f"{key}.feed_forward.w_2", hidden)
    weight, bias = state[f"{key}.feed_forward.w_2.weight"], state[f"{key}.feed_forward.w_2.bias"]
    contracted = functional.conv1d(hidden.transpose(1, 2), weight, bias, stride=step, padding=1)
    return x[:, ::step] + contracted.transpose(1, 2)


def expected(state: dict[str, Tensor], keypoints: Tensor, steps: list[int]) -> tuple[Tensor, Tensor]:
    def leaky(key: str, batch_key: str, x: Tensor) -> Tensor:
        return functional.leaky_relu(batch_norm(state, batch_key, linear(state, key, x)), 0.2)

    block = "shared_layers_spatial.layers.0"
    x = leaky("encoder2d.fc_1", "encoder2d.bn_1", keypoints.flatten(2))
    x = x + leaky(f"{block}.w2", f"{block}.batch_norm2", leaky(f"{block}.w1", f"{block}.batch_norm1", x))
    x = linear(state, "shared_layers_spatial.fc_2", x) + state["shared_layers_temporal.pos_embedding"]
    for number in range(3):
        x = layer(state, f"shared_layers_temporal.model.layers.{number}", x, None)
    sequence = linear(state, "fcn_1.1", batch_norm(state, "fcn_1.0", x))
    for number, step in enumerate(steps):
        if number < 3:
            x = x + state[f"Transformer_reduce.model.pos_embedding_{number + 1}"][:, : x.shape[1]]
        x = layer(state, f"Transformer_reduce.model.layers.{number}", x, step)
    center = linear(state, "fcn.1", batch_norm(state, "fcn.0", x))
    return center.unflatten(-1, (17, 3)), sequence.unflatten(-1, (17, 3))


def state_of(frames: int) -> dict[str, Tensor]:
    """The golden's state dict for another length: new tables of positions, as many strided layers."""
    state = {
        key.removeprefix("module."): tensor
        for key, tensor in torch.load(GOLDEN / f"{NAME}.pth", weights_only=True).items()
    }
    rng = torch.Generator().manual_seed(frames)
    for key, tensor in state.items():
        if "pos_embedding" in key and frames != 27:
            state[key] = torch.randn(1, frames, tensor.shape[-1], generator=rng)
    layers = len(STEPS[frames])
    return {
        key: tensor
        for key, tensor in state.items()
        if not key.startswith("Transformer_reduce.model.layers.") or int(key.split(".")[3]) < layers
    }


def test_what_is_expected_is_what_the_goldens_hold():
    with np.load(GOLDEN / f"{NAME}.npz") as arrays:
        keypoints, *wanted = (
            torch.from_numpy(arrays[key])
            for key in ("keypoints_2d", "joints_3d_center", "joints_3d_sequence")
        )
    for came, golden in zip(expected(state_of(27), keypoints, STEPS[27]), wanted, strict=True):
        assert (came - golden).abs().max() <= TOLERANCE


@pytest.mark.parametrize("frames", [1, 9, 351])
def test_lengths_of_other_steps_give_what_the_paper_gives(tmp_path, frames):
    state = state_of(frames)
    torch.save({f"module.{key}": tensor for key, tensor in state.items()}, tmp_path / "model.pth")
    model = load_reference(tmp_path / "model.pth")
    assert (model.config.frames, model.config.strided_layers) == (frames, tuple(STEPS[frames]))
    keypoints = torch.randn(2, frames, 17, 2, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
    with torch.inference_mode():
        lifted = model(keypoints)
    center, sequence = expected(state, keypoints, STEPS[frames])
    assert (lifted.center - center).abs().max() <= TOLERANCE
    assert (lifted.sequence - sequence).abs().max() <= TOLERANCE


def test_strided_layers_that_nobody_knows_the_steps_of_are_named(tmp_path):
    state = state_of(351)
    state["shared_layers_temporal.pos_embedding"] = torch.zeros(1, 243, 64)
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(InputError, match=r"missing Transformer_reduce\.model\.layers\.3"):
        load_reference(tmp_path / "model.pth")
