import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mpm_model.errors import InputError
from mpm_model.pose.skeleton import Skeleton
from pipelines.schema import (
    POSES,
    WINDOWS,
    TableMetadata,
    build_table,
    from_parquet,
    made_by,
    poses_schema,
    read_metadata,
    tensor_column,
    to_parquet,
    windows_schema,
)

METADATA = TableMetadata(config=json.dumps({"hop_frames": 3}), made_by="mpm lift, a test")
FROZEN_WINDOWS_COLUMNS = {
    "id", "dataset", "subject", "action", "recording", "view", "split", "start_frame", "rate_hz",
    "joints_world_m", "is_valid",
}  # fmt: skip
FROZEN_POSES_COLUMNS = {
    "source", "person", "frame", "time_s", "joints_rel_m", "is_observed", "keypoints_px", "confidence",
    "width_px", "height_px", "error_50_mm", "error_90_mm", "root_cam_m", "up_cam",
}  # fmt: skip


def poses_file(rows: int = 5, metadata: TableMetadata = METADATA) -> bytes:
    joints = len(metadata.skeleton)
    columns = {
        "source": ["video"] * rows,
        "person": ["0"] * rows,
        "frame": np.arange(rows),
        "time_s": np.arange(rows) / 50,
        "joints_rel_m": np.arange(rows * joints * 3, dtype=np.float32).reshape(rows, joints, 3),
        "is_observed": np.ones((rows, joints), dtype=bool),
        "keypoints_px": np.zeros((rows, joints, 2)),
        "confidence": np.ones((rows, joints)),
        "width_px": [None] * rows,
        "height_px": [1080] * rows,
        "error_50_mm": np.full((rows, joints), 20),
        "error_90_mm": np.full((rows, joints), 50),
        "root_cam_m": np.ones((rows, 3)),
        "up_cam": np.full((rows, 3), np.nan),
    }
    return to_parquet(build_table(poses_schema(metadata), columns))


def test_columns_of_the_contracts_only_grow():
    assert set(windows_schema(METADATA, window_frames=9).names) >= FROZEN_WINDOWS_COLUMNS
    assert set(poses_schema(METADATA).names) >= FROZEN_POSES_COLUMNS


def test_a_file_says_what_it_is_and_what_made_it():
    metadata = read_metadata(poses_file(), url="poses.parquet")
    assert metadata["mpm.schema"] == POSES
    assert metadata["mpm.skeleton"] == "h36m_17"
    assert metadata["mpm.units"].startswith("metre")
    assert metadata["mpm.space"].startswith("camera (x right, y down, z forward)")
    assert json.loads(metadata["mpm.config"]) == {"hop_frames": 3}
    assert metadata["mpm.made_by"] == "mpm lift, a test"


def test_plain_pyarrow_and_pandas_read_the_tensors(tmp_path):
    path = tmp_path / "poses.parquet"
    path.write_bytes(poses_file(rows=4))
    wanted = np.arange(4 * 17 * 3, dtype=np.float32)
    column = pq.read_table(path)["joints_rel_m"].combine_chunks()
    np.testing.assert_array_equal(column.to_numpy_ndarray(), wanted.reshape(4, 17, 3))
    frame = pd.read_parquet(path)
    np.testing.assert_array_equal(np.concatenate(frame["joints_rel_m"].to_list()).ravel(), wanted)
    assert frame["height_px"].tolist() == [1080] * 4


def test_float_tensors_are_split_byte_streams_under_zstd():
    layout = pq.ParquetFile(pa.BufferReader(poses_file())).metadata.row_group(0)
    column = next(
        layout.column(i)
        for i in range(layout.num_columns)
        if layout.column(i).path_in_schema.startswith("joints_rel_m")
    )
    assert column.compression == "ZSTD"
    assert "BYTE_STREAM_SPLIT" in column.encodings


def test_a_table_without_rows_keeps_its_shapes():
    table = from_parquet(poses_file(rows=0), url="poses.parquet", schema=POSES)
    assert tensor_column(table, "joints_rel_m").shape == (0, 17, 3)


def test_a_tensor_of_another_shape_is_our_own_fault():
    with pytest.raises(ValueError, match=r"rows of shape \(17, 3\), got \(16, 3\)"):
        build_table(poses_schema(METADATA).remove_metadata(), {name: [] for name in FROZEN_POSES_COLUMNS} | {
            "joints_rel_m": np.zeros((2, 16, 3))
        })  # fmt: skip


def test_another_schema_is_refused_and_both_are_named():
    with pytest.raises(InputError, match=r"^p\.parquet: wanted schema 'windows/1'.*got schema 'poses/1'$"):
        from_parquet(poses_file(), url="p.parquet", schema=WINDOWS)


def test_another_skeleton_is_refused_and_both_are_named():
    stick = Skeleton("stick_2", ("pelvis", "head"), (None, "pelvis"))
    other = TableMetadata(config="{}", made_by="a test", skeleton=stick)
    with pytest.raises(InputError, match="wanted skeleton 'h36m_17', got 'stick_2'"):
        from_parquet(poses_file(metadata=other), url="p.parquet", schema=POSES)


def test_a_foreign_parquet_file_is_refused():
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1]}), sink)
    with pytest.raises(InputError, match="got a Parquet file that no command of ours wrote"):
        from_parquet(sink.getvalue().to_pybytes(), url="foreign.parquet", schema=POSES)


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\x89PNG"])
def test_what_is_no_parquet_file_is_refused(content):
    with pytest.raises(InputError, match=r"^x: wanted a Parquet file, but this is none"):
        from_parquet(content, url="x", schema=POSES)


def test_a_parquet_file_cut_short_is_refused():
    content = poses_file()
    with pytest.raises(InputError, match="cut short"):
        from_parquet(content[: len(content) // 2], url="x", schema=POSES)


def test_a_parquet_file_with_a_hole_in_its_footer_or_data_is_refused():
    content = poses_file()
    for hole in (slice(-400, -8), slice(4, 400)):
        damaged = bytearray(content)
        damaged[hole] = bytes(len(damaged[hole]))
        with pytest.raises(InputError, match="damaged"):
            from_parquet(bytes(damaged), url="x", schema=POSES)


def test_made_by_names_the_command_and_the_version():
    assert made_by("mpm prepare").startswith("mpm prepare, mpm-on-ray 0.")
