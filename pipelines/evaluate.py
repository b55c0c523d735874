"""`mpm evaluate`: a model on people it never saw, by a named protocol of `pipelines.protocols`."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from mpm_model.checkpoint import TENSORS_FILE, Checkpoint, load_checkpoint
from mpm_model.completer import COMPLETING_ARCHITECTURES
from mpm_model.errors import InputError
from mpm_model.lifter import LIFTING_ARCHITECTURES, shipped_weights
from mpm_model.pose.skeleton import Skeleton
from mpm_model.pose.skeletons import H36M_17
from pipelines import storage, storage_folders
from pipelines.protocols import completion, h36m, mpi_inf_3dhp, occlusion, windowed
from pipelines.protocols import open as open_protocol
from pipelines.protocols.results import FLIP, NO_FLIP, Evaluation, Measured
from pipelines.schema import made_by

Measure = Callable[..., Measured]
"""Figures of a checkpoint on data, given as absolute URLs, and the protocol's options by keyword."""
OPTIONS = {
    "is_flipped": ("--flip", "has no test-time flip"),
    "keypoints_source": ("--keypoints-source", "says itself where its 2D is from"),
}
"""What a protocol may take beside checkpoint and data: how users type it, and why others do not take it."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a model is measured, and which models can be."""

    version: int
    """Raised whenever the protocol's figures would change."""
    architectures: tuple[str, ...]
    measure: Measure
    options: tuple[str, ...] = ()
    """Those of `OPTIONS` that `measure` takes."""
    skeleton: Skeleton | None = H36M_17
    """Skeleton that a checkpoint must have; None: the protocol itself says which it takes."""


def run(
    *,
    checkpoint: str | None = None,
    data: Sequence[str],
    protocol: str,
    flip: bool = False,
    keypoints_source: str | None = None,
    json_url: str | None = None,
) -> Evaluation:
    """Measure a checkpoint, or the weights that ship.

    `flip` averages with the mirrored input; `keypoints_source` says where the 2D is from.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"--protocol {protocol}: wanted one of {', '.join(PROTOCOLS)}")
    chosen = PROTOCOLS[protocol]
    options = {"is_flipped": flip or None, "keypoints_source": keypoints_source}
    given = {name: value for name, value in options.items() if value is not None}
    if unknown := [OPTIONS[name] for name in given if name not in chosen.options]:
        faults = [f"{typed}: protocol {protocol} {why}" for typed, why in unknown]
        raise InputError(f"{'; '.join(faults)}; leave it out")
    model, sha256 = _load(checkpoint, chosen)
    measured = chosen.measure(model, [storage.absolute(url) for url in data], **given)
    evaluation = Evaluation(
        **{field.name: getattr(measured, field.name) for field in dataclasses.fields(Measured)},
        protocol=protocol,
        version=chosen.version,
        flip=FLIP if flip else NO_FLIP,
        checkpoint="the weights that ship" if checkpoint is None else checkpoint,
        checkpoint_sha256=sha256,
        data=tuple(data),
        made_by=made_by("mpm evaluate"),
    )
    if json_url is not None:
        storage.write_json(storage.absolute(json_url), evaluation.as_json())
    return evaluation


def _load(checkpoint: str | None, protocol: Protocol) -> tuple[Checkpoint, str]:
    """The checkpoint, and the SHA-256 of its tensors' file."""
    folder = (
        nullcontext(shipped_weights())
        if checkpoint is None
        else storage_folders.fetch_folder(storage.absolute(checkpoint))
    )
    with folder as local:
        model = load_checkpoint(
            local, expect_architecture=protocol.architectures, expect_skeleton=protocol.skeleton
        )
        return model, hashlib.sha256((Path(local) / TENSORS_FILE).read_bytes()).hexdigest()


PROTOCOLS = {
    "lifting": Protocol(
        version=windowed.LIFTING_VERSION, architectures=LIFTING_ARCHITECTURES, measure=windowed.lifting
    ),
    "reconstruction": Protocol(
        version=windowed.RECONSTRUCTION_VERSION,
        architectures=COMPLETING_ARCHITECTURES,
        measure=windowed.reconstruction,
    ),
    "open": Protocol(
        version=open_protocol.VERSION, architectures=LIFTING_ARCHITECTURES, measure=windowed.open_data
    ),
    "occlusion": Protocol(
        version=occlusion.VERSION, architectures=LIFTING_ARCHITECTURES, measure=windowed.occluded
    ),
    "completion": Protocol(
        version=completion.VERSION, architectures=COMPLETING_ARCHITECTURES, measure=windowed.completed
    ),
    "h36m": Protocol(
        version=h36m.VERSION,
        architectures=LIFTING_ARCHITECTURES,
        measure=h36m.measure,
        options=("is_flipped", "keypoints_source"),
    ),
    "3dhp": Protocol(
        version=mpi_inf_3dhp.VERSION,
        architectures=LIFTING_ARCHITECTURES,
        measure=mpi_inf_3dhp.measure,
        options=("is_flipped",),
        skeleton=None,
    ),
}
"""Every protocol by the name that users type."""
