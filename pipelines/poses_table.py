"""The poses table: what `lift` writes."""

from collections.abc import Sequence
from dataclasses import dataclass

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
    skeleton_of,
    tensor_column,
    to_parquet,
)
from pipelines.storage import read_bytes


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


def poses_to_table(tracks: Sequence[PoseTrack], *, metadata: TableMetadata) -> pa.Table:
    """One row a frame, track after track; no tracks give a table without rows."""
    joints = len(metadata.skeleton)

    def per_frame(field: str, dtype: type, *shape: int) -> np.ndarray:
        return np.concatenate([np.zeros((0, *shape), dtype), *(getattr(track, field) for track in tracks)])

    def per_track(field: str) -> list[object]:
        return [getattr(track, field) for track in tracks for _ in track.frames]

    columns: dict[str, np.ndarray | list[object]] = {
        "source": per_track("source"),
        "person": per_track("person"),
        "frame": per_frame("frames", np.int64),
        "time_s": per_frame("time_s", np.float64),
        "joints_rel_m": per_frame("joints_rel_m", np.float32, joints, 3),
        "is_observed": per_frame("is_observed", bool, joints),
        "keypoints_px": per_frame("keypoints_px", np.float32, joints, 2),
        "confidence": per_frame("confidence", np.float32, joints),
        "width_px": per_track("width_px"),
        "height_px": per_track("height_px"),
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
    tracks: list[PoseTrack] = []
    for part in part_urls(url, "poses"):
        table = from_parquet(read_bytes(part), url=part, schema=POSES, skeleton=skeleton)
        tracks += _split_by_person(table)
    return tracks


def _split_by_person(table: pa.Table) -> list[PoseTrack]:
    rows_of: dict[tuple[str, str], list[int]] = {}
    sources, persons = table["source"].to_pylist(), table["person"].to_pylist()
    for row, key in enumerate(zip(sources, persons, strict=True)):
        rows_of.setdefault(key, []).append(row)
    frames, time_s = table["frame"].to_numpy(), table["time_s"].to_numpy()
    joints_rel_m, keypoints_px = tensor_column(table, "joints_rel_m"), tensor_column(table, "keypoints_px")
    is_observed = tensor_column(table, "is_observed").astype(bool)
    confidence, skeleton = tensor_column(table, "confidence"), skeleton_of(table)
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
        )
        for (source, person), rows in rows_of.items()
    ]
