"""What the workers tell the driver, and when a run that fails again and again is given up."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
import ray.exceptions
from ray.train import UserCallback

COORDINATOR = "AutoscalingCoordinator"
"""Ray's actor, and its namespace, that knows which resources an elastic run may count on."""
COORDINATOR_TIMEOUT_S = 5.0

_log = logging.getLogger(__name__)


class TrainingStoppedError(Exception):
    """The run is not to be tried again. Raised in Ray Train's controller, which ends on it."""


@dataclass(frozen=True)
class Stop:
    """Why a run is not to be tried again."""

    reason: str
    is_of_input: bool
    """Whether what the user gave is at fault, rather than machines or ourselves."""


class ProgressBoard:
    """Rows of metrics on their way to whoever watches, and how the run fares.

    An actor on the driver's machine, where the workers are other processes.
    """

    def __init__(self, *, max_failures: int) -> None:
        self._max_failures = max_failures
        self._rows: list[dict[str, float]] = []
        self._farthest = -1.0
        self._failures = 0
        self._stop: Stop | None = None

    def post(self, row: dict[str, float]) -> None:
        """Put up a row. One that is farther than any before forgives the failures so far."""
        self._rows.append(row)
        if row["step"] > self._farthest:
            self._farthest, self._failures = row["step"], 0

    def take(self) -> list[dict[str, float]]:
        """Take down the rows put up since the last call."""
        rows, self._rows = self._rows, []
        return rows

    def stop(self, stop: Stop) -> None:
        """Say why trying again would not help; the first reason stays."""
        self._stop = self._stop or stop

    def stopped(self) -> Stop | None:
        """Why the run was stopped, if it was."""
        return self._stop

    def lost(self, words: Mapping[int, str]) -> Stop | None:
        """Count a failure of workers, by rank; why not to try again, if so."""
        self._failures += 1
        if self._failures > self._max_failures:
            last = "; ".join(f"worker {rank}: {said}" for rank, said in sorted(words.items()))
            reason = f"workers failed {self._failures} times in a row without getting any further; {last}"
            self.stop(Stop(reason, is_of_input=False))
        return self._stop


class BoardOnRay:
    """The board, seen from another process."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def post(self, row: dict[str, float]) -> None:
        """Put up a row; does not wait."""
        self._actor.post.remote(row)

    def take(self) -> list[dict[str, float]]:
        """Take down the rows put up since the last call."""
        rows: list[dict[str, float]] = ray.get(self._actor.take.remote())
        return rows

    def stop(self, stop: Stop) -> None:
        """Say why trying again would not help."""
        ray.get(self._actor.stop.remote(stop))

    def stopped(self) -> Stop | None:
        """Why the run was stopped, if it was."""
        stop: Stop | None = ray.get(self._actor.stopped.remote())
        return stop

    def lost(self, words: Mapping[int, str]) -> Stop | None:
        """Count a failure of workers; why not to try again, if so."""
        stop: Stop | None = ray.get(self._actor.lost.remote(words))
        return stop


class GiveUp(UserCallback):  # type: ignore[misc]
    """Ends the run when the board says so. Ray Train itself is told to try for ever."""

    def __init__(self, board: BoardOnRay) -> None:
        self._board = board

    def after_exception(
        self,
        run_context: Any,  # noqa: ARG002 - Ray's signature
        worker_exceptions: dict[int, Exception],
    ) -> None:
        """Called in the controller, after workers failed and before they are started anew."""
        words = {rank: str(error).strip() for rank, error in worker_exceptions.items()}
        if stop := self._board.lost(words):
            raise TrainingStoppedError(stop.reason)
        look_for_machines()


def look_for_machines() -> None:
    """Have Ray see at once which machines are left.

    Its coordinator of resources looks every 20 seconds; until then an elastic run would be started anew on
    machines that are gone. Without a coordinator, or if it does not answer, the run waits for that look.
    """
    try:
        coordinator = ray.get_actor(COORDINATOR, namespace=COORDINATOR)
        ray.get(
            coordinator.get_reserved_resources.remote("mpm", recompute=True), timeout=COORDINATOR_TIMEOUT_S
        )
    except (ValueError, ray.exceptions.RayError) as error:
        _log.info("machines are looked for later: %s", error)
