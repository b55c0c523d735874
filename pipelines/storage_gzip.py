"""Text in gzip files, unpacked no further than memory allows."""

import zlib

from mpm_model.errors import InputError

MOST_BYTES = 2**30
"""What is unpacked of a file at most: it is text, which takes ten times this when it is parsed."""


def unpack(content: bytes, *, url: str) -> bytes:
    """The content of a gzip file, of all its members; InputError if it is none, cut short or a bomb."""
    pieces: list[bytes] = []
    left = MOST_BYTES
    while content or not pieces:
        member = zlib.decompressobj(wbits=31)
        try:
            pieces.append(member.decompress(content, left + 1))
        except zlib.error as error:
            raise _no_gzip(url, error) from error
        left -= len(pieces[-1])
        if left < 0:
            raise InputError(f"{url}: this file unpacks to more than {MOST_BYTES / 2**30:g} GiB; split it")
        if not member.eof:
            raise _no_gzip(url, "it is cut short")
        content = member.unused_data.lstrip(b"\0")
    return b"".join(pieces)


def unpack_start(content: bytes, *, url: str) -> bytes:
    """What unpacks from the first bytes of a gzip file; InputError if it is none."""
    try:
        return zlib.decompressobj(wbits=31).decompress(content)
    except zlib.error as error:
        raise _no_gzip(url, error) from error


def _no_gzip(url: str, what: object) -> InputError:
    return InputError(f"{url}: wanted a gzip file, got one that does not unpack ({what})")
