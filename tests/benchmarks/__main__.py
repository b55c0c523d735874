"""`make bench`: what our wrapping costs, as ratios to bare loops measured in the same run."""

import platform
import tempfile
from pathlib import Path

import torch

from pipelines.schema import made_by
from tests.benchmarks import (
    archive,
    archive_nodes,
    drawing,
    estimate,
    lifting,
    loading,
    nodes,
    seams,
    training,
)

FRAMES_OF_A_WINDOW = 27


def main() -> None:
    print(made_by("make bench"))
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        windows = f"{folder}/windows"
        training.prepare_sample(windows)
        for part in (
            lifting.describe,
            archive.describe,
            archive_nodes.describe,
            seams.describe,
            drawing.describe,
            lambda: loading.describe(folder),
            lambda: training.describe(folder, windows),
            lambda: training.describe_streaming(folder, windows),
            lambda: nodes.describe(folder, windows),
            lambda: estimate.describe(windows, bytes_per_frame_stored=_stored_bytes_per_frame(windows)),
        ):
            print(part(), flush=True)


def _stored_bytes_per_frame(windows: str) -> float:
    """Of the bundled sample, as it lies on disk."""
    import pyarrow.parquet as pq

    files = list(Path(windows).rglob("*.parquet"))
    rows = sum(pq.read_metadata(file).num_rows for file in files)
    return sum(file.stat().st_size for file in files) / (rows * FRAMES_OF_A_WINDOW)


main()
