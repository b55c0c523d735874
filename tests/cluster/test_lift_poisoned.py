"""5,000 files of which 150 are bad, in every way: all others are lifted, each bad one is named."""

import io
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
from lift_jobs import Lifting, make_npz, make_parquet, save_lifter

from pipelines.lift_index import bad_inputs, read_index, sum_index

FILES, BAD, FRAMES = 5_000, 150, 40
WAYS = {"here": 20, "pool": 40, "ray": 40}
"""Who lifts, and frames of a file: less than 32 MiB are lifted in the command's own process."""
KILLER = b"this ends the process that reads it"
HOOK = f"""
import os, signal, numpy
load = numpy.load
def deadly(file, *arguments, **options):
    if hasattr(file, "getvalue") and {KILLER!r} in file.getvalue():
        os.kill(os.getpid(), signal.SIGKILL)
    return load(file, *arguments, **options)
numpy.load = deadly
"""
"""A sitecustomize: a library that does not survive one kind of file."""


def npz_of(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def endless_npz() -> bytes:
    """Whose header speaks of 10^15 numbers."""
    content = npz_of(keypoints_px=np.zeros((4, 17, 2), np.float32), skeleton=np.array("h36m_17"))
    return content.replace(b"(4, 17, 2), ", b"(9999999999999, 17, 2), "[:12].ljust(12))


BAD_FILES = {
    "truncated.npz": make_npz(1, frames=FRAMES)[:-200],
    "truncated.parquet": make_parquet(1, frames=FRAMES, people=1)[:-50],
    "truncated.json": b'[{"image_id": 1, "category_id": 1, "keypoints": [1, 2, 0.',
    "empty.npz": b"",
    "empty.json": b"",
    "image.json": b"\x89PNG\r\n\x1a\n" + bytes(2000),
    "table.json": b"frame,x,y\n0,1,2\n1,2,3\n",
    "header.npz": endless_npz(),
    "footer.parquet": make_parquet(1, frames=FRAMES, people=1)[:-8] + b"\xff\xff\xff\x7fPAR1",
    "deep.json": b"[" * 1_000_000,
    "nan.npz": npz_of(keypoints_px=np.full((9, 17, 2), np.nan, np.float32), skeleton=np.array("h36m_17")),
    "shape.npz": npz_of(keypoints_px=np.zeros((9, 12, 2), np.float32), skeleton=np.array("h36m_17")),
    "kind.npz": npz_of(keypoints_px=np.full((9, 17, 2), "x"), skeleton=np.array("h36m_17")),
    "killer.npz": npz_of(keypoints_px=np.zeros((9, 17, 2), np.float32), note=np.array(KILLER.decode()))
    + KILLER,
}


@contextmanager
def run_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Ray on this machine; the environment that leads to it."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4})
    yield {"RAY_ADDRESS": cluster.address}
    cluster.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("way", WAYS)
def test_every_bad_file_is_named_and_every_good_one_lifted(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    archive, hook = tmp_path / "archive", tmp_path / "hook"
    archive.mkdir()
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(HOOK)
    kinds = list(BAD_FILES.items())
    bad = set()
    for number in range(FILES):
        if number % (FILES // BAD) == 7:
            name, content = kinds[len(bad) % len(kinds)]
            path = archive / f"{number:05d}-{name}"
            bad.add(str(path))
        else:
            path, content = archive / f"{number:05d}.npz", make_npz(number % 50, frames=WAYS[way])
        path.write_bytes(content)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(hook), *filter(None, sys.path)]))
    checkpoint = save_lifter(tmp_path / "lifter")
    out = str(tmp_path / "poses")
    with run_cluster(monkeypatch) if way == "ray" else nullcontext({}) as env:
        job = Lifting(str(archive), out, "--checkpoint", checkpoint, env=env)
        assert job.end() == 0, job.said[-2000:]
    index = read_index(out)
    found = dict(bad_inputs(index))
    assert set(found) == bad
    assert all(found.values())
    totals = sum_index(index)
    assert (totals.sources, totals.bad) == (FILES, len(bad))
    by_kind = Counter(Path(url).name[6:] for url in found)
    print(f"\n{way}: {FILES} files, {len(bad)} bad, {totals.rows:,} poses; {json.dumps(by_kind)}")
    for name in BAD_FILES:
        print("  ", next(f"{name}: {why[:150]}" for url, why in found.items() if url.endswith(name)))
