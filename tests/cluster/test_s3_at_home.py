"""infra/s3/serve.sh, started for real: an S3 server at home, of which the data stays."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from seaweedfs import use_environment

from pipelines import storage

SERVE = Path(__file__).parents[2] / "infra" / "s3" / "serve.sh"
PORTS = 8
"""How many ports in a row the server takes."""


def _free_row_of_ports() -> int:
    for first in range(20000, 60000, 97):
        with contextlib.ExitStack() as held:
            try:
                for port in range(first, first + PORTS):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    pytest.fail(f"no {PORTS} free ports in a row")


@contextlib.contextmanager
def _served(data: Path, *options: str) -> Iterator[dict[str, str]]:
    """Run the script while the block lasts; gives the variables that it prints, and ends it with Ctrl-C."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with subprocess.Popen(
        [str(SERVE), str(data), *options],
        env=os.environ | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C reaches the script and the server, and not the tests
    ) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(4)]
            assert all(lines), f"the server did not start: {process.communicate()[1]}"
            yield dict(line.removeprefix("export ").strip().split("=", 1) for line in lines)
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(timeout=60) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_the_server_keeps_what_is_written_between_two_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, port = tmp_path / "data of mine", _free_row_of_ports()
    with _served(data, "--bucket", "poses.1", "--port", str(port)) as env:
        use_environment(monkeypatch, env)
        assert list(env) == [
            "AWS_ENDPOINT_URL",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_DEFAULT_REGION",
        ]
        storage.write_json("s3://poses.1/runs/card.json", {"loss": 0.25})
        assert storage.list_names("s3://poses.1/runs") == ["card.json"]
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"{env['AWS_ENDPOINT_URL']}/poses.1/runs/card.json", timeout=10)
        again = subprocess.run([SERVE, data], capture_output=True, text=True, timeout=60)
        assert again.returncode == 2
        assert "is running on it already" in again.stderr
    with _served(data, "--bucket", "poses.1", "--port", str(port)) as env_later:
        assert env_later == env
        assert storage.read_json("s3://poses.1/runs/card.json") == {"loss": 0.25}
    assert {path.stat().st_mode & 0o077 for path in (data, data / "keys", data / "env")} == {0}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "wanted DATA_DIR"),
        (["data", "--port", "70000"], "--port: wanted a number from 1 to 65528, got 70000"),
        (["data", "--bucket", "My_Bucket"], "--bucket: wanted 3 to 63 of a-z 0-9 . -, got My_Bucket"),
        (["data", "--address", "0.0.0.0"], "--address: wanted the address that others reach"),
        (["data", "--buckett", "mpm"], "no such option: --buckett"),
    ],
)
def test_what_is_asked_for_wrongly_is_refused_in_one_line(
    arguments: list[str], complaint: str, tmp_path: Path
) -> None:
    done = subprocess.run([SERVE, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert re.fullmatch(r"serve\.sh: [^\n]*\n", done.stderr)
    assert complaint in done.stderr
    assert list(tmp_path.iterdir()) == []
