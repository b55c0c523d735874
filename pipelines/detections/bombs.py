"""Small files that would fill the memory when they are unpacked."""

import pyarrow.parquet as pq

from mpm_model.errors import InputError

MOST_BYTES = 2**30
"""What unpacks to no more than this is no bomb."""
MOST_PACKED = 100
"""Nor is what unpacks to no more than this many times its size: keypoints seldom pack to a half."""


def refuse_bomb(url: str, content: bytes, *, unpacked_bytes: int) -> None:
    """InputError if a file says of itself that it unpacks to more than keypoints can."""
    if unpacked_bytes > max(MOST_BYTES, MOST_PACKED * len(content)):
        raise InputError(
            f"{url}: wanted keypoints, got {len(content):,} bytes that unpack to {unpacked_bytes:,}; "
            "keypoints do not pack like that"
        )


def parquet_bytes(metadata: pq.FileMetaData) -> int:
    """How much a Parquet file says that it holds: by its pages, or by the number of its values."""
    columns = (
        metadata.row_group(group).column(column)
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    )
    return sum(max(column.total_uncompressed_size, 4 * column.num_values) for column in columns)
