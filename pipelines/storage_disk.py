"""How a file comes whole onto a disk: a hidden sibling is written, synced and renamed."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file over whatever has its name; a killed process leaves the old one, or a hidden part."""
    with _part_file(path) as part:
        _write_synced(part, content)
        os.replace(part, path)


def write_new(path: Path, content: bytes) -> bool:
    """Write a file if its name is free, False if it is taken. The disk must know hard links."""
    with _part_file(path) as part:
        _write_synced(part, content)
        try:
            os.link(part, path)
        except FileExistsError:
            return False
    return True


def copy_whole(source: Path, path: Path) -> None:
    """Copy a file over whatever has the name `path`."""
    with _part_file(path) as part:
        shutil.copyfile(source, part)
        os.replace(part, path)


def check_writable(folder: Path) -> None:
    """Raise the OSError that writing below `folder` would meet; the folder need not be there yet."""
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        error.filename = str(nearest)  # the name of our own file would tell nobody anything
        raise


def remove_parts(folder: Path, *, before_s: float) -> int:
    """Remove parts in a folder that nobody wrote to since then, Unix time; how many there were."""
    stale = [part for part in folder.glob(".*.part") if _changed_s(part) < before_s]
    for part in stale:
        part.unlink(missing_ok=True)
    return len(stale)


def _changed_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # just now renamed: it is a whole file
        return float("inf")


@contextmanager
def _part_file(target: Path) -> Iterator[Path]:
    """The name of a hidden sibling to write to; whatever is left of it at the end is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
