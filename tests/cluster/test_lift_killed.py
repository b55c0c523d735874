"""A lifting job on a cluster that loses its processes and machines ends as if nothing had happened."""

import itertools
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from faulty_s3 import Faults, FaultyProxy, run_faulty_proxy
from lift_jobs import (
    ACTOR,
    READER,
    Lifting,
    check_same_rows,
    kill,
    make_archive,
    part_names,
    processes_below,
    same_bytes,
    save_lifter,
    shard_mib,
)
from seaweedfs import S3Server
from simulated_machines import run_machines

from pipelines.lift_index import bad_inputs, read_index
from pipelines.lift_plan import read_plan

FILES, FRAMES = 160, 3000
LONGEST_LOOK_S = 5.0
"""So long a process of some kind is looked for: readers come and go."""
LONGEST_END_S = 60.0
WORKER = f"{sys.executable} -m pipelines.reader_process"


@dataclass(frozen=True, kw_only=True)
class Archive:
    """An archive, what an undisturbed run made of it, and how."""

    url: str
    bad: list[str]
    whole: str
    options: tuple[object, ...]
    undisturbed_s: float


@pytest.fixture
def archive(s3_bucket: str, s3_server: S3Server, tmp_path: Path) -> Archive:
    url, whole = f"{s3_bucket}/archive", f"{s3_bucket}/whole"
    bad = make_archive(url, files=FILES, frames=FRAMES)
    options = ("--checkpoint", save_lifter(tmp_path / "lifter"), "--shard-mib", shard_mib(FRAMES))
    begun_s = time.monotonic()
    undisturbed = Lifting(url, whole, *options, env=s3_server.env)
    assert undisturbed.end() == 0, undisturbed.said
    undisturbed_s = time.monotonic() - begun_s
    return Archive(url=url, bad=bad, whole=whole, options=options, undisturbed_s=undisturbed_s)


Strike = Callable[[str, Lifting, random.Random], bool]
"""Kills what is named; whether there was such a thing."""


def kill_and_check(
    archive: Archive, out: str, kinds: Sequence[str], strike: Strike, proxy: FaultyProxy, **env: str
) -> None:
    """Lift, kill one thing after the other at random moments, lift to the end; the rows must be the same."""
    rng = random.Random(0)
    rounds: list[tuple[str, int]] = []

    def lift() -> Lifting:
        return Lifting(archive.url, out, *archive.options, env=proxy.server.env | env)

    begun_s, seen, lifting = time.monotonic(), 0, lift()
    for kind in kinds:
        lifting.wait_for_parts(seen + rng.randint(1, 5))
        time.sleep(rng.uniform(0, 0.5))
        assert lifting.process.poll() is None, (rounds, lifting.end(), lifting.said)
        was_there = strike(kind, lifting, rng)
        seen = len(part_names(out))
        rounds.append((kind if was_there else f"{kind} (none found)", seen))
        if lifting.process.poll() is not None:
            lifting = lift()
    assert lifting.end() == 0, (rounds, lifting.said)
    took_s = time.monotonic() - begun_s
    again = lift()
    assert again.end() == 0
    assert "nothing to do" in again.printed

    names, repeated = part_names(archive.whole), repeated_reads(proxy, out)
    counts = [0, *(seen for _, seen in rounds), len(names)]
    added = [after - before for before, after in itertools.pairwise(counts)]
    print(
        f"\n{len(rounds)} rounds in {took_s:.0f} s (undisturbed, without Ray: {archive.undisturbed_s:.0f} s)"
    )
    print("  " + ", ".join(f"+{more} {kind}" for more, (kind, _) in zip(added, rounds, strict=False)))
    print(f"  and +{added[-1]} to the end; {len(repeated)} inputs read again after their parts were there")
    print(f"  {len(names)} parts; killed: {dict(Counter(kind for kind, _ in rounds))}")
    print(f"  {same_bytes((archive.whole, out), names)} of the parts are the same bytes")
    assert len(names) >= 200
    assert part_names(out) == names
    assert check_same_rows(out, archive.whole) > 400_000
    assert [name for name, _ in bad_inputs(read_index(out))] == archive.bad
    assert not repeated
    assert sum("none found" not in kind for kind, _ in rounds) >= 0.9 * len(rounds)


def kill_a_process(pid: int, name: str, rng: random.Random) -> bool:
    """SIGKILL to one of the processes of this name below another; whether there was one."""
    deadline_s = time.monotonic() + LONGEST_LOOK_S
    while time.monotonic() < deadline_s:
        found = processes_below(pid, name)
        if found and kill(rng.choice(found)):
            return True
    return False


def repeated_reads(proxy: FaultyProxy, out: str) -> list[str]:
    """Inputs whose content was asked for after all parts that they are in had been put."""
    put_s = {
        request.path.rsplit("/", 1)[-1]: request.ended_s
        for request in reversed(proxy.requests)
        if request.method == "PUT" and request.status == 200
    }
    last_put_s: dict[str, float] = {}
    for shard in read_plan(out).shards():
        for item in shard.inputs:
            key = item.url.removeprefix("s3://")
            last_put_s[key] = max(last_put_s.get(key, 0.0), put_s[shard.part_name])
    return [
        request.path
        for request in proxy.requests
        if request.method == "GET" and request.begun_s > last_put_s.get(request.path, float("inf"))
    ]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_job_on_a_cluster_killed_at_twenty_random_moments_ends_with_the_same_rows(
    archive: Archive, s3_bucket: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
):
    """The command, a process that reads, one that lifts, a machine; nothing that was done is done again."""
    kinds = random.Random(0).sample(("driver", "reader", "actor", "node") * 5, 20)
    with run_faulty_proxy(s3_server, faults=Faults.evenly(0)) as proxy, run_machines(monkeypatch) as machines:

        def strike(kind: str, lifting: Lifting, rng: random.Random) -> bool:
            if kind == "driver":
                lifting.kill()
            elif kind == "node":
                machines.replace(rng.randrange(2))
            else:
                return kill_a_process(os.getpid(), READER if kind == "reader" else ACTOR, rng)
            return True

        out = f"{s3_bucket}/killed"
        kill_and_check(archive, out, kinds, strike, proxy, RAY_ADDRESS=machines.address)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_job_on_one_machine_killed_at_eight_random_moments_ends_with_the_same_rows(
    archive: Archive, s3_bucket: str, s3_server: S3Server
):
    """The command, and one of its processes, a core each; those of a killed command end by themselves."""

    def strike(kind: str, lifting: Lifting, rng: random.Random) -> bool:
        if kind == "worker":
            return kill_a_process(lifting.process.pid, WORKER, rng)
        workers = processes_below(lifting.process.pid, WORKER)
        lifting.kill()
        deadline_s = time.monotonic() + LONGEST_END_S
        while any(Path("/proc", str(pid)).exists() for pid in workers):
            assert time.monotonic() < deadline_s, "processes stay behind"
            time.sleep(0.05)
        return bool(workers)

    kinds = random.Random(1).sample(("driver", "worker") * 4, 8)
    with run_faulty_proxy(s3_server, faults=Faults.evenly(0)) as proxy:
        kill_and_check(archive, f"{s3_bucket}/killed", kinds, strike, proxy)
