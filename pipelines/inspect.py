"""`mpm inspect`: what is in a folder, URL or file."""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TypeVar

import pyarrow.parquet as pq

from mpm_model.errors import InputError
from pipelines import storage, storage_folders
from pipelines.detections.registry import Source, find_sources, read_source
from pipelines.detections.track import Track
from pipelines.detections.tracks_file import TRACKS
from pipelines.inspect_tables import describe_bones, describe_poses, describe_windows
from pipelines.manifest import JOB, read_job
from pipelines.schema import POSES, WINDOWS, read_metadata
from pipelines.sources.options import ReadOptions
from pipelines.sources.recording import Recording
from pipelines.sources.registry import READERS, Reader
from pipelines.text_table import count, percent, text_table

RATE_HZ = 50.0
"""Rate at which recordings are read to be looked at."""
MAX_LISTED = 20
"""Recordings, videos or people that are read and listed; more are counted."""
_MAX_TEXT = 160
_CHECKPOINT = {"config.json", "card.json", "model.safetensors"}

T = TypeVar("T")
Result = TypeVar("Result")


def run(url: str) -> list[str]:
    """Lines that say what is at a URL: schema, counts, quality.

    Windows and poses (a folder or one Parquet file), checkpoints, recordings, 2D detections, and any other
    Parquet file. InputError if nothing is there, it is none of these, or it is one and damaged.
    """
    url = storage.absolute(url)
    if not storage.exists(url):
        raise InputError(f"{url}: no such file or folder")
    if _is_file(url):
        return (_describe_parquet if url.endswith(".parquet") else _describe_raw)(url)
    names = storage.list_names(url)
    if JOB in names:
        return (describe_poses if read_job(url).kind == "poses" else describe_windows)(url)
    return (_describe_checkpoint if {*names} & _CHECKPOINT else _describe_raw)(url)


def _is_file(url: str) -> bool:
    filesystem, path = storage.open_filesystem(url)
    with storage.storage_errors(url):
        return bool(filesystem.isfile(path))


def _describe_checkpoint(url: str) -> list[str]:
    from mpm_model.checkpoint import load_checkpoint  # torch, which nothing else here needs

    with storage_folders.fetch_folder(url) as folder:
        checkpoint = load_checkpoint(folder)
    parameters = sum(parameter.numel() for parameter in checkpoint.model.parameters())
    return [
        f"{url}: checkpoint, a {checkpoint.architecture} network of {parameters / 1e6:.2f} M parameters",
        f"  skeleton: {checkpoint.skeleton.name}, {count(len(checkpoint.skeleton), 'joint')}",
        f"  normalisation of 2D: {checkpoint.normalisation}",
        f"  rate: {checkpoint.rate_hz:g} Hz",
        *(f"  network {name}: {value}" for name, value in asdict(checkpoint.model.config).items()),
        *(f"  card {name}: {_shorten(value)}" for name, value in checkpoint.card.items()),
    ]


def _shorten(value: object) -> str:
    """A value of a card on one line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}... ({len(text):,} characters)"


def _describe_parquet(url: str) -> list[str]:
    content = storage.read_bytes(url)
    schema = read_metadata(content, url=url).get("mpm.schema", "none of ours")
    if schema == WINDOWS:
        return describe_windows(url)
    if schema == POSES:
        return describe_poses(url)
    if schema == TRACKS:
        return _describe_raw(url)
    file = pq.ParquetFile(io.BytesIO(content))
    rows, groups = file.metadata.num_rows, file.metadata.num_row_groups
    return [
        f"{url}: Parquet, schema {schema}; {count(rows, 'row')} in {count(groups, 'row group')}, "
        f"{len(content) / 1e6:.1f} MB",
        *(f"  {field.name}: {field.type}" for field in file.schema_arrow),
    ]


def _describe_raw(url: str) -> list[str]:
    """Recordings and 2D detections, whatever the readers find."""
    lines = [line for reader in READERS.values() for line in _describe_recordings(url, reader)]
    try:
        sources = find_sources(url)
    except InputError as error:
        if lines:
            return lines
        endings = ", ".join(suffix for reader in READERS.values() for suffix in reader.suffixes)
        raise InputError(
            f"{error}. Nor is it windows, poses, a checkpoint or recordings (which end in {endings}): "
            "give something that mpm made or reads"
        ) from error
    return lines + _describe_detections(url, sources)


def _describe_recordings(url: str, reader: Reader) -> list[str]:
    suffixes = tuple(suffix + packed for suffix in reader.suffixes for packed in ("", ".gz"))
    takes = [take for take in storage.list_files(url, suffixes) if take.endswith(suffixes)]
    if not takes:
        return []
    recordings, bad = _read(takes, lambda take: reader.read(take, rate_hz=RATE_HZ, options=ReadOptions()))
    header = [
        "recording",
        "subject",
        "action",
        "seconds",
        "thigh m",
        "shin m",
        "head over feet",
        "joints valid",
    ]
    notes = dict.fromkeys(note for recording in recordings for note in recording.notes)
    return [
        f"{url}: {count(len(takes), 'recording')} for reader {reader.name}",
        *text_table(header, [_describe_recording(recording) for recording in recordings]),
        *_more(len(takes), "recording"),
        *bad,
        *(f"  note: {note}" for note in notes),
    ]


def _describe_recording(recording: Recording) -> list[str]:
    return [
        recording.name,
        f"{recording.dataset}/{recording.subject}",
        recording.action,
        f"{len(recording.joints_world_m) / recording.rate_hz:.1f}",
        *describe_bones(recording.joints_world_m, recording.is_valid, recording.skeleton),
        percent(float(recording.is_valid.mean())),
    ]


def _describe_detections(url: str, sources: Sequence[Source]) -> list[str]:
    videos, bad = _read(sources, lambda source: (source, read_source(source)))
    lines = [f"{url}: 2D detections of {count(len(sources), 'video')}"]
    for source, tracks in videos:
        first = tracks[0]
        size = (
            f"{first.width_px} x {first.height_px} px"
            if first.width_px and first.height_px
            else "size not known"
        )
        rate = "rate not known" if first.rate_hz is None else f"{first.rate_hz:g} Hz"
        people = count(len(tracks), "person")
        lines.append(f"{source.name}: {source.format}, {first.skeleton.name}, {size}, {rate}, {people}")
        header = ["person", "frames", "first", "last", "joints seen", "confidence"]
        lines += text_table(header, [_describe_track(track, source) for track in tracks[:MAX_LISTED]])
        lines += _more(len(tracks), "person")
        lines += [f"  note: {note}" for note in dict.fromkeys(n for track in tracks for n in track.notes)]
    return [*lines, *_more(len(sources), "video"), *bad]


def _describe_track(track: Track, source: Source) -> list[str]:
    # A file may hold the people of many images, each a source of its own.
    within = track.source.removeprefix(source.name).lstrip("#")
    is_seen = track.confidence > 0
    confidence = f"{track.confidence[is_seen].mean():.2f}" if is_seen.any() else "-"
    frames = [f"{number:,}" for number in (len(track.frames), track.frames[0], track.frames[-1])]
    return [f"{within} {track.person}".strip(), *frames, percent(float(is_seen.mean())), confidence]


def _read(items: Sequence[T], read: Callable[[T], Result]) -> tuple[list[Result], list[str]]:
    """What the first items hold, and a line for each that is bad; the fault itself if it is the only one."""
    results, bad = [], []
    for item in items[:MAX_LISTED]:
        try:
            results.append(read(item))
        except InputError as error:
            if len(items) == 1:
                raise
            bad.append(f"  bad: {error}")
    return results, bad


def _more(number: int, what: str) -> list[str]:
    return [f"  ... and {count(number - MAX_LISTED, what)} more"] if number > MAX_LISTED else []
