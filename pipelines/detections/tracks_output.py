"""Our own tracks written to a file, in the layouts that `tracks_file` reads."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.detections.track import Track
from pipelines.detections.tracks_file import TRACKS_SCHEMA


def tracks_to_parquet(tracks: Sequence[Track]) -> bytes:
    """The content of a Parquet file of tracks."""
    if not tracks:
        return _to_parquet(TRACKS_SCHEMA.empty_table())
    words = ("source", "person", "rate_hz", "width_px", "height_px")
    columns: dict[str, Any] = {name: [getattr(track, name) for track in tracks] for name in words}
    columns |= {
        "skeleton": [track.skeleton.name for track in tracks],
        "notes": [list(track.notes) for track in tracks],
        "frames": _lists([track.frames for track in tracks]),
        "keypoints_px": _lists([track.keypoints_px for track in tracks]),
        "confidence": _lists([track.confidence for track in tracks]),
    }
    arrays = [pa.array(columns[name], TRACKS_SCHEMA.field(name).type) for name in TRACKS_SCHEMA.names]
    return _to_parquet(pa.Table.from_arrays(arrays, schema=TRACKS_SCHEMA))


def _to_parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", compression_level=1)
    return buffer.getvalue()


def _lists(arrays: Sequence[np.ndarray]) -> pa.Array:
    """A list of each array, nested as deep as the array has dimensions; the numbers are copied at once."""
    nested = pa.array(np.concatenate([array.ravel() for array in arrays]))
    for depth in range(arrays[0].ndim - 1, 0, -1):
        sizes = [array.shape[depth] for array in arrays for _ in range(int(np.prod(array.shape[:depth])))]
        nested = pa.ListArray.from_arrays(np.cumsum([0, *sizes]).astype(np.int32), nested)
    return pa.ListArray.from_arrays(np.cumsum([0, *map(len, arrays)]).astype(np.int32), nested)


def track_to_npz(track: Track) -> bytes:
    """The content of an npz file of one track; what the track does not know is left out, and so are its
    notes."""
    said: dict[str, Any] = {
        name: np.array(value)
        for name, value in (
            ("rate_hz", track.rate_hz),
            ("width_px", track.width_px),
            ("height_px", track.height_px),
        )
        if value is not None
    }
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        keypoints_px=track.keypoints_px,
        confidence=track.confidence,
        frames=track.frames,
        skeleton=np.array(track.skeleton.name),
        person=np.array(track.person),
        source=np.array(track.source),
        **said,
    )
    return buffer.getvalue()
