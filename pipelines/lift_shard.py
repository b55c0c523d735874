"""One shard of a lifting job: read its videos, lift everybody in them."""

import math
import posixpath
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from mpm_model.errors import InputError
from mpm_model.lifter import Lifter
from pipelines import storage
from pipelines.detections.registry import SUFFIXES, ReadOptions, Source, find_sources, read_source
from pipelines.detections.source import NOT_LOOKED_AT
from pipelines.detections.track import Track
from pipelines.lift_summary import summarise_track
from pipelines.lift_track import ASSUMED_RATE_HZ, lift_track
from pipelines.manifest import Input, Receipt, TrackLine
from pipelines.parts import KILLS, PartResult
from pipelines.placing import Placing, place
from pipelines.poses_table import PoseTrack, poses_to_table, take_rows
from pipelines.schema import TableMetadata

READERS = 8
"""Videos of a shard that are fetched at a time."""


@dataclass(frozen=True)
class ReadInput:
    """A planned input, and what was in it."""

    item: Input
    tracks: tuple[Track, ...] = ()
    reason: str | None = None
    """Why it cannot be lifted."""


def read_inputs(inputs: Sequence[Input], *, options: ReadOptions) -> list[ReadInput]:
    """The tracks of every input, or why there are none. StorageError if the storage is at fault."""
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(partial(_read_input, options=options), inputs))


def _read_input(item: Input, *, options: ReadOptions) -> ReadInput:
    try:
        return ReadInput(item, tuple(read_source(source_of(item.url, options), options)))
    except storage.StorageError:  # no fault of this video
        raise
    except InputError as error:
        return ReadInput(item, reason=str(error))


def or_reason(item: Input, result: ReadInput | Exception) -> ReadInput:
    """What was read; or, of an input that ended its reader, that it did."""
    return result if isinstance(result, ReadInput) else ReadInput(item, reason=KILLS)


def source_of(name: str, options: ReadOptions) -> Source:
    """The video of a planned name: a file, a folder of frames, or, with a pattern, some of its frames."""
    if name.endswith(SUFFIXES):
        kind = options.format or ("tracks" if name.endswith((".parquet", ".npz")) else NOT_LOOKED_AT)
        return Source(name=name, format=kind, files=(name,))
    where = posixpath.dirname(name) if name.endswith("*") else name
    found = next((source for source in find_sources(where, options) if source.name == name), None)
    if found is None:
        raise InputError(f"{name}: this video was there when the job was planned, and is not any more")
    return found


def lift_inputs(
    read: Sequence[ReadInput], *, lifter: Lifter, placing: Placing, metadata: TableMetadata
) -> PartResult:
    """Poses of everybody in the videos that could be read, and what came of each video."""
    poses: list[PoseTrack] = []
    receipts = []
    for each in read:
        item = each.item
        receipt = partial(Receipt, url=item.url, size_bytes=item.size_bytes, piece=item.piece)
        if each.reason is not None:
            receipts.append(receipt(status="bad", reason=each.reason))
            continue
        try:
            lifted = [
                _lift(track, rows, lifter=lifter, placing=placing)
                for track, rows in share_of(each.tracks, item.piece, item.pieces)
            ]
        except InputError as error:
            receipts.append(receipt(status="bad", reason=str(error)))
            continue
        notes = dict.fromkeys(note for _, _, notes in lifted for note in notes)
        poses += [pose for pose, _, _ in lifted]
        lines = tuple(line for _, line, _ in lifted)
        receipts.append(
            receipt(
                status="done",
                rows=sum(line.rows for line in lines),
                frames=sum(line.rows for line in lines),
                seconds=sum(line.seconds for line in lines),
                people=tuple(f"{line.source}/{line.person}" for line in lines),
                notes=tuple(notes),
                tracks=lines,
            )
        )
    return PartResult(table=poses_to_table(poses, metadata=metadata), receipts=tuple(receipts))


def share_of(tracks: Sequence[Track], piece: int, pieces: int) -> Iterator[tuple[Track, slice]]:
    """The rows of the tracks that a piece of their file stands for: as many frames in each piece."""
    frames = sum(len(track.frames) for track in tracks)
    first, last = frames * piece // pieces, frames * (piece + 1) // pieces
    before = 0
    for track in tracks:
        start, stop = max(first - before, 0), min(last - before, len(track.frames))
        if start < stop:
            yield track, slice(start, stop)
        before += len(track.frames)


def _lift(
    track: Track, rows: slice, *, lifter: Lifter, placing: Placing
) -> tuple[PoseTrack, TrackLine, tuple[str, ...]]:
    rate_hz = track.rate_hz or ASSUMED_RATE_HZ
    context = math.ceil(placing.context_s * rate_hz)
    wide = slice(max(0, rows.start - context), min(len(track.frames), rows.stop + context))
    pose, notes = place(lift_track(track, lifter, only=wide), placing)
    pose = take_rows(pose, slice(rows.start - wide.start, rows.stop - wide.start))
    if track.rate_hz is None:
        notes += (f"nobody says the rate: {ASSUMED_RATE_HZ:g} Hz assumed; give --rate-hz",)
    return pose, _line(pose, rate_hz), (*track.notes, *notes)


def _line(pose: PoseTrack, rate_hz: float) -> TrackLine:
    summary = summarise_track(pose)
    measured = {
        name: getattr(summary, name)
        for name in ("image_error", "limb_variation", "inpainted_share", "error_50_mm")
    }
    return TrackLine(
        source=pose.source,
        person=pose.person,
        rows=len(pose.frames),
        seconds=len(pose.frames) / rate_hz,
        **{
            name: None if value is None or math.isnan(value) else round(value, 6)
            for name, value in measured.items()
        },
    )
