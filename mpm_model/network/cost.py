"""What a network costs: multiply-accumulates, counted by one counter for all configurations."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

FLOPS_PER_MAC = 2
"""torch counts a multiplication and an addition; the field's tables count the pair."""


@torch.no_grad()
def macs_per_frame(model: nn.Module, *, frames: int, joints: int, channels: int, head: str) -> float:
    """MAC of one frame of a window when all frames are lifted at once, without overlap.

    `head` is the method that lifts: `sequence` of all frames, `forward` of the centre with all else. Matrix
    products and attention are counted, as `torch.utils.flop_counter` finds them; norms and activations are
    not, as in the field's tables.
    """
    device = next(model.parameters()).device
    keypoints = torch.zeros(1, frames, joints, channels, device=device)
    is_hidden = torch.zeros(1, frames, joints, dtype=torch.bool, device=device)
    was_training = model.training
    model.eval()
    # torch knows the cost of attention on GPUs alone.
    on_cpu = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
    with FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
        lift = model if head == "forward" else getattr(model, head)
        lift(keypoints, is_hidden=is_hidden)
    model.train(was_training)
    flops: int = counter.get_total_flops()
    return flops / FLOPS_PER_MAC / frames


def _attention_flops(
    query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...], *_: object, **__: object
) -> int:
    flops: int = sdpa_flop_count(query, key, value)  # type: ignore[no-untyped-call]
    return flops
