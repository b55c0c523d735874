"""The checkpoint folder: a network's tensors, what they mean, and where they came from."""

import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from mpm_model.error_bands import ErrorBands, read_error_bands, to_json
from mpm_model.errors import InputError, listing, refuse
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.lifting import LiftingModel
from mpm_model.network.masked import MaskedPoseModel, UnifiedPoseModel
from mpm_model.network.refinement import RefinementConfig, RefinementModel
from mpm_model.pose.normalize import NORMALISATIONS, input_channels
from mpm_model.pose.skeleton import Skeleton, describe_difference
from mpm_model.strict_json import key_faults, read_json_object

FORMAT = "mpm-checkpoint/1"
"""Format that `save_checkpoint` writes and `load_checkpoint` reads."""
TENSORS_FILE, CONFIG_FILE, CARD_FILE = "model.safetensors", "config.json", "card.json"
ERROR_BANDS_FILE = "error_bands.json"
"""The one file that a checkpoint may lack."""

Network = MaskedPoseModel | LiftingModel | UnifiedPoseModel | RefinementModel
"""A network that a checkpoint can hold."""
_ARCHITECTURES = {
    "masked": (MaskedPoseModel, PoseTransformerConfig),
    "lifting": (LiftingModel, PoseTransformerConfig),
    "unified": (UnifiedPoseModel, PoseTransformerConfig),
    "refinement": (RefinementModel, RefinementConfig),
}
_SIZES_ADDED = {"strided_layers"}
"""Sizes that folders of before have not; they are None there."""
_CONFIG_TYPES = {
    "format": str,
    "architecture": str,
    "network": dict,
    "skeleton": str,
    "joints": list,
    "parents": list,
    "normalisation": str,
    "rate_hz": int | float,
}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A network and what one must know to use it."""

    model: Network
    """The network, sizes in `model.config`."""
    skeleton: Skeleton
    """Skeleton of the poses that go in and come out."""
    normalisation: str
    """One of `NORMALISATIONS`: what becomes of the 2D keypoints that go in."""
    rate_hz: float
    """Frames per second of the windows that the network was trained on."""
    card: dict[str, Any]
    """Data, licences, protocol, scores, commit: anything that JSON can hold."""
    error_bands: ErrorBands | None = None
    """How far its lifted joints may be from their true places; None if it was never calibrated."""

    def __post_init__(self) -> None:
        faults = []
        if self.normalisation not in NORMALISATIONS:
            faults.append(
                f"normalisation must be one of {', '.join(NORMALISATIONS)}, got {self.normalisation!r}"
            )
        if not 0 < self.rate_hz < float("inf"):
            faults.append(f"rate_hz must be positive, got {self.rate_hz}")
        if self.model.config.joints != len(self.skeleton):
            faults.append(
                f"the network has {self.model.config.joints} joints, "
                f"its skeleton {self.skeleton.name} has {len(self.skeleton)}"
            )
        if self.error_bands is not None and self.error_bands.skeleton != self.skeleton:
            faults.append(f"its error bands are of another skeleton, {self.error_bands.skeleton.name}")
        channels = getattr(self.model.config, "keypoint_channels", None)
        if not faults and channels is not None and channels not in input_channels(self.normalisation):
            faults.append(f"keypoint_channels {channels} does not go with normalisation {self.normalisation}")
        refuse("checkpoint", faults)

    @property
    def has_confidence(self) -> bool:
        """Whether the detector's confidence enters with each keypoint."""
        return getattr(self.model.config, "keypoint_channels", 2) in (3, 5)

    @property
    def architecture(self) -> str:
        """`masked`, `lifting`, `unified` or `refinement`."""
        return next(name for name, (kind, _) in _ARCHITECTURES.items() if type(self.model) is kind)


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, is_half: bool = False) -> None:
    """Write a checkpoint folder, all or nothing: it is made aside and renamed.

    `is_half` stores the weights in half precision, rounded; they are read as float32.
    InputError if something stands there already; an empty folder may.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(_occupied(folder))
    config = {
        "format": FORMAT,
        "architecture": checkpoint.architecture,
        "network": asdict(checkpoint.model.config),
        "skeleton": checkpoint.skeleton.name,
        "joints": checkpoint.skeleton.joints,
        "parents": checkpoint.skeleton.parents,
        "normalisation": checkpoint.normalisation,
        "rate_hz": checkpoint.rate_hz,
    }
    tensors = {
        name: (tensor.half() if is_half and tensor.is_floating_point() else tensor)
        .detach()
        .cpu()
        .contiguous()
        for name, tensor in checkpoint.model.state_dict().items()
    }
    if bad := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise ValueError(f"NaN or infinity in {listing(bad)}, after rounding if in half precision")
    contents = {
        TENSORS_FILE: safetensors.torch.save(tensors),
        CONFIG_FILE: json.dumps(config, indent=2).encode(),
        CARD_FILE: json.dumps(checkpoint.card, indent=2, ensure_ascii=False).encode(),
    }
    if checkpoint.error_bands is not None:
        contents[ERROR_BANDS_FILE] = to_json(checkpoint.error_bands, weights=contents[TENSORS_FILE])
    part = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.part")
    part.mkdir(parents=True)
    try:
        for name, content in contents.items():
            (part / name).write_bytes(content)
        os.replace(part, folder)  # takes the place of an empty folder, of nothing else
    except OSError as error:
        if folder.exists() and any(folder.iterdir()):
            raise InputError(_occupied(folder)) from error
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def load_checkpoint(
    folder: Path,
    *,
    expect_architecture: str | Sequence[str] | None = None,
    expect_skeleton: Skeleton | None = None,
    with_error_bands: bool = True,
) -> Checkpoint:
    """Read a checkpoint folder; the network comes on the CPU, in evaluation mode.

    Without its error bands it can be calibrated again, whatever lies there.
    Strict: InputError names both sides of every difference, in the files or to what is expected.
    """
    if not folder.is_dir():
        came = "a file" if folder.exists() else "nothing"
        raise InputError(
            f"{folder}: wanted a checkpoint folder, found {came}; give the folder that training wrote"
        )
    if absent := [n for n in (TENSORS_FILE, CONFIG_FILE, CARD_FILE) if not (folder / n).is_file()]:
        raise InputError(
            f"{folder}: not a checkpoint, it lacks {', '.join(absent)}; give the folder that training wrote"
        )
    config = _read_config(folder / CONFIG_FILE)
    card = read_json_object(folder / CARD_FILE)
    skeleton = _read_skeleton(config, folder)
    _check_expected(config, skeleton, folder, expect_architecture, expect_skeleton)
    model = _build(config, folder)
    model.load_state_dict(_read_tensors(folder / TENSORS_FILE, model.state_dict()), assign=True)
    error_bands = (
        read_error_bands(folder / ERROR_BANDS_FILE, weights=folder / TENSORS_FILE, skeleton=skeleton)
        if with_error_bands
        else None
    )
    try:
        return Checkpoint(
            model=model.eval(),
            skeleton=skeleton,
            normalisation=config["normalisation"],
            rate_hz=float(config["rate_hz"]),
            card=card,
            error_bands=error_bands,
        )
    except InputError as error:
        raise InputError(f"{folder / CONFIG_FILE}: {error}") from error


def _occupied(folder: Path) -> str:
    return (
        f"{folder}: something stands there already; choose a folder that does not exist, or remove it first"
    )


def _read_config(path: Path) -> dict[str, Any]:
    config = read_json_object(path)
    if config.get("format") != FORMAT:
        raise InputError(
            f"{path}: wanted format {FORMAT!r}, got {config.get('format')!r}; "
            "read it with the version that wrote it"
        )
    faults = key_faults(config.keys(), _CONFIG_TYPES.keys())
    for name, kind in _CONFIG_TYPES.items():
        if name in config and (not isinstance(config[name], kind) or isinstance(config[name], bool)):
            faults.append(f"{name} must be {getattr(kind, '__name__', 'a number')}, got {config[name]!r}")
    if "architecture" in config and config["architecture"] not in _ARCHITECTURES:
        faults.append(
            f"architecture must be one of {', '.join(_ARCHITECTURES)}, got {config['architecture']!r}"
        )
    refuse(str(path), faults)
    return config


def _read_skeleton(config: Mapping[str, Any], folder: Path) -> Skeleton:
    joints, parents = config["joints"], config["parents"]
    if not all(isinstance(joint, str) for joint in joints):
        raise InputError(f"{folder / CONFIG_FILE}: joints must be names, got {joints!r}")
    if not all(parent is None or isinstance(parent, str) for parent in parents):
        raise InputError(f"{folder / CONFIG_FILE}: parents must be names or null, got {parents!r}")
    try:
        return Skeleton(name=config["skeleton"], joints=tuple(joints), parents=tuple(parents))
    except InputError as error:
        raise InputError(f"{folder / CONFIG_FILE}: {error}") from error


def _check_expected(
    config: Mapping[str, Any],
    skeleton: Skeleton,
    folder: Path,
    expect_architecture: str | Sequence[str] | None,
    expect_skeleton: Skeleton | None,
) -> None:
    faults = []
    architecture = config["architecture"]
    wanted = [expect_architecture] if isinstance(expect_architecture, str) else expect_architecture
    if wanted is not None and architecture not in wanted:
        faults.append(
            f"its network is {architecture!r}, wanted {' or '.join(map(repr, wanted))}; "
            "give a checkpoint of that kind"
        )
    if expect_skeleton is not None and skeleton != expect_skeleton:
        faults.append(
            f"its skeleton is {skeleton.name}, wanted {expect_skeleton.name}: "
            f"{describe_difference(skeleton, expect_skeleton)}; "
            "give a checkpoint of that skeleton, or data of the checkpoint's"
        )
    refuse(f"{folder}: this checkpoint does not fit", faults)


def _build(config: Mapping[str, Any], folder: Path) -> Network:
    kind, config_kind = _ARCHITECTURES[config["architecture"]]
    where = f"{folder / CONFIG_FILE}: network of kind {config['architecture']!r}"
    wanted = {field.name for field in fields(config_kind)}
    sizes = {**dict.fromkeys(_SIZES_ADDED & wanted), **config["network"]}
    refuse(where, key_faults(sizes.keys(), wanted))
    try:
        # On no device: neither memory nor the caller's random numbers are spent on an untrained network.
        with torch.device("meta"):
            network: Network = kind(config_kind(**sizes))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    return network


def _read_tensors(path: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise InputError(
            f"{path}: wanted a safetensors file, got something else or half of it ({error}); copy it again"
        ) from error
    faults = key_faults(tensors.keys(), wanted.keys())
    both = [name for name in wanted if name in tensors]
    faults += [
        f"{name} must be {tuple(wanted[name].shape)} {wanted[name].dtype}, "
        f"got {tuple(tensors[name].shape)} {tensors[name].dtype}"
        for name in both
        if tensors[name].shape != wanted[name].shape
        or not _is_kept_as(tensors[name].dtype, wanted[name].dtype)
    ]
    if bad := [name for name in both if not tensors[name].isfinite().all()]:
        faults.append(f"NaN or infinity in {listing(bad)}")
    refuse(f"{path} does not fit the network that {CONFIG_FILE} beside it describes", faults)
    return {name: tensor.to(wanted[name].dtype) for name, tensor in tensors.items()}


def _is_kept_as(stored: torch.dtype, wanted: torch.dtype) -> bool:
    """Weights that ship are stored in half precision."""
    return stored == wanted or (stored == torch.float16 and wanted == torch.float32)
