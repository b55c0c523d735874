"""How long work shows itself: a bar on a terminal, plain lines in a log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipelines.train import Progress as TrainingProgress


@contextmanager
def training_progress(title: str = "training") -> Iterator[TrainingProgress]:
    """A reporter of training rows, alive while the block runs."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(title)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=None, losses="")
        yield lambda row: bar.update(
            task, completed=row["step"], total=row["steps"], losses=describe_losses(row)
        )


def describe_losses(row: dict[str, float]) -> str:
    """The losses of a row in words."""
    return "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in row.items() if "loss" in name)


def _lines(title: str) -> TrainingProgress:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    begun_s = time.monotonic()

    def report(row: dict[str, float]) -> None:
        elapsed_s = time.monotonic() - begun_s
        console.print(
            f"{title}: step {row['step']:.0f}/{row['steps']:.0f}, epoch {row['epoch']:.1f}, "
            f"{elapsed_s:.0f} s  {describe_losses(row)}"
        )

    return report
