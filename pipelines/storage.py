"""Storage is a URL: fsspec opens it, and nothing else in the code knows whether it is a disk or a bucket.

A plain path and `file://` are a disk, `s3://` any server that speaks S3 (see `storage_s3`). Names that begin
with a dot, so files being written too, and the markers that S3 servers keep for folders are never seen.
InputError is raised for a file that is absent or unsuitable, StorageError for a storage that cannot be used.
"""

import json
import os
import posixpath
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
from fsspec.implementations.local import LocalFileSystem

from mpm_model.errors import InputError
from pipelines import storage_disk, storage_gzip, storage_s3
from pipelines.storage_faults import StorageError as StorageError
from pipelines.storage_faults import answer_code
from pipelines.storage_faults import storage_errors as storage_errors
from pipelines.storage_s3 import is_s3, s3_arrow_filesystem, s3_filesystem
from pipelines.storage_s3 import storage_environment as storage_environment


class FileStamp(NamedTuple):
    """What tells one content of a file from another without reading it."""

    size_bytes: int
    version: str
    """The ETag of an object, the time of change of a file on disk (nanoseconds)."""


def open_filesystem(url: str) -> tuple[Any, str]:
    """The fsspec filesystem of a URL and the path within it."""
    if url.startswith(("s3://", "s3a://")):
        path = url.split("://", 1)[1].strip("/")
        if not path:
            raise InputError(f"{url}: wanted s3://bucket/path, got no bucket")
        with storage_errors(url):
            return s3_filesystem(), path
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except ValueError as error:
        raise InputError(f"{url}: no such kind of storage ({error}); give a path or an s3:// URL") from error
    except ImportError as error:
        raise InputError(f"{url}: this kind of storage needs another package ({error})") from error
    return filesystem, path


def join(url: str, *names: str) -> str:
    """A URL below another."""
    return posixpath.join(url, *names)


def absolute(url: str) -> str:
    """A local path made absolute, for processes that run elsewhere; a URL as it is."""
    return url if "://" in url else os.path.abspath(os.path.expanduser(url))


def exists(url: str) -> bool:
    """Whether a file or folder is there. A bucket that is not there is a StorageError."""
    filesystem, path = open_filesystem(url)
    with storage_errors(url):
        return _info(filesystem, path) is not None


def is_empty(url: str) -> bool:
    """Whether a folder is absent or holds nothing that is seen."""
    return not exists(url) or not list_names(url)


def list_names(url: str) -> list[str]:
    """Names of the files and folders directly in a folder, sorted."""
    filesystem, path = open_filesystem(url)
    with storage_errors(url):
        entries = filesystem.ls(path, detail=True)
    names = {entry["name"].rstrip("/") for entry in entries} - {path.rstrip("/")}
    if entries and not names and entries[0]["type"] == "file" and not entries[0]["name"].endswith("/"):
        raise InputError(f"{url}: wanted a folder, got a file")
    return sorted(name for name in map(posixpath.basename, names) if not name.startswith("."))


def list_files(url: str, suffixes: tuple[str, ...]) -> list[str]:
    """URLs of all files below a folder that end in one of the suffixes, sorted; a file lists itself."""
    return list(list_stamps(url, suffixes))


def list_stamps(url: str, suffixes: tuple[str, ...]) -> dict[str, FileStamp]:
    """What `list_files` gives, each with its stamp, from one listing."""
    filesystem, path = open_filesystem(url)
    with storage_errors(url):
        found = files_below(filesystem, path)
        if not found and _info(filesystem, path) is None:
            raise InputError(f"{url}: no such file or folder")
        if list(found) == [path]:
            return {url: _stamp(filesystem, found[path])}
        wanted = sorted(name for name in found if name.endswith(suffixes))
        full = filesystem.unstrip_protocol if "://" in url else str
        return {full(name): _stamp(filesystem, found[name]) for name in wanted}


def list_times(url: str) -> dict[str, float]:
    """When each file directly in a folder was written, Unix time in seconds."""
    filesystem, path = open_filesystem(url)
    with storage_errors(url):
        entries = [entry for entry in filesystem.ls(path, detail=True) if entry["type"] == "file"]
    return {
        join(url, posixpath.basename(entry["name"])): float(
            entry["mtime"] if "mtime" in entry else entry["LastModified"].timestamp()
        )
        for entry in entries
    }


def file_stamp(url: str) -> FileStamp:
    """The stamp of one file."""
    filesystem, path = open_filesystem(url)
    with storage_errors(url):
        entry = _info(filesystem, path)
    if entry is None or entry["type"] == "directory":
        raise InputError(f"{url}: {'no such file' if entry is None else 'wanted a file, got a folder'}")
    return _stamp(filesystem, entry)


def describe_files(urls: Sequence[str]) -> dict[str, FileStamp]:
    """The stamps of many files, by URL in the order given; one listing for each folder they lie in."""
    entries: dict[str, tuple[Any, dict[str, Any]]] = {}
    for folder in {posixpath.dirname(url) for url in urls}:
        filesystem, path = open_filesystem(folder or ".")
        with storage_errors(folder):
            for entry in filesystem.ls(path, detail=True):
                if entry["type"] != "directory":
                    entries[join(folder, posixpath.basename(entry["name"]))] = filesystem, entry
    if missing := [url for url in urls if url not in entries]:
        raise InputError(f"{missing[0]}: no such file ({len(missing)} of {len(urls)} files are missing)")
    return {url: _stamp(*entries[url]) for url in urls}


def read_bytes(url: str) -> bytes:
    """A file's content; a name that ends in `.gz` is unpacked."""
    filesystem, path = open_filesystem(url)
    with storage_errors(url):
        content: bytes = filesystem.cat_file(path)
    return storage_gzip.unpack(content, url=url) if url.endswith(".gz") else content


def read_start(url: str, size_bytes: int) -> bytes:
    """What a file begins with: at most so many bytes are fetched; of a `.gz`, what unpacks from them."""
    filesystem, path = open_filesystem(url)
    with storage_errors(url):
        try:
            content: bytes = filesystem.cat_file(path, start=0, end=size_bytes)
        except OSError as error:
            if answer_code(error) not in ("invalidrange", "416"):
                raise
            content = b""  # an object of no bytes has no range that could be given
    return storage_gzip.unpack_start(content, url=url) if url.endswith(".gz") else content


def read_json(url: str) -> Any:
    """The value in a JSON file."""
    try:
        return json.loads(read_bytes(url))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{url}: wanted JSON, got a file that is not ({error})") from error


def write_json(url: str, value: Any) -> None:
    """Write a value as JSON, as `write_once` does. NaN and infinity are a ValueError: JSON has none."""
    write_once(url, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def write_once(url: str, content: bytes) -> None:
    """Write a file whole or not at all, over one that is there. Folders on the way are made.

    On disk a hidden sibling is written, synced and renamed. An object is one put; from 100 MB, one multipart
    upload, seen only when complete.
    """
    filesystem, path = open_filesystem(url)
    with storage_errors(url):
        if isinstance(filesystem, LocalFileSystem):
            storage_disk.write_whole(Path(path), content)
        else:
            filesystem.pipe_file(path, content)


def write_new(url: str, content: bytes) -> bool:
    """Write a file only if there is none; False if there is. Of many who try at once one gets True.

    On disk this needs hard links; on S3 it is `If-None-Match: *`. If the connection to S3 is lost between the
    put and its answer, the put is tried again and finds itself: False then, although the content is ours.
    """
    filesystem, path = open_filesystem(url)
    with storage_errors(url):
        if isinstance(filesystem, LocalFileSystem):
            return storage_disk.write_new(Path(path), content)
        return storage_s3.put_new(filesystem, path, content)


def remove(url: str) -> None:
    """Remove one file; nothing happens if there is none."""
    filesystem, path = open_filesystem(url)
    with storage_errors(url), suppress(FileNotFoundError):
        filesystem.rm_file(path)


def remove_folder_if_empty(url: str) -> None:
    """Remove a folder on disk that holds nothing; in a bucket there are no folders."""
    filesystem, path = open_filesystem(url)
    if isinstance(filesystem, LocalFileSystem):
        with suppress(OSError):
            os.rmdir(path)


def check_writable(url: str) -> None:
    """Refuse a folder that cannot be written to, before any work is done; leaves nothing behind.

    On disk an unnamed file is opened in the folder, or in the nearest one above it that is there. On S3 a
    multipart upload is begun and abandoned: it asks for the same right as a put, yet no object, version or
    delete marker ever appears. Answers within some ten seconds even if the bucket does not.
    """
    filesystem, path = open_filesystem(url)
    with storage_errors(url):
        if isinstance(filesystem, LocalFileSystem):
            storage_disk.check_writable(Path(path))
        elif is_s3(filesystem):
            storage_s3.check_writable(filesystem, path)


def arrow_filesystem(url: str) -> tuple[Any, str]:
    """The `pyarrow.fs` filesystem of a URL and the path within it, for Parquet and Ray Train's storage.

    Wrap its use in `storage_errors(url)` for readable faults. Its streams commit what was written so far when
    their `with` block fails: write whole files, or beside their final name.
    """
    from pyarrow import fs as arrow_fs

    filesystem, path = open_filesystem(url)
    if isinstance(filesystem, LocalFileSystem):
        return arrow_fs.LocalFileSystem(), path
    if is_s3(filesystem):
        return s3_arrow_filesystem(), path
    return arrow_fs.PyFileSystem(arrow_fs.FSSpecHandler(filesystem)), path


def _info(filesystem: Any, path: str) -> dict[str, Any] | None:
    """fsspec's entry for a file or folder, None if there is none; a missing bucket raises."""
    try:
        entry: dict[str, Any] = filesystem.info(path)
    except FileNotFoundError as error:
        if is_s3(filesystem) and ("/" not in path or answer_code(error) == "nosuchbucket"):
            raise
        return None
    except PermissionError:
        filesystem.ls(path)  # S3 refuses a HEAD without words; a listing is refused with the reason
        raise
    return entry


def files_below(filesystem: Any, path: str) -> dict[str, dict[str, Any]]:
    """Files below a folder, or the path itself if it is a file, by path; no hidden ones, no markers."""
    return {
        name: entry
        for name, entry in filesystem.find(path, detail=True).items()
        if entry["type"] == "file" or entry.get("islink")  # a pipe would be read for ever
        if not name.endswith("/") and not any(part.startswith(".") for part in name[len(path) :].split("/"))
    }


def _stamp(filesystem: Any, entry: dict[str, Any]) -> FileStamp:
    if isinstance(filesystem, LocalFileSystem):
        try:
            status = os.stat(entry["name"])
        except FileNotFoundError:  # a link to nothing, or removed meanwhile: reading it will say so
            return FileStamp(0, "absent")
        return FileStamp(status.st_size, str(status.st_mtime_ns))
    version = entry.get("ETag") or filesystem.modified(entry["name"])
    return FileStamp(int(entry["size"]), str(version).strip('"'))
