"""From the raw archives of the open data sets to the windows that training and the open protocol read."""

import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mpm_model.errors import InputError
from pipelines import prepare
from pipelines.protocols.open import RATE_HZ, TEST_WINDOW_FRAMES
from pipelines.sources.held_out import HELD_OUT_DATASETS

READERS = {"cmu": "asf_amc", "ui_prmd": "ui_prmd", "reactidle": "bvh", "hdm05": "asf_amc"}
"""Data sets, and the reader of each."""
TRAINING_DATASETS = tuple(name for name in READERS if name not in HELD_OUT_DATASETS)
HELD_OUT = ("cmu", "ui_prmd", "hdm05")
"""Data sets with people that nobody trains on."""


@dataclass(frozen=True, kw_only=True)
class OpenData:
    """Folders of windows."""

    train: tuple[str, ...]
    """One a data set, at the model's rate; held-out people are marked test in them."""
    test: tuple[str, ...]
    """One a data set, as the open protocol wants them."""


def build(
    archives: Path,
    out: Path,
    *,
    window_frames: int,
    hop_frames: int,
    rate_hz: float,
    shortest_frames: int | None = None,
    say: Callable[[str], None],
) -> OpenData:
    """Unpack `NAME.tar.xz` of each data set (or take a folder NAME beside them) and prepare it.

    What was prepared before is left alone. InputError names every data set that is missing.
    """
    missing = [
        name
        for name in READERS
        if not (archives / f"{name}.tar.xz").is_file() and not (archives / name).is_dir()
    ]
    if missing:
        raise InputError(f"{archives}: wanted {', '.join(f'{name}.tar.xz or {name}/' for name in missing)}")
    cuts = {
        "train": (TRAINING_DATASETS, window_frames, hop_frames, rate_hz),
        "test": (HELD_OUT, TEST_WINDOW_FRAMES, TEST_WINDOW_FRAMES, RATE_HZ),
    }
    made: dict[str, tuple[str, ...]] = {}
    for purpose, (names, frames, hop, rate) in cuts.items():
        config = prepare.PrepareConfig(
            window_frames=frames,
            hop_frames=hop,
            rate_hz=rate,
            shortest_frames=shortest_frames if purpose == "train" else None,
        )
        folders = []
        for name in names:
            folder = out / f"{purpose}_{frames}_{hop}_{rate:g}hz" / name
            summary = prepare.run(
                [str(_unpacked(archives, out, name))],
                reader=READERS[name],
                out=str(folder),
                config=replace(config, dataset=name),
                max_bad_fraction=0.1,
            )
            say(summary.lines()[0])
            folders.append(str(folder))
        made[purpose] = tuple(folders)
    return OpenData(train=made["train"], test=made["test"])


def _unpacked(archives: Path, out: Path, name: str) -> Path:
    """The folder of a data set's recordings."""
    if (archives / name).is_dir():
        return archives / name
    folder = out / "raw"
    done = folder / f".{name}.unpacked"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archives / f"{name}.tar.xz") as archive:
            archive.extractall(folder, filter="data")
        done.touch()
    return folder / name
