"""Hosts on one machine: Linux namespaces with their own network, processes, files, name and SSH server.

A bridge joins them, at whose address this machine is. They have Python with all that it has here, but not
this project's code, and no way out. `python tests/cluster/netlab.py` says what is missing to make them.
"""

import contextlib
import fcntl
import os
import pwd
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
HOME = Path(pwd.getpwuid(0).pw_dir)
FOLDER = Path(tempfile.gettempdir(), "mpm-netlab")
"""Keys, and the disks of the hosts."""
BRIDGE = "mpm-netlab"
"""Also how the names of its cables begin."""
NETWORK = "198.18.0"
"""Set aside for benchmarks (RFC 2544): it hides no network that is there."""
GATEWAY = f"{NETWORK}.1"
"""This machine, as the hosts see it."""
START_TIMEOUT_S = 30

_PACKAGES = {"sshd": "openssh-server", "ssh": "openssh-server", "rsync": "rsync", "ip": "iproute2"}
_PATH = f"{Path(sys.prefix, 'bin')}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SSHD = f"""
HostKey /run/sshd/host_key
AuthorizedKeysFile /run/sshd/authorized_keys
PasswordAuthentication no
PidFile none
SetEnv PATH={_PATH}
"""


def missing() -> str:
    """Why no hosts can be made here; empty if they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "hosts are made of Linux namespaces, for which one must be root"
    lacking = sorted(
        {package for tool, package in _PACKAGES.items() if shutil.which(tool, path=_PATH) is None}
    )
    if lacking:
        return f"apt-get install {' '.join(lacking)}"
    tried = subprocess.run([*_unshare(), "true"], capture_output=True, text=True)
    return f"this machine makes no namespaces: {tried.stderr.strip()}" if tried.returncode else ""


@dataclass
class Host:
    """A host, running or not; its disk stays while it is away."""

    number: int
    _process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        return f"host{self.number}"

    @property
    def address(self) -> str:
        return f"{NETWORK}.{10 + self.number}"

    @property
    def _link(self) -> str:
        """Its cable, at the bridge's end."""
        return f"{BRIDGE}{self.number}"

    def start(self) -> None:
        """Power on; returns when its SSH server answers."""
        with Path(FOLDER, f"{self.name}.log").open("ab") as log:
            # It ends with this process, whatever ends this process.
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *_unshare(), "bash", "-euc", self._boot()],
                env={"PATH": _PATH, "LANG": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        ours = os.readlink("/proc/self/ns/net")
        self._wait_for(lambda: os.readlink(f"/proc/{self._pid}/ns/net") != ours)
        _unplug(self._link)
        # Always the same card, as in a real host: others remember its number.
        card = f"02:00:00:00:00:{self.number:02x}"
        _ip(f"link add {self._link} type veth peer name eth0 address {card} netns {self._pid}")
        _ip(f"link set {self._link} master {BRIDGE} up")
        self._wait_for(lambda: socket.create_connection((self.address, 22), timeout=1).close() is None)

    def lose(self) -> None:
        """The power fails: its last packets never arrive, and all its processes are gone."""
        if self._process is None:
            return
        _unplug(self._link)
        space = os.readlink(f"/proc/{self._pid}/ns/pid_for_children")
        self._process.kill()
        self._process.wait()
        self._process = None
        while _processes_in(space):
            time.sleep(0.05)

    def processes(self) -> list[str]:
        """Command lines of what runs there, but for the SSH server."""
        space = os.readlink(f"/proc/{self._pid}/ns/pid_for_children")
        return [line for line in _processes_in(space) if "sshd" not in line.split(" ")[0]]

    @property
    def _pid(self) -> int:
        assert self._process is not None, f"{self.name} does not run"
        return self._process.pid

    def _boot(self) -> str:
        """What its first process does."""
        disk = FOLDER / self.name
        hidden = {folder: disk / folder.name for folder in (HOME, Path("/tmp"))}
        # Python itself may lie in a folder that the host has its own of.
        kept = {
            path: own / path.relative_to(folder)
            for path in {Path(sys.base_prefix), Path(sys.prefix)}
            for folder, own in hidden.items()
            if path.is_relative_to(folder)
        }
        lines = [
            f"hostname {self.name}",
            "mount -t tmpfs -o mode=755 tmpfs /run",
            "mount -t tmpfs tmpfs /dev/shm",
            f"install -m 600 -D {FOLDER}/host_key /run/sshd/host_key",
            f"install -m 600 {FOLDER}/key.pub /run/sshd/authorized_keys",
            f"echo {shlex.quote(_SSHD)} > /run/sshd/config",
            *(f"mkdir -p {own}; chmod 700 {own}" for own in hidden.values()),
            f"echo 'PATH={_PATH}' > {hidden[HOME]}/.bashrc",
            *(f"mkdir -p {own}; mount --bind {path} {own}" for path, own in kept.items()),
            *(f"mount -t tmpfs tmpfs {REPOSITORY / name}" for name in ("mpm_model", "pipelines")),
            *(f"mount --rbind {own} {folder}" for folder, own in hidden.items()),
            "ip link set lo up",
            "until ip link show eth0 > /dev/null 2>&1; do sleep 0.05; done",
            f"ip address add {self.address}/24 dev eth0",
            "ip link set eth0 up",
            "exec $(command -v sshd) -D -e -f /run/sshd/config",
        ]
        return "\n".join(lines)

    def _wait_for(self, answers) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        assert self._process is not None
        while True:
            with contextlib.suppress(OSError):
                if answers():
                    return
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                said = Path(FOLDER, f"{self.name}.log").read_text()[-2000:]
                raise RuntimeError(f"{self.name} did not start; it says: {said}")
            time.sleep(0.05)


@contextlib.contextmanager
def run_hosts(number: int) -> Iterator[list[Host]]:
    """So many hosts while the block lasts; nothing of them stays, nor of an earlier run that was killed.

    Waits if another process has hosts.
    """
    with Path(__file__).open() as ours:
        fcntl.flock(ours, fcntl.LOCK_EX)
        _clear()
        try:
            yield from _run_hosts(number)
        finally:
            _clear()


def _run_hosts(number: int) -> Iterator[list[Host]]:
    FOLDER.mkdir(mode=0o700)
    for key in ("key", "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", FOLDER / key], check=True)
    hosts = [Host(1 + index) for index in range(number)]
    try:
        _ip(f"link add {BRIDGE} type bridge")
        _ip(f"address add {GATEWAY}/24 dev {BRIDGE}")
        _ip(f"link set {BRIDGE} up")
        for host in hosts:
            host.start()
        yield hosts
    finally:
        for host in hosts:
            host.lose()


def _clear() -> None:
    """Hosts end with the process that made them; disks stay, and cables until the last connection ends."""
    for link in Path("/sys/class/net").glob(f"{BRIDGE}*"):
        _unplug(link.name)
    shutil.rmtree(FOLDER, ignore_errors=True)


def _unplug(link: str) -> None:
    """Take a cable or the bridge away, if it is there."""
    subprocess.run(["ip", "link", "delete", link], capture_output=True)


def _unshare() -> list[str]:
    return ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]


def _ip(arguments: str) -> None:
    subprocess.run(["ip", *arguments.split()], check=True)


def _processes_in(space: str) -> list[str]:
    """Command lines of the processes of a pid namespace; zombies, which have none, are not counted."""
    lines = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(process / "ns/pid") == space:
                lines.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip())
    return [line for line in lines if line]


if __name__ == "__main__":
    sys.exit(missing() or 0)
