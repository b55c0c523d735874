"""The curves of a run as data for the report's script: which charts, which lines, few enough points."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mpm_model.pose.metrics import MM_PER_M
from pipelines.train_series import IN_METRES, RunSeries, Series

MOST_POINTS = 400
"""Of a line: of more reports each point is the median of several."""
_PERCENT = 100.0


def charts(series: RunSeries) -> list[dict[str, Any]]:
    """The charts that the page draws: title, unit, how the axis lies, and lines of [step, value] points."""
    paired = {f"validation {name}": some for name, some in series.validation.items() if name in series.loss}
    unpaired = {name: some for name, some in series.validation.items() if name not in series.loss}
    metric = next((name for name in IN_METRES if name in series.by_dataset), "")
    errors_mm = {name: some.times(MM_PER_M) for name, some in series.by_dataset.get(metric, {}).items()}
    losses = series.by_dataset.get("total", {})
    speed, schedule = series.speed, series.schedule
    workers = _only(schedule, "workers", "workers")
    workers = {name: some for name, some in workers.items() if len(set(some.values)) > 1}
    shares = {"waiting for data": speed.get("waiting_share"), "GPU busy": speed.get("gpu_use")}
    shares_percent = {name: some.times(_PERCENT) for name, some in shares.items() if some is not None}
    drawn = [
        _chart("Loss", {**series.loss, **paired}, is_paired=True),
        _chart("Validation loss by data set", losses if len(losses) > 1 else {}),  # one is drawn above
        _chart(f"Validation error by data set, {metric}", errors_mm, unit="mm"),
        _chart("Validation error by limb", series.limbs_mm, unit="mm"),
        _chart("Other validation figures", unpaired),
        _chart("Windows in a second", _only(speed, "windows_per_s", "all workers"), is_from_zero=True),
        _chart("Shares of the time", shares_percent, unit="%", is_from_zero=True),
        _chart("Learning rate", _only(schedule, "learning_rate", "learning rate"), is_from_zero=True),
        _chart("Workers", workers, is_from_zero=True, is_stepped=True),
        _chart("Other figures", series.other),
    ]
    return [chart for chart in drawn if chart["lines"]]


def _chart(
    title: str,
    lines: Mapping[str, Series],
    *,
    unit: str = "",
    is_paired: bool = False,
    is_from_zero: bool = False,
    is_stepped: bool = False,
) -> dict[str, Any]:
    """Of a pair, the line `validation NAME` has the colour of the line NAME and is drawn fainter."""
    names = [name.removeprefix("validation ") if is_paired else name for name in lines]
    order = list(dict.fromkeys(names))
    return {
        "title": title,
        "unit": unit,
        "isFromZero": is_from_zero,
        "isStepped": is_stepped,
        "lines": [
            {
                "name": shown,
                "colour": order.index(name),
                "isValidation": shown != name,
                "points": _thinned(series, of_several=_last if is_stepped else np.median),
            }
            for name, (shown, series) in zip(names, lines.items(), strict=True)
        ],
    }


def _thinned(series: Series, *, of_several: Callable[[np.ndarray], float]) -> list[list[float]]:
    """At most `MOST_POINTS` points; reports that fall together stand at the last step among them."""
    groups = np.array_split(np.arange(len(series.steps)), min(len(series.steps), MOST_POINTS))
    return [
        [float(series.steps[group[-1]]), float(f"{of_several(series.values[group]):.5g}")] for group in groups
    ]


def _last(values: np.ndarray) -> float:
    return float(values[-1])


def _only(lines: Mapping[str, Series], name: str, shown: str) -> dict[str, Series]:
    return {shown: lines[name]} if name in lines else {}
