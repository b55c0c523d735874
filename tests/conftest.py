"""What many tests share: a real S3 server, fresh buckets on it, and one Ray."""

import os
from collections.abc import Iterator
from itertools import count

import pytest
from seaweedfs import S3Server, clear_aws_environment, run_seaweedfs

_bucket_numbers = count()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One S3 server for the whole session; it checks keys and signatures."""
    with run_seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture
def s3_bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of a new bucket; the environment leads to its server."""
    import s3fs

    clear_aws_environment(monkeypatch)
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{os.getpid()}-{next(_bucket_numbers)}"
    s3fs.S3FileSystem(skip_instance_cache=True).mkdir(bucket)
    return f"s3://{bucket}"


@pytest.fixture(scope="session")
def ray_session(s3_server: S3Server) -> Iterator[None]:
    """One Ray on this machine for the whole session; its workers can reach the S3 server."""
    settings = {
        "RAY_AUTH_MODE": "disabled",
        "RAY_DATA_USE_DATASOURCE_V2": "0",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
        "RAY_TRAIN_METRICS_ENABLED": "0",
        "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        import ray

        ray.init(
            "local",
            num_cpus=4,  # logical ones: with fewer, actors can starve the reads that feed them
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": settings | s3_server.env},
        )
        yield
        ray.shutdown()
