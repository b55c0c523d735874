"""The poses table: what `lift` writes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from mpm_model.pose.skeleton import Skeleton
from mpm_model.pose.skeletons import H36M_17
from pipelines.manifest import part_urls
from pipelines.schema import (
    POSES,
    TableMetadata,
    build_table,
    from_parquet,
    poses_schema,
    read_where,
    skeleton_of,
    tensor_column,
    to_parquet,
)
from pipelines.storage import read_bytes

_ADDED = ("error_50_mm", "error_90_mm", "root_cam_m", "up_cam")
"""Columns that tables of before have not."""


@dataclass(frozen=True, kw_only=True)
class PoseTrack:
    """One person of one source in 3D, beside the 2D it was lifted from."""

    source: str
    """URL of the video's detections."""
    person: str
    """Person within the source."""
    frames: Int[np.ndarray, "N"]
    """The source's own frame numbers, increasing."""
    time_s: Float[np.ndarray, "N"]
    """Time of each frame from the source's frame 0."""
    joints_rel_m: Float[np.ndarray, "N J 3"]
    """Joints in camera axes (x right, y down, z forward), metres, relative to the pelvis."""
    is_observed: Bool[np.ndarray, "N J"]
    """Whether the detector saw the joint; otherwise the model filled it in."""
    keypoints_px: Float[np.ndarray, "N J 2"]
    """The 2D input, converted to the same joints."""
    confidence: Float[np.ndarray, "N J"]
    """Its confidence, 0 to 1."""
    width_px: int | None
    """Image width, if known."""
    height_px: int | None
    """Image height, if known."""
    skeleton: Skeleton = H36M_17
    """Skeleton of the joints."""
    error_50_mm: Float[np.ndarray, "N J"] | None = None
    """The joint's true place, relative to the pelvis, is expected within this distance half of the time;
    None if the model was never calibrated."""
    error_90_mm: Float[np.ndarray, "N J"] | None = None
    """The same for nine times in ten."""
    root_cam_m: Float[np.ndarray, "N 3"] | None = None
    """Pelvis in the camera's axes, from the camera's centre, metres; None if nothing says its place."""
    up_cam: Float[np.ndarray, "3"] | None = None
    """Unit vector that points up in the camera's axes; None if it was not asked for."""


_PER_FRAME = (
    "frames", "time_s", "joints_rel_m", "is_observed", "keypoints_px", "confidence", "error_50_mm",
    "error_90_mm", "root_cam_m",
)  # fmt: skip


def take_rows(track: PoseTrack, rows: slice) -> PoseTrack:
    """Some frames of a track."""
    known = {name: getattr(track, name) for name in _PER_FRAME}
    return replace(track, **{name: values[rows] for name, values in known.items() if values is not None})


def poses_to_table(tracks: Sequence[PoseTrack], *, metadata: TableMetadata) -> pa.Table:
    """One row a frame, track after track; no tracks give a table without rows."""
    joints = len(metadata.skeleton)

    def per_frame(field: str, dtype: type, *shape: int) -> np.ndarray:
        return np.concatenate([np.zeros((0, *shape), dtype), *(getattr(track, field) for track in tracks)])

    def or_unknown(field: str, *shape: int) -> np.ndarray:
        """NaN where a track does not know; what holds for a whole track is repeated."""
        parts = [np.zeros((0, *shape), np.float32)]
        for track in tracks:
            values = getattr(track, field)
            filled = np.full((len(track.frames), *shape), np.nan if values is None else values, np.float32)
            parts.append(filled)
        return np.concatenate(parts)

    def per_track(field: str, kind: pa.DataType) -> pa.Array:
        values = [pa.scalar(getattr(track, field), kind) for track in tracks]
        repeated = [pa.repeat(value, len(track.frames)) for value, track in zip(values, tracks, strict=True)]
        return pa.concat_arrays([pa.array([], kind), *repeated])

    columns: dict[str, np.ndarray | pa.Array] = {
        "source": per_track("source", pa.string()),
        "person": per_track("person", pa.string()),
        "frame": per_frame("frames", np.int64),
        "time_s": per_frame("time_s", np.float64),
        "joints_rel_m": per_frame("joints_rel_m", np.float32, joints, 3),
        "is_observed": per_frame("is_observed", bool, joints),
        "keypoints_px": per_frame("keypoints_px", np.float32, joints, 2),
        "confidence": per_frame("confidence", np.float32, joints),
        "width_px": per_track("width_px", pa.int32()),
        "height_px": per_track("height_px", pa.int32()),
        "error_50_mm": or_unknown("error_50_mm", joints),
        "error_90_mm": or_unknown("error_90_mm", joints),
        "root_cam_m": or_unknown("root_cam_m", 3),
        "up_cam": or_unknown("up_cam", 3),
    }
    return build_table(poses_schema(metadata), columns)


def write_poses(tracks: Sequence[PoseTrack], *, metadata: TableMetadata) -> bytes:
    """The tracks as one Parquet file of schema `poses/1`."""
    return to_parquet(poses_to_table(tracks, metadata=metadata))


def read_poses(url: str, *, skeleton: Skeleton | None = H36M_17) -> list[PoseTrack]:
    """All tracks of a folder that `lift` wrote, or of one Parquet file, in the order of its first rows.

    Poses of another skeleton are refused; `skeleton=None` takes any, and the tracks say which.
    InputError if the folder is unfinished or not ours, or a file is not a poses table.
    """
    tables = [
        from_parquet(read_bytes(part), url=part, schema=POSES, skeleton=skeleton)
        for part in part_urls(url, "poses")
    ]
    return _split_by_person(pa.concat_tables(tables)) if tables else []


def read_track(
    parts: Sequence[str], *, source: str, person: str | None = None, skeleton: Skeleton | None = None
) -> list[PoseTrack]:
    """Everybody of one video, or one person of it, from the parts in which they lie; little else is read."""
    where = {"source": source} | ({} if person is None else {"person": person})
    tables = [read_where(url, where, schema=POSES, skeleton=skeleton) for url in parts]
    return _split_by_person(pa.concat_tables(tables)) if tables else []


def _split_by_person(table: pa.Table) -> list[PoseTrack]:
    """A track for each person of each source; where its frames begin anew, another one."""
    rows_of: dict[tuple[str, str], list[int]] = {}
    sources, persons = table["source"].to_pylist(), table["person"].to_pylist()
    for row, key in enumerate(zip(sources, persons, strict=True)):
        rows_of.setdefault(key, []).append(row)
    frames, time_s = table["frame"].to_numpy(), table["time_s"].to_numpy()
    joints_rel_m, keypoints_px = tensor_column(table, "joints_rel_m"), tensor_column(table, "keypoints_px")
    is_observed = tensor_column(table, "is_observed").astype(bool)
    confidence, skeleton = tensor_column(table, "confidence"), skeleton_of(table)
    added = {name: tensor_column(table, name) for name in _ADDED if name in table.column_names}

    def known(name: str, rows: Int[np.ndarray, "N"]) -> np.ndarray | None:
        values = added[name][rows] if name in added else None
        return None if values is None or np.isnan(values).all() else values

    return [
        PoseTrack(
            source=source,
            person=person,
            frames=frames[rows],
            time_s=time_s[rows],
            joints_rel_m=joints_rel_m[rows],
            is_observed=is_observed[rows],
            keypoints_px=keypoints_px[rows],
            confidence=confidence[rows],
            width_px=table["width_px"][rows[0]].as_py(),
            height_px=table["height_px"][rows[0]].as_py(),
            skeleton=skeleton,
            error_50_mm=known("error_50_mm", rows),
            error_90_mm=known("error_90_mm", rows),
            root_cam_m=known("root_cam_m", rows),
            up_cam=None if (up_cam := known("up_cam", rows)) is None else up_cam[0],
        )
        for (source, person), of_one in rows_of.items()
        for rows in np.split(of_one, np.flatnonzero(np.diff(frames[of_one]) <= 0) + 1)
    ]
