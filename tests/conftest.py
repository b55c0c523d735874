"""What many tests share: a real S3 server, fresh buckets on it, and one Ray."""

import os
from collections.abc import Iterator
from itertools import count

import pytest
from seaweedfs import S3Server, run_seaweedfs, use_environment

from pipelines.storage import open_filesystem

_bucket_numbers = count()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """One S3 server for the whole session; it checks keys and signatures."""
    with run_seaweedfs() as server:
        yield server


@pytest.fixture
def s3_bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of a new bucket; the environment leads to its server."""
    use_environment(monkeypatch, s3_server.env)
    url = f"s3://bucket-{os.getpid()}-{next(_bucket_numbers)}"
    filesystem, path = open_filesystem(url)
    filesystem.mkdir(path)
    return url


@pytest.fixture(scope="session")
def ray_session(s3_server: S3Server) -> Iterator[None]:
    """One Ray of four logical CPUs on this machine for the whole session; its workers reach the S3 server.

    Tests that use it, directly or through a verb, ask for it and carry the mark `ray`.
    """
    import ray

    from pipelines.ray_session import ensure_ray

    assert not ray.is_initialized(), "a test started Ray without asking for ray_session"
    with pytest.MonkeyPatch.context() as session:
        session.setenv("RAY_AUTH_MODE", "disabled")
        session.delenv("RAY_ADDRESS", raising=False)
        with pytest.MonkeyPatch.context() as start:
            use_environment(start, s3_server.env)
            ensure_ray(cpus=4)
        yield
        ray.shutdown()
