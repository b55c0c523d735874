"""The windows table: what `prepare` writes and training reads."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, NoReturn

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int, Shaped

from mpm_model.errors import InputError, listing, refuse
from mpm_model.pose.skeleton import Skeleton
from mpm_model.pose.skeletons import H36M_17
from pipelines import storage
from pipelines.manifest import part_urls
from pipelines.schema import (
    WINDOWS,
    TableMetadata,
    build_table,
    from_parquet,
    skeleton_of,
    tensor_column,
    text_column,
    windows_schema,
)


@dataclass(frozen=True, kw_only=True)
class Windows:
    """N windows of T frames of one person each, in columns; one skeleton, one rate."""

    ids: Int[np.ndarray, "N"]
    """Stable and unique: see `window_id`."""
    joints_world_m: Float[np.ndarray, "N T J 3"]
    """Joint positions in world space (z up), float32; invalid joints hold 0."""
    is_valid: Bool[np.ndarray, "N T J"]
    """Whether the joint was really captured in that frame."""
    dataset: Shaped[np.ndarray, "N"]
    """Data set, str."""
    subject: Shaped[np.ndarray, "N"]
    """Person, unique within the data set, str."""
    action: Shaped[np.ndarray, "N"]
    """What is done, str."""
    recording: Shaped[np.ndarray, "N"]
    """Name of the take, unique within the data set, str."""
    split: Shaped[np.ndarray, "N"]
    """train, validation or test, str."""
    start_frame: Int[np.ndarray, "N"]
    """First frame of the window in the recording at `rate_hz`."""
    rate_hz: float
    """Frames per second."""
    skeleton: Skeleton = H36M_17
    """Skeleton of the joints."""

    def __len__(self) -> int:
        return len(self.ids)


class WindowKind(NamedTuple):
    """What windows must have in common to be trained on together."""

    frames: int
    """Length of a window."""
    skeleton: str
    """Name of the skeleton."""
    rate_hz: float
    """Frames per second."""


_PER_WINDOW = tuple(field.name for field in fields(Windows) if field.name not in ("rate_hz", "skeleton"))


def window_id(dataset: str, recording: str, *, start_frame: int, window_frames: int, rate_hz: float) -> int:
    """A number for a window that depends on what it holds alone, not on where or with what else it was made.

    The first 63 bits of SHA-256, so never negative; in a corpus of 10 million windows the chance that any two
    agree is 1 in 180,000.
    """
    name = "\0".join([dataset, recording, str(start_frame), str(window_frames), repr(float(rate_hz))])
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def windows_to_table(windows: Sequence[Windows], *, metadata: TableMetadata, window_frames: int) -> pa.Table:
    """One row a window, in order; no windows give a table without rows."""
    schema = windows_schema(metadata, window_frames=window_frames)
    joints = len(metadata.skeleton)

    def per_window(field: str, dtype: type, *shape: int) -> np.ndarray:
        return np.concatenate([np.zeros((0, *shape), dtype), *(getattr(some, field) for some in windows)])

    texts = {name: per_window(name, str) for name in ("dataset", "subject", "action", "recording", "split")}
    columns: dict[str, np.ndarray | list[object]] = {
        "id": per_window("ids", np.int64),
        **texts,
        "view": [None] * sum(map(len, windows)),
        "start_frame": per_window("start_frame", np.int64),
        "rate_hz": [some.rate_hz for some in windows for _ in some.ids],
        "joints_world_m": per_window("joints_world_m", np.float32, window_frames, joints, 3),
        "is_valid": per_window("is_valid", bool, window_frames, joints),
    }
    return build_table(schema, columns)


def read_windows(url: str, *, splits: Collection[str] | None = None) -> Windows:
    """All windows of a folder that `prepare` finished, or of one Parquet file; of some splits only, if given.

    The windows come in the order of the parts. InputError if the folder is unfinished or not ours, if
    a file is no windows table, or if there is not one window in it. There may be none of the asked splits.
    """
    parts = [_read_part(part, splits=splits) for part in part_urls(url, "windows")]
    found = [windows for windows in parts if windows is not None]
    if not found:
        refuse_empty(url)
    return concatenate_windows(found, names=[url] * len(found))


def read_all_windows(urls: Sequence[str], *, splits: Collection[str] | None = None) -> Windows:
    """The windows of several tables, in order; InputError if their lengths, skeletons or rates differ."""
    windows = concatenate_windows([read_windows(url, splits=splits) for url in urls], names=urls)
    refuse_repeated(windows.ids, urls)
    return windows


def refuse_repeated(ids: Int[np.ndarray, "N"], urls: Sequence[str]) -> None:
    """InputError if a window stands twice in what was read."""
    repeated = len(ids) - len(np.unique(ids))
    if repeated:
        raise InputError(
            f"{', '.join(urls)}: {repeated} windows stand there twice; give every recording once"
        )


def refuse_empty(url: str) -> NoReturn:
    """InputError for a table without any row."""
    raise InputError(
        f"{url}: wanted windows to train on, found a finished table without one; see its manifest"
    )


def _read_part(url: str, *, splits: Collection[str] | None) -> Windows | None:
    """None if the part has no rows at all, so no rate."""
    table = from_parquet(storage.read_bytes(url), url=url, schema=WINDOWS, skeleton=None)
    kind = kind_of(table, table["rate_hz"].to_numpy(), url=url)
    if kind is None:
        return None
    if splits is not None:
        table = table.filter(pa.array(np.isin(text_column(table, "split"), list(splits))))
    joints_world_m, is_valid = joint_columns(table)
    return Windows(
        ids=table["id"].to_numpy(),
        joints_world_m=joints_world_m,
        is_valid=is_valid,
        dataset=text_column(table, "dataset"),
        subject=text_column(table, "subject"),
        action=text_column(table, "action"),
        recording=text_column(table, "recording"),
        split=text_column(table, "split"),
        start_frame=table["start_frame"].to_numpy(),
        rate_hz=kind.rate_hz,
    )


def kind_of(table: pa.Table, rates_hz: Float[np.ndarray, "N"], *, url: str) -> WindowKind | None:
    """What the windows of a table are like, whose rows have these rates; None if there are no rows.

    InputError for joints that Human3.6M-17 lacks and for windows of several rates.
    """
    if unknown := set(skeleton_of(table).joints) - set(H36M_17.joints):
        raise InputError(f"{url}: wanted joints of {H36M_17.name}, got {listing(sorted(unknown))}")
    rates_hz = np.unique(rates_hz)
    if len(rates_hz) == 0:
        return None
    if len(rates_hz) > 1:
        raise InputError(
            f"{url}: wanted windows of one rate, got {', '.join(f'{rate:g} Hz' for rate in rates_hz)}"
        )
    frames = table.schema.field("joints_world_m").type.shape[0]
    return WindowKind(frames=frames, skeleton=H36M_17.name, rate_hz=float(rates_hz[0]))


def joint_columns(table: pa.Table) -> tuple[Float[np.ndarray, "N T J 3"], Bool[np.ndarray, "N T J"]]:
    """Positions and validity of the joints of Human3.6M-17; may be read-only."""
    joints = skeleton_of(table).joints
    return (
        _widened(tensor_column(table, "joints_world_m"), joints),
        _widened(tensor_column(table, "is_valid").astype(bool), joints),
    )


def _widened(
    values: Shaped[np.ndarray, "N T J_own *rest"], joints: Sequence[str]
) -> Shaped[np.ndarray, "N T J *rest"]:
    """Joints put at their places in Human3.6M-17; what the skeleton lacks is 0, so not valid.

    Sets of 16 joints and of 17 are then trained on together: a missing joint is hidden, and not asked for.
    """
    if tuple(joints) == H36M_17.joints:
        return values
    wide = np.zeros((*values.shape[:2], len(H36M_17), *values.shape[3:]), values.dtype)
    wide[:, :, H36M_17.select(*joints)] = values
    return wide


def concatenate_windows(tables: Sequence[Windows], *, names: Sequence[str]) -> Windows:
    """Windows after windows; InputError, with both names, if lengths, skeletons or rates differ."""
    kinds = [WindowKind(some.joints_world_m.shape[1], some.skeleton.name, some.rate_hz) for some in tables]
    refuse_mixture(kinds, names=names)
    columns = {name: np.concatenate([getattr(table, name) for table in tables]) for name in _PER_WINDOW}
    return Windows(**columns, rate_hz=tables[0].rate_hz, skeleton=tables[0].skeleton)


def refuse_mixture(kinds: Sequence[WindowKind], *, names: Sequence[str]) -> None:
    """InputError, with every difference and both names, if windows do not all have the kind of the first."""
    said = {"frames": "frames a window", "skeleton": "skeleton", "rate_hz": "rate in Hz"}
    faults = [
        f"{said[field]}: {ours} in {names[0]}, {theirs} in {name}"
        for kind, name in zip(kinds, names, strict=True)
        for field, ours, theirs in zip(WindowKind._fields, kinds[0], kind, strict=True)
        if ours != theirs
    ]
    refuse("these tables do not go together", list(dict.fromkeys(faults)))
