"""The two halves of the work on a shard: reading, which needs no model, and lifting, which needs no files."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa

from mpm_model.errors import InputError
from mpm_model.lifter import Lifter, shipped_weights
from mpm_model.pose.skeleton import describe_difference
from mpm_model.pose.skeletons import H36M_16, H36M_17
from pipelines import storage_folders
from pipelines.lift_config import LiftConfig
from pipelines.lift_shard import ReadInput, lift_inputs, read_inputs
from pipelines.manifest import Input
from pipelines.parts import Commit, PartResult, Shard, read_part, write_part
from pipelines.schema import TableMetadata

LIFTED_SKELETONS = (H36M_17, H36M_16)
"""Skeletons that detections can be brought to."""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What is done with the inputs of a shard; light enough to travel to a worker."""

    checkpoint: str | None
    config: LiftConfig
    metadata: TableMetadata

    def read(self, inputs: Sequence[Input]) -> list[ReadInput]:
        """What is in the inputs. A file may end the process that reads it."""
        return read_inputs(inputs, options=self.config.read_options())

    def lift(self, read: Sequence[ReadInput]) -> PartResult:
        """Poses of what was read; the model is loaded once in a process."""
        lifter = load_lifter(self.checkpoint, self.config)
        return lift_inputs(read, lifter=lifter, placing=self.config.placing, metadata=self.metadata)

    def commit(self, shard: Shard, read: Sequence[ReadInput], *, out: str, read_s: float) -> Commit:
        """Lift what was read, in so many seconds, and write it."""
        begun_s = time.monotonic()
        result = self.lift(read)
        lifted_s = time.monotonic()
        commit = write_part(shard, result, out=out)
        seconds = {"read": read_s, "lift": lifted_s - begun_s, "write": time.monotonic() - lifted_s}
        return commit.model_copy(update={"seconds": seconds})

    def make(self, shard: Shard, *, out: str) -> Commit:
        """The part of a shard, made in this process, or only read if it is there."""
        begun_s = time.monotonic()
        if (commit := read_part(shard, out=out)) is not None:
            return commit
        read = self.read(shard.inputs)
        commit = self.commit(shard, read, out=out, read_s=time.monotonic() - begun_s)
        pa.default_memory_pool().release_unused()  # else a process grows with every shard it has made
        return commit

    def __call__(self, inputs: Sequence[Input]) -> PartResult:
        """Both, in this process."""
        return self.lift(self.read(inputs))


def load_lifter(checkpoint: str | None, config: LiftConfig) -> Lifter:
    """The model, loaded once in a process; None: the weights that ship, wherever that process has them."""
    return _load(checkpoint, config.mode, config.is_mirrored, config.min_confidence)


@lru_cache(maxsize=1)
def _load(checkpoint: str | None, mode: str, is_mirrored: bool, min_confidence: float) -> Lifter:
    with (
        nullcontext(shipped_weights())
        if checkpoint is None
        else storage_folders.fetch_folder(checkpoint) as folder
    ):
        lifter = Lifter.load(
            folder, mode=mode, is_mirrored=is_mirrored, min_confidence=min_confidence, device=device()
        )
    if lifter.skeleton not in LIFTED_SKELETONS:
        raise InputError(
            f"{checkpoint or folder}: this checkpoint does not fit; its skeleton is {lifter.skeleton.name}, "
            f"wanted {' or '.join(skeleton.name for skeleton in LIFTED_SKELETONS)}: "
            f"{describe_difference(lifter.skeleton, H36M_17)}; give a checkpoint of such a skeleton"
        )
    return lifter


def device() -> str:
    """Where the model computes in this process."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
