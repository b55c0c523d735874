"""A bucket that fails while a training reads its windows from it and saves its states to it."""

from pathlib import Path

import pytest
from faulty_s3 import Faults, run_faulty_proxy
from seaweedfs import S3Server, use_environment
from trainings import Training, prepare_sample

from pipelines import storage

SETTINGS = ("epochs=10", "scale.checkpoint_every_steps=5", "lanes=4", "scale.hold_gib=0")
"""Streamed, so that the bucket is read all the time."""


def make_bucket(name: str) -> str:
    url = f"s3://{name}"
    filesystem, path = storage.open_filesystem(url)
    filesystem.mkdir(path)
    return url


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_failing_bucket_gives_the_same_weights_or_a_clean_stop(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """5 % of requests fail: the same bits. All fail: one line, and what was saved is gone on from."""
    use_environment(monkeypatch, s3_server.env)
    bucket = make_bucket("faults")
    data = f"{bucket}/windows"
    prepare_sample(data)
    whole = Training(data, f"{bucket}/whole", SETTINGS, env=s3_server.env)
    assert whole.end() == 0, whole.said[-20:]

    with run_faulty_proxy(s3_server, faults=Faults.evenly(0.05, seed=1)) as proxy:
        shaken = Training(data, f"{bucket}/shaken", SETTINGS, env=proxy.server.env)
        assert shaken.end() == 0, shaken.said[-20:]
        assert proxy.count() > 10
        print(f"\n5 %: {proxy.count()} requests failed")
        for name in ("model.safetensors", "config.json"):
            wanted = storage.read_bytes(f"{bucket}/whole/{name}")
            assert storage.read_bytes(f"{bucket}/shaken/{name}") == wanted, name

        proxy.is_faulty = False
        stopped = Training(
            data, f"{bucket}/stopped", (*SETTINGS, "scale.max_failures=0"), env=proxy.server.env
        )
        assert stopped.wait_for_step(20) >= 20
        proxy.faults = Faults.evenly(1.0, seed=2)
        proxy.is_faulty = True
        assert stopped.end() != 0
        print(f"every request: stopped with {stopped.said[-1][:200]}")
        assert not storage.exists(f"{bucket}/stopped/card.json")

    again = Training(data, f"{bucket}/stopped", SETTINGS, env=s3_server.env)
    assert again.end() == 0, again.said[-20:]
    wanted = storage.read_bytes(f"{bucket}/whole/model.safetensors")
    assert storage.read_bytes(f"{bucket}/stopped/model.safetensors") == wanted
