"""How a bucket is reached: one S3 client for fsspec, one for Arrow, both told where to go by AWS_* variables.

Anything that speaks S3 serves: Amazon, SeaweedFS, MinIO, Ceph. `AWS_ENDPOINT_URL` names the server.
"""

import os
import time
import uuid
from contextlib import suppress
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from pipelines.storage_faults import StorageError, answer_code

CONNECT_TIMEOUT_S = 3.0
"""A server that is there takes milliseconds; three tries of this bound the wait for an absent one."""
READ_TIMEOUT_S = 20.0
"""Silence on an open connection after which a request is given up and tried again."""
ATTEMPTS = 3
"""Quick tries of one request; 500, 503 and lost connections are tried again, refusals are not."""
ARROW_ATTEMPTS = 8
"""The same for Arrow's client, which has no slower tries after them: half a minute in all."""
CHECK_TIMEOUT_S = 10.0
"""How long `check_writable` waits for an answer, all tries together."""


def storage_environment() -> dict[str, str]:
    """The AWS_* variables of this process: what a Ray worker needs to reach the same storage.

    Meant for `runtime_env={"env_vars": storage_environment()}`. The values include secrets, and Ray
    shows a job's runtime_env to whoever can open its dashboard.
    """
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


def s3_filesystem() -> Any:
    """The s3fs filesystem of the present AWS_* variables, one for each process and set of variables.

    Listings are not cached: another process may be writing.
    """
    return _connect(tuple(sorted(storage_environment().items())), os.getpid())


def s3_arrow_filesystem() -> Any:
    """A `pyarrow.fs.S3FileSystem` that asks the same server as `s3_filesystem`.

    The endpoint travels with it when it is pickled; the credentials do not, a worker finds its own in its
    environment. Small files are put in one request.
    """
    from pyarrow import fs as arrow_fs

    endpoint = s3_filesystem().s3.meta.endpoint_url
    return arrow_fs.S3FileSystem(
        endpoint_override=None if _is_amazon(endpoint) else endpoint,
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=READ_TIMEOUT_S,
        retry_strategy=arrow_fs.AwsStandardS3RetryStrategy(max_attempts=ARROW_ATTEMPTS),
        allow_delayed_open=True,
    )


def is_s3(filesystem: Any) -> bool:
    """Whether an fsspec filesystem is a bucket's."""
    return "s3" in filesystem.protocol


def put_new(filesystem: Any, path: str, content: bytes) -> bool:
    """Put an object if its name is free, False if it is taken. Any fsspec filesystem will do."""
    for pause_s in (0.1, 0.3, 1.0, None):
        try:
            filesystem.pipe_file(path, content, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            code = answer_code(error)
            if code in {"preconditionfailed", "412"}:
                return False
            if code != "conditionalrequestconflict" or pause_s is None:
                raise
            time.sleep(pause_s)  # another's put is under way: it may yet fail
        else:
            break
    return True


def check_writable(filesystem: Any, path: str) -> None:
    """Begin and abandon a multipart upload below `bucket/path`: the same right as a put, nothing to see."""
    bucket, _, prefix = path.partition("/")
    target = {"Bucket": bucket, "Key": f"{prefix}/.{uuid.uuid4().hex}.part".lstrip("/")}
    upload = filesystem.call_s3("create_multipart_upload", **target, timeout=CHECK_TIMEOUT_S)
    filesystem.call_s3(
        "abort_multipart_upload", **target, UploadId=upload["UploadId"], timeout=CHECK_TIMEOUT_S
    )


def abort_uploads(filesystem: Any, path: str, *, before_s: float) -> int:
    """Abandon multipart uploads below `bucket/path` that were begun before then, Unix time; how many.

    Looks at the first thousand.
    """
    bucket, _, prefix = path.partition("/")
    answer = filesystem.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix}/".lstrip("/"))
    stale = [upload for upload in answer.get("Uploads", []) if upload["Initiated"].timestamp() < before_s]
    for upload in stale:
        with suppress(FileNotFoundError):  # its writer ended it
            filesystem.call_s3(
                "abort_multipart_upload", Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
            )
    return len(stale)


def _is_amazon(endpoint: str) -> bool:
    return ".amazonaws.com" in (urlsplit(endpoint).hostname or "")


@lru_cache(maxsize=8)
def _connect(environment: tuple[tuple[str, str], ...], process_id: int) -> Any:
    """Build the client. The arguments are only the cache's key: botocore reads the environment itself."""
    del environment, process_id
    try:
        from pipelines.storage_s3_client import PARTS_AT_ONCE, PatientS3FileSystem
    except ImportError as error:
        raise StorageError(
            f"s3:// needs the package s3fs, which does not import ({error}); pip install s3fs"
        ) from error
    filesystem = PatientS3FileSystem(
        use_listings_cache=False,
        skip_instance_cache=True,
        max_concurrency=PARTS_AT_ONCE,
        config_kwargs={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "read_timeout": READ_TIMEOUT_S,
            "retries": {"total_max_attempts": ATTEMPTS, "mode": "standard"},
            "max_pool_connections": 32,
        },
    )
    try:
        filesystem.connect()  # resolves profile, region and endpoint; asks no server for anything
    except ValueError as error:
        raise StorageError(
            f"wanted AWS_ENDPOINT_URL like http://host:port, botocore says {error}; correct or unset it"
        ) from error
    return filesystem
