"""`mpm inspect`: what is in a folder, URL or file."""

import io
import json
from dataclasses import asdict

import numpy as np
import pyarrow.parquet as pq

from mpm_model.errors import InputError
from pipelines import storage
from pipelines.detections.registry import find_sources, read_source
from pipelines.detections.track import Track
from pipelines.detections.tracks_file import TRACKS
from pipelines.inspect_tables import describe_bones, describe_poses, describe_windows
from pipelines.manifest import JOB
from pipelines.schema import POSES, SCHEMA_KEY, WINDOWS, read_metadata
from pipelines.sources import registry as recordings
from pipelines.sources.options import ReadOptions
from pipelines.text_table import count, percent, text_table

RATE_HZ = 50.0
"""Rate at which a recording is read to be looked at."""
CONFIG_FILE = "config.json"
_MAX_LISTED = 20
_MAX_TEXT = 160


def run(url: str) -> list[str]:
    """Lines that say what is at a URL: schema, counts, quality.

    Windows and poses (a folder or one Parquet file), checkpoints, recordings, 2D detections, and any other
    Parquet file. InputError if nothing is there or it is none of these.
    """
    url = storage.absolute(url)
    if not storage.exists(url):
        raise InputError(f"{url}: no such file or folder")
    if storage.exists(storage.join(url, JOB)):
        kind = storage.read_json(storage.join(url, JOB)).get("kind")
        return (describe_poses if kind == "poses" else describe_windows)(url)
    if storage.exists(storage.join(url, CONFIG_FILE)):
        return _describe_checkpoint(url)
    if url.endswith(".parquet"):
        return _describe_parquet(url)
    return _describe_raw(url)


def _describe_checkpoint(url: str) -> list[str]:
    from mpm_model.checkpoint import load_checkpoint  # torch, which nothing else here needs

    with storage.fetch_folder(url) as folder:
        checkpoint = load_checkpoint(folder)
    parameters = sum(parameter.numel() for parameter in checkpoint.model.parameters())
    return [
        f"{url}: checkpoint, a {checkpoint.architecture} network of {parameters / 1e6:.2f} M parameters",
        f"  skeleton: {checkpoint.skeleton.name}, {count(len(checkpoint.skeleton), 'joint')}",
        f"  normalisation of 2D: {checkpoint.normalisation}",
        f"  rate: {checkpoint.rate_hz:g} Hz",
        *(f"  network.{name}: {value}" for name, value in asdict(checkpoint.model.config).items()),
        *(f"  card.{name}: {_shorten(value)}" for name, value in checkpoint.card.items()),
    ]


def _describe_parquet(url: str) -> list[str]:
    content = storage.read_bytes(url)
    metadata = read_metadata(content, url=url)
    schema = metadata.get(SCHEMA_KEY.decode(), "")
    if schema == WINDOWS:
        return describe_windows(url)
    if schema == POSES:
        return describe_poses(url)
    if schema == TRACKS:
        return _describe_raw(url)
    file = pq.ParquetFile(io.BytesIO(content))
    said = schema or "none of ours"
    return [
        f"{url}: Parquet, schema {said}; {file.metadata.num_rows:,} rows in "
        f"{count(file.metadata.num_row_groups, 'row group')}, {len(content) / 1e6:.1f} MB",
        *(f"  {field.name}: {field.type}{'' if field.nullable else ', never null'}" for field in file.schema_arrow),
    ]


def _describe_raw(url: str) -> list[str]:
    """Recordings or 2D detections, whichever the readers find."""
    faults = []
    for describe in (_describe_recordings, _describe_detections):
        try:
            return describe(url)
        except InputError as error:
            faults.append(str(error))
    raise InputError(" ".join(faults))


def _describe_detections(url: str) -> list[str]:
    sources = find_sources(url)
    lines = [f"{url}: 2D detections, {count(len(sources), 'video')}"]
    for source in sources[:_MAX_LISTED]:
        tracks = read_source(source)
        notes = dict.fromkeys(note for track in tracks for note in track.notes)
        rows = [_describe_track(track) for track in tracks[:_MAX_LISTED]]
        header = ["person", "frames", "first", "last", "joints seen", "confidence"]
        size = f"{tracks[0].width_px or '?'} x {tracks[0].height_px or '?'} px"
        rate = "rate unknown" if tracks[0].rate_hz is None else f"{tracks[0].rate_hz:g} Hz"
        lines += [
            "",
            f"{source.name}: {source.format}, {tracks[0].skeleton.name}, {size}, {rate}, "
            f"{count(len(tracks), 'person')}",
            *text_table(header, rows),
            *_more(len(tracks), "person"),
            *(f"  note: {note}" for note in notes),
        ]
    return lines + _more(len(sources), "video")


def _describe_track(track: Track) -> list[str]:
    is_seen = track.confidence > 0
    confidence = f"{track.confidence[is_seen].mean():.2f}" if is_seen.any() else "-"
    first, last = track.frames[0], track.frames[-1]
    return [track.person, f"{len(track.frames):,}", f"{first}", f"{last}", percent(is_seen.mean()), confidence]


def _more(number: int, what: str) -> list[str]:
    return [f"  ... and {count(number - _MAX_LISTED, what)} more"] if number > _MAX_LISTED else []


def _shorten(value: object) -> str:
    """A value of a card on one line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}... ({len(text):,} characters)"


def _describe_recordings(url: str) -> list[str]:
    found = {name: takes for name in READERS if (takes := _find_takes(name, url))}
    if not found:
        raise InputError(f"{url}: wanted a recording ({', '.join(READERS)}), found none.")
    lines = []
    for name, takes in found.items():
        lines.append(f"{url}: {count(len(takes), 'recording')} for reader {name}")
        recordings = [READERS[name].read(take, rate_hz=RATE_HZ, options=ReadOptions()) for take in takes[:_MAX_LISTED]]
        rows = [_describe_recording(recording) for recording in recordings]
        header = ["recording", "subject", "action", "seconds", "thigh m", "shin m", "head over feet", "joints valid"]
        lines += [*text_table(header, rows), *_more(len(takes), "recording")]
        lines += [f"  note: {note}" for note in dict.fromkeys(n for r in recordings for n in r.notes)]
    return lines
