"""What a protocol found, with all that makes it comparable, as lines, as JSON, and side by side."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpm_model.errors import InputError, refuse
from pipelines.text_table import text_table

FORMAT = "mpm-evaluation/1"
"""Format of the JSON that `as_json` gives and `from_json` reads."""
COMPARED = ("protocol", "version", "data_sha256", "keypoints", "flip")
"""What must agree before figures may stand in one table."""
_LISTS = ("people", "notes", "data")
NO_FLIP = "no test-time flip"
FLIP = "mean with the mirrored input"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: a predictor, a part of the data or a condition, by name, and its figures."""

    name: str
    scores: dict[str, float]
    """Figure by name; the unit is in the name. NaN of nothing."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a protocol found about one model."""

    rows: tuple[Row, ...]
    data_sha256: str
    """Of the names and joints that were measured on."""
    people: tuple[str, ...]
    """dataset/subject of everybody measured on."""
    frames: int
    """Frames measured, all views together."""
    keypoints: str
    """Where the 2D came from."""
    notes: tuple[str, ...] = ()
    """Choices that the figures rest on, a sentence each."""


@dataclass(frozen=True, kw_only=True)
class Evaluation(Measured):
    """Figures, and all that makes them comparable."""

    protocol: str
    version: int
    flip: str
    """`NO_FLIP` or `FLIP`."""
    checkpoint: str
    checkpoint_sha256: str
    """Of the file that holds the weights."""
    data: tuple[str, ...]
    made_by: str
    """Command, version and commit."""

    def lines(self) -> list[str]:
        """A table for the command line."""
        names = list(dict.fromkeys(name for row in self.rows for name in row.scores))
        return [
            f"protocol {self.protocol}/{self.version} on {', '.join(self.people)} ({self.frames} frames, "
            f"{self.keypoints}, {self.flip}; data {self.data_sha256[:12]})",
            *(f"note: {note}" for note in self.notes),
            *text_table(["", *names], [_cells(row.name, row.scores, names) for row in self.rows], indent=""),
        ]

    def as_json(self) -> dict[str, Any]:
        """What JSON can hold; a figure of nothing is null."""
        value = {"format": FORMAT, **dataclasses.asdict(self)}
        for row in value["rows"]:
            row["scores"] = {
                name: score if math.isfinite(score) else None for name, score in row["scores"].items()
            }
        return value


def from_json(value: Any, *, url: str) -> Evaluation:
    """The inverse of `Evaluation.as_json`; InputError names the file."""
    if not isinstance(value, Mapping) or value.get("format") != FORMAT:
        came = value.get("format") if isinstance(value, Mapping) else type(value).__name__
        raise InputError(
            f"{url}: wanted a result of `mpm evaluate --json` ({FORMAT}), got {came!r}; make it again"
        )
    names = {field.name for field in dataclasses.fields(Evaluation)}
    if faults := sorted(names ^ (set(value) - {"format"})):
        raise InputError(f"{url}: missing or unknown {', '.join(faults)}; make it again")
    try:
        rows = tuple(
            Row(
                name=str(row["name"]),
                scores={
                    name: math.nan if score is None else float(score) for name, score in row["scores"].items()
                },
            )
            for row in value["rows"]
        )
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise InputError(f"{url}: its rows are no names with figures ({error}); make it again") from error
    fields = {name: value[name] for name in names - {"rows"}}
    wanted = dict.fromkeys(fields, str) | {"version": int, "frames": int} | dict.fromkeys(_LISTS, list)
    if wrong := sorted(name for name, kind in wanted.items() if type(fields[name]) is not kind):
        raise InputError(f"{url}: not as `mpm evaluate --json` writes it: {', '.join(wrong)}; make it again")
    for name in _LISTS:
        fields[name] = tuple(map(str, fields[name]))
    return Evaluation(rows=rows, **fields)


def side_by_side(results: Mapping[str, Evaluation]) -> list[str]:
    """Several results, by the name of their file, as one table: a line for each result and row.

    InputError names every difference if protocol, version, data, 2D or flip differ: such figures cannot be
    compared.
    """
    if not results:
        raise InputError("no results to put side by side")
    (first_name, first), *others = results.items()
    faults = [
        f"{what} is {getattr(first, what)!r} in {first_name} but {getattr(other, what)!r} in {name}"
        for name, other in others
        for what in COMPARED
        if getattr(first, what) != getattr(other, what)
    ]
    refuse("these results cannot be compared", faults)
    rows = [
        (row.name, file, evaluation, row.scores)
        for file, evaluation in results.items()
        for row in evaluation.rows
    ]
    order = list(dict.fromkeys(name for name, *_ in rows))
    rows.sort(key=lambda entry: order.index(entry[0]))  # stable: results keep their order within a row
    names = list(dict.fromkeys(name for *_, scores in rows for name in scores))
    body = [
        [name, file, evaluation.checkpoint_sha256[:12], *_cells("", scores, names)[1:]]
        for name, file, evaluation, scores in rows
    ]
    return [
        f"protocol {first.protocol}/{first.version} on {', '.join(first.people)} ({first.frames} frames, "
        f"{first.keypoints}, {first.flip}; data {first.data_sha256[:12]})",
        *(f"note of {file}: {note}" for file, evaluation in results.items() for note in evaluation.notes),
        *text_table(["", "result", "checkpoint", *names], body, indent=""),
    ]


def _cells(name: str, scores: Mapping[str, float], names: Sequence[str]) -> list[str]:
    figures = [scores.get(each, math.nan) for each in names]
    return [name, *("-" if math.isnan(figure) else f"{figure:.1f}" for figure in figures)]
