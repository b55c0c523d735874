"""Whole folders brought here from a storage, and put there."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from mpm_model.errors import InputError
from pipelines import storage, storage_disk


@contextmanager
def fetch_folder(url: str) -> Iterator[Path]:
    """A folder as a local path: itself if it is on disk, else a copy that goes away at the end."""
    filesystem, path = storage.open_filesystem(url)
    if isinstance(filesystem, LocalFileSystem):
        if not Path(path).is_dir():
            raise InputError(
                f"{url}: wanted a folder, {'got a file' if storage.exists(url) else 'there is none'}"
            )
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="mpm-") as scratch:
        with storage.storage_errors(url):
            names = list(storage.files_below(filesystem, path))
            if not names or names == [path]:
                raise InputError(f"{url}: wanted a folder, {'got a file' if names else 'there is none'}")
            copies = [Path(scratch, name[len(path) :].lstrip("/")) for name in names]
            for folder in {copy.parent for copy in copies}:
                folder.mkdir(parents=True, exist_ok=True)
            for name, copy in zip(names, copies, strict=True):
                copy.write_bytes(filesystem.cat_file(name))
        yield Path(scratch)


def publish_folder(local: Path, url: str, *, last: str) -> None:
    """Copy the files of a local folder to a URL, the one named `last` at the end: it commits the folder.

    Each file appears whole. Over an earlier copy, its `last` is removed first, so that no reader takes a
    mixture for a whole; other files found there stay.
    """
    names = [file.relative_to(local).as_posix() for file in local.rglob("*") if file.is_file()]
    if last not in names:
        raise ValueError(f"{local} has no file {last}, which was to commit it")
    storage.remove(storage.join(url, last))
    for name in sorted(names, key=lambda name: (name == last, name)):
        filesystem, path = storage.open_filesystem(storage.join(url, name))
        with storage.storage_errors(storage.join(url, name)):
            if isinstance(filesystem, LocalFileSystem):
                storage_disk.copy_whole(local / name, Path(path))
            else:
                filesystem.put_file(str(local / name), path)
