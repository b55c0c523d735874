"""Training curves as a picture."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator

from mpm_model.errors import InputError
from pipelines.train_rows import LIMB, VALIDATION

_COLOURS = ("#1d1f22", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
"""Okabe and Ito's, told apart with every common colour blindness; black is for the total."""
_LOG_SPAN = 8.0
"""A panel whose values span more than this factor has a logarithmic axis."""
_MANY_ROWS = 60
"""Rows from which a line is drawn faintly, with its running median over it."""

Series = tuple[np.ndarray, np.ndarray]


def draw_curves(metrics: Sequence[Mapping[str, float]], *, title: str = "Training") -> bytes:
    """Losses, validation figures and learning rate over steps, as a PNG of 900 pixels width.

    A row is one report: `step`, and any of `loss`, `loss_*` (one line each), `validation_*` (points) and
    `rate`; rows need not hold the same names, and other names are not drawn. A validation figure that has a
    loss's name behind its prefix stands in that loss's panel and colour; the losses of the data sets, the
    errors of the limbs, those in millimetres (`*_mm`) and the rest have a panel each. InputError if no row
    holds a step and something to draw.
    """
    series = {name: _series(metrics, name) for name in _names(metrics)}
    losses = [name for name in series if name == "loss" or name.startswith("loss_")]
    paired = [
        name for name in series if name.removeprefix(VALIDATION) in losses and name.startswith(VALIDATION)
    ]
    others = [name for name in series if name.startswith(VALIDATION) and name not in paired]
    limbs = [name for name in others if name.startswith(f"{VALIDATION}{LIMB}/")]
    of_datasets = [name for name in others if name.endswith("/loss") and name not in limbs]
    others = [name for name in others if "/" not in name]
    panels = [
        ("loss", losses, paired),
        ("data sets, loss", [], of_datasets if len(of_datasets) > 1 else []),  # one alone is drawn above
        ("limbs, mm", [], limbs),
        ("validation, mm", [], [name for name in others if name.endswith("_mm")]),
        ("validation", [], [name for name in others if not name.endswith("_mm")]),
        ("learning rate", [name for name in series if name == "rate"], []),
    ]
    panels = [panel for panel in panels if panel[1] or panel[2]]
    if not panels:
        came = ", ".join(sorted({name for row in metrics for name in row})) or "nothing"
        raise InputError(
            f"training curves: wanted rows with step and loss, loss_*, {VALIDATION}* or rate, "
            f"got {len(metrics)} rows with {came}"
        )
    heights = [1.0 if label == "learning rate" else 2.6 for label, *_ in panels]
    figure = Figure(figsize=(9, 1.1 + 1.15 * sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for ax, (label, lines, points) in zip(axes, panels, strict=True):
        _draw_panel(ax, label, {name: series[name] for name in (*lines, *points)}, points=points)
    axes[-1].set_xlabel("step")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.align_ylabels()
    axes[0].set_title(title, loc="left", fontsize=12, fontweight="bold")
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=100)
    return sink.getvalue()


def _names(metrics: Sequence[Mapping[str, float]]) -> list[str]:
    """Names of all figures that stand beside a step, the plain loss first, then as they first appear."""
    names = dict.fromkeys(name for row in metrics if "step" in row for name in row)
    return sorted(names, key=lambda name: name.removeprefix(VALIDATION) != "loss")


def _series(metrics: Sequence[Mapping[str, float]], name: str) -> Series:
    """Steps and finite values of one figure."""
    rows = [row for row in metrics if "step" in row and row.get(name) is not None]
    steps = np.array([row["step"] for row in rows], dtype=float)
    values = np.array([row[name] for row in rows], dtype=float)
    is_finite = np.isfinite(values)
    return steps[is_finite], values[is_finite]


def _draw_panel(ax: Axes, label: str, series: Mapping[str, Series], *, points: Sequence[str]) -> None:
    """Lines, and the `points` among them as marked ones; a pair of both shares its colour."""
    bases = list(dict.fromkeys(name.removeprefix(VALIDATION) for name in series))
    has_total = "loss" in bases
    for name, (steps, values) in series.items():
        colour = _COLOURS[(bases.index(name.removeprefix(VALIDATION)) + (not has_total)) % len(_COLOURS)]
        text = name.removeprefix(VALIDATION).removeprefix(f"{LIMB}/").removesuffix("/loss")
        text = text.removesuffix("_mm").replace("_", " ")
        if name in points:
            text = f"validation {text}" if label == "loss" else text
            ax.plot(
                steps,
                values,
                "o--",
                color=colour,
                linewidth=1,
                markersize=5,
                markerfacecolor="white",
                label=text,
            )
        else:
            _draw_line(ax, steps, values, colour=colour, text=text)
    ax.set_ylabel(label)
    values = np.concatenate([values for _, values in series.values()])
    if (
        label != "learning rate"
        and len(values)
        and values.min() > 0
        and values.max() > _LOG_SPAN * values.min()
    ):
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(LogFormatter())
        ax.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
    elif len(values) and values.min() >= 0:
        ax.set_ylim(bottom=0)
    ax.grid(color="#e4e2dc", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    if label != "learning rate":
        ax.legend(frameon=False, fontsize=9, ncols=2 if len(series) > 3 else 1)


def _draw_line(ax: Axes, steps: np.ndarray, values: np.ndarray, *, colour: str, text: str) -> None:
    if len(values) < _MANY_ROWS:
        ax.plot(steps, values, color=colour, linewidth=1.6, marker=".", markersize=4, label=text)
        return
    ax.plot(steps, values, color=colour, linewidth=0.8, alpha=0.3)
    reach = len(values) // _MANY_ROWS + 1
    smooth = [np.median(values[max(0, at - reach) : at + reach + 1]) for at in range(len(values))]
    ax.plot(steps, smooth, color=colour, linewidth=1.8, label=text)
