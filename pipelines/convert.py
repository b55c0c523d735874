"""The verb `convert`: checkpoints of the paper's own code become ours, and ours become ONNX."""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpm_model.checkpoint import CARD_FILE, CONFIG_FILE, TENSORS_FILE, Checkpoint, Network, save_checkpoint
from mpm_model.errors import InputError, refuse
from mpm_model.network.lifting import LiftingModel
from mpm_model.network.reference import load_reference
from mpm_model.network.refinement import RefinementModel
from mpm_model.pose.skeletons import H36M_16, H36M_17
from pipelines import storage, storage_folders
from pipelines.schema import made_by

RATE_HZ = 25.0
"""The paper trains on every second frame of 50 Hz data."""
NORMALISATION = "screen"
"""What the paper's code does to the 2D it is given."""
LICENCE = "of the weights: their giver's business; the paper's code names none, and converting grants none"
COMPLETION_DECODER_LAYERS = 2
"""By these the paper's completion network is told from that of pre-training, which has 1."""
_SKELETONS = {len(skeleton): skeleton for skeleton in (H36M_17, H36M_16)}


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """What becomes what."""

    to: str = "checkpoint"
    """`checkpoint`: a file of the paper's code to our folder. `onnx`: our folder to ONNX."""
    rate_hz: float | None = None
    """Frames per second of the windows that the paper's network was trained on; None is 25, as published."""

    def __post_init__(self) -> None:
        faults = []
        if self.to not in ("checkpoint", "onnx"):
            faults.append(f"--to must be checkpoint or onnx, got {self.to!r}")
        if self.to == "onnx" and self.rate_hz is not None:
            faults.append("--rate-hz is in the checkpoint already; leave it out with --to onnx")
        if self.rate_hz is not None and not 0 < self.rate_hz < float("inf"):
            faults.append(f"--rate-hz must be positive, got {self.rate_hz}")
        refuse("convert", faults)


def run(source: str, *, out: str, config: ConvertConfig) -> list[str]:
    """Convert one checkpoint; returns the lines that say what was written.

    A file of the paper's code is read without executing anything in it, and is refused whole if any tensor
    does not fit. A folder that holds the same conversion already is left alone.

    Raises:
        InputError: the source is not what is converted, or the output holds something else. Nothing is left
            behind.
    """
    source, out = storage.absolute(source), storage.absolute(out)
    if config.to == "onnx":
        from pipelines.onnx_file import export_checkpoint

        return export_checkpoint(source, out=out)
    return convert_reference(source, out=out, rate_hz=config.rate_hz or RATE_HZ)


def convert_reference(source: str, *, out: str, rate_hz: float) -> list[str]:
    """A `.pth` of the paper's code to our checkpoint folder."""
    content = _read_file(source)
    sha256 = hashlib.sha256(content).hexdigest()
    origin: dict[str, Any] = {
        "file": source.rsplit("/", 1)[-1],
        "sha256": sha256,
        "rate_hz": rate_hz,
    }
    if _is_converted(out, origin):
        return [f"{out}: was converted already, nothing to do"]
    storage.check_writable(out)
    with tempfile.TemporaryDirectory(prefix="mpm-") as scratch:
        checkpoint = read_reference(content, scratch=Path(scratch), name=source, origin=origin)
        save_checkpoint(Path(scratch, "made"), checkpoint)
        storage_folders.publish_folder(Path(scratch, "made"), out, last=CARD_FILE)
    parameters = sum(parameter.numel() for parameter in checkpoint.model.parameters())
    sizes: Any = checkpoint.model.config
    frames = f"windows of {sizes.frames} frames at {rate_hz:g} Hz, " if hasattr(sizes, "frames") else ""
    return [
        f"{out}: {_kind(checkpoint.model)} network, {frames}{checkpoint.skeleton.name}, "
        f"{parameters / 1e6:.2f} M parameters, normalisation {checkpoint.normalisation}",
        f"licence: {LICENCE}",
    ]


def read_reference(content: bytes, *, scratch: Path, name: str, origin: dict[str, Any]) -> Checkpoint:
    """The content of a checkpoint of the paper's code as one of ours. InputError speaks of `name`."""
    file = scratch / "reference.pth"
    file.write_bytes(content)
    try:
        model = load_reference(file)
    except InputError as error:
        raise InputError(str(error).replace(str(file), name)) from error
    skeleton = _SKELETONS.get(model.config.joints)
    if skeleton is None:
        raise InputError(
            f"{name}: a network of {model.config.joints} joints, whose order nobody says; "
            f"wanted one of {' or '.join(map(str, sorted(_SKELETONS)))}"
        )
    card = {
        "what": f"{_kind(model)} network of the paper's own code (Zhang et al. 2023, arXiv 2306.17201)",
        "converted_from": origin,
        "licence": LICENCE,
        "made_by": made_by("mpm convert"),
    }
    return Checkpoint(
        model=model, skeleton=skeleton, normalisation=NORMALISATION, rate_hz=origin["rate_hz"], card=card
    )


def _kind(model: Network) -> str:
    """The paper's name of a network."""
    if isinstance(model, RefinementModel):
        return "refinement"
    if isinstance(model, LiftingModel):
        return "lifting"
    return "completion" if model.config.decoder_layers == COMPLETION_DECODER_LAYERS else "pre-training"


def _read_file(source: str) -> bytes:
    wanted = f"{source}: wanted a checkpoint file of the paper's code (.pth)"
    if not storage.exists(source):
        raise InputError(f"{wanted}, but there is no such file")
    filesystem, path = storage.open_filesystem(source)
    with storage.storage_errors(source):
        if filesystem.isdir(path):
            raise InputError(f"{wanted}, got a folder; to make ONNX of our own checkpoint add --to onnx")
        content: bytes = filesystem.cat_file(path)
    return content


def _is_converted(out: str, origin: dict[str, Any]) -> bool:
    """Whether the same file was converted to here; InputError if something else is there."""
    if not storage.exists(out) or storage.is_empty(out):
        return False
    names = set(storage.list_names(out))
    if CARD_FILE not in names and names <= {TENSORS_FILE, CONFIG_FILE}:
        return False  # begun and killed
    card = storage.read_json(storage.join(out, CARD_FILE)) if CARD_FILE in names else {}
    if isinstance(card, dict) and card.get("converted_from") == origin:
        return True
    raise InputError(
        f"{out}: wanted an empty folder, it holds something else ({', '.join(sorted(names)[:5])}); "
        "give another --out"
    )
