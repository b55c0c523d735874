"""The loader alone, from a disk and from an S3 server on this machine, against a bare pyarrow loop."""

import dataclasses
import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow.parquet as pq

from mpm_model.learning.order import MixConfig
from pipelines import prepare, storage
from pipelines.schema import TableMetadata, tensor_column, to_parquet
from pipelines.window_index import ChunkIndex, index_chunks
from pipelines.window_stream import READERS, WindowStream
from pipelines.windows_table import Windows, read_windows, windows_to_table
from tests.seaweedfs import run_seaweedfs

FRAMES = 81
PARTS, PART_WINDOWS = 8, 1024
LANES, BATCH_WINDOWS = 8, 64
SHUFFLE_WINDOWS = 256
EPOCHS = 2
ROUNDS = 3


def describe(folder: str) -> str:
    """Windows per second from each place. Loader and bare loop take turns: machines change their speed."""
    parts = _make_parts(folder)
    lines = [_compare("a disk", _put(parts, f"{folder}/parts"), readers=READERS)]
    with run_seaweedfs() as server, mock.patch.dict(os.environ, server.env):
        filesystem, bucket = storage.open_filesystem("s3://loading")
        filesystem.mkdir(bucket)
        lines.append(_compare("S3 on this machine", _put(parts, "s3://loading"), readers=READERS))
    return "\n".join(lines)


def _compare(place: str, urls: Sequence[str], *, readers: int) -> str:
    index = index_chunks(urls)
    bare, streamed = [], []
    for _ in range(ROUNDS):
        bare.append(_bare_speed(urls, readers=readers))
        streamed.append(_streamed_speed(index, readers=readers))
    ratios = [ours / theirs for ours, theirs in zip(streamed, bare, strict=True)]
    size_bytes = sum(part.size_bytes for part in index.parts) / len(index)
    return (
        f"loading from {place}, {FRAMES} frames, {index.window_bytes / 1e3:.1f} kB a window, "
        f"{size_bytes / 1e3:.1f} kB packed, {readers} threads on "
        f"{len(os.sched_getaffinity(0))} cores: bare pyarrow {statistics.median(bare):,.0f} "
        f"windows/s, streamed and shuffled {statistics.median(streamed):,.0f} windows/s, "
        f"ratio {statistics.median(ratios):.2f} (turns {', '.join(f'{ratio:.2f}' for ratio in ratios)})"
    )


def _bare_speed(urls: Sequence[str], *, readers: int) -> float:
    """Every row group to arrays, in the order of the files, and nothing more."""

    def read(url: str, row_group: int) -> int:
        filesystem, path = filesystems[url]
        with filesystem.open_input_file(path) as file:
            table = pq.ParquetFile(file, pre_buffer=True).read_row_group(
                row_group, columns=["joints_world_m", "is_valid"], use_threads=False
            )
        tensor_column(table, "is_valid")
        return len(tensor_column(table, "joints_world_m"))

    filesystems = {url: storage.arrow_filesystem(url) for url in urls}
    groups = [(url, group) for url in urls for group in range(PART_WINDOWS // 256)]
    begun_s = time.perf_counter()
    with ThreadPoolExecutor(readers) as pool:
        windows = sum(pool.map(read, *zip(*groups, strict=True)))
    return windows / (time.perf_counter() - begun_s)


def _streamed_speed(index: ChunkIndex, *, readers: int) -> float:
    """Batches of whole epochs, after one that is not timed, so that as much is read ahead before as after."""
    with WindowStream(
        index,
        lanes=LANES,
        batch_windows=BATCH_WINDOWS,
        mix=MixConfig(),
        seed=0,
        rank=0,
        workers=1,
        device="cpu",
        hold_bytes=0,
        shuffle_windows=SHUFFLE_WINDOWS,
        readers=readers,
    ) as stream:

        def take_epochs(first: int, last: int) -> int:
            steps = range(first * stream.steps_per_epoch, last * stream.steps_per_epoch)
            return sum(len(stream.take(step)[2].indices) for step in steps)

        take_epochs(0, 1)
        begun_s = time.perf_counter()
        return take_epochs(1, 1 + EPOCHS) / (time.perf_counter() - begun_s)


def _put(parts: Sequence[bytes], folder: str) -> list[str]:
    urls = [storage.join(folder, f"{number}.parquet") for number in range(len(parts))]
    for url, content in zip(urls, parts, strict=True):
        storage.write_once(url, content)
    return urls


def _make_parts(folder: str) -> list[bytes]:
    """Windows of the bundled recordings, each turned some way, again and again: they pack as real ones do."""
    sample = Path(str(resources.files("pipelines") / "sample" / "mocap" / "ui_prmd"))
    config = prepare.PrepareConfig(window_frames=FRAMES, hop_frames=9)
    prepare.run([str(sample)], reader="ui_prmd", out=f"{folder}/sample", config=config, max_bad_fraction=0)
    sample_windows = read_windows(f"{folder}/sample")
    metadata = TableMetadata(config="{}", made_by="benchmark")
    return [
        to_parquet(windows_to_table([_turned(sample_windows, part)], metadata=metadata, window_frames=FRAMES))
        for part in range(PARTS)
    ]


def _turned(windows: Windows, part: int) -> Windows:
    rng = np.random.default_rng(part)
    rows = rng.integers(len(windows), size=PART_WINDOWS)
    turns_rad = rng.uniform(0, 2 * np.pi, PART_WINDOWS)
    x, y, z = np.moveaxis(windows.joints_world_m[rows], -1, 0)
    cos, sin = (function(turns_rad)[:, None, None] for function in (np.cos, np.sin))
    per_window = {
        name: getattr(windows, name)[rows]
        for name in ("is_valid", "dataset", "subject", "action", "recording", "start_frame")
    }
    return dataclasses.replace(
        windows,
        ids=np.arange(part * PART_WINDOWS, (part + 1) * PART_WINDOWS),
        joints_world_m=np.stack([cos * x - sin * y, sin * x + cos * y, z], axis=-1).astype(np.float32),
        split=np.full(PART_WINDOWS, "train"),
        **per_window,
    )
