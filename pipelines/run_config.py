"""The one strict door from YAML and `--set` to the typed configuration of a run."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mpm_model.errors import InputError, refuse
from mpm_model.learning.batches import ViewConfig
from mpm_model.learning.masking import MaskConfig
from mpm_model.learning.objectives import CompletionConfig, MaskedLossConfig
from mpm_model.learning.order import MixConfig
from mpm_model.learning.training import OptimiserConfig, Precision
from mpm_model.network.config import PoseTransformerConfig


@dataclass(frozen=True, kw_only=True)
class ScaleConfig:
    """On how many machines, and how often to look up. No part of what a run is: it may go on at another
    scale."""

    workers: int = 1
    """Ray Train workers; every batch is shared among them."""
    min_workers: int = 0
    """The fewest workers to go on with when machines are lost; more join when they come. 0: exactly
    `workers`."""
    cpus_per_worker: int = 0
    """Threads of each worker; 0 shares a machine's cores among the workers on it."""
    is_on_gpu: bool = False
    """Whether each worker holds a GPU."""
    is_compiled: bool = False
    """Whether torch.compile builds the network anew for the machine; it needs a C++ compiler there."""
    windows_per_pass: int = 0
    """Windows that a worker's memory holds at once; larger shares of a batch are added up in passes. 0:
    all."""
    hold_gib: float = 8.0
    """Memory for a worker's share of the data, where `lanes` share it out; what is more is streamed."""
    max_failures: int = 3
    """How often in a row, without a new checkpoint in between, workers may be lost before the run gives
    up."""
    report_every_steps: int = 20
    """Steps between two lines of progress."""
    checkpoint_every_steps: int = 200
    """Steps between two states that a lost run goes on from; they are written beside the training."""
    validate_every_epochs: int = 5
    """Epochs between two validations; the last epoch always has one."""

    def __post_init__(self) -> None:
        least = {
            "workers": 1,
            "min_workers": 0,
            "cpus_per_worker": 0,
            "windows_per_pass": 0,
            "hold_gib": 0,
            "max_failures": 0,
            "report_every_steps": 1,
            "checkpoint_every_steps": 1,
            "validate_every_epochs": 1,
        }
        faults = [
            f"{name} must be at least {minimum}, got {getattr(self, name)}"
            for name, minimum in least.items()
            if not getattr(self, name) >= minimum
        ]
        if self.min_workers > self.workers:
            faults.append(f"min_workers is {self.min_workers}, more than workers, {self.workers}")
        refuse("scale", faults)

    @property
    def is_elastic(self) -> bool:
        """Whether the number of workers may change."""
        return 0 < self.min_workers < self.workers


class TrainingConfig(BaseModel):
    """What pre-training and fine-tuning have in common. Written next to every output."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(ge=0)
    """Everything random is counted from it."""
    epochs: int = Field(ge=1)
    """Passes over the training windows."""
    batch_windows: int = Field(ge=2)
    """Windows of one step, over all workers."""
    view: ViewConfig = Field(default_factory=ViewConfig)
    """Cameras, mirror, noise, normalisation."""
    mix: MixConfig = Field(default_factory=MixConfig)
    """How several data sets share an epoch."""
    lanes: int = Field(default=0, ge=0)
    """0: every worker holds all windows. Else the windows are dealt into so many lanes, of which each worker
    serves some, from memory or streaming; for data that is larger than a machine. As many as workers or
    more."""
    precision: Precision = "float32"
    """What the network computes in: float32, or bfloat16 where the GPU is made for it."""
    optimiser: OptimiserConfig = Field(default_factory=OptimiserConfig)
    """Adam and its learning rate."""
    scale: ScaleConfig = Field(default_factory=ScaleConfig)
    """Workers, and how often to report."""


class PretrainConfig(TrainingConfig):
    """Masked pose modelling."""

    network: PoseTransformerConfig
    """Size of the network; `frames` must be that of the data's windows."""
    mask: MaskConfig = Field(default_factory=MaskConfig)
    """How much is hidden."""
    loss: MaskedLossConfig = Field(default_factory=MaskedLossConfig)
    """Weights of the two errors."""


class FinetuneConfig(TrainingConfig):
    """Lifting 2D to 3D or completing 3D, from a pre-trained model or from scratch."""

    task: Literal["lifting", "completion", "unified"] = "lifting"
    """`lifting`: the paper's network for 3D from 2D, occluded or not. `completion`: the pre-trained network
    for 3D from partial 3D. `unified`: the pre-trained network for both."""
    completion: CompletionConfig = Field(default_factory=CompletionConfig)
    """What is hidden for completion, and its weight beside lifting."""
    frame_dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout of the per-frame layers while lifting; published as 0.2 where pre-training has 0.1."""
    network: PoseTransformerConfig | None = None
    """Only without `--init`: size of a network that starts from nothing."""


Config = TypeVar("Config", bound=TrainingConfig)


def load(kind: type[Config], config: str, overrides: Sequence[str] = ()) -> Config:
    """A run's configuration from a shipped file's name or a path, changed by `a.b=value` overrides.

    Raises:
        InputError: no such file, not YAML, an unknown or misspelt key, a value out of range; all at once.
    """
    path = find(config)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: wanted YAML, got something else ({' '.join(str(error).split())})"
        ) from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: wanted a mapping of settings, got {type(values).__name__}")
    for override in overrides:
        _apply(values, override)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{path}: " + "; ".join(_fault(kind, each) for each in error.errors())) from error


def shipped() -> dict[str, Path]:
    """Configurations that ship, by name."""
    folder = Path(str(resources.files("pipelines") / "configs"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find(config: str) -> Path:
    """The file of a shipped name or a path."""
    known = shipped()
    if config in known:
        return known[config]
    path = Path(config)
    if path.is_file():
        return path
    raise InputError(
        f"{config}: no such configuration file, and none of that name ships; shipped are {', '.join(known)}"
    )


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise InputError(f"--set {override}: wanted key=value, such as scale.workers=4")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(
            f"--set {override}: the value is not YAML ({' '.join(str(error).split())})"
        ) from error
    *parents, last = key.split(".")
    for parent in parents:
        inner = values.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise InputError(f"--set {override}: {parent} is a value, not a group of settings")
        values = inner
    values[last] = value


def _fault(kind: type[BaseModel], error: Any) -> str:
    path = [str(part) for part in error["loc"]]
    dotted = ".".join(path)
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _known_keys(kind, path[:-1])
        close = difflib.get_close_matches(path[-1], known, n=1)
        advice = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        return f"{dotted}: no such setting; {advice}"
    if error["type"] == "missing":
        return f"{dotted}: missing"
    message = str(error.get("ctx", {}).get("error", error["msg"]))
    message = message.removeprefix(f"{path[-1]}: " if path else "")  # a group names itself too
    return f"{dotted}: {message}" + ("" if error["type"] == "value_error" else f", got {error['input']!r}")


def _known_keys(kind: Any, path: Sequence[str]) -> list[str]:
    """Settings of the group at a path: fields of the models and dataclasses there."""
    groups = [kind]
    for part in path:
        annotations = [_fields(group).get(part) for group in groups]
        groups = [inner for annotation in annotations if annotation for inner in _alternatives(annotation)]
    return sorted({name for group in groups for name in _fields(group)})


def _fields(group: Any) -> dict[str, Any]:
    if hasattr(group, "model_fields"):
        return {name: info.annotation for name, info in group.model_fields.items()}
    if hasattr(group, "__dataclass_fields__"):
        return {name: info.type for name, info in group.__dataclass_fields__.items()}
    return {}


def _alternatives(annotation: Any) -> list[Any]:
    return list(getattr(annotation, "__args__", (annotation,)))
