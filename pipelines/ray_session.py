"""The one place that starts or joins Ray."""

import logging
import os
import secrets
import socket
import sys
from typing import TYPE_CHECKING

from mpm_model.errors import InputError
from pipelines.storage import storage_environment

if TYPE_CHECKING:
    from ray.data import DataContext  # Ray is slow to import

LEAST_CPUS = 4
"""Logical CPUs of an embedded Ray: with fewer, a pool of actors can starve the reads that feed it."""
ANSWER_TIMEOUT_S = 10.0
"""How long a cluster may take to answer."""

_QUIET_AND_QUICK = {
    "RAY_DATA_USE_DATASOURCE_V2": "0",  # the new reader waits seconds before each first batch
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what Ray will do by default; silences its notice
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # else a worker's lines come twice
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # a relative path means the same in a worker
    "RAY_task_oom_retries": "2",  # the default tries for ever what can never fit
}
_SMALL_MACHINE = {
    # With the defaults a fit of one worker takes 17 s before its first step, with these 10 s.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # by default 15: whatever else runs would have the machine to itself
}


def ensure_ray(*, cpus: int | None = None) -> None:
    """Join the Ray cluster that RAY_ADDRESS names, or start one inside this process; once.

    Does nothing if this process is connected already. The embedded cluster ends with the process, is open to
    it alone (a token that nobody else has), and has at least `LEAST_CPUS` logical CPUs: `cpus`, or those of
    the machine. Credentials and end point of the storage travel to every worker. InputError if the cluster
    does not answer.
    """
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS") or "local"
    settings = _QUIET_AND_QUICK | (_SMALL_MACHINE if address == "local" else {})
    # Ray reads these when it is imported, and hands what it finds on to the processes it starts.
    settings = {name: os.environ.setdefault(name, value) for name, value in settings.items()}
    if address == "local" and "RAY_AUTH_MODE" not in os.environ:
        os.environ.setdefault(
            "RAY_AUTH_TOKEN", secrets.token_hex(32)
        )  # else Ray writes one into the home folder
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    is_own = {"num_cpus": max(LEAST_CPUS, cpus or os.cpu_count() or 1), "include_dashboard": False}
    try:
        _knock(address)
        ray.init(
            address,
            **(is_own if address == "local" else {}),
            log_to_driver=False,  # what matters comes back as a result or an exception
            logging_level=logging.ERROR,
            runtime_env={"env_vars": settings | storage_environment()},
        )
    except (ConnectionError, TimeoutError, socket.gaierror) as error:
        raise InputError(
            f"RAY_ADDRESS={address}: no Ray cluster answers there; start it, correct the address, "
            "or unset RAY_ADDRESS to run on this machine alone"
        ) from error


def _knock(address: str) -> None:
    """Find out within seconds whether somebody listens at host:port; Ray itself would ask for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "://" not in address:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_TIMEOUT_S).close()


def quiet_ray_data(context: "DataContext") -> None:
    """Keep a Ray dataset (its `.context`) from drawing progress and logging its plan and failed tasks."""
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # failures are raised, or dealt with
