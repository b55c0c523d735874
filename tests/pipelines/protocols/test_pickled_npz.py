"""Pickled npz files: what numpy writes is read, and what a forger writes is refused, not executed."""

import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from mpm_model.errors import InputError
from pipelines.protocols.pickled_npz import read_pickled

RECONSTRUCT = np.empty(0).__reduce__()[0]


def forged(pickled: bytes) -> bytes:
    """An npz file whose one array of objects is this pickle."""
    header, content = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": ()})
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("positions_3d.npy", header.getvalue() + pickled)
    return content.getvalue()


class Named:
    """Pickles as a call of what is given, and its state."""

    def __init__(self, *reduced: object) -> None:
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def array_of(dtype: object, content: object, shape: object = (1,)) -> Named:
    return Named(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, shape, dtype, False, content))


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_what_numpy_pickles_comes_back(protocol):
    numbers = np.arange(24, dtype=">f4").reshape(2, 3, 4)
    value = {
        "S9": {"Walking": numbers, "Sitting": np.asfortranarray(numbers[0])},
        "views": [numbers[:, 0], numbers[0]],
        "many": np.array([numbers, {"a": 1}], dtype=object),
        "one": np.float64(2.5),
        "empty": np.zeros((0, 3)),
        "text": ("h36m", None, True),
    }
    found = read_pickled(forged(pickle.dumps(np.array(value, dtype=object), protocol)), url="x.npz")
    found = found["positions_3d"]
    np.testing.assert_array_equal(found["S9"]["Walking"], numbers)
    np.testing.assert_array_equal(found["S9"]["Sitting"], numbers[0])
    np.testing.assert_array_equal(found["views"][0], numbers[:, 0])
    np.testing.assert_array_equal(found["many"][0], numbers)
    assert found["many"][1] == {"a": 1}
    assert found["one"] == 2.5
    assert found["empty"].shape == (0, 3)
    assert found["text"] == ("h36m", None, True)


def test_a_file_of_savez_is_read_whole():
    content = io.BytesIO()
    np.savez(content, plain=np.arange(3), nested=np.array({"a": [np.ones(2)]}, dtype=object))
    found = read_pickled(content.getvalue(), url="x.npz")
    np.testing.assert_array_equal(found["plain"], [0, 1, 2])
    np.testing.assert_array_equal(found["nested"]["a"][0], [1, 1])


NOT_SAID = np.dtype, ("O8", False, True), (3, "|", None, None, None, 8, 8, 0)
"""A dtype of objects that denies being one: numpy itself would take an array's bytes for addresses."""


@pytest.mark.parametrize(
    "value",
    [
        array_of(Named(*NOT_SAID), struct.pack("<Q", 0x4141414141414141)),
        array_of(Named(np.dtype, ("V8", False, True)), bytes(8)),
        array_of(Named(np.dtype, ("f8", False, True)), bytes(8), shape=(1000,)),
        array_of(Named(np.dtype, ("f8", False, True)), bytes(16), shape=(1,)),
        array_of(Named(np.dtype, ("f8", False, True)), bytes(8), shape=(-1,)),
        array_of(Named(np.dtype, ("O8", False, True)), [1, 2], shape=(3,)),
        array_of(None, bytes(8)),
        Named(RECONSTRUCT, (np.ndarray, (0,), b"b")),
    ],
    ids=[
        "addresses",
        "records",
        "too few bytes",
        "too many bytes",
        "minus one",
        "few objects",
        "none",
        "bare",
    ],
)
def test_a_forged_array_is_refused(value):
    with pytest.raises(InputError, match=r"x\.npz: positions_3d is damaged"):
        read_pickled(forged(pickle.dumps(value, 2)), url="x.npz")


def test_a_list_that_holds_itself_is_refused():
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(InputError, match="without end"):
        read_pickled(forged(pickle.dumps(endless, 2)), url="x.npz")


@pytest.mark.parametrize(
    ("pickled", "said"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "os.system"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "builtins.eval"),
        (b"cnumpy\nload\n.", "numpy.load"),
        (b"\x80\x04\x8c\x05numpy\x8c\x11core.multiarray.x\x93.", "numpy.core.multiarray.x"),
        (b"\x80\x04\x8c\x02o\n\x8c\x01s\x93.", r"o\\n\.s"),
    ],
)
def test_what_a_pickle_may_not_name_is_refused_by_name(pickled, said):
    with pytest.raises(InputError, match=f"names {said}, which is not plain data"):
        read_pickled(forged(pickled), url="x.npz")


@pytest.mark.parametrize("pickled", [b"cnumpy\nndarray\n.", b"c_codecs\nencode\n.", b"", b"garbage"])
def test_a_pickle_of_something_else_is_refused(pickled):
    with pytest.raises(InputError, match=r"x\.npz: positions_3d is damaged"):
        read_pickled(forged(pickled), url="x.npz")


def test_nothing_is_executed(tmp_path):
    marker = tmp_path / "was_here"
    for protocol in (2, 4):
        value = {"S9": [Named(os.mkdir, (str(marker),))]}
        with pytest.raises(InputError, match=r"names posix\.mkdir"):
            read_pickled(forged(pickle.dumps(value, protocol)), url="x.npz")
    assert not marker.exists()


def test_cut_and_altered_files_are_read_or_refused_and_never_anything_else():
    whole = pickle.dumps(np.array({"S9": {"Walking": np.arange(6.0)}}, dtype=object), 4)
    rng = np.random.default_rng(0)
    refused = 0
    for place in range(len(whole)):
        for changed in (whole[:place], whole[:place] + rng.bytes(1) + whole[place + 1 :]):
            try:
                read_pickled(forged(changed), url="x.npz")
            except InputError:
                refused += 1
    assert refused > len(whole)
