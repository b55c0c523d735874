"""Our checkpoints as ONNX files, checked against torch before they are written."""

import hashlib
import importlib.util
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mpm_model.checkpoint import TENSORS_FILE, Checkpoint, load_checkpoint
from mpm_model.errors import InputError
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.lifting import LiftingModel
from mpm_model.network.masked import MaskedPoseModel, UnifiedPoseModel
from pipelines import storage, storage_folders
from pipelines.schema import made_by

SUFFIX = ".onnx"
OPSET = 18
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
"""What the export needs beside torch; they come with the extra `onnx`."""
TOLERANCE = 1e-4
"""Largest difference between ONNX Runtime and torch, in metres: a tenth of a millimetre."""
CHECKED_BATCHES = (1, 3)
"""Windows in a batch at which the file is checked."""
UNITS = "joints in metres, camera axes (x right, y down, z forward), relative to the pelvis"
_SOURCE = "mpm.checkpoint_sha256"
_SEED = 0
_SHARE_HIDDEN = 0.2
_SCALE_M = 0.5


class LiftBoth(nn.Module):
    """Lifts all frames and the frame in the middle."""

    def __init__(self, model: LiftingModel | UnifiedPoseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, keypoints: Tensor, is_hidden: Tensor) -> tuple[Tensor, Tensor]:
        """All frames (B, T, J, 3) and the middle (B, 1, J, 3) from keypoints (B, T, J, C_in)."""
        lifted = self.model(keypoints, is_hidden=is_hidden)
        return lifted.sequence, lifted.center


class LiftMasked(nn.Module):
    """Lifts all frames with the pre-training network, no frame hidden."""

    def __init__(self, model: MaskedPoseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, keypoints: Tensor, is_hidden: Tensor) -> Tensor:
        """All frames (B, T, J, 3) from keypoints (B, T, J, C_in)."""
        return self.model.lift(keypoints, is_hidden_joint=is_hidden, is_hidden_frame=None)


class CompleteJoints(nn.Module):
    """Fills in hidden joints of 3D poses, no frame hidden."""

    def __init__(self, model: MaskedPoseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, given_joints_rel_m: Tensor, is_hidden: Tensor) -> Tensor:
        """All joints (B, T, J, 3) from partly hidden ones (B, T, J, 3)."""
        return self.model.reconstruct_3d(given_joints_rel_m, is_hidden_joint=is_hidden, is_hidden_frame=None)


@dataclass(frozen=True, kw_only=True)
class Graph:
    """One ONNX file to be made."""

    name: str
    """Name of the file in a folder, without its ending."""
    module: nn.Module
    """What is exported."""
    poses: str
    """Name of the input beside `is_hidden`."""
    channels: int
    """Numbers of each joint of that input."""
    outputs: tuple[str, ...]
    """Names of the outputs."""


def export_checkpoint(source: str, *, out: str) -> list[str]:
    """Write a checkpoint folder or URL as ONNX; returns the lines that say what was written.

    `out` ends in `.onnx` for one file: that which lifts. A folder gets `lift.onnx`, and `complete.onnx` of
    networks that also complete 3D poses. Files that hold the same already are left alone.

    Raises:
        InputError: packages are missing, the source is no checkpoint of ours or one that is not exported, or
            something else stands in the way.
        RuntimeError: ONNX Runtime and torch differ.
    """
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise InputError(f"--to onnx needs {', '.join(missing)}: pip install 'mpm-on-ray[onnx]'")
    if source.endswith((".pth", ".pt")):
        raise InputError(f"{source}: wanted a checkpoint folder; make one of it first, without --to onnx")
    with storage_folders.fetch_folder(source) as folder:
        checkpoint = load_checkpoint(folder)
        sha256 = hashlib.sha256(Path(folder, TENSORS_FILE).read_bytes()).hexdigest()
    targets = _targets(checkpoint, source, out)
    if not (wanted := [url for url in targets if not _is_written(url, sha256)]):
        return [f"{out}: was converted already, nothing to do"]
    storage.check_writable(out if out not in targets else out.rpartition("/")[0])
    made: dict[str, bytes] = {}
    lines = []
    for url in wanted:
        graph = targets[url]
        content = export(graph, checkpoint, metadata={_SOURCE: sha256})
        difference = largest_difference(graph, checkpoint, content)
        if not difference <= TOLERANCE:
            raise RuntimeError(
                f"{url}: ONNX Runtime and torch differ by {difference:.1e}, more than {TOLERANCE}"
            )
        made[url] = content
        lines.append(
            f"{url}: {graph.poses}, is_hidden -> {', '.join(graph.outputs)}; {len(content) / 1e6:.1f} MB, "
            f"differs from torch by {difference:.1e} at most"
        )
    for url, content in made.items():
        storage.write_once(url, content)
    return lines


def graphs_of(checkpoint: Checkpoint) -> tuple[Graph, ...]:
    """The ONNX files of a network, that which lifts first; none of refinement."""
    model = checkpoint.model
    if not isinstance(model, LiftingModel | MaskedPoseModel):
        return ()
    lifts_both = isinstance(model, LiftingModel | UnifiedPoseModel)
    lift = Graph(
        name="lift",
        module=LiftBoth(model) if isinstance(model, LiftingModel | UnifiedPoseModel) else LiftMasked(model),
        poses="keypoints",
        channels=model.config.keypoint_channels,
        outputs=("joints_rel_m", "center_rel_m") if lifts_both else ("joints_rel_m",),
    )
    if isinstance(model, LiftingModel):
        return (lift,)
    complete = Graph(
        name="complete",
        module=CompleteJoints(model),
        poses="given_joints_rel_m",
        channels=3,
        outputs=("joints_rel_m",),
    )
    return lift, complete


def export(graph: Graph, checkpoint: Checkpoint, *, metadata: Mapping[str, str]) -> bytes:
    """The content of an ONNX file of any number of windows, with what one must know to use it."""
    sizes = _sizes(checkpoint)
    batch = torch.export.Dim("batch", min=1)
    with _quiet():
        program: Any = torch.onnx.export(
            graph.module.eval(),
            _example(graph, sizes, windows=2),
            input_names=[graph.poses, "is_hidden"],
            output_names=list(graph.outputs),
            dynamic_shapes=({0: batch}, {0: batch}),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    model = program.model_proto
    _strip_traces(model)
    said = {
        "mpm.architecture": checkpoint.architecture,
        "mpm.skeleton": checkpoint.skeleton.name,
        "mpm.joints": json.dumps(checkpoint.skeleton.joints),
        "mpm.normalisation": checkpoint.normalisation,
        "mpm.confidence": json.dumps(checkpoint.has_confidence),
        "mpm.rate_hz": f"{checkpoint.rate_hz:g}",
        "mpm.window_frames": str(sizes.frames),
        "mpm.units": UNITS,
        "mpm.made_by": made_by("mpm convert"),
        "mpm.card": json.dumps(checkpoint.card, ensure_ascii=False),
        **metadata,
    }
    del model.metadata_props[:]
    for key, value in said.items():
        model.metadata_props.add(key=key, value=value)
    content: bytes = model.SerializeToString()
    return content


def largest_difference(graph: Graph, checkpoint: Checkpoint, content: bytes) -> float:
    """Largest absolute difference of any output between ONNX Runtime and torch, on drawn windows."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    differences = []
    for windows in CHECKED_BATCHES:
        poses, is_hidden = _example(graph, _sizes(checkpoint), windows=windows)
        with torch.inference_mode():
            wanted = graph.module.eval()(poses, is_hidden)
        came = session.run(list(graph.outputs), {graph.poses: poses.numpy(), "is_hidden": is_hidden.numpy()})
        for ours, theirs in zip(wanted if isinstance(wanted, tuple) else (wanted,), came, strict=True):
            if ours.shape != theirs.shape:
                return float("nan")
            differences.append(np.abs(ours.numpy() - theirs).max())
    return float(np.max(differences))


def _targets(checkpoint: Checkpoint, source: str, out: str) -> dict[str, Graph]:
    """What goes where."""
    graphs = graphs_of(checkpoint)
    if not graphs:
        raise InputError(
            f"{source}: a {checkpoint.architecture} network is not exported; "
            "wanted one that lifts or completes poses"
        )
    if not out.endswith(SUFFIX):
        return {storage.join(out, graph.name + SUFFIX): graph for graph in graphs}
    if isinstance(graphs[0].module, LiftMasked):
        raise InputError(
            f"--out {out}: a pre-trained network gives two files, lift.onnx and complete.onnx: name a folder"
        )
    return {out: graphs[0]}


def _is_written(url: str, sha256: str) -> bool:
    """Whether a file holds these weights already; InputError if it holds something else."""
    if not storage.exists(url):
        return False
    import onnx
    from google.protobuf.message import DecodeError

    try:
        found = {
            prop.key: prop.value for prop in onnx.load_from_string(storage.read_bytes(url)).metadata_props
        }
    except DecodeError:
        found = {}
    if found.get(_SOURCE) != sha256:
        raise InputError(f"{url}: something else stands there already; give another --out")
    return True


def _sizes(checkpoint: Checkpoint) -> PoseTransformerConfig:
    assert isinstance(checkpoint.model.config, PoseTransformerConfig)  # of all that has graphs
    return checkpoint.model.config


def _example(graph: Graph, sizes: PoseTransformerConfig, *, windows: int) -> tuple[Tensor, Tensor]:
    """Drawn poses, some of their joints hidden, the same in every process."""
    rng = torch.Generator().manual_seed(_SEED)
    cells = (windows, sizes.frames, sizes.joints)
    poses = _SCALE_M * torch.randn(*cells, graph.channels, generator=rng)
    return poses, torch.rand(cells, generator=rng) < _SHARE_HIDDEN


def _strip_traces(model: Any) -> None:
    """Take out from which lines of code each node came: bulk, and names of this machine's folders."""
    parts = [model.graph, *model.functions]
    for part in parts:
        del part.metadata_props[:]
        for entry in (*part.node, *part.value_info):
            del entry.metadata_props[:]
            entry.doc_string = ""
    for entry in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del entry.metadata_props[:]


@contextmanager
def _quiet() -> Iterator[None]:
    """torch's exporter speaks of packages that it does not need."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            log.setLevel(level)
