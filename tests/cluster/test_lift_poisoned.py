"""An archive of which three in a hundred files are bad, some deadly: every other one is lifted, each bad one
named with its reason; on one machine and on Ray."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lift_jobs import (
    Lifting,
    check_same_rows,
    make_npz,
    make_parquet,
    part_names,
    poses_of,
    save_lifter,
    wait_for_all,
)
from poisons import GREEDY, HOOK, KILLER, POISONS, SPARSE, coco, killer, write_sparse
from simulated_machines import run_machines

from pipelines.inspect import run as inspect
from pipelines.lift_index import bad_inputs, read_index
from pipelines.parts import IN_PROCESS_BYTES, KILLS

FILES = 5000
BAD_FILES = 150
KILLERS = 3
FRAMES = 10


def make_good(folder: Path, numbers: range) -> int:
    """Files of one person, every tenth of two, every tenth COCO; how many people they are."""
    people = 0
    for number in numbers:
        if number % 10 == 0:
            content, name, more = make_parquet(number, frames=FRAMES, people=2), f"{number:04d}.parquet", 2
        elif number % 10 == 5:
            content, name, more = coco(), f"{number:04d}.json", 1
        else:
            content, name, more = make_npz(number, frames=FRAMES), f"{number:04d}.npz", 1
        (folder / name).write_bytes(content)
        people += more
    return people


def make_bad(folder: Path, number: int) -> dict[str, str]:
    """So many bad files, of every kind; what is to be said of each, by path."""
    said: dict[str, str] = {}
    contents = {name: make() for name, (make, _) in POISONS.items()}
    for i in range(KILLERS):
        path = folder / f"{1000 * i + 500:04d}_killer.npz"
        path.write_bytes(killer(i, kind=KILLER if i else GREEDY))
        said[str(path)] = KILLS
    (folder / "nowhere.npz").symlink_to(folder / "no such file.npz")
    said[str(folder / "nowhere.npz")] = "no such file"
    while len(said) < number:
        for name, (_, reason) in list(POISONS.items())[: number - len(said)]:
            if "bomb" in name and len(said) > len(POISONS) + KILLERS:
                continue  # one of each is enough
            path = folder / f"{len(said) * (FILES // number):04d}_{name}"
            path.write_bytes(contents[name])
            said[str(path)] = reason
    return said


def check(out: Path, said: dict[str, str], *, people: int) -> None:
    """Everybody was lifted whom a good file holds, and of each bad file it is said why."""
    index = read_index(str(out))
    reasons = dict(bad_inputs(index))
    assert reasons.keys() == said.keys()
    for path, reason in said.items():
        assert reason in reasons[path], (path, reasons[path])
        assert "\n" not in reasons[path]
    lifted = poses_of(str(out))
    assert len(set(zip(lifted["source"], lifted["person"], strict=True))) == people
    lines = inspect(str(out))
    assert any(f"0 left; 0 of {index['input'].length():,}" in line or ", 0 left" in line for line in lines), (
        lines
    )
    assert any(f"{len(said):,} bad" in line for line in lines), lines
    assert sum(line.startswith("  bad: ") for line in lines) == 11
    assert not any("not finished" in line for line in lines)


@contextmanager
def killers_kill(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    """Processes that start in this block, and those that they start, die of a killer."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HOOK)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, sys.path)]))
    yield


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_of_a_poisoned_archive_every_good_file_is_lifted_and_every_bad_one_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    archive = tmp_path / "archive"
    archive.mkdir()
    said = make_bad(archive, BAD_FILES)
    people = make_good(archive, range(FILES - len(said)))
    options = ("--checkpoint", save_lifter(tmp_path / "lifter"))
    size_bytes = sum(path.stat().st_size for path in archive.iterdir() if path.exists())
    assert len(list(archive.iterdir())) == FILES
    assert size_bytes < IN_PROCESS_BYTES

    def lift(name: str, *more: object, **env: str) -> float:
        begun_s = time.monotonic()
        lifting = Lifting(str(archive), str(tmp_path / name), *options, *more, env=env)
        assert lifting.end() == 0, lifting.said
        return time.monotonic() - begun_s

    with killers_kill(monkeypatch, tmp_path / "hook"):
        alone_s = lift("alone")
        check(tmp_path / "alone", said, people=people)
        strict = Lifting(str(archive), str(tmp_path / "alone"), *options, "--max-bad-fraction", 0.01, env={})
        assert strict.end() == 3, "more are bad than allowed"

        for name, reason in SPARSE.items():
            write_sparse(archive / name)
            said[str(archive / name)] = reason
        with run_machines(monkeypatch) as machines:
            ray_s = lift("ray", "--shard-mib", 64, RAY_ADDRESS=machines.address)
        check(tmp_path / "ray", said, people=people)
        check_same_rows(str(tmp_path / "ray"), str(tmp_path / "alone"))

        begun_s = time.monotonic()
        pair = [
            Lifting(str(archive), str(tmp_path / "pool"), *options, "--shard-mib", 64, env={})
            for _ in range(2)
        ]
        assert wait_for_all(pair) == [0, 0], [each.said for each in pair]
        pair_s = time.monotonic() - begun_s
        check(tmp_path / "pool", said, people=people)
        check_same_rows(str(tmp_path / "pool"), str(tmp_path / "alone"))

        people += make_good(archive, range(FILES, FILES + 100))
        before = part_names(str(tmp_path / "pool"))
        grown_s = lift("pool", "--shard-mib", 64)
        new = part_names(str(tmp_path / "pool")) - before
        check(tmp_path / "pool", said, people=people)
        assert len(new) == 1
    print(
        f"\n{FILES:,} files, {size_bytes / 2**20:.0f} MiB, {len(said)} bad, {KILLERS} of them deadly: "
        f"in one process {alone_s:.0f} s, on Ray with {len(SPARSE)} of 5 GB {ray_s:.0f} s, "
        f"by two runs at once on all cores {pair_s:.0f} s, 100 files more {grown_s:.0f} s"
    )
