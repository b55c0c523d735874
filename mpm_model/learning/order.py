"""In which order, and how often, windows are seen: several data sets mixed, the same for any worker count."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int

from mpm_model.errors import refuse
from mpm_model.learning.counted import sample_order


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """How data sets of different size share an epoch."""

    temperature: float = 1.0
    """A data set's share is its number of windows to the power of 1 / temperature (Arivazhagan et al. 2019):
    1 is proportion, 2 lets small sets count more, very large makes all alike."""

    def __post_init__(self) -> None:
        refuse(
            "mix",
            [f"temperature must be at least 1, got {self.temperature}"] * (not self.temperature >= 1),
        )


@dataclass(frozen=True)
class Samples:
    """Windows to be seen, and for the how-many-eth time within the epoch."""

    indices: Int[np.ndarray, "B"]
    """Rows of the corpus."""
    copies: Int[np.ndarray, "B"]
    """0 for the first time; added to a window's id, so that the second time shows another view."""

    @classmethod
    def once(cls, indices: Int[np.ndarray, "B"]) -> "Samples":
        """Windows seen once."""
        return cls(indices, np.zeros_like(indices))


def quotas(sizes: tuple[int, ...], temperature: float) -> tuple[int, ...]:
    """Windows of each data set in an epoch, which has as many as all together."""
    total = sum(sizes)
    weights = np.array(sizes, dtype=np.float64) ** (1 / temperature)
    ends = np.round(np.cumsum(weights) / weights.sum() * total).astype(int)
    return tuple(np.diff(ends, prepend=0).tolist())


def samples_at(
    step: int,
    *,
    dataset: Int[np.ndarray, "N"],
    mix: MixConfig,
    batch_windows: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
) -> tuple[int, Samples]:
    """Epoch and windows of one worker's share of the global batch of a step.

    Every epoch is a new permutation; what does not fill a batch at its end is left out, and comes
    another time because the permutation is another. All workers' shares together are the same
    batch for any number of workers.
    """
    steps_per_epoch = len(dataset) // batch_windows
    epoch, within = divmod(step, steps_per_epoch)
    order = _epoch_order(seed, epoch, dataset.tobytes(), mix.temperature)
    part = slice(within * batch_windows + rank, (within + 1) * batch_windows, world_size)
    return epoch, Samples(order.indices[part], order.copies[part])


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, dataset_bytes: bytes, temperature: float) -> Samples:
    """All samples of an epoch. A data set that comes more than once comes whole each time but the last."""
    dataset = np.frombuffer(dataset_bytes, dtype=np.int64)
    rows_of = [np.flatnonzero(dataset == number) for number in np.unique(dataset)]
    indices, copies = [], []
    for number, (rows, quota) in enumerate(
        zip(rows_of, quotas(tuple(map(len, rows_of)), temperature), strict=True)
    ):
        order = sample_order(seed=seed, epoch=epoch, samples=len(rows), stream=f"data set {number}")
        place = np.arange(quota)
        indices.append(rows[order[place % len(rows)]])
        copies.append(place // len(rows))
    shuffled = sample_order(seed=seed, epoch=epoch, samples=len(dataset))
    return Samples(np.concatenate(indices)[shuffled], np.concatenate(copies)[shuffled])
