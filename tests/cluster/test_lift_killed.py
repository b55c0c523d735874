"""A lifting job on a cluster that loses its processes and machines ends as if nothing had happened."""

import itertools
import os
import random
import time
from collections import Counter
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

from pipelines.lift_index import read_index
from pipelines.lift_plan import read_plan

ROUNDS = 20
KINDS = ("driver", "reader", "actor", "node")
FILES, FRAMES = 160, 3000
LONGEST_LOOK_S = 5.0
"""So long a process of some kind is looked for: readers come and go."""


def kill_a_process(name: str, rng: random.Random) -> bool:
    """SIGKILL to one of the processes of this name that Ray started; whether there was one."""
    deadline_s = time.monotonic() + LONGEST_LOOK_S
    while time.monotonic() < deadline_s:
        found = processes_below(os.getpid(), name)
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
def test_a_lifting_job_killed_at_twenty_random_moments_ends_with_the_same_rows(
    s3_bucket: str, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The command, a process that reads, one that lifts, a machine; nothing that was done is done again."""
    archive, whole, killed = (f"{s3_bucket}/{name}" for name in ("archive", "whole", "killed"))
    bad = make_archive(archive, files=FILES, frames=FRAMES)
    options = ("--checkpoint", save_lifter(tmp_path / "lifter"), "--shard-mib", shard_mib(FRAMES))
    begun_s = time.monotonic()
    undisturbed = Lifting(archive, whole, *options, env=s3_server.env)
    assert undisturbed.end() == 0, undisturbed.said
    undisturbed_s = time.monotonic() - begun_s

    rng = random.Random(0)
    kinds = rng.sample(KINDS * (ROUNDS // len(KINDS)), ROUNDS)
    rounds: list[tuple[str, int]] = []
    with run_faulty_proxy(s3_server, faults=Faults.evenly(0)) as proxy, run_machines(monkeypatch) as machines:
        env = proxy.server.env | {"RAY_ADDRESS": machines.address}
        begun_s, seen = time.monotonic(), 0
        lifting = Lifting(archive, killed, *options, env=env)
        for kind in kinds:
            lifting.wait_for_parts(seen + rng.randint(1, 5))
            time.sleep(rng.uniform(0, 0.5))
            assert lifting.process.poll() is None, (rounds, lifting.end(), lifting.said)
            if kind == "driver":
                lifting.kill()
            elif kind == "node":
                machines.replace(rng.randrange(2))
            elif not kill_a_process(READER if kind == "reader" else ACTOR, rng):
                kind += " (none found)"
            seen = len(part_names(killed))
            rounds.append((kind, seen))
            if kind == "driver":
                lifting = Lifting(archive, killed, *options, env=env)
        assert lifting.end() == 0, (rounds, lifting.said)
        took_s = time.monotonic() - begun_s
        again = Lifting(archive, killed, *options, env=env)
        assert again.end() == 0
        assert "nothing to do" in again.printed
        repeated = repeated_reads(proxy, killed)

    names = part_names(whole)
    counts = [0, *(seen for _, seen in rounds), len(names)]
    added = [after - before for before, after in itertools.pairwise(counts)]
    print(f"\n{len(rounds)} rounds in {took_s:.0f} s (undisturbed, without Ray: {undisturbed_s:.0f} s)")
    print("  " + ", ".join(f"+{more} {kind}" for more, (kind, _) in zip(added, rounds, strict=False)))
    print(f"  and +{added[-1]} to the end; {len(repeated)} inputs read again after their parts were there")
    print(f"  {len(names)} parts; killed: {dict(Counter(kind for kind, _ in rounds))}")
    print(f"  {same_bytes((whole, killed), names)} of the parts are the same bytes")
    assert len(names) >= 200
    assert part_names(killed) == names
    assert check_same_rows(killed, whole) > 400_000
    for out in (whole, killed):
        index = read_index(out).filter(read_index(out)["status"].to_numpy(zero_copy_only=False) == "bad")
        assert index["input"].to_pylist() == bad
    assert not repeated
    assert sum("none found" not in kind for kind, _ in rounds) >= ROUNDS - 2
