"""From a URL to the videos behind it, and from a video to its tracks."""

import itertools
import json
import posixpath
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from mpm_model.errors import InputError
from pipelines import storage
from pipelines.detections.coco import read_coco
from pipelines.detections.mediapipe import read_mediapipe
from pipelines.detections.openpose import read_openpose, split_videos
from pipelines.detections.source import FORMATS, NOT_LOOKED_AT, UNRECOGNISED, ReadOptions, Source
from pipelines.detections.track import Track
from pipelines.detections.tracks_file import read_tracks_file

__all__ = ["FORMATS", "SUFFIXES", "ReadOptions", "Source", "find_sources", "read_source"]

_JSON = (".json", ".json.gz")
_TRACKS = (".parquet", ".npz")
SUFFIXES = _JSON + _TRACKS
"""How files of detections end."""
_PEEKS = 10
_START_BYTES = 2**16
_READERS = 16

_READ: Mapping[str, Callable[[Source, ReadOptions], list[Track]]] = {
    "openpose": read_openpose,
    "openpose_body25": read_openpose,
    "openpose_body25b": read_openpose,
    "mediapipe": read_mediapipe,
    "coco": read_coco,
    "tracks": read_tracks_file,
}

_MEANINGLESS = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, MemoryError)
"""What comes of values that no reader looked at: JSON may hold anything anywhere, and one such file in a
million must not end the job."""

_SIGNATURES = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"HIERARCHY": "a BVH recording",
    b":FULLY-SPECIFIED": "an AMC recording",
    b":version": "an ASF skeleton",
    b"#!OML:ASF": "an AMC recording",
    b"# AST/ASF": "an ASF skeleton",
    b"PathFileType": "a TRC recording",
    b"\x1f\x8b": "a gzip file",
    b"RIFF": "an AVI video",
}


def find_sources(
    url: str, options: ReadOptions | None = None, *, files: Sequence[str] | None = None
) -> list[Source]:
    """The videos whose detections stand in a file, a folder or a tree of folders, sorted by name.

    A folder of OpenPose frames is one video (or several, told apart by their file names); any other JSON,
    Parquet or npz file is one. The format is told by content unless the options say it; of a folder only the
    first files are looked into. Files of other kinds in a folder are passed over; JSON that is none of ours
    becomes a source of its own, which is refused when it is read. `files` are those of a listing with
    `SUFFIXES` made before. InputError, naming what was found, if nothing fits.
    """
    options = options or ReadOptions()
    listed = storage.list_files(url, SUFFIXES) if files is None else files
    # What begins with _ is said about an output, not one of its inputs.
    files = [name for name in listed if name == url or not posixpath.basename(name).startswith("_")]
    if files == [url]:
        sources = [_single_file(url, options)]
    else:
        sources = [
            source
            for folder, in_folder in itertools.groupby(
                sorted(files, key=_folder_first), key=posixpath.dirname
            )
            for source in _in_folder(folder, list(in_folder), options)
        ]
    if all(source.format == UNRECOGNISED for source in sources):
        found = [_what_is(source.files[0]) for source in sources[:3]]
        if not found:
            names = [posixpath.basename(name) for name in storage.list_files(url, ("",))]
            found = [f"{len(names)} other files ({', '.join(names[:3])})" if names else "an empty folder"]
        raise InputError(
            f"{url}: wanted 2D detections (OpenPose, MediaPipe or COCO JSON, tracks as Parquet or npz), "
            f"got {'; '.join(found)}; give the folder or file that holds them, or --format"
        )
    return sorted(sources, key=lambda source: source.name)


def read_source(source: Source, options: ReadOptions | None = None) -> list[Track]:
    """The tracks of one video, at least one; InputError if it cannot be read or nobody is in it."""
    kind = _format_of(source.files[0]) if source.format == NOT_LOOKED_AT else source.format
    if kind == UNRECOGNISED:
        raise InputError(f"{source.name}: wanted 2D detections, got {_what_is(source.files[0])}")
    try:
        return _READ[kind](source, options or ReadOptions())
    except InputError:
        raise
    except _MEANINGLESS as error:
        said = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        raise InputError(
            f"{source.name}: wanted 2D detections of format {kind}, got a file that makes no sense as that "
            f"({said})"
        ) from error


def _folder_first(url: str) -> tuple[str, str]:
    return posixpath.dirname(url), url


def _single_file(url: str, options: ReadOptions) -> Source:
    return Source(name=url, format=options.format or _format_of(url), files=(url,))


def _in_folder(folder: str, files: Sequence[str], options: ReadOptions) -> list[Source]:
    tracks = [Source(name=url, format="tracks", files=(url,)) for url in files if url.endswith(_TRACKS)]
    jsons = [url for url in files if url.endswith(_JSON)]
    if options.format is not None:
        if options.format == "tracks":
            return tracks
        if options.format.startswith("openpose"):
            return split_videos(folder, jsons)
        return [_single_file(url, options) for url in jsons]
    # One frame of OpenPose among the first files tells that all are: a folder may hold a hundred thousand.
    formats = _formats_of(jsons[:_PEEKS])
    if "openpose" in formats:
        return tracks + split_videos(folder, jsons)
    formats += [NOT_LOOKED_AT] * (len(jsons) - len(formats))
    return tracks + [
        Source(name=url, format=kind, files=(url,)) for url, kind in zip(jsons, formats, strict=True)
    ]


def _formats_of(urls: Sequence[str]) -> list[str]:
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(_format_of, urls))


def _format_of(url: str) -> str:
    """The format by content.

    JSON is told by its keys and not parsed: it may be cut in half, which its reader says better. What a file
    begins with nearly always tells it.
    """
    try:
        start = storage.read_start(url, _START_BYTES)
        found = _recognise(start)
        return _recognise(storage.read_bytes(url)) if found == UNRECOGNISED and _is_json(start) else found
    except storage.StorageError:
        raise
    except InputError:  # a gzip file cut short: reading it will say so
        return UNRECOGNISED


def _recognise(content: bytes) -> str:
    if content.startswith((b"PAR1", b"PK\x03\x04")):
        return "tracks"
    if not _is_json(content):
        return UNRECOGNISED
    if b'"people"' in content:
        return "openpose"
    if b'"keypoints"' in content and b'"image_id"' in content:
        return "coco"
    if b'"pose_landmarks"' in content or b'"visibility"' in content:
        return "mediapipe"
    return UNRECOGNISED


def _is_json(content: bytes) -> bool:
    return content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"["))


def _what_is(url: str) -> str:
    """A file that is none of ours, in words; no more of it is read than that takes."""
    name = posixpath.basename(url)
    try:
        start = storage.read_start(url, _START_BYTES)
        content = storage.read_bytes(url) if _is_json(start) else start
    except storage.StorageError:
        raise
    except InputError as error:
        return str(error)
    for signature, what in _SIGNATURES.items():
        if content.lstrip().startswith(signature):
            return f"{name}, {what}"
    if not content.strip():
        return f"{name}, an empty file"
    try:
        value = json.loads(content)
    except json.JSONDecodeError as error:
        if _is_json(content):
            return f"{name}, JSON that breaks at byte {error.pos} of {len(content)}"
        return f"{name}, which begins {content[:24]!r}"
    except (UnicodeDecodeError, RecursionError):
        return f"{name}, which begins {content[:24]!r}"
    keys = ", ".join(list(value)[:6]) if isinstance(value, dict) else f"a {type(value).__name__}"
    return f"{name}, JSON of another kind ({keys or 'no keys'})"
