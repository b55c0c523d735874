"""Where a worker's windows come from: all of them in memory, or its lanes of a corpus that is larger than
that."""

import dataclasses
from typing import Any, Protocol

import torch

from mpm_model.learning.batches import Corpus
from mpm_model.learning.order import MixConfig, Samples, samples_at
from mpm_model.pose.skeleton import Skeleton
from pipelines.window_stream import WindowStream


class Feed(Protocol):
    """Gives this worker its share of the batch of any step."""

    skeleton: Skeleton
    rate_hz: float
    steps_per_epoch: int

    @property
    def waited_s(self) -> float:
        """Time that `take` has waited for windows to come."""

    def __len__(self) -> int:
        """Windows of all workers together."""

    def take(self, step: int) -> tuple[int, Corpus, Samples]:
        """The epoch of a step, a corpus, and which of its windows the worker is to learn from."""

    def close(self) -> None:
        """End what reads ahead."""


class MemoryFeed:
    """The whole corpus, in every worker's memory."""

    waited_s = 0.0

    def __init__(
        self, corpus: Corpus, *, mix: MixConfig, batch_windows: int, seed: int, rank: int, workers: int
    ) -> None:
        self.corpus = corpus
        self.skeleton = corpus.skeleton
        self.rate_hz = corpus.rate_hz
        self.steps_per_epoch = len(corpus) // batch_windows
        self._order: dict[str, Any] = {
            "dataset": corpus.dataset,
            "mix": mix,
            "batch_windows": batch_windows,
            "seed": seed,
            "rank": rank,
            "world_size": workers,
        }

    def __len__(self) -> int:
        return len(self.corpus)

    def take(self, step: int) -> tuple[int, Corpus, Samples]:
        """See `Feed`."""
        epoch, samples = samples_at(step, **self._order)
        return epoch, self.corpus, samples

    def close(self) -> None:
        """Nothing reads ahead."""


class LaneFeed:
    """This worker's lanes of a corpus, held or streamed."""

    def __init__(self, stream: WindowStream, *, frames: int) -> None:
        self.skeleton, self.rate_hz = stream.skeleton, stream.rate_hz
        self.steps_per_epoch = stream.steps_per_epoch
        self._stream, self._frames = stream, frames

    def __len__(self) -> int:
        return len(self._stream)

    @property
    def waited_s(self) -> float:
        """See `Feed`."""
        return self._stream.waited_s

    def take(self, step: int) -> tuple[int, Corpus, Samples]:
        """See `Feed`."""
        epoch, corpus, samples = self._stream.take(step)
        return epoch, dataclasses.replace(corpus, sample_frames=self._frames), samples

    def close(self) -> None:
        """Read no more."""
        self._stream.close()


def memory_of(device: torch.device, gib: float) -> int:
    """Bytes of so many GiB, at most half of what the device has."""
    wanted = int(gib * 2**30)
    return min(wanted, torch.cuda.mem_get_info(device)[1] // 2) if device.type == "cuda" else wanted
