"""The report of a finished training run: one page that needs no network."""

import base64
import html
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mpm_model.errors import InputError
from pipelines import storage
from pipelines.pages import asset, fill, json_in_html
from pipelines.train_charts import charts
from pipelines.train_files import picture_of
from pipelines.train_findings import Advice, advice, events_of, number, result, tiles
from pipelines.train_series import IN_METRES, Rows, RunSeries, Series, in_mm, series_of

REPORT_FILE = "report.html"
"""Beside the checkpoint."""

_TASKS = {"lifting": "lifting", "completion": "completion", "unified": "lifting and completion"}
_SHOWN_ELSEWHERE = ("last", "mean_training_pose_rel_m", "made_by")


def write_report(folder: Path, *, rows: Rows, card: Mapping[str, Any], pictures: Mapping[str, bytes]) -> None:
    """Write `report.html` into a folder.

    `card` is the checkpoint's. `pictures` are PNGs by name, as `read_pictures` gives those of the
    validations: `poses_000000120.png` is `poses` after 120 steps, and plain `poses` is `poses` at the end.
    InputError if there is no row.
    """
    page = render(rows, card=card, pictures=pictures)
    storage.write_once(str(folder / REPORT_FILE), page.encode())


def render(rows: Rows, *, card: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """The page as text: style, script, curves and pictures inside."""
    if not rows:
        raise InputError("training report: wanted the rows of a run, got none")
    series = series_of(rows)
    events = [[event.step, event.words] for event in events_of(rows)]
    parts = {
        "title": html.escape(_title(card)),
        "made_by": html.escape(str(card.get("made_by", "made by an unknown command"))),
        "result": html.escape(" ".join(result(rows, card))),
        "tiles": "\n".join(
            f"<li><b>{html.escape(value)}</b> {html.escape(about)}</li>" for value, about in tiles(rows)
        ),
        "tables": "\n".join(_tables(series)),
        "pictures": "\n".join(_pictures(pictures, end=int(rows[-1]["step"]))),
        "advice": "\n".join(map(_advised, advice(rows, card))),
        "making": _making(card),
        "style": asset("train_report.css"),
        "script": asset("train_report.js"),
        "scene": json_in_html({"charts": charts(series), "events": events}),
    }
    return fill(asset("train_report.html"), parts)


def _title(card: Mapping[str, Any]) -> str:
    if str(card.get("made_by", "")).startswith("mpm pretrain"):
        return "Pre-training"
    task = card.get("run", {}).get("config", {}).get("task")
    return f"Fine-tuning: {_TASKS.get(task, task)}" if task else "Training"


def _tables(series: RunSeries) -> Iterator[str]:
    """The last validation in figures, by data set and by limb."""
    if series.validation:
        figures = list(dict.fromkeys([*series.validation, *series.by_dataset]))
        datasets = dict.fromkeys(name for some in series.by_dataset.values() for name in some)
        lines = [["all", *(_last(series.validation.get(figure), figure) for figure in figures)]]
        lines += [
            [dataset, *(_last(series.by_dataset.get(figure, {}).get(dataset), figure) for figure in figures)]
            for dataset in datasets
        ]
        yield _table("The last validation, by data set", ["", *map(_heading, figures)], lines)
    if series.limbs_mm:
        lines = [
            [limb, *(f"{value:.1f}" for value in (some.values[0], some.lowest, some.last))]
            for limb, some in series.limbs_mm.items()
        ]
        yield _table("Validation error by limb, mm", ["", "first", "lowest", "last"], lines)


def _last(some: Series | None, figure: str) -> str:
    if some is None:
        return "–"
    return f"{in_mm(figure, some.last):.1f}" if figure in IN_METRES else number(some.last)


def _heading(figure: str) -> str:
    if figure == "total":
        return "loss"
    return f"{figure}, mm" if figure in IN_METRES else figure.replace("_", " ")


def _table(title: str, head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    headings = "".join(f'<th scope="col">{html.escape(heading)}</th>' for heading in head)
    body = "\n".join(
        f'<tr><th scope="row">{html.escape(name)}</th>'
        + "".join(f"<td>{html.escape(value)}</td>" for value in values)
        + "</tr>"
        for name, *values in lines
    )
    return (
        f'<section class="card"><h2>{html.escape(title)}</h2><div class="wide"><table>\n'
        f"<thead><tr>{headings}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div></section>"
    )


def _pictures(pictures: Mapping[str, bytes], *, end: int) -> Iterator[str]:
    """A figure for each kind of picture, with a slider over its steps; the last is shown at first."""
    kinds: dict[str, dict[int, bytes]] = {}
    for name, png in pictures.items():
        kind, step = picture_of(name) or (name, end)
        kinds.setdefault(kind, {})[step] = png
    for kind, pngs in kinds.items():
        last = max(pngs)
        images = "\n".join(
            f'<img alt="{html.escape(kind)} at step {step:,}" data-step="{step:,}"'
            f"{'' if step == last else ' hidden'} src="
            f'"data:image/png;base64,{base64.b64encode(pngs[step]).decode()}">'
            for step in sorted(pngs)
        )
        place = len(pngs) - 1
        slider = (
            f'<input type="range" min="0" max="{place}" value="{place}" step="1" aria-label="Validation">'
        )
        yield (
            f'<section class="card pictures"><h2>{html.escape(kind.replace("_", " ").capitalize())} at step '
            f"<output>{last:,}</output></h2>\n{slider if place else ''}\n{images}</section>"
        )


def _advised(advised: Advice) -> str:
    command = f"<pre>{html.escape(advised.command)}</pre>" if advised.command else ""
    return f"<li>{html.escape(advised.words)}{command}</li>"


def _making(card: Mapping[str, Any]) -> str:
    """All that the card says of the making, groups unfolded."""
    shown = {name: value for name, value in card.items() if name not in _SHOWN_ELSEWHERE}
    return "\n".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(value)}</td></tr>'
        for name, value in _unfolded(shown)
    )


def _unfolded(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _unfolded(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        yield name, ", ".join(each if isinstance(each, str) else json.dumps(each) for each in value)
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)
