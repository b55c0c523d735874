"""The rows of a run as curves: every figure over the steps, sorted by what it is of."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mpm_model.pose.metrics import MM_PER_M
from pipelines.train_rows import LIMB, placed

Rows = Sequence[Mapping[str, float]]
"""The reports of a run, in order."""

IN_METRES = ("3d", "lift", "sequence", "center", "complete")
"""Losses that are distances in metres; `2d` is in the network's own unit, and `total` a weighted sum."""


@dataclass(frozen=True)
class Series:
    """One figure over the steps; finite values alone, at least one."""

    steps: Float[np.ndarray, "N"]
    values: Float[np.ndarray, "N"]

    @property
    def last(self) -> float:
        """The value at the end."""
        return float(self.values[-1])

    @property
    def mean(self) -> float:
        """Mean over the reports."""
        return float(self.values.mean())

    @property
    def lowest(self) -> float:
        """The lowest value."""
        return float(self.values.min())

    @property
    def lowest_step(self) -> int:
        """The step with the lowest value."""
        return int(self.steps[self.values.argmin()])

    def times(self, factor: float) -> "Series":
        """The values in another unit."""
        return Series(self.steps, factor * self.values)


@dataclass(frozen=True, kw_only=True)
class RunSeries:
    """All figures of a run, by name, in order of first appearance."""

    loss: Mapping[str, Series]
    """Training losses: `total`, and one for each modality."""
    validation: Mapping[str, Series]
    """Validation figures over all windows: `total`, `3d`."""
    by_dataset: Mapping[str, Mapping[str, Series]]
    """The same for each data set: figure, data set."""
    limbs_mm: Mapping[str, Series]
    """Validation error of each limb, millimetres: `left arm`."""
    speed: Mapping[str, Series]
    """`windows_per_s`, `waiting_share`, `gpu_use`."""
    schedule: Mapping[str, Series]
    """`learning_rate`, `epoch`, `workers`, `resumes`."""
    other: Mapping[str, Series]
    """Figures whose names nobody knows."""


def series_of(rows: Rows) -> RunSeries:
    """The curves of a run."""
    points: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        for place, value in placed(row).items():
            if math.isfinite(value):
                points.setdefault(place.group, {}).setdefault(place.name, []).append((row["step"], value))
    found = {
        group: {name: Series(*np.array(some, dtype=float).T) for name, some in named.items()}
        for group, named in points.items()
    }
    by_dataset: dict[str, dict[str, Series]] = {}
    limbs_mm = {}
    for name, series in found.get("validation", {}).items():
        dataset, _, figure = name.rpartition("/")
        if dataset == LIMB:
            limbs_mm[figure.replace("_", " ")] = series
        elif dataset:
            by_dataset.setdefault(figure, {})[dataset] = series
    return RunSeries(
        loss=found.get("loss", {}),
        validation={name: some for name, some in found.get("validation", {}).items() if "/" not in name},
        by_dataset=by_dataset,
        limbs_mm=limbs_mm,
        speed=found.get("speed", {}),
        schedule=found.get("schedule", {}),
        other=found.get("other", {}),
    )


def in_mm(figure: str, value: float) -> float:
    """A loss that is a distance in millimetres; any other as it is."""
    return MM_PER_M * value if figure in IN_METRES else value
