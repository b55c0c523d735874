"""A Ray cluster of simulated machines below this process, each of which can be lost and replaced."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from ray.cluster_utils import Cluster

HEALTH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}
"""As ray_cluster.yaml and the others start their heads."""


class Machines:
    """A head that computes nothing and two nodes of two cores, below this process."""

    def __init__(self) -> None:
        self._cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": HEALTH}
        )
        self._nodes = [self._add(), self._add()]
        self.address = self._cluster.address

    def _add(self):
        return self._cluster.add_node(num_cpus=2, object_store_memory=400 * 2**20)

    def replace(self, number: int) -> None:
        """Lose a node with all that runs on it, and get another."""
        self._cluster.remove_node(self._nodes.pop(number), allow_graceful=False)
        self._nodes.append(self._add())

    def end(self) -> None:
        self._cluster.shutdown()


@contextmanager
def run_machines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machines]:
    """Machines while the block runs; `RAY_ADDRESS` is for the caller to give."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    machines = Machines()
    try:
        yield machines
    finally:
        machines.end()
