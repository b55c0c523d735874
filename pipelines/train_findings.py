"""What the rows and the card of a run say, in words and a few figures: what came of it, what to do next."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from pipelines.train_series import IN_METRES, Rows, RunSeries, Series, in_mm, series_of

RISEN_SHARE = 0.02
"""A validation loss so much above its lowest has risen."""
FALLING_SHARE = 0.02
"""One that fell so much over the last fifth of the run is still falling."""
MUCH_WAITING = 0.05
"""Share of the time spent waiting for data from which something is worth doing about it."""
LITTLE_GPU_USE = 0.6
"""Share of the time a GPU is busy below which it is worth giving it more at once."""
_MOST_EVENTS = 5


class Tile(NamedTuple):
    """A figure and what it is of."""

    value: str
    about: str


class Advice(NamedTuple):
    """Something to do, and the command for it where there is one."""

    words: str
    command: str | None = None


@dataclass(frozen=True)
class Event:
    """Something that happened to the run."""

    step: int
    """The first step that was reported after it."""
    words: str


def events_of(rows: Rows) -> list[Event]:
    """Where the run was taken up again or had another number of workers."""
    events = []
    for before, now in pairwise(rows):
        words = []
        if now.get("resumes", 0) > before.get("resumes", 0):
            words.append("taken up again")
        if (had := before.get("workers")) and (has := now.get("workers")) and had != has:
            words.append(f"{had:.0f} → {has:.0f} workers")
        if words:
            events.append(Event(int(now["step"]), ", ".join(words)))
    return events


def tiles(rows: Rows) -> list[Tile]:
    """The run in a few figures; what was not measured has none."""
    last, series = rows[-1], series_of(rows)
    found = [Tile(f"{last['step']:,.0f}", f"steps, {last.get('epoch', 0):.4g} epochs")]
    if lasted := duration(rows):
        found.append(Tile(lasted, "from the first report to the last"))
    if total := series.validation.get("total"):
        found.append(Tile(number(total.lowest), f"lowest validation loss, step {total.lowest_step:,}"))
    elif total := series.loss.get("total"):
        found.append(Tile(number(total.last), "training loss at the end"))
    found += [
        Tile(f"{in_mm(name, some.last):.1f} mm", f"validation error at last, {name}")
        for name, some in series.validation.items()
        if name in IN_METRES
    ]
    speed = series.speed
    if windows := speed.get("windows_per_s"):
        found.append(Tile(f"{np.median(windows.values):,.0f}", "windows a second, median"))
    if waiting := speed.get("waiting_share"):
        found.append(Tile(f"{waiting.mean:.1%}", "of the time waiting for data"))
    if use := speed.get("gpu_use"):
        found.append(Tile(f"{use.mean:.0%}", "GPU use, first worker"))
    return found


def result(rows: Rows, card: Mapping[str, Any]) -> list[str]:
    """What came of the run, a sentence each."""
    last, series = rows[-1], series_of(rows)
    windows = card.get("training_windows")
    on = f" on {windows:,} windows" if windows else ""
    found = [f"It trained for {last['step']:,.0f} steps, {last.get('epoch', 0):.4g} epochs{on}."]
    if (losses := series.loss.get("total")) and len(losses.values) > 1:
        found.append(f"The training loss went from {number(losses.values[0])} to {number(losses.last)}.")
    found.append(_of_validation(series.validation.get("total")))
    limbs_mm = {limb: some.last for limb, some in series.limbs_mm.items()}
    if len(limbs_mm) > 1:
        worst, best = max(limbs_mm, key=limbs_mm.__getitem__), min(limbs_mm, key=limbs_mm.__getitem__)
        found.append(
            f"Of the limbs the {worst} is farthest off ({limbs_mm[worst]:.0f} mm), "
            f"the {best} least ({limbs_mm[best]:.0f} mm)."
        )
    if events := events_of(rows):
        happened = "; ".join(f"{event.words} before step {event.step:,}" for event in events[:_MOST_EVENTS])
        more = f"; and {len(events) - _MOST_EVENTS} times more" if len(events) > _MOST_EVENTS else ""
        found.append(f"On the way it was interrupted: {happened}{more}.")
    return found


def _of_validation(losses: Series | None) -> str:
    if losses is None:
        return "It was not validated: nothing here says how well it does on people it has not seen."
    words = f"The validation loss was {number(losses.last)} at last"
    if len(losses.values) == 1:
        return f"{words}."
    if losses.lowest == losses.last:
        return f"{words}, its lowest; it began with {number(losses.values[0])}."
    return f"{words}; its lowest was {number(losses.lowest)}, at step {losses.lowest_step:,}."


def advice(rows: Rows, card: Mapping[str, Any]) -> list[Advice]:
    """What the curves suggest, and the commands that come next. OUT stands for the run's folder."""
    run = card.get("run", {})
    data = " ".join(f"--data {shlex.quote(url)}" for url in run.get("data", [])) or "--data WINDOWS"
    task = run.get("config", {}).get("task")
    found = list(_hints(series_of(rows)))
    if str(card.get("made_by", "")).startswith("mpm pretrain"):
        finetune = f"mpm finetune CONFIG --init OUT {data} --out FINETUNED"
        return [*found, Advice("Teach it a task:", finetune)]
    protocol = "completion" if task == "completion" else "lifting"
    measure = f"mpm evaluate --checkpoint OUT {data} --protocol {protocol}"
    found.append(Advice("Measure it on people it has not seen:", measure))
    if task != "completion":
        found.append(Advice("Lift with it:", "mpm lift KEYPOINTS --checkpoint OUT --out POSES"))
    if task in ("completion", "unified"):
        found.append(Advice("Fill in partial poses:", "mpm complete POSES --checkpoint OUT --out COMPLETED"))
    return found


def _hints(series: RunSeries) -> Iterator[Advice]:
    losses = series.validation.get("total")
    if losses is None:
        yield Advice("Prepare windows with a validation split, to see when to stop.")
    else:
        earlier = losses.values[losses.steps <= 0.8 * losses.steps[-1]]
        if losses.last > (1 + RISEN_SHARE) * losses.lowest:
            yield Advice(
                f"The validation loss has risen by {losses.last / losses.lowest - 1:.0%} since step "
                f"{losses.lowest_step:,}: train for fewer epochs, on more data, or with more noise."
            )
        elif len(earlier) and losses.last < (1 - FALLING_SHARE) * earlier[-1]:
            fall = 1 - losses.last / earlier[-1]
            yield Advice(
                f"The validation loss still fell by {fall:.0%} over the last fifth: try more epochs."
            )
    waiting, use = series.speed.get("waiting_share"), series.speed.get("gpu_use")
    if waiting is not None and waiting.mean > MUCH_WAITING:
        yield Advice(
            f"The workers waited for data {waiting.mean:.0%} of the time: bring the data nearer, or give "
            "them memory enough to hold it."
        )
    if use is not None and use.mean < LITTLE_GPU_USE:
        yield Advice(f"The GPU was busy {use.mean:.0%} of the time: give it more windows at once.")


def duration(rows: Rows) -> str:
    """Time between the first and the last report, such as `3 h 12 min`; empty if they say no time."""
    times_s = [row["at_s"] for row in rows if "at_s" in row]
    if len(times_s) < 2:
        return ""
    minutes, seconds = divmod(round(times_s[-1] - times_s[0]), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def number(value: float) -> str:
    """Three digits or more, without an exponent where it can be helped."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
