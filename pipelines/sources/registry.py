"""All readers of motion capture, by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from mpm_model.errors import InputError
from pipelines.sources.asf_amc import read_asf_amc
from pipelines.sources.bvh import read_bvh
from pipelines.sources.options import ReadOptions
from pipelines.sources.recording import Recording
from pipelines.sources.trc import read_trc
from pipelines.sources.ui_prmd import read_ui_prmd
from pipelines.storage import list_files

__all__ = ["READERS", "ReadOptions", "Reader", "find_takes"]


class Read(Protocol):
    """What reads one take."""

    def __call__(self, url: str, *, rate_hz: float, options: ReadOptions) -> Recording:
        """Read one file as a recording at `rate_hz`; InputError says what is wrong with it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A format of motion capture."""

    name: str
    """Name under which the command line knows it."""
    suffixes: tuple[str, ...]
    """How the names of its takes end; each may be followed by `.gz`."""
    read: Read
    """Reads one take."""


READERS: Mapping[str, Reader] = MappingProxyType(
    {
        reader.name: reader
        for reader in (
            Reader(name="asf_amc", suffixes=(".amc",), read=read_asf_amc),
            Reader(name="bvh", suffixes=(".bvh",), read=read_bvh),
            Reader(name="ui_prmd", suffixes=("_positions.txt", "_positions_inc.txt"), read=read_ui_prmd),
            Reader(name="trc", suffixes=(".trc",), read=read_trc),
        )
    }
)
"""Readers by name."""

_NAMES_SHOWN = 5


def find_takes(reader: Reader, url: str) -> list[str]:
    """URLs of the takes at a URL, sorted: the file itself, or all such files in a folder and below it."""
    suffixes = tuple(suffix + packed for suffix in reader.suffixes for packed in ("", ".gz"))
    takes = [take for take in list_files(url, suffixes) if take.endswith(suffixes)]
    if not takes:
        others = list_files(url, ("",))
        shown = ", ".join(others[:_NAMES_SHOWN]) + (", ..." if len(others) > _NAMES_SHOWN else "")
        raise InputError(
            f"{url}: wanted files that end in {' or '.join(suffixes)} for the reader {reader.name}, "
            f"found {f'{len(others)} other file(s): {shown}' if others else 'an empty folder'}; "
            "give another folder or another --reader"
        )
    return sorted(takes)
