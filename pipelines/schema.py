"""The contracts of our Parquet tables: columns, metadata, packing, and the check that every read begins with.

Tensors are `arrow.fixed_shape_tensor`, which plain pyarrow and pandas read. Truth values of tensors are
stored as uint8, 0 or 1, because Arrow has no tensors of bits.
"""

import functools
import importlib.metadata
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mpm_model.errors import InputError
from mpm_model.pose.skeleton import Skeleton
from mpm_model.pose.skeletons import H36M_17, SKELETONS

WINDOWS = "windows/1"
"""Schema of the windows table: a row is T frames of one person."""
POSES = "poses/1"
"""Schema of the poses table: a row is one frame of one person."""

SCHEMA_KEY = b"mpm.schema"
SKELETON_KEY = b"mpm.skeleton"

USE_THREADS = False
"""Arrow's threads give back what they hold of Python's a moment after a read has ended. If the command ends
in that moment, the process is aborted (1 of 60, pyarrow 26): files are read in the calling thread."""

_MADE_BY_VERB = {WINDOWS: "mpm prepare", POSES: "mpm lift"}
_SPACE = {
    WINDOWS: "world (z up)",
    POSES: "camera (x right, y down, z forward), relative to the pelvis",
}
_ROWS_PER_GROUP = {WINDOWS: 256, POSES: 8192}
"""A few megabytes a group: 256 windows of 81 frames, or 8192 single frames."""


@dataclass(frozen=True, kw_only=True)
class TableMetadata:
    """What a table says about its making, beside its schema, units and space."""

    config: str
    """The configuration that made it, JSON."""
    made_by: str
    """Command, version and commit: see `made_by`."""
    skeleton: Skeleton = H36M_17
    """Skeleton of all joints in the table."""


def made_by(command: str) -> str:
    """The command with the package's version and, in a git checkout, its commit."""
    return f"{command}, {_version()}"


@functools.cache
def _version() -> str:
    here = Path(__file__).resolve().parent
    version = f"mpm-on-ray {importlib.metadata.version('mpm-on-ray')}"
    if not (here.parent / ".git").exists():
        return version
    try:
        commit = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):  # no git, or a checkout without commits
        return version
    return f"{version}, commit {commit.stdout.strip()}"


def windows_schema(metadata: TableMetadata, *, window_frames: int) -> pa.Schema:
    """Columns of the windows table."""
    joints = len(metadata.skeleton)
    text = {"type": pa.string(), "nullable": False}
    columns = [
        pa.field("id", pa.int64(), nullable=False),
        *(pa.field(name, **text) for name in ("dataset", "subject", "action", "recording")),
        pa.field("view", pa.string()),  # null: world space, seen by no real camera
        pa.field("split", **text),  # train, validation or test
        pa.field("start_frame", pa.int64(), nullable=False),
        pa.field("rate_hz", pa.float64(), nullable=False),
        pa.field(
            "joints_world_m", pa.fixed_shape_tensor(pa.float32(), [window_frames, joints, 3]), nullable=False
        ),
        pa.field("is_valid", pa.fixed_shape_tensor(pa.uint8(), [window_frames, joints]), nullable=False),
    ]
    return pa.schema(columns, metadata=_metadata(WINDOWS, metadata))


def poses_schema(metadata: TableMetadata) -> pa.Schema:
    """Columns of the poses table."""
    joints = len(metadata.skeleton)
    columns = [
        pa.field("source", pa.string(), nullable=False),
        pa.field("person", pa.string(), nullable=False),
        pa.field("frame", pa.int64(), nullable=False),
        pa.field("time_s", pa.float64(), nullable=False),
        pa.field("joints_rel_m", pa.fixed_shape_tensor(pa.float32(), [joints, 3]), nullable=False),
        pa.field("is_observed", pa.fixed_shape_tensor(pa.uint8(), [joints]), nullable=False),
        pa.field("keypoints_px", pa.fixed_shape_tensor(pa.float32(), [joints, 2]), nullable=False),
        pa.field("confidence", pa.fixed_shape_tensor(pa.float32(), [joints]), nullable=False),
        pa.field("width_px", pa.int32()),  # null: the source does not say
        pa.field("height_px", pa.int32()),
        # NaN in what follows: nobody knows, or nobody asked
        pa.field("error_50_mm", pa.fixed_shape_tensor(pa.float32(), [joints]), nullable=False),
        pa.field("error_90_mm", pa.fixed_shape_tensor(pa.float32(), [joints]), nullable=False),
        pa.field("root_cam_m", pa.fixed_shape_tensor(pa.float32(), [3]), nullable=False),
        pa.field("up_cam", pa.fixed_shape_tensor(pa.float32(), [3]), nullable=False),
    ]
    return pa.schema(columns, metadata=_metadata(POSES, metadata))


def _metadata(schema: str, metadata: TableMetadata) -> dict[bytes, bytes]:
    return {
        SCHEMA_KEY: schema.encode(),
        SKELETON_KEY: metadata.skeleton.name.encode(),
        b"mpm.units": b"metre, second, pixel, hertz",
        b"mpm.space": _SPACE[schema].encode(),
        b"mpm.config": metadata.config.encode(),
        b"mpm.made_by": metadata.made_by.encode(),
    }


def build_table(
    schema: pa.Schema, columns: Mapping[str, np.ndarray | pa.Array | Sequence[object]]
) -> pa.Table:
    """A table of the schema from its columns; tensor columns are arrays with the rows in front."""
    return pa.table([_to_arrow(field.type, columns[field.name]) for field in schema], schema=schema)


def _to_arrow(kind: pa.DataType, values: np.ndarray | pa.Array | Sequence[object]) -> pa.Array:
    if isinstance(values, pa.Array):
        return values
    if not isinstance(kind, pa.FixedShapeTensorType):
        return pa.array(values, kind)
    tensor = np.ascontiguousarray(values).astype(kind.value_type.to_pandas_dtype(), copy=False)
    wanted = tuple(kind.shape)
    if tensor.shape[1:] != wanted:
        raise ValueError(f"tensor column wants rows of shape {wanted}, got {tensor.shape[1:]}")
    storage = pa.FixedSizeListArray.from_arrays(pa.array(tensor.reshape(-1)), int(np.prod(wanted)))
    return pa.ExtensionArray.from_storage(kind, storage)


def tensor_column(table: pa.Table, name: str) -> np.ndarray:
    """A tensor column as an array, (rows, *shape); read-only."""
    array: np.ndarray = table[name].combine_chunks().to_numpy_ndarray()
    return array


def text_column(table: pa.Table, name: str) -> np.ndarray:
    """A text column as an array of str, (rows,)."""
    return np.array(table[name].to_pylist(), dtype=str)


def to_parquet(table: pa.Table) -> bytes:
    """The table as a Parquet file: zstd level 1, float tensors as split byte streams."""
    is_text = [field.name for field in table.schema if pa.types.is_string(field.type)]
    is_float = [
        f"{field.name}.list.element"
        for field in table.schema
        if isinstance(field.type, pa.FixedShapeTensorType) and pa.types.is_floating(field.type.value_type)
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=1,
        use_dictionary=is_text,
        column_encoding=dict.fromkeys(is_float, "BYTE_STREAM_SPLIT"),
        row_group_size=_ROWS_PER_GROUP[table.schema.metadata[SCHEMA_KEY].decode()],
    )
    content: bytes = sink.getvalue().to_pybytes()
    return content


def from_parquet(content: bytes, *, url: str, schema: str, skeleton: Skeleton | None = H36M_17) -> pa.Table:
    """The table in a Parquet file, after its schema and skeleton were found to be the wanted ones.

    `skeleton=None` takes any of `SKELETONS`; `skeleton_of` then says which.

    InputError if it is no Parquet file, is cut short or damaged, is no table of ours, or is another one.
    """
    file = _open(content, url=url)
    _check(file, url=url, schema=schema, skeleton=skeleton)
    try:
        return file.read(use_threads=USE_THREADS)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(url, error) from error


def read_where(
    url: str, where: Mapping[str, str], *, schema: str, skeleton: Skeleton | None = H36M_17
) -> pa.Table:
    """The rows of a Parquet file whose text columns have these values; of the rest little is read.

    Row groups that cannot hold such rows, by their statistics, are passed over. InputError as `from_parquet`.
    """
    from pipelines.storage import arrow_filesystem, storage_errors

    filesystem, path = arrow_filesystem(url)
    try:
        with storage_errors(url), filesystem.open_input_file(path) as opened:
            file = pq.ParquetFile(opened)
            _check(file, url=url, schema=schema, skeleton=skeleton)
            groups = [number for number in range(file.num_row_groups) if _may_hold(file, number, where)]
            table = file.read_row_groups(groups, use_threads=USE_THREADS)
    except pa.ArrowException as error:
        raise _damaged(url, error) from error
    for name, value in where.items():
        table = table.filter(pc.equal(table[name], value))
    return table


def _may_hold(file: pq.ParquetFile, number: int, where: Mapping[str, str]) -> bool:
    group = file.metadata.row_group(number)
    for i in range(group.num_columns):
        column = group.column(i)
        value, known = where.get(column.path_in_schema), column.statistics
        if value is None or known is None or not known.has_min_max:
            continue
        if not known.min <= value <= known.max:
            return False
    return True


def _check(file: pq.ParquetFile, *, url: str, schema: str, skeleton: Skeleton | None) -> None:
    metadata = file.schema_arrow.metadata or {}
    found = metadata.get(SCHEMA_KEY, b"").decode(errors="replace")
    if found != schema:
        what = (
            f"schema {found!r}" if found else "a Parquet file that no command of ours wrote (no mpm.schema)"
        )
        raise InputError(f"{url}: wanted schema {schema!r}, as {_MADE_BY_VERB[schema]} writes it, got {what}")
    joints = metadata.get(SKELETON_KEY, b"").decode(errors="replace")
    wanted = SKELETONS if skeleton is None else [skeleton.name]
    if joints not in wanted:
        raise InputError(f"{url}: wanted skeleton {' or '.join(map(repr, wanted))}, got {joints!r}")


def skeleton_of(table: pa.Table) -> Skeleton:
    """The skeleton of a table that `from_parquet` gave."""
    return SKELETONS[table.schema.metadata[SKELETON_KEY].decode()]


def read_metadata(content: bytes, *, url: str) -> dict[str, str]:
    """The metadata of any Parquet file, `mpm.` keys and others; InputError if it is no Parquet file."""
    metadata = _open(content, url=url).schema_arrow.metadata or {}
    return {key.decode(): value.decode(errors="replace") for key, value in metadata.items()}


def _open(content: bytes, *, url: str) -> pq.ParquetFile:
    if content[:4] != b"PAR1":
        raise InputError(f"{url}: wanted a Parquet file, but this is none (it does not begin with PAR1)")
    if content[-4:] != b"PAR1":
        raise InputError(
            f"{url}: this Parquet file is cut short (it does not end with PAR1); get or make it again"
        )
    try:
        return pq.ParquetFile(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(url, error) from error


def _damaged(url: str, error: Exception) -> InputError:
    first_line = str(error).strip().partition("\n")[0]
    return InputError(f"{url}: this Parquet file is damaged ({first_line}); get or make it again")
