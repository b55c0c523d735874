"""A bucket that fails while an archive is lifted from it into it, by one process, by one a core, on Ray."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_s3 import DONE_UNHEARD, NOT_DONE, Faults, run_faulty_proxy
from lift_jobs import (
    Lifting,
    check_same_rows,
    is_finished,
    make_archive,
    part_names,
    save_lifter,
    shard_mib,
)
from seaweedfs import S3Server
from simulated_machines import run_machines

from pipelines.inspect import run as inspect

WAYS = ("one process", "a process a core", "ray")


@pytest.fixture
def ray(way: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """What leads a command to the cluster, if it is to have one."""
    if way != "ray":
        yield {}
        return
    with run_machines(monkeypatch) as machines:
        yield {"RAY_ADDRESS": machines.address}


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("way", WAYS)
def test_a_failing_bucket_gives_the_same_rows_or_one_line_and_whole_parts(
    way: str, ray: dict[str, str], s3_bucket: str, s3_server: S3Server, tmp_path: Path
):
    """5 % of requests fail: the same rows. Far more: a stop in one line; what is there is whole, and gone on
    from when the bucket is well."""
    files, frames = (40, 600) if way == "one process" else (70, 3000)
    archive, whole, shaken, stopped = (
        f"{s3_bucket}/{name}" for name in ("archive", "whole", "shaken", "stopped")
    )
    make_archive(archive, files=files, frames=frames)
    options = ("--checkpoint", save_lifter(tmp_path / "lifter"), "--shard-mib", shard_mib(frames))
    undisturbed = Lifting(archive, whole, *options, env=s3_server.env)
    assert undisturbed.end() == 0, undisturbed.said

    def lift(out: str, env: dict[str, str]) -> Lifting:
        return Lifting(archive, out, *options, env=env | ray)

    with run_faulty_proxy(s3_server, faults=Faults.evenly(0.05, seed=1)) as proxy:
        begun_s = time.monotonic()
        lifting = lift(shaken, proxy.server.env)
        assert lifting.end() == 0, lifting.said
        took_s, failed = time.monotonic() - begun_s, proxy.count()
        rows = check_same_rows(shaken, whole)
        assert failed > 10
        print(f"\n{way}: 5 %, {failed} requests failed, the same {rows:,} rows after {took_s:.0f} s")

        for share, kinds in ((0.97, (*NOT_DONE, *DONE_UNHEARD)), (1.0, NOT_DONE)):
            proxy.is_faulty = False
            wanted = len(part_names(stopped)) + 5
            lifting = lift(stopped, proxy.server.env)
            assert lifting.wait_for_parts(wanted) >= wanted
            proxy.faults, proxy.is_faulty = Faults.evenly(share, seed=2, kinds=kinds), True
            begun_s = time.monotonic()
            assert lifting.end() in (2, 3)
            took_s = time.monotonic() - begun_s
            assert len(lifting.faults()) == 1, lifting.said
            (line,) = lifting.faults()
            assert line.startswith("mpm: s3://"), line
            assert not is_finished(stopped)
            done = part_names(stopped)
            lines = inspect(stopped)
            assert any(f"{len(done)} parts read, every one as it was written" in said for said in lines)
            print(f"  {share:.0%}: {len(done)} whole parts; stopped after {took_s:.0f} s: {line[:150]}")

    lifting = lift(stopped, s3_server.env)
    assert lifting.end() == 0, lifting.said
    check_same_rows(stopped, whole)
