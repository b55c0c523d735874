"""What the names in a row of training metrics mean: one reading of them for every way of watching."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

VALIDATION = "validation_"
"""Begins the name of every figure measured on validation data."""
LIMB = "limb"
"""The "data set" whose validation figures are the limbs' errors, in millimetres."""

_SPEED = ("windows_per_s", "waiting_share", "gpu_use")
_SCHEDULE = {"rate": "learning_rate", "epoch": "epoch", "workers": "workers"}
_AXES = ("step", "steps", "seconds")
"""What figures are drawn over. `seconds` are since the first worker began; a fall is a new beginning."""


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


def training_seconds(rows: Sequence[Mapping[str, float]]) -> list[float]:
    """For each row how long training had lasted by then, all attempts together, without what lay between.

    Counts up to each row, so steps that a lost worker had done after its last checkpoint are not in it.
    """
    total_s, before_s = 0.0, 0.0
    lasted_s = []
    for row in rows:
        now_s = row.get("seconds", before_s)
        total_s += now_s - before_s if now_s >= before_s else now_s
        before_s = now_s
        lasted_s.append(total_s)
    return lasted_s


def _loss_name(name: str) -> str:
    return "total" if name == "loss" else name.removeprefix("loss_")
