"""A job on a cluster's job server: sent, followed, ended; the one place that speaks to the server."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mpm_model.errors import InputError

ANSWER_TIMEOUT_S = 10.0
"""How long a job server may take to answer at all."""
PATIENCE_S = 120.0
"""How long a followed job's server may be away."""
PAUSE_S = 2.0
"""Between two tries to follow."""

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class JobEnd:
    """How a job ended."""

    exit_code: int
    """Its own, or 1 if it never got so far or was stopped."""
    words: str
    """For the command line."""


def send(address: str, entrypoint: str, runtime_env: dict[str, Any]) -> str:
    """Hand a job to the server; its name. A local `working_dir` is uploaded first.

    Raises:
        InputError: nobody, or somebody else, answers there, or it wants a token that is not here.
    """
    parts = urlsplit(address)
    port = parts.port or _PORTS[parts.scheme]
    place = f"{parts.hostname}:{port}"
    from ray.exceptions import AuthenticationError

    try:
        # The client itself would try for minutes.
        socket.create_connection((parts.hostname, port), timeout=ANSWER_TIMEOUT_S).close()
        client = _client(address)
    except AuthenticationError as error:
        raise InputError(
            f"{place}: the cluster wants its token; put it into ~/.ray/auth_token or RAY_AUTH_TOKEN "
            "(on a host of the cluster it is what `ray get-auth-token` says)"
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{place}: no Ray job server answers there ({error}); start the cluster or correct the address"
        ) from error
    job: str = client.submit_job(entrypoint=entrypoint, runtime_env=runtime_env)
    return job


def follow(address: str, job: str, *, write: Callable[[str], None]) -> JobEnd:
    """Write a job's log as it comes until the job ends. A cut connection is made again, no line comes twice.

    Raises:
        ConnectionError: the server has been away for `PATIENCE_S`.
    """
    from aiohttp import ClientError

    is_lost = (OSError, RuntimeError, ClientError)  # what requests, Ray and aiohttp raise
    log = _Log(write)
    client = _client(address)
    seen_s = time.monotonic()
    while True:
        is_whole = False
        with suppress(*is_lost):
            asyncio.run(_tail(client, job, log))
            is_whole = True
        try:
            info = client.get_job_info(job)
        except is_lost as error:
            if time.monotonic() - seen_s > PATIENCE_S:
                raise ConnectionError(f"{address}: no answer for {PATIENCE_S:.0f} s ({error})") from error
        else:
            seen_s = time.monotonic()
            if info.status.is_terminal():
                if not is_whole:
                    with suppress(*is_lost):
                        log.begin()
                        log.take(client.get_job_logs(job))
                return _end(info)
        time.sleep(PAUSE_S)


def _end(info: Any) -> JobEnd:
    status = str(info.status.value).lower()
    if status == "succeeded":
        return JobEnd(0, status)
    code = info.driver_exit_code
    if code is None:  # it never ran, or was stopped
        said = (info.message or "").strip().splitlines()
        return JobEnd(1, f"{status}; {said[0]}" if said else status)
    return JobEnd(code if 0 < code < 256 else 1, f"{status} with exit code {code}")


class _Log:
    """A log that a new connection tells from its beginning, written once."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._written = 0
        self._told = 0

    def begin(self) -> None:
        """The log is told from its beginning."""
        self._told = 0

    def take(self, text: str) -> None:
        """The next piece."""
        new = text[max(0, self._written - self._told) :]
        self._told += len(text)
        if new:
            self._write(new)
            self._written = self._told


async def _tail(client: Any, job: str, log: _Log) -> None:
    log.begin()
    async for text in client.tail_job_logs(job):
        log.take(text)


def _client(address: str) -> Any:
    # Ray obeys this variable, and RAY_ADDRESS after it, rather than the address its client is given.
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    from ray.job_submission import JobSubmissionClient

    for name in ("dashboard_sdk", "job.sdk"):  # uploads and closed connections are no news
        logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.WARNING)
    return JobSubmissionClient(address)


def shows_token() -> bool:
    """Whether the server will be shown a token: if one is at hand, unless RAY_AUTH_MODE says otherwise.

    Call it before anything imports Ray, which reads the variable then.
    """
    is_here = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if is_here or Path("~/.ray/auth_token").expanduser().is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    return os.environ.get("RAY_AUTH_MODE") == "token"
