"""Digests of what a model is shown, sample by sample: runs may share the samples out differently."""

import hashlib
from dataclasses import fields

import numpy as np
from torch import Tensor

from mpm_model.learning.batches import Batch
from mpm_model.learning.masking import Hidden


def sample_digests(*parts: Batch | Hidden) -> list[str]:
    """For each sample of a batch the SHA-256, in hexadecimal, of all that the parts hold of it.

    Hashed are, part by part and field by field as they are declared, the field's name, its type, the shape
    that one sample has, and the numbers in C order as they lie in memory, bit for bit. What other samples
    are in the batch, and in which order, has no influence. Waits for the device.
    """
    columns = [
        (f"{field.name} {values.dtype} {values.shape[1:]}".encode(), values)
        for part in parts
        for field in fields(part)
        for values in [_on_host(getattr(part, field.name))]
    ]
    counts = {len(values) for _, values in columns}
    if len(counts) != 1:
        raise ValueError(f"parts must be of one batch, they have {sorted(counts)} samples")
    return [_digest(columns, sample) for sample in range(counts.pop())]


def _digest(columns: list[tuple[bytes, np.ndarray]], sample: int) -> str:
    sha = hashlib.sha256()
    for header, values in columns:
        sha.update(header)
        sha.update(values[sample].tobytes())
    return sha.hexdigest()


def _on_host(values: Tensor | np.ndarray) -> np.ndarray:
    return values.cpu().numpy() if isinstance(values, Tensor) else values
