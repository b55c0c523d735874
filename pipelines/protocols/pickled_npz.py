"""Reading npz files that hold pickled objects without running what they may bring.

`numpy.load(allow_pickle=True)` executes whatever a file says. Here a pickle may make plain containers,
numbers, text and numpy arrays; anything else is refused before it is looked up.
"""

import io
import pickle
import zipfile
from typing import Any

import numpy as np

from mpm_model.errors import InputError

_RECONSTRUCT = np.empty(0).__reduce__()[0]
_SCALAR = np.float64(0).__reduce__()[0]


def _encode(text: str, encoding: str) -> bytes:
    """How pickles of protocol 2 write bytes; of `_codecs.encode` this case alone."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin-1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy.core.multiarray", "scalar"): _SCALAR,
    ("numpy._core.multiarray", "scalar"): _SCALAR,
    ("_codecs", "encode"): _encode,
}
"""All that a pickle may name."""


class _Refused(pickle.UnpicklingError):
    """A pickle names what it may not."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in _ALLOWED:
            raise _Refused(f"{module_name}.{global_name}")
        return _ALLOWED[module_name, global_name]


def read_pickled(content: bytes, *, url: str) -> dict[str, Any]:
    """Every array of an npz file by its key; one that holds an object comes as the object.

    InputError if it is no npz file, is damaged, or holds anything but plain containers and numpy arrays:
    nothing of the file is executed.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
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
        loaded = _PlainUnpickler(stream, encoding="latin1").load()
    except _Refused as error:
        raise InputError(
            f"{where} names {error}, which is not plain data; nothing of it was executed: get the file from "
            "where it was published"
        ) from error
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise InputError(f"{where} is damaged or no npy array ({error}); get the file again") from error
    return loaded.item() if isinstance(loaded, np.ndarray) and loaded.shape == () else loaded
