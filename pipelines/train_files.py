"""The files by which a run is watched, in its folder: TensorBoard's events, and a picture a validation."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipelines import storage
from pipelines.train_events import EventLog, attempt_of

EVENTS_FOLDER = "tensorboard"
"""Beside the checkpoint: `tensorboard --logdir OUT/tensorboard`, in a bucket or not."""
PICTURES_FOLDER = "pictures"
"""Beside the checkpoint: one PNG for each kind and validation."""
MOST_PICTURES = 12
"""Of one kind that are read back; the run's first and last, and others evenly between them."""

_PICTURE = re.compile(r"(?P<kind>.+)_(?P<step>\d{9})\.png")


@dataclass(frozen=True)
class News:
    """What a run said since it was last written down."""

    rows: Sequence[tuple[float, Mapping[str, float]]]
    """Time (Unix, seconds) and row of each report."""
    pictures: Sequence[tuple[float, int, str, bytes]]
    """Time, step, kind and PNG of each picture."""


class WatchFiles:
    """Writes the files of one attempt at a run, whole ones alone.

    The first write takes up the attempts before: what holds of them is told again, in a file that makes
    TensorBoard forget the rest.
    """

    def __init__(self, out: str, *, rows: Sequence[Mapping[str, float]], begun_s: float) -> None:
        """`rows` are those of earlier attempts that this one goes on from."""
        self._out = out
        self._earlier_rows = rows
        self._begun_s = begun_s
        self._events: EventLog | None = None
        self._earlier_files: list[str] = []
        self._rows: list[tuple[float, Mapping[str, float]]] = []
        self._pictures: list[tuple[float, int, str, bytes]] = []
        self._unsent: dict[str, bytes] = {}

    def write(self, news: News) -> None:
        """Write what is new, and what an earlier call could not.

        An InputError or OSError of the storage loses nothing: what is not written comes with the next call.
        """
        for _, step, kind, png in news.pictures:
            self._unsent[storage.join(self._out, PICTURES_FOLDER, picture_name(kind, step))] = png
        self._rows += news.rows
        self._pictures += news.pictures
        if self._events is None:
            self._events = self._take_up()
        for wall_s, row in self._rows:
            self._events.add_row(row, now_s=wall_s)
        for wall_s, step, kind, png in self._pictures:
            self._events.add_picture(kind, png, step=step, wall_s=wall_s)
        self._rows, self._pictures = [], []
        if file := self._events.take():
            name, content = file
            self._unsent[storage.join(self._out, EVENTS_FOLDER, name)] = content
        for url in list(self._unsent):
            storage.write_once(url, self._unsent[url])
            del self._unsent[url]

    def finish(self, news: News) -> None:
        """Write the last news, and remove the event files of earlier attempts.

        Not sooner: a TensorBoard that is amid one of them when it goes would look for it for ever.
        """
        self.write(news)
        for url in self._earlier_files:
            storage.remove(url)

    def _take_up(self) -> EventLog:
        folder = storage.join(self._out, EVENTS_FOLDER)
        attempts = {name: number for name in _names(folder) if (number := attempt_of(name)) is not None}
        # Clocks of two machines may differ by more than lies between the attempts.
        attempt = max(int(1000 * self._begun_s), *(number + 1 for number in attempts.values()), 0)
        events = EventLog(attempt=attempt, begun_s=self._begun_s)
        for row in self._earlier_rows:
            events.add_row(row, now_s=self._begun_s)
        to_step = int(self._earlier_rows[-1]["step"]) if self._earlier_rows else 0
        for name, png in read_pictures(self._out, to_step=to_step).items():
            picture = picture_of(name)
            assert picture is not None  # its name was chosen for that
            events.add_picture(picture.kind, png, step=picture.step, wall_s=self._begun_s)
        self._earlier_files = [storage.join(folder, name) for name in attempts]
        return events


class Picture(NamedTuple):
    """What the name of a picture's file says."""

    kind: str
    step: int


def read_pictures(out: str, *, to_step: int | None = None) -> dict[str, bytes]:
    """A run's pictures (to a step), by name, ordered; at most `MOST_PICTURES` of each kind."""
    folder = storage.join(out, PICTURES_FOLDER)
    kinds: dict[str, list[str]] = {}
    for name in _names(folder):
        picture = picture_of(name)
        if picture is not None and (to_step is None or picture.step <= to_step):
            kinds.setdefault(picture.kind, []).append(name)
    chosen = [name for names in kinds.values() for name in spread(names)]
    return {name: storage.read_bytes(storage.join(folder, name)) for name in chosen}


def spread(names: Sequence[str], most: int = MOST_PICTURES) -> list[str]:
    """At most so many names: the first, the last, and others evenly between them."""
    if len(names) <= most:
        return list(names)
    return [names[round(place * (len(names) - 1) / (most - 1))] for place in range(most)]


def picture_name(kind: str, step: int) -> str:
    """File name of a picture."""
    return f"{kind}_{step:09d}.png"


def picture_of(name: str) -> Picture | None:
    """Kind and step of a picture, of its file name; None if `picture_name` did not give it."""
    match = _PICTURE.fullmatch(name)
    return None if match is None else Picture(match["kind"], int(match["step"]))


def _names(folder: str) -> list[str]:
    return storage.list_names(folder) if storage.exists(folder) else []
