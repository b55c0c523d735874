"""Windows tables of random numbers, of several data sets, splits, parts and row groups."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mpm_model.pose.skeleton import Skeleton
from mpm_model.pose.skeletons import H36M_17
from pipelines import storage
from pipelines.schema import TableMetadata, to_parquet
from pipelines.windows_table import Windows, windows_to_table

FRAMES = 3


def make_up_windows(
    sizes: dict[tuple[str, str], int],
    *,
    first_id: int = 0,
    seed: int = 0,
    frames: int = FRAMES,
    rate_hz: float = 50.0,
    skeleton: Skeleton = H36M_17,
    scattered: bool = False,
) -> Windows:
    """So many windows of each (data set, split), one after the other or, `scattered`, in any order."""
    rng = np.random.default_rng(seed)
    count = sum(sizes.values())
    order = rng.permutation(count) if scattered else np.arange(count)

    def text(values: Sequence[str]) -> np.ndarray:
        return np.repeat(np.array(values, dtype=str), list(sizes.values()))[order]

    joints = len(skeleton)
    return Windows(
        ids=first_id + np.arange(count),
        joints_world_m=rng.normal(size=(count, frames, joints, 3)).astype(np.float32),
        is_valid=rng.random((count, frames, joints)) < 0.9,
        dataset=text([dataset for dataset, _ in sizes]),
        subject=np.full(count, "07"),
        action=np.full(count, "to walk"),
        recording=np.full(count, "07_01"),
        split=text([split for _, split in sizes]),
        start_frame=np.arange(count),
        rate_hz=rate_hz,
        skeleton=skeleton,
    )


def to_part(windows: Windows) -> bytes:
    """A Parquet file with row groups of 256 windows, as `prepare` writes it."""
    metadata = TableMetadata(config="{}", made_by="a test", skeleton=windows.skeleton)
    frames = windows.joints_world_m.shape[1]
    return to_parquet(windows_to_table([windows], metadata=metadata, window_frames=frames))


def write_parts(folder: Path | str, parts: Sequence[Windows]) -> list[str]:
    """Each as a file of its own in a folder on disk or in a bucket; their URLs."""
    urls = [storage.join(str(folder), f"{number}.parquet") for number in range(len(parts))]
    for url, windows in zip(urls, parts, strict=True):
        storage.write_once(url, to_part(windows))
    return urls


def two_corpora() -> list[Windows]:
    """Two data sets in four parts: 1030 training windows, of which 120 are of the small set."""
    large, small = ("large", "train"), ("small", "train")
    return [
        make_up_windows({large: 500, ("large", "validation"): 40}, first_id=1000, seed=1, scattered=True),
        make_up_windows({large: 300, small: 20}, first_id=2000, seed=2),
        make_up_windows({small: 100, ("small", "test"): 30}, first_id=3000, seed=3, scattered=True),
        make_up_windows({large: 110}, first_id=4000, seed=4),
    ]
