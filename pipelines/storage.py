"""Storage is a URL: fsspec opens it, and nothing else in the code knows whether it is a disk or a bucket."""

import gzip
import posixpath
from typing import Any

import fsspec

from mpm_model.errors import InputError


def open_filesystem(url: str) -> tuple[Any, str]:
    """The fsspec filesystem of a URL and the path within it."""
    filesystem, path = fsspec.core.url_to_fs(url)
    return filesystem, path


def join(url: str, *names: str) -> str:
    """A URL below another."""
    return posixpath.join(url, *names)


def exists(url: str) -> bool:
    """Whether a file or folder is there."""
    filesystem, path = open_filesystem(url)
    return bool(filesystem.exists(path))


def list_files(url: str, suffixes: tuple[str, ...]) -> list[str]:
    """URLs of all files below a folder that end in one of the suffixes, sorted; a file lists itself."""
    filesystem, path = open_filesystem(url)
    if not filesystem.exists(path):
        raise InputError(f"{url}: no such file or folder")
    if filesystem.isfile(path):
        return [url]
    found = sorted(name for name in filesystem.find(path) if name.endswith(suffixes))
    return [filesystem.unstrip_protocol(name) if "://" in url else name for name in found]


def read_bytes(url: str) -> bytes:
    """A file's content; a name that ends in `.gz` is unpacked."""
    filesystem, path = open_filesystem(url)
    if not filesystem.exists(path):
        raise InputError(f"{url}: no such file")
    content: bytes = filesystem.cat_file(path)
    if url.endswith(".gz"):
        try:
            return gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise InputError(f"{url}: wanted a gzip file, got one that does not unpack ({error})") from error
    return content
