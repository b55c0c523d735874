"""Randomness that is counted, not drawn.

Every number is a pure function of (stream, seed, epoch, sample id, index): any number of workers, any
order of batches and any resumed run see the same numbers for the same sample, on whatever device.
"""

import hashlib
import math
from collections.abc import Iterator
from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Float, Int, UInt64
from torch import Tensor

from mpm_model.on_device import Device, send

SampleIds = Int[np.ndarray, "B"] | Int[Tensor, "B"]
"""Ids of samples, on the host or on a device."""

_GOLDEN_STEP = 0x9E3779B97F4A7C15
"""2^64 divided by the golden ratio, odd: the increment of SplitMix64."""
_FACTORS = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""Multipliers of SplitMix64's finaliser: variant 13 of Stafford."""
_TO_UNIT = 2.0**-53
"""From 53 random bits to [0, 1)."""
_BLOCK = 2**15
"""Numbers that the host makes at a time: with their scratch they fit a core's own cache."""


class CountedArguments(TypedDict):
    """What all randomness is counted from."""

    seed: int
    epoch: int
    sample_ids: SampleIds


def counted_uniform(
    stream: str, *, seed: int, epoch: int, sample_ids: Int[np.ndarray, "B"], count: int
) -> Float[np.ndarray, "B count"]:
    """Numbers in [0, 1), float64 of 53 random bits, `count` for each sample.

    `stream` names what the numbers are for ("cameras", "masks"): different streams share nothing. The first
    numbers of a sample do not depend on `count`. Not for secrets.
    """
    key = _stream_key(stream, seed=seed, epoch=epoch)
    uniform = np.empty((len(sample_ids), count))
    for rows in _blocks(len(sample_ids), count):
        bits = _bits(key, sample_ids[rows], count)
        bits >>= np.uint64(11)
        np.multiply(bits, _TO_UNIT, out=uniform[rows])
    return uniform


def counted_normal(
    stream: str, *, seed: int, epoch: int, sample_ids: Int[np.ndarray, "B"], count: int
) -> Float[np.ndarray, "B count"]:
    """Standard normal numbers, float64, otherwise as `counted_uniform`.

    Box and Muller, A note on the generation of random normal deviates, 1958. It consumes the stream's uniform
    numbers, so a stream serves one of the two functions.
    """
    pairs = -(-count // 2)
    normal = np.empty((len(sample_ids), pairs, 2))
    for rows in _blocks(len(sample_ids), 2 * pairs):
        uniform = counted_uniform(
            stream, seed=seed, epoch=epoch, sample_ids=sample_ids[rows], count=2 * pairs
        )
        radius = np.sqrt(-2.0 * np.log1p(-uniform[:, 0::2]))
        angle_rad = 2.0 * np.pi * uniform[:, 1::2]
        normal[rows, :, 0] = radius * np.cos(angle_rad)
        normal[rows, :, 1] = radius * np.sin(angle_rad)
    return normal.reshape(len(sample_ids), 2 * pairs)[:, :count]


def uniform_on(
    device: Device, stream: str, *, seed: int, epoch: int, sample_ids: SampleIds, count: int
) -> Float[Tensor, "B count"]:
    """The numbers of `counted_uniform`, bit for bit, made on the device; float64.

    Ids that are on the device already do not move, and the host waits for nothing.
    """
    ids = ids_on(device, sample_ids)
    if ids.device.type == "cpu":
        # numpy has unsigned numbers, which take fewer passes.
        drawn = counted_uniform(stream, seed=seed, epoch=epoch, sample_ids=ids.numpy(), count=count)
        return torch.from_numpy(drawn)
    return _uniform(_stream_key(stream, seed=seed, epoch=epoch), ids, count)


def normal_on(
    device: Device, stream: str, *, seed: int, epoch: int, sample_ids: SampleIds, count: int
) -> Float[Tensor, "B count"]:
    """The numbers of `counted_normal`, made on the device; float64.

    Logarithm and cosine are the device's own: elsewhere than on the CPU the last bits may differ.
    """
    ids = ids_on(device, sample_ids)
    if ids.device.type == "cpu":
        drawn = counted_normal(stream, seed=seed, epoch=epoch, sample_ids=ids.numpy(), count=count)
        return torch.from_numpy(drawn)
    return _normal(_stream_key(stream, seed=seed, epoch=epoch), ids, count)


def box_muller(first: Float[Tensor, "*shape"], second: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape 2"]:
    """Two independent normal numbers of every two uniform ones; the paper is named at `counted_normal`."""
    radius = torch.log1p(-first).mul_(-2).sqrt_()
    angle_rad = 2 * math.pi * second
    return torch.stack([radius * angle_rad.cos(), radius * angle_rad.sin()], dim=-1)


def ids_on(device: Device, sample_ids: SampleIds) -> Int[Tensor, "B"]:
    """Ids as int64 on a device. Those from 2^63 on come out negative; they count as what they were."""
    if isinstance(sample_ids, Tensor):
        if sample_ids.is_floating_point():
            raise TypeError(f"sample_ids must be whole numbers, got {sample_ids.dtype}")
        return sample_ids.to(device, torch.int64)
    return send(_whole(sample_ids).astype(np.int64, copy=False), device)


def sample_order(
    *, seed: int, epoch: int, samples: int, stream: str = "sample order"
) -> Int[np.ndarray, "samples"]:
    """The order in which an epoch visits its samples: a permutation of 0..samples-1, int64."""
    key = _stream_key(stream, seed=seed, epoch=epoch)
    return np.argsort(_bits(key, np.arange(samples), 1)[:, 0], kind="stable")


def _stream_key(stream: str, *, seed: int, epoch: int) -> int:
    """64 bits for one epoch of one stream of one run."""
    name = f"{stream}\0{seed}\0{epoch}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


def _blocks(samples: int, count: int) -> Iterator[slice]:
    """Samples whose numbers, `count` of each, are made at a time."""
    step = max(_BLOCK // max(count, 1), 1)
    return (slice(start, start + step) for start in range(0, samples, step))


def _whole(sample_ids: Int[np.ndarray, "B"]) -> Int[np.ndarray, "B"]:
    if not np.issubdtype(sample_ids.dtype, np.integer):
        raise TypeError(f"sample_ids must be whole numbers, got {sample_ids.dtype}")
    return sample_ids


# The generator is here twice: in numpy's unsigned numbers, and in torch's signed ones, which overflow alike.
# Steele, Lea, Flood, Fast splittable pseudorandom number generators, 2014.


def _bits(key: int, sample_ids: Int[np.ndarray, "B"], count: int) -> UInt64[np.ndarray, "B count"]:
    """Number i of a sample is output i of a SplitMix64 generator whose state is the sample's hash."""
    ids = _whole(sample_ids).astype(np.uint64)
    states = _mix((ids + np.uint64(1)) * np.uint64(_GOLDEN_STEP) ^ np.uint64(key))
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN_STEP)
    return _mix(states[:, None] + steps)


def _mix(bits: UInt64[np.ndarray, "*shape"]) -> UInt64[np.ndarray, "*shape"]:
    """SplitMix64's finaliser, in place: every input bit reaches every output bit."""
    bits ^= bits >> np.uint64(30)
    bits *= np.uint64(_FACTORS[0])
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(_FACTORS[1])
    bits ^= bits >> np.uint64(31)
    return bits


def _uniform(key: int, ids: Int[Tensor, "B"], count: int) -> Float[Tensor, "B count"]:
    """`_bits` in torch, and of each the upper 53 as a number in [0, 1)."""
    states = _mix_signed((ids + 1) * _signed(_GOLDEN_STEP) ^ _signed(key))
    steps = torch.arange(1, count + 1, device=ids.device) * _signed(_GOLDEN_STEP)
    bits = _mix_signed(states[:, None] + steps)
    return _shifted(bits, 11).double().mul_(_TO_UNIT)


def _normal(key: int, ids: Int[Tensor, "B"], count: int) -> Float[Tensor, "B count"]:
    uniform = _uniform(key, ids, count + count % 2)
    return box_muller(uniform[:, 0::2], uniform[:, 1::2]).flatten(1)[:, :count]


def _mix_signed(bits: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """`_mix` in torch, in place."""
    bits ^= _shifted(bits, 30)
    bits *= _signed(_FACTORS[0])
    bits ^= _shifted(bits, 27)
    bits *= _signed(_FACTORS[1])
    bits ^= _shifted(bits, 31)
    return bits


def _shifted(bits: Int[Tensor, "*shape"], places: int) -> Int[Tensor, "*shape"]:
    """Shifted right with zeros coming in from the left, as torch's own shift does not of signed numbers."""
    return (bits >> places).bitwise_and_((1 << (64 - places)) - 1)


def _signed(bits: int) -> int:
    """The int64 of the same 64 bits."""
    return bits - (1 << 64) if bits >> 63 else bits
