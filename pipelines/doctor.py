"""`mpm doctor`: can this machine, its Ray cluster and its storage do the work."""

import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from mpm_model.errors import InputError
from pipelines import storage
from pipelines.doctor_machine import DISTRIBUTION, Check, check_machine, gigabytes
from pipelines.text_table import count

PROBE_BYTES = 8_000_000
"""Size of the file by which a storage's speed is measured."""
CONNECT_TIMEOUT_S = 3.0
"""How long a cluster may take to accept a connection."""


@dataclass(frozen=True)
class DoctorReport:
    """Everything looked at."""

    checks: tuple[Check, ...]

    @property
    def is_able(self) -> bool:
        """Whether nothing failed."""
        return all(check.status != "fail" for check in self.checks)

    def lines(self) -> list[str]:
        """The checks as text, a line each, and the verdict."""
        width = max(len(check.name) for check in self.checks)
        failed = [check.name for check in self.checks if check.status == "fail"]
        return [
            *(
                f"{check.status:4}  {check.name:{width}}  "
                + "; ".join(filter(None, (check.found, check.advice)))
                for check in self.checks
            ),
            f"cannot do the work as it is: see {', '.join(failed)}" if failed else "able to do the work",
        ]


def run(*, storage_url: str | None = None, start_ray: bool = False) -> DoctorReport:
    """Look at this machine; at a storage if a URL is given; at a running Ray if asked.

    Seconds without `start_ray`. With it Ray is started here, or the cluster that RAY_ADDRESS names is joined,
    and a worker runs a task and tries the storage too. Nothing is left behind.
    """
    ray_itself = _check_ray()
    checks = [*check_machine(), ray_itself, *_check_cluster()]
    if storage_url is not None:
        checks.append(_check_storage(storage_url))
    if start_ray and ray_itself.status == "ok":
        checks += _check_running_ray(storage_url)
    return DoctorReport(tuple(checks))


def _check_ray() -> Check:
    try:
        import ray
    except ImportError as error:
        found = f"does not import: {error}"
        return Check(name="ray", status="fail", found=found, advice='pip install "ray[train,data,default]"')
    return Check(name="ray", status="ok", found=ray.__version__)


def _check_cluster() -> Iterator[Check]:
    """Whether somebody listens where RAY_ADDRESS points."""
    address = os.environ.get("RAY_ADDRESS", "")
    if address in ("", "local", "auto"):
        return
    where = urlsplit(address if "://" in address else f"//{address}")
    try:
        port = where.port or {"http": 80, "https": 443, "ray": 10001}.get(where.scheme, 6379)
        socket.create_connection((where.hostname or "", port), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        advice = "start the cluster, correct RAY_ADDRESS, or unset it to run on this machine alone"
        yield Check(name="cluster", status="fail", found=f"{address} does not answer: {error}", advice=advice)
    else:
        yield Check(name="cluster", status="ok", found=f"somebody listens at {address}")


def _check_running_ray(storage_url: str | None) -> list[Check]:
    import ray

    from pipelines.ray_session import ensure_ray

    was_running = ray.is_initialized()
    begun_s = time.monotonic()
    try:
        ensure_ray()
        host = ray.get(ray.remote(_name_host).remote())
        seconds = time.monotonic() - begun_s
        resources = ray.cluster_resources()
        nodes = count(sum(node["Alive"] for node in ray.nodes()), "node")
        checks = [] if storage_url is None else [ray.get(ray.remote(_check_storage).remote(storage_url))]
    except InputError as error:
        return [Check(name="running ray", status="fail", found=str(error))]
    except ray.exceptions.RayError as error:
        words = str(error).strip().splitlines()[-1]
        advice = f"install the same {DISTRIBUTION} on every node"
        return [Check(name="running ray", status="fail", found=f"a task failed: {words}", advice=advice)]
    finally:
        if not was_running:
            ray.shutdown()
    found = (
        f"{nodes}, {resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs, "
        f"{gigabytes(resources.get('memory', 0))}; a task ran on {host} within {seconds:.1f} s"
    )
    running = Check(name="running ray", status="ok", found=found)
    return [running, *(replace(check, name=f"{check.name} from a worker") for check in checks)]


def _name_host() -> str:
    return socket.gethostname()


def _check_storage(url: str) -> Check:
    """Write, read and remove a probe; on disk in the nearest folder that is there already."""
    content = os.urandom(PROBE_BYTES)
    try:
        storage.check_writable(url)
        probe = storage.join(_nearest_folder(url), f".{uuid.uuid4().hex}.part")
        try:
            begun_s = time.perf_counter()
            storage.write_once(probe, content)
            written_s = time.perf_counter()
            is_same = storage.read_bytes(probe) == content
            read_s = time.perf_counter()
        finally:
            with suppress(InputError):  # what failed before says more
                storage.remove(probe)
    except InputError as error:
        return Check(name="storage", status="fail", found=str(error))
    if not is_same:
        advice = "do not use it"
        return Check(
            name="storage", status="fail", found=f"{url}: gives back other bytes than it took", advice=advice
        )
    found = (
        f"{url}: writes {_megabytes_s(written_s - begun_s)}, reads {_megabytes_s(read_s - written_s)} "
        f"({PROBE_BYTES / 1e6:g} MB, one stream)"
    )
    return Check(name="storage", status="ok", found=found)


def _nearest_folder(url: str) -> str:
    if "://" in url:
        return url
    path = Path(storage.absolute(url))
    return str(next(folder for folder in (path, *path.parents) if folder.exists()))


def _megabytes_s(seconds: float) -> str:
    return f"{PROBE_BYTES / 1e6 / max(seconds, 1e-6):.0f} MB/s"
