"""Poses over time as strips of small drawings: true, given, and as a model has them."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from PIL import Image

from mpm_model.pose.metrics import MM_PER_M
from mpm_model.pose.skeleton import Skeleton

FRAMES = 6
"""Frames of a window that are shown, evenly spread."""
WIDTH_PX = 900
"""Width of a picture."""

_TURN_RAD = np.radians(60)
"""3D poses are seen from so far beside the camera, where errors of depth show."""
_LABEL_PX, _TITLE_PX, _LEGEND_PX, _GAP_PX = 24, 26, 32, 4
_CELL_PX = (WIDTH_PX - _LABEL_PX) / FRAMES
_REACH_PX, _WORDS_PX = 60, 14
"""How far a pose reaches from the middle of its part of the cell; the words below it."""
_DPI = 100
_PALETTE = 48
"""Colours of the picture; it then takes a third of the bytes."""
_PAPER, _BLIND = "#f8f7f4", "#e9e7e1"
_MISS_WORDS = "off by: mean of the frame, mm or % of the 2D unit"
_TRUTH, _ANSWER, _MISS, _GIVEN, _WORDS = "#bcbab3", "#0072b2", "#d55e00", "#1d1f22", "#62666d"
"""Blue and vermilion are Okabe and Ito's, told apart with every common colour blindness."""


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One task of a model on some windows: what went in and what came out."""

    label: str
    """What the strip shows."""
    truth: Float[np.ndarray, "W T J C"]
    """True poses: 2D in the network's own unit, y down, or 3D in camera axes, metres."""
    is_known: Bool[np.ndarray, "W T J"]
    """Joints whose truth is known."""
    given: Float[np.ndarray, "W T J C"] | None
    """What the model was shown; None if that is another strip."""
    is_given: Bool[np.ndarray, "W T J"]
    """Joints that it was shown, here or in the other strip."""
    answer: Float[np.ndarray, "W T J C"] | None
    """What it made of that; None where nothing was asked."""

    @property
    def is_judged(self) -> Bool[np.ndarray, "W T J"]:
        """Joints whose error says something: the hidden ones, or all if none was given in this strip."""
        return self.is_known if self.given is None else self.is_known & ~self.is_given


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """One frame of one strip, in pixels of the picture."""

    left_px: float
    top_px: float
    truth_px: Float[np.ndarray, "J 2"]
    given_px: Float[np.ndarray, "J 2"] | None
    answer_px: Float[np.ndarray, "J 2"] | None
    is_known: Bool[np.ndarray, "J"]
    is_given: Bool[np.ndarray, "J"]
    is_judged: Bool[np.ndarray, "J"]
    words: str


def draw_strips(strips: Sequence[Strip], *, skeleton: Skeleton, title: str) -> bytes:
    """A PNG: of each window, each strip as a row of a few frames. Answers outside a cell end at its edge."""
    windows = len(strips[0].truth)
    title_px = _TITLE_PX if title else 0
    head_px = title_px + _LEGEND_PX
    height_px = head_px + windows * (len(strips) * _CELL_PX + _GAP_PX)
    figure = Figure(figsize=(WIDTH_PX / _DPI, height_px / _DPI), dpi=_DPI)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH_PX), ylim=(height_px, 0))
    axes.axis("off")
    axes.text(8, 15, title, fontsize=11, fontweight="bold", va="center", color=_GIVEN)
    _draw_legend(axes, top_px=title_px)
    cells: list[_Cell] = []
    for window in range(windows):
        for row, strip in enumerate(strips):
            top_px = head_px + window * (len(strips) * _CELL_PX + _GAP_PX) + row * _CELL_PX
            axes.text(
                _LABEL_PX / 2, top_px + _CELL_PX / 2, strip.label,
                rotation=90, ha="center", va="center", fontsize=9, color=_WORDS,
            )  # fmt: skip
            cells += _cells(strip, window, top_px=top_px)
    _draw_cells(axes, cells, skeleton)
    return _png(figure)


def _cells(strip: Strip, window: int, *, top_px: float) -> Iterator[_Cell]:
    """The shown frames of a strip's window, all on one scale."""
    frames = strip.truth.shape[1]
    shown = np.unique(np.linspace(0, frames - 1, FRAMES).round().astype(int))
    truth = _flat(strip.truth[window, shown])
    is_known = strip.is_known[window, shown]
    seen = truth[is_known] if is_known.any() else np.zeros((1, 2))
    middle = (seen.min(0) + seen.max(0)) / 2
    per_unit_px = _REACH_PX / max(float((seen.max(0) - seen.min(0)).max()) / 2, 1e-6)
    side_px = _CELL_PX - _GAP_PX
    center_px = np.array([side_px, side_px - _WORDS_PX]) / 2

    for column, frame in enumerate(shown):
        left_px = _LABEL_PX + column * _CELL_PX
        corner = np.array([left_px, top_px])

        def place(points: np.ndarray, corner: np.ndarray = corner) -> np.ndarray:
            inside_px = (points - middle) * per_unit_px + center_px
            return np.asarray(np.clip(inside_px, 2, _CELL_PX - _GAP_PX - 2) + corner)

        given, answer = (
            None if poses is None else place(_flat(poses[window, frame]))
            for poses in (strip.given, strip.answer)
        )
        yield _Cell(
            left_px=left_px,
            top_px=top_px,
            truth_px=place(truth[column]),
            given_px=given,
            answer_px=answer,
            is_known=is_known[column],
            is_given=strip.is_given[window, frame],
            is_judged=strip.is_judged[window, frame],
            words=_words(strip, window, int(frame)),
        )


def _flat(poses: Float[np.ndarray, "*batch J C"]) -> Float[np.ndarray, "*batch J 2"]:
    """2D as it is; 3D from the side, without perspective."""
    if poses.shape[-1] == 2:
        return poses
    x, y, z = np.moveaxis(poses, -1, 0)
    return np.stack([x * np.cos(_TURN_RAD) - z * np.sin(_TURN_RAD), y], axis=-1)


def _words(strip: Strip, window: int, frame: int) -> str:
    """The frame, and how far its judged joints are off: 3D in millimetres, 2D in per cent of the unit."""
    words = f"frame {frame}"
    is_judged = strip.is_judged[window, frame]
    if strip.answer is None or not is_judged.any():
        return words
    miss = np.linalg.norm(strip.answer[window, frame] - strip.truth[window, frame], axis=-1)[is_judged].mean()
    return f"{words}: {f'{MM_PER_M * miss:.0f} mm' if strip.truth.shape[-1] == 3 else f'{100 * miss:.0f} %'}"


def _draw_cells(axes: Axes, cells: Sequence[_Cell], skeleton: Skeleton) -> None:
    child, parent = skeleton.bone_indices.T
    truth: list[np.ndarray] = []
    hidden: list[np.ndarray] = []
    given: list[np.ndarray] = []
    answers: list[np.ndarray] = []
    misses: list[np.ndarray] = []
    judged: list[np.ndarray] = []
    for cell in cells:
        side_px = _CELL_PX - _GAP_PX
        colour = _PAPER if cell.is_given.any() else _BLIND
        axes.add_patch(Rectangle((cell.left_px, cell.top_px), side_px, side_px, color=colour, linewidth=0))
        axes.text(cell.left_px + 4, cell.top_px + side_px - 3, cell.words, fontsize=7, color=_WORDS)
        is_bone = cell.is_known[child] & cell.is_known[parent]
        truth.append(_segments(cell.truth_px[child[is_bone]], cell.truth_px[parent[is_bone]]))
        hidden.append(cell.truth_px[cell.is_known & ~cell.is_given])
        if cell.given_px is not None:
            given.append(cell.given_px[cell.is_given])
        if cell.answer_px is not None:
            answers.append(_segments(cell.answer_px[child], cell.answer_px[parent]))
            misses.append(_segments(cell.truth_px[cell.is_judged], cell.answer_px[cell.is_judged]))
            judged.append(cell.answer_px[cell.is_judged])
    _draw_lines(axes, truth, colour=_TRUTH, width=3.4, order=1.1)
    _draw_dots(axes, hidden, colour=_TRUTH, area=14, order=1.2, filling="white")
    _draw_lines(axes, misses, colour=_MISS, width=1.2, order=1.3)
    _draw_lines(axes, answers, colour=_ANSWER, width=1.2, order=1.4)
    _draw_dots(axes, judged, colour=_ANSWER, area=7, order=1.5)
    _draw_dots(axes, given, colour=_GIVEN, area=8, order=1.6)


def _segments(starts: Float[np.ndarray, "N 2"], ends: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2 2"]:
    return np.stack([starts, ends], axis=1)


def _draw_lines(
    axes: Axes, segments_px: Sequence[np.ndarray], *, colour: str, width: float, order: float
) -> None:
    lines = [segment for some in segments_px for segment in some]
    axes.add_collection(
        LineCollection(lines, colors=colour, linewidths=width, capstyle="round", zorder=order)
    )


def _draw_dots(
    axes: Axes,
    points_px: Sequence[np.ndarray],
    *,
    colour: str,
    area: float,
    order: float,
    filling: str | None = None,
) -> None:
    x, y = np.concatenate([np.zeros((0, 2)), *points_px]).T
    axes.scatter(
        x, y, s=area, zorder=order, facecolors=filling or colour, edgecolors=colour if filling else "none"
    )


def _draw_legend(axes: Axes, *, top_px: float) -> None:
    handles = [
        Line2D([], [], color=_TRUTH, linewidth=3.4, label="true"),
        Line2D([], [], color=_GIVEN, linestyle="", marker="o", markersize=3.5, label="given"),
        Line2D(
            [], [], color=_TRUTH, linestyle="", marker="o", markersize=4.5, markerfacecolor="white",
            label="hidden",
        ),
        Rectangle((0, 0), 1, 1, color=_BLIND, label="frame hidden"),
        Line2D([], [], color=_ANSWER, linewidth=1.2, marker="o", markersize=3, label="the model's"),
        Line2D([], [], color=_MISS, linewidth=1.2, label=_MISS_WORDS),
    ]  # fmt: skip
    axes.legend(
        handles=handles, ncols=len(handles), loc="upper left", frameon=False, fontsize=8, labelcolor=_WORDS,
        bbox_to_anchor=(0, 1 - top_px / axes.get_ylim()[0]), handlelength=1.4, columnspacing=1.6,
        borderaxespad=0.4,
    )  # fmt: skip


def _png(figure: Figure) -> bytes:
    raw, sink = io.BytesIO(), io.BytesIO()
    figure.savefig(raw, format="png", dpi=_DPI)
    with Image.open(raw) as image:
        image.convert("RGB").quantize(_PALETTE, dither=Image.Dither.NONE).save(sink, "png", optimize=True)
    return sink.getvalue()
