"""Randomness that is counted, not drawn.

Every number is a pure function of (stream, seed, epoch, sample id, index): any number of workers, any
order of batches and any resumed run see the same numbers for the same sample.
"""

import hashlib

import numpy as np
from jaxtyping import Float, Int, UInt64

_GOLDEN_STEP = np.uint64(0x9E3779B97F4A7C15)
"""2^64 divided by the golden ratio, odd: the increment of SplitMix64."""


def counted_uniform(
    stream: str, *, seed: int, epoch: int, sample_ids: Int[np.ndarray, "B"], count: int
) -> Float[np.ndarray, "B count"]:
    """Numbers in [0, 1), float64 of 53 random bits, `count` for each sample.

    `stream` names what the numbers are for ("cameras", "masks"): different streams share nothing. The first
    numbers of a sample do not depend on `count`. Not for secrets.
    """
    bits = _bits(_stream_key(stream, seed=seed, epoch=epoch), sample_ids, count)
    bits >>= np.uint64(11)
    return bits * 2.0**-53


def counted_normal(
    stream: str, *, seed: int, epoch: int, sample_ids: Int[np.ndarray, "B"], count: int
) -> Float[np.ndarray, "B count"]:
    """Standard normal numbers, float64, otherwise as `counted_uniform`.

    Box and Muller, A note on the generation of random normal deviates, 1958. It consumes the stream's uniform
    numbers, so a stream serves one of the two functions.
    """
    pairs = -(-count // 2)
    uniform = counted_uniform(stream, seed=seed, epoch=epoch, sample_ids=sample_ids, count=2 * pairs)
    radius = np.sqrt(-2.0 * np.log1p(-uniform[:, 0::2]))
    angle_rad = 2.0 * np.pi * uniform[:, 1::2]
    normal = np.empty_like(uniform)
    normal[:, 0::2] = radius * np.cos(angle_rad)
    normal[:, 1::2] = radius * np.sin(angle_rad)
    return normal[:, :count]


def sample_order(
    *, seed: int, epoch: int, samples: int, stream: str = "sample order"
) -> Int[np.ndarray, "samples"]:
    """The order in which an epoch visits its samples: a permutation of 0..samples-1, int64."""
    key = _stream_key(stream, seed=seed, epoch=epoch)
    return np.argsort(_bits(key, np.arange(samples), 1)[:, 0], kind="stable")


def _stream_key(stream: str, *, seed: int, epoch: int) -> np.uint64:
    """64 bits for one epoch of one stream of one run."""
    name = f"{stream}\0{seed}\0{epoch}".encode()
    return np.uint64(int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little"))


def _bits(key: np.uint64, sample_ids: Int[np.ndarray, "B"], count: int) -> UInt64[np.ndarray, "B count"]:
    """Number i of a sample is output i of a SplitMix64 generator whose state is the sample's hash."""
    if not np.issubdtype(sample_ids.dtype, np.integer):
        raise TypeError(f"sample_ids must be whole numbers, got {sample_ids.dtype}")
    states = _mix((sample_ids.astype(np.uint64) + np.uint64(1)) * _GOLDEN_STEP ^ key)
    steps = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN_STEP
    return _mix(states[:, None] + steps)


def _mix(bits: UInt64[np.ndarray, "*shape"]) -> UInt64[np.ndarray, "*shape"]:
    """SplitMix64's finaliser, in place: every input bit reaches every output bit.

    Steele, Lea, Flood, Fast splittable pseudorandom number generators, 2014 (variant 13 of Stafford).
    """
    bits ^= bits >> np.uint64(30)
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return bits
