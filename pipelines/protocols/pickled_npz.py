"""Reading npz files that hold pickled objects without running what they may bring.

`numpy.load(allow_pickle=True)` executes whatever a file says. Here a pickle may make plain containers,
numbers, text and numpy arrays; anything else is refused before it is looked up. Not even numpy's own types
are handed to it: told a false dtype they take bytes of the file for addresses of objects. The pickle fills
stand-ins, and arrays are made of those whose dtype is of numbers and whose bytes are as many as their shape
says.
"""

import io
import math
import pickle
import re
import struct
import tokenize
import zipfile
import zlib
from typing import Any

import numpy as np

from mpm_model.errors import InputError

_NUMBERS = re.compile(r"(b1|[iu][1248]|f[248])")
"""Codes of the dtypes whose bytes mean nothing but numbers."""
_OBJECTS = re.compile(r"O[48]?")
_DEEPEST = 12
"""Containers within containers; the published files have five."""

_NOT_NPZ = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError)
_NOT_PLAIN = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    OverflowError,
    MemoryError,
    SyntaxError,
    tokenize.TokenError,
)
"""What numpy's header and the unpickler raise on damaged bytes."""


class _Refused(pickle.UnpicklingError):
    """A pickle names what it may not."""


class _Dtype:
    """Stands in for a numpy dtype."""

    __slots__ = ("code", "order")

    def __init__(self, code: str, *_: object) -> None:
        if not (_NUMBERS.fullmatch(code) or _OBJECTS.fullmatch(code)):
            raise pickle.UnpicklingError(f"an array of dtype {code!r}")
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.order, *_ = state
        if self.order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"the byte order {self.order!r}")

    @property
    def is_of_objects(self) -> bool:
        return bool(_OBJECTS.fullmatch(self.code))

    def numbers(self, raw: bytes | str, shape: tuple[int, ...], order: str) -> np.ndarray:
        content = raw.encode("latin-1") if isinstance(raw, str) else raw
        dtype = np.dtype(self.order + self.code)
        if min(shape, default=0) < 0 or len(content) != dtype.itemsize * math.prod(shape):
            raise pickle.UnpicklingError(f"{len(content)} bytes for an array of shape {shape}")
        values = np.frombuffer(content, dtype=dtype)
        return values.reshape(shape, order="F" if order == "F" else "C")


class _Array:
    """Stands in for a numpy array, whoever makes it: its content comes with the state."""

    __slots__ = ("content", "dtype", "order", "shape")

    def __init__(self, *_: object) -> None:
        self.dtype: _Dtype | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, is_fortran, self.content = state
        self.order = "F" if is_fortran else "C"

    def array(self, depth: int) -> Any:
        """The array, or the object of an array that is one object."""
        if type(self.dtype) is not _Dtype:
            raise pickle.UnpicklingError("an array without dtype")
        if not self.dtype.is_of_objects:
            return self.dtype.numbers(self.content, self.shape, self.order)
        objects = [_plain(each, depth) for each in self.content]
        if len(objects) != math.prod(self.shape):
            raise pickle.UnpicklingError(f"{len(objects)} objects for an array of shape {self.shape}")
        if self.shape == ():
            return objects[0]
        array = np.empty(len(objects), dtype=object)
        for place, each in enumerate(objects):
            array[place] = each
        return array.reshape(self.shape, order="F" if self.order == "F" else "C")


def _scalar(dtype: _Dtype, content: bytes | str) -> Any:
    if type(dtype) is not _Dtype or dtype.is_of_objects:
        raise pickle.UnpicklingError("a scalar that is no number")
    return dtype.numbers(content, (), "C")[()]


def _encode(text: str, encoding: str) -> bytes:
    """How pickles of protocol 2 write bytes; of `_codecs.encode` this case alone."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin-1")


def _no_bytes() -> bytes:
    """How pickles of protocol 2 write the bytes of an empty array."""
    return b""


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
}
"""All that a pickle may name, and what it gets for it."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in _ALLOWED:
            named = f"{module_name}.{global_name}"
            raise _Refused(named.encode("unicode_escape").decode())  # one line, whatever it holds
        return _ALLOWED[module_name, global_name]


def read_pickled(content: bytes, *, url: str) -> dict[str, Any]:
    """Every array of an npz file by its key; one that holds an object comes as the object.

    InputError if it is no npz file, is damaged, or holds anything but plain containers and numpy arrays:
    nothing of the file is executed.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}
    except _NOT_NPZ as error:
        raise InputError(f"{url}: wanted an npz file, got something else or half of it ({error})") from error
    return {key: _read_member(member, where=f"{url}: {key}") for key, member in members.items()}


def _read_member(content: bytes, *, where: str) -> Any:
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        *_, dtype = read_header(stream)
        if not dtype.hasobject:
            return np.load(io.BytesIO(content), allow_pickle=False)
        return _plain(_PlainUnpickler(stream, encoding="latin1").load(), 0)
    except _Refused as error:
        raise InputError(
            f"{where} names {error}, which is not plain data; nothing of it was executed: get the file from "
            "where it was published"
        ) from error
    except _NOT_PLAIN as error:
        raise InputError(f"{where} is damaged or no npy array ({error}); get the file again") from error


def _plain(value: Any, depth: int) -> Any:
    """The value with arrays where there were stand-ins."""
    if depth > _DEEPEST:
        raise pickle.UnpicklingError("containers without end")
    if type(value) is _Array:
        return value.array(depth + 1)
    if type(value) is dict:
        return {key: _plain(each, depth + 1) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plain(each, depth + 1) for each in value)
    if value is None or isinstance(value, str | bytes | bool | int | float | complex | np.generic):
        return value
    raise pickle.UnpicklingError(f"a {type(value).__name__}")
