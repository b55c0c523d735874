"""Reading checkpoints of the paper's own code into our networks.

What those files hold (facts, found in the files themselves): `torch.save` of a state dict whose keys may
begin with `module.`; linear layers per frame as convolutions of kernel 1, query, key and value apart, a
norm behind every transformer stack that no forward pass uses. Heads and dropouts are not in the file: 8
heads, as in the paper.
"""

import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mpm_model.errors import InputError, listing, refuse
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.lifting import LiftingModel
from mpm_model.network.masked import MaskedPoseModel
from mpm_model.network.refinement import RefinementConfig, RefinementModel

LIFTING_FRAME_DROPOUT = 0.2
"""Share dropped in the per-frame layers when the paper lifts; not in the file."""

STRIDES = {1: (1,), 9: (1, 3, 3), 351: (3, 9, 13)}
"""Frames that the paper's code takes to one in other steps than ours; the steps are not in the file."""

HIDDEN_KEYPOINT = "spatial_mask_token2d"
"""Their name of the 2D token."""
RENAMES = (
    # ours, theirs; applied one after another to our key
    (r"^hidden_keypoint$", HIDDEN_KEYPOINT),
    (r"^hidden_joint$", "spatial_mask_token3d"),
    (r"^hidden_frame$", "temporal_mask_token"),
    (r"^decoder_position$", "dec_pos_embedding"),
    (r"^encoder_norm\.", "encoder_LN."),
    (r"^embed_(2d|3d)\.linear\.", r"encoder\1.fc_1."),
    (r"^embed_(2d|3d)\.norm\.", r"encoder\1.bn_1."),
    (r"^trunk\.block\.0\.linear\.", "shared_layers_spatial.layers.0.w1."),
    (r"^trunk\.block\.0\.norm\.", "shared_layers_spatial.layers.0.batch_norm1."),
    (r"^trunk\.block\.1\.linear\.", "shared_layers_spatial.layers.0.w2."),
    (r"^trunk\.block\.1\.norm\.", "shared_layers_spatial.layers.0.batch_norm2."),
    (r"^trunk\.narrow\.", "shared_layers_spatial.fc_2."),
    (r"^trunk\.position$", "shared_layers_temporal.pos_embedding"),
    (r"^trunk\.layers\.", "shared_layers_temporal.model.layers."),
    (r"^decode_(2d|3d)\.head\.norm\.", r"fcn_dec\1.0."),
    (r"^decode_(2d|3d)\.head\.linear\.", r"fcn_dec\1.1."),
    (r"^decode_(2d|3d)\.layers\.", r"decoder\1.model.layers."),
    (r"^center_head\.norm\.", "fcn.0."),
    (r"^center_head\.linear\.", "fcn.1."),
    (r"^sequence_head\.norm\.", "fcn_1.0."),
    (r"^sequence_head\.linear\.", "fcn_1.1."),
    (r"^reduction\.positions\.0$", "Transformer_reduce.model.pos_embedding_1"),
    (r"^reduction\.positions\.1$", "Transformer_reduce.model.pos_embedding_2"),
    (r"^reduction\.positions\.2$", "Transformer_reduce.model.pos_embedding_3"),
    (r"^reduction\.layers\.", "Transformer_reduce.model.layers."),
    (r"\.attention_norm\.gain$", ".sublayer.0.norm.a_2"),
    (r"\.attention_norm\.bias$", ".sublayer.0.norm.b_2"),
    (r"\.feed_forward_norm\.gain$", ".sublayer.1.norm.a_2"),
    (r"\.feed_forward_norm\.bias$", ".sublayer.1.norm.b_2"),
    (r"^encoder_LN\.gain$", "encoder_LN.a_2"),
    (r"^encoder_LN\.bias$", "encoder_LN.b_2"),
    (r"\.attention\.out\.", ".self_attn.linears.3."),
    (r"(\.layers\.\d+)\.expand\.", r"\1.feed_forward.w_1."),
    (r"(\.layers\.\d+)\.contract\.", r"\1.feed_forward.w_2."),
    (r"^expand\.", "post_refine.0."),
    (r"^weigh\.", "post_refine.3."),
)
NEVER_USED = re.compile(r"(.*\.model\.norm\.[ab]_2)|(Transformer_reduce\.model\.pos_embedding_[123])")
"""Their parameters that no forward pass reads (tables of positions: when there are fewer strided layers)."""

REAL_NUMBERS = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64}
"""Kinds of numbers that become float32 without losing a part of them."""

NOT_TENSORS = (
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    AssertionError,
)
"""What torch's restricted unpickler raises on anything but tensors (found by altering bytes)."""


def load_reference(path: Path) -> MaskedPoseModel | LiftingModel | RefinementModel:
    """Build the network that a checkpoint of the paper's code holds, in evaluation mode.

    Sizes are read off its shapes. Strict: every key is used, every parameter filled. A lifting checkpoint has
    no token for hidden joints; it becomes zero, untrained. Nothing in the file is executed. InputError says
    what does not fit.
    """
    state = {key.removeprefix("module."): tensor for key, tensor in _read(path).items()}
    try:
        # On no device: neither memory nor the caller's random numbers are spent on an untrained network.
        with torch.device("meta"):
            model = _build(state)
        model.load_state_dict(_translate(state, model), assign=True)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return model.eval()


def _read(path: Path) -> Mapping[str, Tensor]:
    wanted = f"{path}: wanted a checkpoint of the paper's code (a state dict written by torch.save)"
    if not path.is_file():
        raise InputError(f"{wanted}, but there is no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        raise InputError(f"{wanted}, but it is cut short, damaged or of another format ({error})") from error
    if damaged is not None:
        raise InputError(f"{wanted}, but its part {damaged} is damaged; copy or download it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols: what cannot be read is an error here
            state = torch.load(path, map_location="cpu", weights_only=True)
    except NOT_TENSORS as error:
        raise InputError(
            f"{wanted}, but it holds objects other than tensors, which are not loaded"
        ) from error
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{wanted}, but it is a zip file of another kind ({reason})") from error
    if not isinstance(state, dict) or not state:
        raise InputError(f"{wanted}, but it holds a {type(state).__name__}")
    odd = [key for key, value in state.items() if not isinstance(key, str) or not isinstance(value, Tensor)]
    if odd:
        raise InputError(f"{wanted}, but these entries are not tensors by name: {listing(odd)}")
    if bad := [key for key, value in state.items() if not _holds_real_numbers(value)]:
        raise InputError(
            f"{wanted}, but these tensors are sparse, quantised, complex or empty shells: {listing(bad)}"
        )
    if bad := [key for key, value in state.items() if not value.to(torch.float32).isfinite().all()]:
        raise InputError(f"{wanted}, but these tensors hold NaN or infinity in float32: {listing(bad)}")
    return state


def _holds_real_numbers(tensor: Tensor) -> bool:
    is_plain = tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_meta
    return is_plain and tensor.dtype in REAL_NUMBERS


def _build(state: Mapping[str, Tensor]) -> MaskedPoseModel | LiftingModel | RefinementModel:
    """The network that the keys and shapes speak of, untrained."""
    if "post_refine.0.weight" in state:
        hidden, coordinates = _shape(state, "post_refine.0.weight", dimensions=2)
        return RefinementModel(RefinementConfig(joints=coordinates // 6, hidden=hidden))
    is_masked = any(key.startswith("encoder3d.") for key in state)
    is_lifting = any(key.startswith("Transformer_reduce.") for key in state)
    if is_masked == is_lifting:
        raise InputError(
            "wanted the pre-training, completion, lifting or refinement network of the paper, "
            f"got keys of something else: {listing(sorted(state))}"
        )
    _, frames, width = _shape(state, "shared_layers_temporal.pos_embedding", dimensions=3)
    frame_hidden, coordinates, _ = _shape(state, "encoder2d.fc_1.weight", dimensions=3)
    first_layer = "shared_layers_temporal.model.layers.0"
    feed_forward, _ = _shape(state, f"{first_layer}.feed_forward.w_1.weight", dimensions=2)
    config = PoseTransformerConfig(
        frames=frames,
        joints=coordinates // 2,
        width=width,
        layers=_layers(state, "shared_layers_temporal"),
        feed_forward=feed_forward,
        frame_hidden=frame_hidden,
        frame_dropout=LIFTING_FRAME_DROPOUT if is_lifting else PoseTransformerConfig.frame_dropout,
        decoder_layers=_layers(state, "decoder3d") if is_masked else PoseTransformerConfig.decoder_layers,
        strided_layers=_strides(state, frames) if is_lifting else None,
    )
    return LiftingModel(config) if is_lifting else MaskedPoseModel(config)


def _shape(state: Mapping[str, Tensor], key: str, *, dimensions: int) -> tuple[int, ...]:
    if key not in state:
        raise InputError(f"{key} is missing, so the sizes of the network are not known")
    shape = tuple(state[key].shape)
    if len(shape) != dimensions:
        raise InputError(f"{key} must have {dimensions} dimensions, got shape {shape}")
    return shape


def _layers(state: Mapping[str, Tensor], stack: str) -> int:
    numbers = [re.match(rf"{stack}\.model\.layers\.(\d+)\.", key) for key in state]
    return len({number[1] for number in numbers if number})


def _strides(state: Mapping[str, Tensor], frames: int) -> tuple[int, ...] | None:
    """The paper's steps for these frames, if they are not ours and the file has as many layers."""
    steps = STRIDES.get(frames)
    return steps if steps is not None and len(steps) == _layers(state, "Transformer_reduce") else None


def _translate(theirs: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Their tensors under our names and in our shapes."""
    ours: dict[str, Tensor] = model.state_dict()
    sources = {key: _their_keys(key) for key in ours}
    if isinstance(model, LiftingModel):
        theirs = {HIDDEN_KEYPOINT: torch.zeros_like(ours["hidden_keypoint"], device="cpu"), **theirs}
    wanted = {key for keys in sources.values() for key in keys}
    missing = sorted(wanted - theirs.keys())
    unknown = sorted(key for key in theirs.keys() - wanted if not NEVER_USED.fullmatch(key))
    faults = [f"missing {listing(missing)}"] * bool(missing)
    faults += [f"not known {listing(unknown)}"] * bool(unknown)
    translated = {}
    for key, keys in sources.items():
        slots = ours[key].chunk(len(keys)) if len(keys) > 1 else (ours[key],)
        parts = []
        for part, slot in zip(keys, slots, strict=True):
            if part not in theirs:
                continue
            # Convolutions of kernel 1 are linear layers; tables and tokens have leading axes of 1.
            if theirs[part].squeeze().shape == slot.squeeze().shape:
                parts.append(theirs[part].reshape(slot.shape).to(slot.dtype))
            else:
                faults.append(f"{part} has shape {tuple(theirs[part].shape)}, wanted {tuple(slot.shape)}")
        if len(parts) == len(keys):
            translated[key] = torch.cat(parts) if len(parts) > 1 else parts[0]
    refuse("does not fit the paper's network", faults)
    return translated


def _their_keys(key: str) -> tuple[str, ...]:
    for ours, theirs in RENAMES:
        key = re.sub(ours, theirs, key)
    if ".attention.query_key_value." not in key:
        return (key,)
    return tuple(
        key.replace(".attention.query_key_value.", f".self_attn.linears.{part}.") for part in range(3)
    )
