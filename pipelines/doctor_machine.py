"""What `mpm doctor` looks at on the machine itself: versions, processors, memory, disk, GPU."""

import importlib.metadata
import os
import platform
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from pipelines.text_table import count

DISTRIBUTION = "mpm-on-ray"
LEAST_MEMORY_BYTES = 4e9
LEAST_SHARED_MEMORY_BYTES = 1e9
"""Ray keeps what workers share in /dev/shm; with less it falls back to the disk."""
LEAST_DISK_BYTES = 5e9

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at."""

    name: str
    status: Status
    """`warn` is slow or narrow but works; `fail` does not work."""
    found: str
    advice: str = ""
    """What to do about it; empty if nothing."""


def check_machine() -> list[Check]:
    """Everything that is looked at here."""
    return [
        _check_python(),
        _check_packages(),
        _check_processors(),
        _check_memory(),
        *_check_shared_memory(),
        _check_disk(),
        *_check_torch(),
    ]


def gigabytes(size_bytes: float) -> str:
    """A size in words, decimal."""
    return f"{size_bytes / 1e9:.1f} GB"


def _check_python() -> Check:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    try:
        wanted = importlib.metadata.metadata(DISTRIBUTION)["Requires-Python"]
    except importlib.metadata.PackageNotFoundError:
        return Check(name="python", status="ok", found=found)
    if platform.python_version() in SpecifierSet(wanted, prereleases=True):
        return Check(name="python", status="ok", found=found)
    return Check(name="python", status="fail", found=found, advice=f"install Python {wanted}")


def _check_packages() -> Check:
    """The packages that ours asks for, against what is installed."""
    try:
        asked = [Requirement(line) for line in importlib.metadata.requires(DISTRIBUTION) or ()]
    except importlib.metadata.PackageNotFoundError:
        return Check(
            name="packages",
            status="warn",
            found=f"{DISTRIBUTION} is not installed, so nothing says which versions it wants",
            advice="pip install -e .",
        )
    wanted = [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    faults = [fault for one in wanted if (fault := _requirement_fault(one))]
    if faults:
        advice = f"pip install --upgrade {DISTRIBUTION}, or make setup in a clone"
        return Check(name="packages", status="fail", found=", ".join(faults), advice=advice)
    return Check(name="packages", status="ok", found=f"{count(len(wanted), 'package')} installed as required")


def _requirement_fault(wanted: Requirement) -> str | None:
    try:
        version = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{wanted.name} is missing"
    if wanted.specifier.contains(version, prereleases=True):
        return None
    return f"{wanted.name} is {version}, wanted {wanted.specifier}"


def _check_processors() -> Check:
    """Cores this process may use: the machine's, its affinity's, or its container's share."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota = _read_words("/sys/fs/cgroup/cpu.max")
    if len(quota) == 2 and quota[0] != "max":
        cores = min(cores, int(quota[0]) / int(quota[1]))
    if cores < 2:
        advice = "training and reading will share one core: give the machine or container two"
        return Check(name="processors", status="warn", found=f"{cores:g}", advice=advice)
    return Check(name="processors", status="ok", found=f"{cores:g}")


def _check_memory() -> Check:
    """Memory of the machine or its container."""
    total_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _read_words("/sys/fs/cgroup/memory.max")
    if limit and limit[0] != "max":
        total_bytes = min(total_bytes, int(limit[0]))
    if total_bytes < LEAST_MEMORY_BYTES:
        advice = f"Ray and two workers want {gigabytes(LEAST_MEMORY_BYTES)}: expect workers to be ended"
        return Check(name="memory", status="warn", found=gigabytes(total_bytes), advice=advice)
    return Check(name="memory", status="ok", found=gigabytes(total_bytes))


def _check_shared_memory() -> Iterator[Check]:
    """Where Ray keeps what its workers share; only Linux has the folder."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return
    total_bytes = shutil.disk_usage(folder).total
    if total_bytes < LEAST_SHARED_MEMORY_BYTES:
        advice = "Ray will use the disk instead, slowly: docker run --shm-size=2g"
        yield Check(name="shared memory", status="warn", found=gigabytes(total_bytes), advice=advice)
    else:
        yield Check(name="shared memory", status="ok", found=gigabytes(total_bytes))


def _check_disk() -> Check:
    """Room where Ray and temporary copies of remote folders go."""
    folder = tempfile.gettempdir()
    free_bytes = shutil.disk_usage(folder).free
    found = f"{gigabytes(free_bytes)} free in {folder}"
    if free_bytes < LEAST_DISK_BYTES:
        return Check(
            name="disk", status="warn", found=found, advice="free some, or set TMPDIR to another disk"
        )
    return Check(name="disk", status="ok", found=found)


def _check_torch() -> Iterator[Check]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Check(
            name="torch", status="fail", found=f"does not import: {error}", advice="install torch again"
        )
        return
    yield Check(name="torch", status="ok", found=torch.__version__)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        has_cuda = torch.cuda.is_available()
    if not has_cuda:
        if Path("/dev/nvidia0").exists() or Path("/dev/nvidiactl").exists():
            words = f": {said[0].message}" if said else ""
            found = f"a GPU is there, but torch {torch.__version__} cannot use it{words}"
            advice = "install a build of torch for its driver"
            yield Check(name="gpu", status="warn", found=found, advice=advice)
        else:
            yield Check(name="gpu", status="ok", found="none; the processors do the work")
        return
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        found = f"{device.name}, {gigabytes(device.total_memory)}"
        try:
            torch.ones(2, 2, device=f"cuda:{index}").matmul(
                torch.ones(2, 2, device=f"cuda:{index}")
            ).sum().item()
        except RuntimeError as error:
            words = str(error).splitlines()[0]
            advice = "free it, or install a build of torch for it"
            yield Check(name="gpu", status="fail", found=f"{found}, does not compute: {words}", advice=advice)
            continue
        if torch.cuda.get_device_capability(index) >= (8, 0):
            yield Check(name="gpu", status="ok", found=f"{found}, bfloat16")
        else:
            yield Check(
                name="gpu", status="warn", found=f"{found}, no bfloat16", advice="train in float32 on it"
            )


def _read_words(path: str) -> list[str]:
    try:
        return Path(path).read_text().split()
    except OSError:
        return []
