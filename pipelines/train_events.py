"""A training run as TensorBoard reads it: event files made in memory, each written once and whole."""

import io
import re
import struct
from collections.abc import Mapping

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from pipelines.train_rows import placed

_FILE_VERSION = "brain.Event:2"
_NAME = re.compile(r"events\.out\.tfevents\.(\d{13})\.\d{6}\.mpm")


class EventLog:
    """The events of one attempt at a run, in files that follow each other.

    TensorBoard reads the files of a folder in the order of their names and, once it has seen a later one,
    never looks back. So a file is never written again: what comes goes into the next. The first one tells
    TensorBoard to forget all that attempts with smaller numbers said; it must repeat what still holds.
    """

    def __init__(self, *, attempt: int, begun_s: float) -> None:
        self._attempt = attempt
        self._files = 0
        self._events = [Event(wall_time=begun_s, session_log=SessionLog(status=SessionLog.START))]
        self._last: tuple[float, set[str]] = (-1, set())

    def add_row(self, row: Mapping[str, float], *, now_s: float) -> None:
        """The figures of a row, at the time that it gives or else now.

        Of a row that comes again with more figures only those that are new count.
        """
        step, known = self._last
        known = known if step == row["step"] else set()
        values = {f"{place.group}/{place.name}": value for place, value in placed(row).items()}
        fresh = [
            Summary.Value(tag=tag, simple_value=value) for tag, value in values.items() if tag not in known
        ]
        self._last = row["step"], known | values.keys()
        self._events.append(
            Event(wall_time=row.get("at_s", now_s), step=int(row["step"]), summary=Summary(value=fresh))
        )

    def add_picture(self, name: str, png: bytes, *, step: int, wall_s: float) -> None:
        """A PNG."""
        width, height = struct.unpack(">II", png[16:24])
        image = Summary.Image(width=width, height=height, colorspace=3, encoded_image_string=png)
        value = Summary.Value(tag=f"pictures/{name}", image=image)
        self._events.append(Event(wall_time=wall_s, step=step, summary=Summary(value=[value])))

    def take(self) -> tuple[str, bytes] | None:
        """Name and content of a file with all that came since the last one; None if nothing did."""
        if not self._events:
            return None
        sink = io.BytesIO()
        records = RecordWriter(sink)
        for event in (Event(wall_time=self._events[0].wall_time, file_version=_FILE_VERSION), *self._events):
            records.write(event.SerializeToString())
        name = f"events.out.tfevents.{self._attempt:013d}.{self._files:06d}.mpm"
        self._files += 1
        self._events = []
        return name, sink.getvalue()


def attempt_of(name: str) -> int | None:
    """Number of the attempt whose `EventLog` gave a file its name; None if none did."""
    match = _NAME.fullmatch(name)
    return match and int(match[1])
