"""Reading in a process beside this one, so that a file that ends its reader ends nothing else.

Ray does the same for large jobs; a small job should not wait for Ray to start.
"""

import importlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self


class ReaderDiedError(Exception):
    """The process ended while it read: the file is too much for the memory, or a library for the file."""


class ReaderProcess:
    """Calls a function in another process, one call at a time; a new process is started after one that died.

    The first starts at once and loads its libraries while others are loaded here.
    """

    def __init__(self, *, threads: int | None = None, preload: str = "pipelines.lift_shard") -> None:
        """Start it; `threads` bounds what its libraries use, `preload` is a module to import at once."""
        self._preload = preload
        self._threads = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
        self._is_ended = False
        self._process = self._start()

    def call(self, function: Callable[[Any], Any], argument: Any) -> Any:
        """What the function returns, or raises; ReaderDiedError if the process ended instead."""
        if self._is_ended:
            raise RuntimeError("this reader was told to end")
        if self._process.poll() is not None:
            self._process = self._start()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            pickle.dump((function, argument), self._process.stdin)
            self._process.stdin.flush()
            is_result, value = pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            self._process.kill()
            if self._is_ended:
                raise RuntimeError("this reader was told to end") from error
            raise ReaderDiedError(f"the process that read it ended ({self._process.wait()})") from error
        if not is_result:
            raise value
        return value

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def end(self) -> None:
        """Kill it for good; a call under way, or a later one, is a RuntimeError."""
        self._is_ended = True
        self._process.kill()

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.reader_process", self._preload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | self._threads,
            start_new_session=True,  # an interrupt is for the command, which ends this one
        )


def read_one_by_one(
    reader: ReaderProcess, function: Callable[[Sequence[Any]], list[Any]], items: Sequence[Any]
) -> list[Any]:
    """The results for all items; for one that ends its reader, the error in place of a result.

    No item is judged by one death alone: somebody else may have ended the reader.
    """
    try:
        return list(reader.call(function, items))
    except ReaderDiedError:
        # Not by halves: what takes time is to start a reader anew, once for each item that ends one.
        return [_read_alone(reader, function, item) for item in items]


def _read_alone(reader: ReaderProcess, function: Callable[[Sequence[Any]], list[Any]], item: Any) -> Any:
    try:
        return reader.call(function, [item])[0]
    except ReaderDiedError as error:
        return error


def _serve() -> None:
    """Answer calls until the pipe closes. What the functions print goes to stderr."""
    importlib.import_module(sys.argv[1])
    answers, sys.stdout = os.fdopen(os.dup(1), "wb"), sys.stderr
    os.dup2(2, 1)
    while True:
        try:
            function, argument = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = True, function(argument)
        except Exception as error:  # noqa: BLE001 - raised again where it was asked for
            answer = False, error
        pickle.dump(answer, answers, protocol=5)
        answers.flush()


if __name__ == "__main__":
    _serve()
