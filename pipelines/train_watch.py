"""What the first worker tells of a run while it trains: TensorBoard files, pictures, Prometheus metrics."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from mpm_model.errors import InputError
from pipelines.train_files import News, WatchFiles
from pipelines.train_metrics import TrainMetrics

FLUSH_EVERY_S = 60.0
"""Files are written no more often: each is a request, and TensorBoard reads them one by one."""

_log = logging.getLogger(__name__)


class TrainWatch:
    """Tells of a run, and neither holds it up nor ends it.

    A thread of its own writes the files. A storage that fails is a warning in the log; what could not be
    written is kept and comes with the next flush. Any other exception of the thread is a bug, and raised by
    the next call of `flush` or `close`.
    """

    def __init__(
        self,
        out: str,
        *,
        run: str,
        rows: Sequence[Mapping[str, float]],
        flush_every_s: float = FLUSH_EVERY_S,
    ) -> None:
        """`run` names it in Prometheus; `rows` are what it reported before it was taken up again."""
        self._metrics = TrainMetrics(run)
        self._files = WatchFiles(out, rows=list(rows), begun_s=time.time())
        self._flush_every_s = flush_every_s
        self._flushed_s = -float("inf")
        self._rows: list[tuple[float, Mapping[str, float]]] = []
        self._pictures: list[tuple[float, int, str, bytes]] = []
        self._thread = ThreadPoolExecutor(1, "watch")
        self._writing: Future[None] | None = None
        self._is_closed = False

    def report(self, row: Mapping[str, float]) -> None:
        """Show a row, and flush. A row may come again with more figures."""
        self._metrics.report(row)
        self._rows.append((time.time(), dict(row)))
        self.flush()

    def validated(self, step: int, pictures: Mapping[str, bytes]) -> None:
        """Keep the PNGs of a validation, by kind, for the next flush, which then follows at once."""
        self._pictures += [(time.time(), step, kind, png) for kind, png in pictures.items()]
        self._flushed_s = -float("inf")

    def checkpointed(self, *, is_saved: bool) -> None:
        """Count a checkpoint, or one that could not be saved."""
        self._metrics.checkpointed(is_saved=is_saved)

    def flush(self) -> None:
        """Have what is new written, unless that was just done or is still being done. Does not wait."""
        is_recent = time.monotonic() < self._flushed_s + self._flush_every_s
        if not is_recent and (self._writing is None or self._writing.done()):
            self._give(self._files.write)

    def close(self) -> None:
        """Write all that is left and wait until it is written, or the storage has failed again; once."""
        if not self._is_closed:
            self._is_closed = True
            last = self._give(self._files.finish)
            self._thread.shutdown()
            last.result()

    def _give(self, write: Callable[[News], None]) -> Future[None]:
        """Hand what is new to the thread, after what it was given before."""
        if self._writing is not None:
            self._writing.result()
        self._flushed_s = time.monotonic()
        news = News(self._rows, self._pictures)
        self._rows, self._pictures = [], []
        self._writing = self._thread.submit(_or_warn, write, news)
        return self._writing


def _or_warn(write: Callable[[News], None], news: News) -> None:
    try:
        write(news)
    except (InputError, OSError) as error:
        _log.warning("files that show the training could not be written; it goes on: %s", error)


def gpu_use() -> float | None:
    """Share of the last moments in which this process's GPU was busy, 0 to 1.

    None where there is no GPU, the package nvidia-ml-py is missing, or the GPU does not say (a slice of one).
    """
    if not torch.cuda.is_available():
        return None
    try:
        from pynvml import NVMLError  # type: ignore[import-untyped,import-not-found,unused-ignore]
    except ModuleNotFoundError:
        return None
    try:
        return torch.cuda.utilization() / 100
    except NVMLError:
        return None
