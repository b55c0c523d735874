"""The hosts that other tests run Ray on are what they claim to be."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import netlab
import pytest
from netlab import FOLDER, REPOSITORY, Host

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(netlab.missing()), reason=netlab.missing() or "hosts can be made"),
]


def on(host: Host, command: str) -> str:
    """What a command prints on a host."""
    options = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR")
    ssh = ["ssh", "-i", FOLDER / "key", *options, f"root@{host.address}", command]
    return subprocess.run(ssh, capture_output=True, text=True, check=True).stdout.strip()


def test_a_host_has_its_own_name_processes_files_and_network_and_not_our_code():
    with netlab.run_hosts(2) as (one, other):
        assert on(one, "hostname") == "host1"
        assert on(other, "hostname") == "host2"
        on(one, "echo mine > ~/file; echo mine > /tmp/file")
        assert on(other, "cat ~/file /tmp/file 2>/dev/null; true") == ""
        assert on(other, "ray --version").startswith("ray, version")
        assert on(other, "python -c 'import pipelines.cli' 2>&1; true").endswith("named 'pipelines'")
        assert on(other, f"ls {REPOSITORY}/pipelines 2>/dev/null; true") == ""
        assert on(other, "ip route get 192.0.2.1 2>&1; true").endswith("Network is unreachable")
        on(one, "sleep 1000 > /dev/null 2>&1 &")
        assert [line for line in one.processes() if "sleep" in line] == ["sleep 1000"]
        assert not other.processes()


def test_a_host_that_is_lost_is_silent_and_comes_back_with_its_disk():
    with netlab.run_hosts(1) as (host,):
        on(host, "echo kept > ~/file; sleep 1000 > /dev/null 2>&1 &")
        host.lose()
        assert (
            subprocess.run(["ip", "link", "show", f"{netlab.BRIDGE}1"], capture_output=True).returncode != 0
        )
        host.start()
        assert on(host, "cat ~/file") == "kept"
        assert not host.processes()


def test_nothing_is_left_even_of_a_test_that_was_killed():
    code = "import netlab, time\nwith netlab.run_hosts(2):\n    print('up', flush=True)\n    time.sleep(1000)"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(netlab.__file__).parent, stdout=subprocess.PIPE
    ) as test:
        assert test.stdout is not None
        assert test.stdout.readline() == b"up\n"
        os.kill(test.pid, signal.SIGKILL)
    with netlab.run_hosts(2) as (one, _):
        assert on(one, "hostname") == "host1"
    assert not FOLDER.exists()
    assert not list(Path("/sys/class/net").glob(f"{netlab.BRIDGE}*"))
