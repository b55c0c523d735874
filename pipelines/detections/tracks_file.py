"""Our own tracks in a file: Parquet for archives, npz for one track.

Parquet, schema `tracks/1`, a row a track: `source`, `person`, `skeleton` (text), `rate_hz` (float64 or
null), `width_px`, `height_px` (int32 or null), `frames` (list of int64), `keypoints_px` (frames x joints x 2,
nested lists of float32), `confidence` (frames x joints), `notes` (list of text). Rows of one person in one
source are runs of one track.

npz: `keypoints_px` (N, J, 2) and `skeleton` (a name) are needed; `frames` (N,), `confidence` (N, J),
`rate_hz`, `width_px`, `height_px`, `person` and `source` may be missing, and what is assumed instead is
noted.
"""

import io
import itertools
import struct
import tokenize
import zipfile
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mpm_model.errors import InputError, refuse
from mpm_model.pose.skeletons import SKELETONS
from pipelines import storage
from pipelines.detections.bombs import parquet_bytes, refuse_bomb
from pipelines.detections.keypoints import clean_keypoints
from pipelines.detections.source import ReadOptions, Source
from pipelines.detections.track import Track
from pipelines.schema import USE_THREADS

TRACKS = "tracks/1"
"""Schema of the tracks table."""

_START_BYTES = 2**20

TRACKS_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("person", pa.string(), nullable=False),
        pa.field("skeleton", pa.string(), nullable=False),
        pa.field("rate_hz", pa.float64()),
        pa.field("width_px", pa.int32()),
        pa.field("height_px", pa.int32()),
        pa.field("frames", pa.list_(pa.int64()), nullable=False),
        pa.field("keypoints_px", pa.list_(pa.list_(pa.list_(pa.float32()))), nullable=False),
        pa.field("confidence", pa.list_(pa.list_(pa.float32())), nullable=False),
        pa.field("notes", pa.list_(pa.string())),
    ],
    metadata={b"mpm.schema": TRACKS.encode(), b"mpm.units": b"pixel, hertz"},
)


def read_tracks_file(source: Source, options: ReadOptions) -> list[Track]:
    """The tracks of a Parquet or npz file, told apart by content; options fill in what it does not say."""
    (url,) = source.files
    content = storage.read_start(url, _START_BYTES)
    if len(content) == _START_BYTES and content.startswith((b"PAR1", b"PK\x03\x04")):
        content = storage.read_bytes(url)  # of what is neither no more is read: it may be of any size
    if content.startswith(b"PAR1"):
        tracks = _from_parquet(url, content)
    elif content.startswith(b"PK\x03\x04"):
        tracks = [_from_npz(url, content)]
    else:
        raise InputError(f"{url}: wanted tracks as Parquet or npz, got a file that begins {content[:8]!r}")
    return [
        replace(
            track,
            rate_hz=options.rate_hz if track.rate_hz is None else track.rate_hz,
            width_px=options.width_px if track.width_px is None else track.width_px,
            height_px=options.height_px if track.height_px is None else track.height_px,
        )
        for track in tracks
    ]


def _from_parquet(url: str, content: bytes) -> list[Track]:
    try:
        file = pq.ParquetFile(io.BytesIO(content))
        refuse_bomb(url, content, unpacked_bytes=parquet_bytes(file.metadata))
        table = file.read(use_threads=USE_THREADS)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{url}: wanted a Parquet file, got one that cannot be read ({_line(error)})"
        ) from error
    schema = (table.schema.metadata or {}).get(b"mpm.schema", b"").decode()
    missing = [name for name in TRACKS_SCHEMA.names if name not in table.column_names and name != "notes"]
    if schema not in (TRACKS, "") or missing:
        got = schema or f"a table without {', '.join(missing)}"
        raise InputError(f"{url}: wanted a table of {TRACKS}, got {got}")
    faults = [
        f"column {name} must be {TRACKS_SCHEMA.field(name).type}, got {table[name].type}"
        for name in TRACKS_SCHEMA.names
        if name in table.column_names and not _fits(table[name].type, TRACKS_SCHEMA.field(name).type)
    ]
    faults += [
        f"column {name} has empty cells"
        for name in ("frames", "keypoints_px", "confidence")
        if table[name].null_count
    ]
    refuse(url, faults)
    runs: dict[tuple[str, str], list[Track]] = {}
    for row in range(table.num_rows):
        track = _from_row(f"{url}, row {row}", {name: table[name][row] for name in table.column_names})
        runs.setdefault((track.source, track.person), []).append(track)
    if not runs:
        raise InputError(f"{url}: wanted tracks, got a table without rows")
    return [_join_runs(url, of_one) for of_one in runs.values()]


def _fits(came: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a column may be read as another's: lists for lists, numbers for numbers, else the same."""
    if pa.types.is_nested(wanted) or pa.types.is_nested(came):
        return bool(pa.types.is_nested(wanted) and pa.types.is_nested(came))
    numbers = [pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in (came, wanted)]
    return all(numbers) if any(numbers) else True


def _from_row(where: str, row: dict[str, Any]) -> Track:
    frames = row["frames"].values.to_numpy()
    joints = len(_skeleton(where, row["skeleton"].as_py()))
    keypoints_px = row["keypoints_px"].values.flatten().flatten().to_numpy(zero_copy_only=False)
    confidence = row["confidence"].values.flatten().to_numpy(zero_copy_only=False)
    return _build(
        where,
        keypoints_px=_shaped(where, keypoints_px, (len(frames), joints, 2)),
        confidence=_shaped(where, confidence, (len(frames), joints)),
        frames=frames,
        said={
            name: row[name].as_py() for name in row if name not in ("frames", "keypoints_px", "confidence")
        },
    )


def _shaped(where: str, flat: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if flat.size != np.prod(shape):
        raise InputError(f"{where}: wanted keypoints of shape {shape}, got {flat.size} numbers")
    return flat.reshape(shape)


def _join_runs(url: str, runs: list[Track]) -> Track:
    """The runs of one person in one source as one track."""
    if len(runs) == 1:
        return runs[0]
    runs = sorted(runs, key=lambda run: int(run.frames[0]))
    first = runs[0]
    same = ("skeleton", "rate_hz", "width_px", "height_px")
    faults = [
        f"runs of {first.source}, person {first.person} differ in {name}"
        for name in same
        if any(getattr(run, name) != getattr(first, name) for run in runs)
    ]
    if any(int(a.frames[-1]) >= int(b.frames[0]) for a, b in itertools.pairwise(runs)):
        faults.append(f"runs of {first.source}, person {first.person} overlap in their frames")
    refuse(url, faults)
    return replace(
        first,
        keypoints_px=np.concatenate([run.keypoints_px for run in runs]),
        confidence=np.concatenate([run.confidence for run in runs]),
        frames=np.concatenate([run.frames for run in runs]),
        notes=tuple(dict.fromkeys(note for run in runs for note in run.notes)),
    )


def _from_npz(url: str, content: bytes) -> Track:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            refuse_bomb(url, content, unpacked_bytes=sum(item.file_size for item in file.zip.infolist()))
            arrays = {name: file[name] for name in file.files}
    except InputError:
        raise
    except _NOT_NPZ as error:
        raise InputError(
            f"{url}: wanted an npz file of plain arrays, got one that cannot be read ({_line(error)})"
        ) from error
    missing = [name for name in ("keypoints_px", "skeleton") if name not in arrays]
    if missing:
        raise InputError(
            f"{url}: wanted arrays keypoints_px (N, J, 2) and skeleton (one of {', '.join(SKELETONS)}), "
            f"got {', '.join(arrays) or 'none'}"
        )
    keypoints_px = arrays.pop("keypoints_px")
    skeleton = _skeleton(url, str(arrays["skeleton"]))
    if keypoints_px.ndim != 3 or keypoints_px.shape[1:] != (len(skeleton), 2):
        raise InputError(f"{url}: wanted keypoints_px (N, {len(skeleton)}, 2), got {keypoints_px.shape}")
    notes = []
    if "frames" not in arrays:
        arrays["frames"] = np.arange(len(keypoints_px))
        notes.append("The file numbers no frames: they are taken as 0, 1, 2 and so on.")
    if "confidence" not in arrays:
        arrays["confidence"] = np.ones(keypoints_px.shape[:2], np.float32)
        notes.append("The file gives no confidence: every keypoint is taken as surely seen.")
    frames, confidence = arrays.pop("frames"), arrays.pop("confidence")
    said = {name: arrays[name].item() for name in _SAID if name in arrays and arrays[name].size == 1}
    return _build(
        url, keypoints_px=keypoints_px, confidence=confidence, frames=frames, said={"notes": notes, **said}
    )


_SAID = ("source", "person", "skeleton", "rate_hz", "width_px", "height_px")
_NOT_NPZ = (
    ValueError, OSError, EOFError, KeyError, SyntaxError, RuntimeError, MemoryError, OverflowError,
    zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError,
)  # fmt: skip
"""What numpy lets through of a file that is cut, damaged or none."""


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _skeleton(where: str, name: str) -> Any:
    if name not in SKELETONS:
        raise InputError(f"{where}: wanted a skeleton of {', '.join(SKELETONS)}, got {name!r}")
    return SKELETONS[name]


def _build(
    where: str, *, keypoints_px: np.ndarray, confidence: np.ndarray, frames: np.ndarray, said: dict[str, Any]
) -> Track:
    if confidence.shape != keypoints_px.shape[:2] or frames.shape != keypoints_px.shape[:1]:
        raise InputError(
            f"{where}: wanted confidence {keypoints_px.shape[:2]} and frames {keypoints_px.shape[:1]} beside "
            f"keypoints_px, got {confidence.shape} and {frames.shape}"
        )
    faults = [
        f"{name} must hold real numbers, got {array.dtype}"
        for name, array in (("keypoints_px", keypoints_px), ("confidence", confidence), ("frames", frames))
        if array.dtype.kind not in "iuf"
    ]
    faults += [
        f"{name} must be a number, got {said[name]!r}"
        for name in ("rate_hz", "width_px", "height_px")
        if not isinstance(said.get(name), int | float | None)
    ]
    if not faults and not (np.isfinite(frames) & (np.rint(frames) == frames)).all():
        faults.append("frames must be whole numbers")
    refuse(where, faults)
    points = clean_keypoints(np.concatenate([keypoints_px, confidence[..., None]], axis=-1))
    return Track(
        keypoints_px=points[..., :2],
        confidence=points[..., 2],
        frames=frames.astype(np.int64),
        skeleton=SKELETONS[said["skeleton"]],
        source=str(said.get("source") or where),
        person=str(said.get("person", "0")),
        rate_hz=said.get("rate_hz"),
        width_px=said.get("width_px"),
        height_px=said.get("height_px"),
        notes=tuple(said.get("notes") or ()),
    )
