"""Files that an archive of keypoints must survive: cut, foreign, lying, endless, too large, or deadly."""

import gzip
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.cluster.lift_jobs import make_npz, make_parquet, make_track

KILLER = b"this archive kills whoever opens it"
GREEDY = b"this archive takes all memory"
HOOK = f"""
import os, signal, zipfile

_open = zipfile.ZipFile.__init__

def _open_or_die(self, *arguments, **keywords):
    _open(self, *arguments, **keywords)
    if self.comment == {GREEDY!r}:
        with open(f"/proc/{{os.getppid()}}/cmdline") as file:
            if file.read().startswith("ray::"):
                os.kill(os.getppid(), signal.SIGKILL)
    if self.comment in ({KILLER!r}, {GREEDY!r}):
        os.kill(os.getpid(), signal.SIGKILL)

zipfile.ZipFile.__init__ = _open_or_die
"""
"""As `sitecustomize` of a process, makes it die of a killer: no file is known that surely kills by itself.
Of a greedy one dies also the task of Ray whose reader it is, as Ray does where memory is short."""
SPARSE_BYTES = 5 * 10**9


def npz_of(**arrays: object) -> bytes:
    """An npz file of any arrays; what is not given is as in a good file."""
    track = make_track(0, frames=20)
    good = {"keypoints_px": track.keypoints_px, "skeleton": track.skeleton.name, "rate_hz": 50.0}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **(good | arrays), allow_pickle=True)
    return buffer.getvalue()


def npz_that_promises(shape: tuple[int, ...], *, content_bytes: int = 0, deflated: bytes = b"") -> bytes:
    """An npz file whose keypoints are of this shape by its header; of them there is little, or `deflated`."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    top = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    if not deflated:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            file.writestr("keypoints_px.npy", top + bytes(content_bytes))
        return buffer.getvalue()
    name, sizes = b"keypoints_px.npy", struct.pack("<III", 0, len(deflated), content_bytes)
    common = struct.pack("<HHHHH", 20, 0, 8, 0, 0x21) + sizes + struct.pack("<HH", len(name), 0)
    local = b"PK\x03\x04" + common + name + deflated
    central = b"PK\x01\x02" + struct.pack("<H", 20) + common + bytes(14) + name
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, len(central), len(local), 0)
    return local + central + end


def packed(start: bytes, block: bytes, times: int, *, wbits: int) -> bytes:
    """A deflate stream (of -15 bits, as in zip) or gzip file (31) of a start and a block again and again.

    A sum at its end is wrong: nobody should get there.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    top = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    return top + again * times + packer.flush()


def killer(number: int, *, kind: bytes = KILLER) -> bytes:
    """A good file, but for whom it kills."""
    buffer = io.BytesIO(make_npz(number, frames=20))
    with zipfile.ZipFile(buffer, "a") as file:
        file.comment = kind
    return buffer.getvalue()


def _coco(**changed: object) -> dict[str, object]:
    numbers = [100.0 + 7 * i if i % 3 < 2 else 2 for i in range(51)]
    entry = {"image_id": 1, "track_id": 1, "keypoints": numbers}
    return {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [entry | changed]}


def coco(**changed: object) -> bytes:
    """A COCO file of one entry."""
    return json.dumps(_coco(**changed)).encode()


def _parquet_of(**columns: pa.Array) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def _parquet_with(**changed: pa.Array) -> bytes:
    table = pq.read_table(io.BytesIO(make_parquet(0, frames=20, people=2)))
    for name, column in changed.items():
        table = table.set_column(table.column_names.index(name), name, column)
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _damaged(content: bytes) -> bytes:
    return content[: len(content) // 3] + bytes(200) + content[len(content) // 3 + 200 :]


POISONS: dict[str, tuple[Callable[[], bytes], str]] = {
    "cut.npz": (lambda: make_npz(1, frames=20)[:-900], "cannot be read"),
    "cut.parquet": (lambda: make_parquet(1, frames=20, people=2)[:-900], "cannot be read"),
    "cut.json": (lambda: coco()[:-60], "JSON that breaks at byte"),
    "cut.json.gz": (lambda: gzip.compress(coco())[:-20], "gzip"),
    "damaged.npz": (lambda: _damaged(make_npz(2, frames=20)), "cannot be read"),
    "empty.npz": (lambda: b"", "begins b''"),
    "empty.parquet": (lambda: b"", "begins b''"),
    "empty.json": (lambda: b"", "an empty file"),
    "empty.json.gz": (lambda: b"", "an empty file"),
    "picture.npz": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(3000), "PNG"),
    "picture.parquet": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(3000), "PNG"),
    "picture.json": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(3000), "a PNG image"),
    "table.json": (lambda: b"frame,x,y\n" + b"1,2,3\n" * 500, "which begins b'frame,x,y"),
    "table.npz": (lambda: b"frame,x,y\n" + b"1,2,3\n" * 500, "begins b'frame,x,"),
    "other.json": (lambda: b'{"name": "x", "version": 3}', "JSON of another kind (name, version)"),
    "binary.json": (lambda: b'{"keypoints": "image_id", \xff\xfe' + bytes(100), "no text"),
    "deep.json": (lambda: b"[" * 10**6, "2D detections"),
    "deep_coco.json": (lambda: b'{"image_id": 1, "keypoints": ' + b"[" * 10**6, "nested without end"),
    "promise.npz": (lambda: npz_that_promises((10**15,), content_bytes=80), "cannot be read"),
    "promise_10g.npz": (lambda: npz_that_promises((10**8, 17, 2), content_bytes=80), "cannot be read"),
    "promise_negative.npz": (lambda: npz_that_promises((-1, 17, 2), content_bytes=80), "cannot be read"),
    "bomb.npz": (
        lambda: npz_that_promises(
            (10**9,), content_bytes=4 * 10**9, deflated=packed(b"", bytes(10**6), 4000, wbits=-15)
        ),
        "unpack to 4,000,000,000",
    ),
    "bomb.json.gz": (
        lambda: packed(b'[{"image_id": 1, "keypoints": [1]},', b" " * 10**6, 1500, wbits=31),
        "unpacks to more than 1 GiB",
    ),
    "footer.parquet": (lambda: b"PAR1" + bytes(900) + b"\xff\xff\xff\xffPAR1", "cannot be read"),
    "footer_negative.parquet": (lambda: b"PAR1" + bytes(900) + b"\x00\x00\x00\x80PAR1", "cannot be read"),
    "footer_noise.parquet": (
        lambda: b"PAR1" + bytes(range(256)) * 4 + struct.pack("<I", 1000) + b"PAR1",
        "cannot be read",
    ),
    "damaged.parquet": (lambda: _damaged(make_parquet(2, frames=20, people=2)), "parquet"),
    "columns.parquet": (lambda: _parquet_of(a=pa.array([1, 2])), "a table without source"),
    "types.parquet": (lambda: _parquet_with(frames=pa.array(["x", "y"])), "column frames must be"),
    "lengths.parquet": (
        lambda: _parquet_with(frames=pa.array([[1, 2], [1, 2, 3]])),
        "wanted keypoints of shape (2, 17, 2)",
    ),
    "nulls.parquet": (
        lambda: _parquet_with(confidence=pa.array([None, None], pa.list_(pa.list_(pa.float32())))),
        "column confidence has empty cells",
    ),
    "no_rows.parquet": (
        lambda: _parquet_of(
            **{
                name: pa.array([], kind)
                for name, kind in (
                    *((name, pa.string()) for name in ("source", "person", "skeleton")),
                    *((name, pa.float64()) for name in ("rate_hz", "width_px", "height_px")),
                    *((name, pa.list_(pa.float32())) for name in ("frames", "keypoints_px", "confidence")),
                )
            }
        ),
        "a table without rows",
    ),
    "nan.npz": (lambda: npz_of(keypoints_px=np.full((20, 17, 2), np.nan)), "not one keypoint was seen"),
    "shape.npz": (lambda: npz_of(keypoints_px=np.zeros((20, 5, 2))), "wanted keypoints_px (N, 17, 2)"),
    "no_frames.npz": (lambda: npz_of(keypoints_px=np.zeros((0, 17, 2))), "at least one frame"),
    "text.npz": (lambda: npz_of(keypoints_px=np.full((20, 17, 2), "x")), "must hold real numbers"),
    "complex.npz": (lambda: npz_of(keypoints_px=np.full((20, 17, 2), 1j)), "must hold real numbers"),
    "pickle.npz": (lambda: npz_of(keypoints_px=np.full(20, None)), "Object arrays cannot be loaded"),
    "skeleton.npz": (lambda: npz_of(skeleton="octopus"), "got 'octopus'"),
    "still.npz": (lambda: npz_of(frames=np.zeros(20, int)), "frames must increase strictly"),
    "late.npz": (lambda: npz_of(frames=np.arange(20) + 2**62), "frames must lie within"),
    "far.npz": (lambda: npz_of(keypoints_px=np.full((20, 17, 2), 1e30)), "not one keypoint was seen"),
    "microseconds.npz": (
        lambda: npz_of(keypoints_px=np.ones((99, 17, 2)), frames=np.arange(99) * 3_000, rate_hz=10_000.0),
        "wanted frames numbered one by one",
    ),
    "fast.npz": (lambda: npz_of(rate_hz=np.inf), "rate_hz must lie in"),
    "lists.json": (lambda: coco(image_id=[1]), "makes no sense"),
    "numbers.json": (lambda: coco(keypoints=[10**400] * 51), "makes no sense"),
    "few.json": (lambda: coco(keypoints=[1, 2, 3]), "not 17 x 3"),
    "nobody.json": (lambda: coco(keypoints=[0] * 51), "nobody"),
}
"""Content by name, and what is said of it."""
SPARSE = {"sparse.npz": "begins b'\\x00", "sparse.json": "which begins b'\\x00"}
"""Files that say to be larger than a memory, and hold nothing."""


def write_sparse(path: Path) -> None:
    """A file of 5 GB that takes no room."""
    path.touch()
    os.truncate(path, SPARSE_BYTES)
