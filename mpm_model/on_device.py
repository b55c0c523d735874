"""Small things on their way to a device, without the host waiting for what the device still has to do.

A plain copy to a GPU makes the host wait until everything queued before it is done. One such copy a step,
and the host is never ahead of the GPU.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

Device = torch.device | str
Values = tuple[float | tuple[float, ...], ...]
"""Numbers, or rows of numbers of one length."""


def send(array: np.ndarray, device: Device) -> Tensor:
    """The array's numbers on a device; on the CPU a tensor that shares the array's memory."""
    tensor = torch.from_numpy(array)
    if torch.device(device).type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@lru_cache(maxsize=128)
def constant(values: Values, *, device: Device, dtype: torch.dtype) -> Tensor:
    """Numbers that are the same at every step: they go to a device once. Not to be written to."""
    # What inference mode makes could never take part in training.
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)
