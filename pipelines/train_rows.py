"""What the names in a row of training metrics mean: one reading of them for every way of watching."""

from collections.abc import Mapping
from typing import NamedTuple

VALIDATION = "validation_"
"""Begins the name of every figure measured on validation data."""
LIMB = "limb"
"""The "data set" whose validation figures are the limbs' errors, in millimetres."""

_SPEED = ("windows_per_s", "waiting_share", "gpu_use")
_SCHEDULE = {"rate": "learning_rate", "epoch": "epoch", "workers": "workers", "resumes": "resumes"}
_AXES = ("step", "steps", "at_s")
"""What figures are drawn over; `at_s` is Unix time."""


class Place(NamedTuple):
    """Where a figure belongs."""

    group: str
    """`loss`, `validation`, `speed`, `schedule`, or `other` for a name that nobody knows."""
    name: str
    """Of a loss `total`, `2d`; of a validation figure also its data set, `cmu/total`, or `limb/left_arm`."""


def place_of(name: str) -> Place | None:
    """The place of a row's figure; None for what counts steps and time."""
    if name in _AXES:
        return None
    if name.startswith(VALIDATION):
        dataset, slash, figure = name.removeprefix(VALIDATION).rpartition("/")
        return Place("validation", dataset + slash + _loss_name(figure))
    if name == "loss" or name.startswith("loss_"):
        return Place("loss", _loss_name(name))
    if name in _SPEED:
        return Place("speed", name)
    return Place("schedule", _SCHEDULE[name]) if name in _SCHEDULE else Place("other", name)


def placed(row: Mapping[str, float]) -> dict[Place, float]:
    """The figures of a row by their place."""
    places = {name: place_of(name) for name in row}
    return {place: float(row[name]) for name, place in places.items() if place is not None}


def _loss_name(name: str) -> str:
    return "total" if name == "loss" else name.removeprefix("loss_")
