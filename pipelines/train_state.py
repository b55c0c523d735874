"""States to go on from: each one object below a URL, there whole or not there, saved while training goes on.

Ray Train's own checkpoint manager commits a folder of files by naming it in a snapshot file that it writes
later: the last report before a crash may be lost, and files of an attempt that died stay in a folder that is
used again. A single object whose name carries the digest of its content can be neither half nor mixed.
"""

import hashlib
import io
import logging
import re
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import torch

from mpm_model.errors import InputError
from pipelines import storage
from pipelines.storage import StorageError
from pipelines.storage_leftovers import remove_leftovers

LEFTOVER_AGE_S = 3600.0
"""What a killed writer left is removed when nobody has written to it for this long."""

_log = logging.getLogger(__name__)


class StateStore:
    """States of a run below a URL, each one object: there whole or not there.

    Two writers, as the worker of a lost node that lives on and its successor, do not harm each other: names
    differ where contents do, and neither removes what is newer than its own. A state on its way takes at most
    twice its size in memory, the copy and the file, and in a bucket's case 0.2 GB for two parts in transit.
    """

    last_saved_step: int | None = None
    """Step of the newest state known to be whole in the storage."""

    def __init__(self, url: str, *, keep: int = 2, most_failures: int = 3) -> None:
        if keep < 1 or most_failures < 1:
            raise ValueError(f"keep {keep} and most_failures {most_failures} must be at least 1")
        self.url = url
        self.faults: list[str] = []
        """One line for each state that could not be saved, and each failure to remove old ones."""
        self._keep = keep
        self._most_failures = most_failures
        self._failures = 0
        self._saver = ThreadPoolExecutor(max_workers=1, thread_name_prefix="state-store")
        self._in_flight: Future[None] | None = None

    def save(self, state: dict[str, Any], *, step: int) -> None:
        """Copy the state, then save it in the background; training may change it as soon as this returns.

        Waits for the state before it if that is still on its way. One that could not be saved is a fault and
        a warning; after `most_failures` in a row StorageError is raised. A state holds dicts, lists, tuples,
        tensors, numbers, strings and None, so that it can be read without running code; else TypeError.
        """
        self._settle()
        if self._failures >= self._most_failures:
            raise StorageError(f"{self._failures} states in a row could not be saved; {self.faults[-1]}")
        # The list lets go of the copy once it is serialised; an argument would live until the upload ends.
        self._in_flight = self._saver.submit(self._commit, [_to_host(state, "state")], step)

    def wait(self) -> None:
        """Wait for the state on its way; StorageError if the newest could not be saved."""
        self._settle()
        if self._failures:
            raise StorageError(f"the newest state could not be saved; {self.faults[-1]}")

    def close(self) -> None:
        """Wait for the state on its way and end the background thread."""
        self._saver.shutdown()
        self._settle()

    def _settle(self) -> None:
        """Wait for the background; what is no fault of the storage is raised here."""
        pending, self._in_flight = self._in_flight, None
        if pending is not None:
            pending.result()

    def _commit(self, copies: list[dict[str, Any]], step: int) -> None:
        content = _serialised(copies.pop())
        name = f"step_{step:012d}-{_digest(content)}.pt"
        try:
            url = storage.join(self.url, name)
            storage.write_once(url, content)
            if (size := storage.describe_files([url])[url].size_bytes) != len(content):
                raise StorageError(f"{url}: wrote {len(content)} bytes, {size} are there")
        except InputError as error:
            self._failures += 1
            self._note(f"step {step} was not saved: {error}")
            return
        self._failures, self.last_saved_step = 0, step
        try:
            self._tidy(step)
        except InputError as error:
            self._note(f"old states or leftovers were not removed: {error}")

    def _tidy(self, step: int) -> None:
        """Remove old states and leftovers, now that this step is safe. Newer ones are another writer's."""
        states = [state for state in _states(self.url) if state.step <= step]
        kept = sorted({state.step for state in states})[-self._keep :]
        for state in states:
            if state.step not in kept:
                storage.remove(storage.join(self.url, state.name))
        remove_leftovers(self.url, older_than_s=LEFTOVER_AGE_S)

    def _note(self, fault: str) -> None:
        if fault not in self.faults:  # a right that is missing is told once
            self.faults.append(fault)
            _log.warning(fault)


def load_latest(url: str, *, map_location: torch.device | str) -> tuple[int, dict[str, Any]] | None:
    """The newest whole state below a URL and its step; None if there is none.

    A state whose content does not have the digest in its name is read again, then passed over with a warning
    for the one before. Workers of one run must go on from the same step: let one load, and tell the others.

    Raises:
        StorageError: the storage fails, which says nothing about what it holds.
        InputError: there are states and none is whole.
    """
    passed_over: set[str] = set()
    while states := _states(url):
        left = [state for state in states if state.name not in passed_over]
        if not left:
            raise InputError(
                f"{url}: no state is whole ({', '.join(state.name for state in states)}); "
                "restore one, or remove them to begin anew"
            )
        newest = max(left)
        content = _read(storage.join(url, newest.name), newest.digest)
        if content is not None:
            state = torch.load(io.BytesIO(content), map_location=map_location, weights_only=True)
            return newest.step, state
        passed_over.add(newest.name)
    return None


class _State(NamedTuple):
    """What the name of a state says; the newest is the greatest."""

    step: int
    digest: str
    name: str


_NAME = re.compile(r"step_(\d{12})-([0-9a-f]{16})\.pt")


def _states(url: str) -> list[_State]:
    """The states below a URL, in no order. Other files there, and those being written, are not seen."""
    if not storage.exists(url):
        return []
    found = (_NAME.fullmatch(name) for name in storage.list_names(url))
    return [_State(int(name[1]), name[2], name[0]) for name in found if name]


def _read(url: str, digest: str) -> bytes | None:
    """A state's content; None if it is damaged, with a warning, or gone by now."""
    for _ in range(2):
        try:
            content = storage.read_bytes(url)
        except StorageError:
            raise
        except InputError:
            if storage.exists(url):
                raise
            return None  # another writer has removed it: there is a newer one
        if _digest(content) == digest:
            return content
    _log.warning("%s is damaged and passed over: its content does not have the digest in its name", url)
    return None


def _serialised(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()  # shares the buffer's memory


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _to_host(value: Any, where: str) -> Any:
    """A copy in host memory that shares nothing with the original."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _to_host(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_to_host(item, f"{where}[{number}]") for number, item in enumerate(value))
    if value is None or type(value) in (bool, int, float, str):  # not numpy's, which are floats too
        return value
    raise TypeError(f"{where} is {type(value).__name__}, which cannot be read back without running code")
