"""`mpm submit`: a verb checked here, with the code and settings it needs, as a job of a Ray cluster."""

import ipaddress
import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mpm_model.errors import InputError, refuse
from pipelines import ray_job
from pipelines.run_config import FinetuneConfig, PretrainConfig, TrainingConfig, find, load, shipped

STAYS_HERE = {"demo", "submit"}
"""Verbs that are about this machine."""
PLACES = (
    *("source", "url", "data", "held_out", "init", "checkpoint", "intrinsics"),
    *("storage", "result", "out", "json"),
)
"""Arguments that say where something is: on a cluster, only a URL says it."""
CONFIGURED: Mapping[str, type[TrainingConfig]] = {"pretrain": PretrainConfig, "finetune": FinetuneConfig}
"""Verbs that take a configuration."""
PACKAGES = ("mpm_model", "pipelines")
"""What a checkout sends. Ray takes 500 MB; this is a few, without the sample."""
CONFIG_FOLDER = "config"
"""Where a configuration of yours lies on the cluster, in the job's working directory."""
SETTINGS = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_REQUEST_CHECKSUM_CALCULATION",
    "AWS_RESPONSE_CHECKSUM_VALIDATION",
)
"""How to reach the bucket; sent if set. Profiles and files of this machine mean nothing elsewhere."""
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""Secrets; sent if set, never shown."""

_ROOT = Path(__file__).resolve().parent.parent
_HIDDEN = "***"


@dataclass(frozen=True, kw_only=True)
class Command:
    """A verb with its arguments."""

    verb: str
    arguments: tuple[str, ...]
    """As typed."""
    values: Mapping[str, Any]
    """As the verb's parser understood them."""


@dataclass(frozen=True, kw_only=True)
class SubmitConfig:
    """To which cluster, and what goes with it."""

    address: str | None = None
    """The cluster's job server, http://HOST:8265; None: as the environment says."""
    sends_code: bool | None = None
    """Whether the job runs this code or what is installed there; None: this code if it is a checkout."""
    sends_keys: bool = True
    """Whether AWS keys in the environment go with the job."""
    is_dry_run: bool = False
    """Whether all is checked and printed, and nothing sent."""
    waits: bool = True
    """Whether to follow the job to its end."""


def run(
    command: Command,
    *,
    config: SubmitConfig,
    say: Callable[[str], None],
    write: Callable[[str], None],
) -> int:
    """Print the `ray job submit` and do it; the job's exit code, or 0 if it is not waited for.

    `say` takes whole lines, `write` the job's own log as it comes.

    Raises:
        InputError: the verb or its arguments are wrong or mean nothing on a cluster, or no cluster answers;
            nothing was sent.
    """
    address = _address(config.address)
    refuse(
        f"submit {command.verb}",
        [*_place_faults(command), *_config_faults(command), *_endpoint_faults(command, address)],
    )
    environment = _environment(config)
    has_code = _is_checkout() if config.sends_code is None else config.sends_code
    with _working_directory(command, has_code=has_code) as folder:
        entrypoint = shlex.join(["python", "-m", "pipelines", command.verb, *_arguments_there(command)])
        say(_ray_job_submit(address, entrypoint, environment, folder))
        for line in _what_travels(environment, folder, has_code=has_code):
            say(line)
        if config.is_dry_run:
            return 0
        working_directory = {} if folder is None else {"working_dir": str(folder)}
        job = ray_job.send(address, entrypoint, {"env_vars": environment} | working_directory)
    say(f"job {job}")
    later = f"ray job logs --follow --address {_without_password(address)} {job}"
    if not config.waits:
        say(f"follow it with: {later}")
        return 0
    try:
        end = ray_job.follow(address, job, write=write)
    except KeyboardInterrupt:
        say(f"\njob {job} goes on; follow it with: {later}")
        raise
    say(f"job {job}: {end.words}")
    return end.exit_code


def _address(given: str | None) -> str:
    """The job server's URL, from the option or the environment."""
    names = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
    where, address = "--address", given
    for name in names:
        if not address:
            where, address = name, os.environ.get(name)
    if not address:
        raise InputError(f"no cluster is named: give --address http://HOST:8265, or set {names[0]}")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(
            f"{where} {_without_password(address)}: wanted the cluster's job server, http://HOST:8265"
        )
    return address.rstrip("/")


def _places(command: Command) -> Iterator[tuple[str, str]]:
    """Names and values of the arguments that say where something is."""
    for name in PLACES:
        given = command.values.get(name)
        for value in [given] if isinstance(given, str) else given or ():
            if name != "intrinsics" or "," not in value:  # four numbers are no place
                yield name, value


def _place_faults(command: Command) -> list[str]:
    if command.verb in STAYS_HERE:
        return ["this verb is about the machine it is typed on"]
    local = [f"{name} {value}" for name, value in _places(command) if "://" not in value]
    if not local:
        return []
    return [
        f"{', '.join(local)}: a path of this machine, which the cluster does not see; use a bucket, "
        "s3://BUCKET/PATH, or file:///PATH for a file system that every host of the cluster has there"
    ]


def _config_faults(command: Command) -> list[str]:
    kind = CONFIGURED.get(command.verb)
    if kind is None:
        return []
    try:
        load(kind, command.values["config"], command.values["override"] or ())
    except InputError as error:
        return [str(error)]
    return []


def _endpoint_faults(command: Command, address: str) -> list[str]:
    """A bucket on this machine's own address, unless the cluster is here too, or at the end of a tunnel."""
    if _is_loopback(address) or not any(value.startswith("s3") for _, value in _places(command)):
        return []
    return [
        f"{name}={url} is an address of this machine alone; give one that the cluster reaches"
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
        if _is_loopback(url := os.environ.get(name, ""))
    ]


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _environment(config: SubmitConfig) -> dict[str, str]:
    """Variables of the job's driver and workers."""
    names = SETTINGS + (KEYS if config.sends_keys else ())
    sent = {name: os.environ[name] for name in names if os.environ.get(name)}
    # The verb hands the same variables to its workers; Ray takes a second word for a conflict unless told.
    return sent | {"RAY_OVERRIDE_JOB_RUNTIME_ENV": "1"}


def _is_checkout() -> bool:
    return (_ROOT / "pyproject.toml").is_file()


def _own_config(command: Command) -> Path | None:
    """The configuration file that does not ship, if the command names one."""
    if command.verb not in CONFIGURED or command.values["config"] in shipped():
        return None
    return find(command.values["config"])


def _arguments_there(command: Command) -> list[str]:
    """The arguments as the job sees them: a configuration of yours lies in its working directory."""
    file = _own_config(command)
    if file is None:
        return list(command.arguments)
    there = f"{CONFIG_FOLDER}/{file.name}"
    return [there if argument == command.values["config"] else argument for argument in command.arguments]


@contextmanager
def _working_directory(command: Command, *, has_code: bool) -> Iterator[Path | None]:
    """A folder of what the job needs from here, gone at the end; None if it needs nothing."""
    file = _own_config(command)
    if file is None and not has_code:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="mpm-submit-") as name:
        folder = Path(name)
        if has_code:
            for package in PACKAGES:
                shutil.copytree(
                    _ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "sample")
                )
        if file is not None:
            (folder / CONFIG_FOLDER).mkdir()
            shutil.copyfile(file, folder / CONFIG_FOLDER / file.name)
        yield folder


def _ray_job_submit(
    address: str, entrypoint: str, environment: Mapping[str, str], folder: Path | None
) -> str:
    """The command that does the same, secrets hidden."""
    shown = {name: _HIDDEN if name in KEYS else value for name, value in environment.items()}
    token = "RAY_AUTH_MODE=token " if ray_job.shows_token() else ""
    options = ["--address", _without_password(address)]
    if folder is not None:
        options += ["--working-dir", str(folder)]
    options += ["--runtime-env-json", json.dumps({"env_vars": shown})]
    return f"{token}ray job submit {shlex.join(options)} -- {entrypoint}"


def _what_travels(environment: Mapping[str, str], folder: Path | None, *, has_code: bool) -> Iterator[str]:
    if folder is not None:
        size_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        names = ", ".join(sorted(entry.name for entry in folder.iterdir()))
        yield f"sends {names} ({size_bytes / 1e6:.1f} MB)"
    yield f"runs {f'the code of {_ROOT}' if has_code else 'the code that the cluster has'}"
    if keys := [name for name in KEYS if name in environment]:
        yield f"sends {', '.join(keys)} of this environment; --no-send-keys keeps them here"


def _without_password(address: str) -> str:
    return re.sub(r"//[^/@]*@", f"//{_HIDDEN}@", address)
