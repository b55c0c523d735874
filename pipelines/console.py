"""How long work shows itself: a bar on a terminal, plain lines in a log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_S = 10.0
"""A log gets a line of counted work no more often than this."""


@contextmanager
def training_progress(title: str = "training") -> Iterator[Callable[[dict[str, float]], None]]:
    """A reporter of training rows, alive while the block runs."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        begun_s = time.monotonic()
        yield lambda row: console.print(
            f"{title}: step {row['step']:.0f}/{row['steps']:.0f}, epoch {row['epoch']:.1f}, "
            f"{time.monotonic() - begun_s:.0f} s, {row['windows_per_s']:.0f} windows/s  {_losses(row)}"
        )
        return
    with _bar(console, "losses") as bar:
        task = bar.add_task(title, total=None, losses="")
        yield lambda row: bar.update(task, completed=row["step"], total=row["steps"], losses=_losses(row))


@contextmanager
def counted_progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A reporter of inputs done and inputs in all, alive while the block runs."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        next_s = time.monotonic() + LINE_EVERY_S

        def line(done: int, total: int) -> None:
            nonlocal next_s
            if time.monotonic() >= next_s:
                console.print(f"{title}: {done:,} of {total:,} inputs")
                next_s = time.monotonic() + LINE_EVERY_S

        yield line
        return
    with _bar(console) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _bar(console: Console, *fields: str) -> Progress:
    texts = [TextColumn(f"{{task.fields[{field}]}}") for field in fields]
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        *texts,
        console=console,
        transient=True,
    )


def _losses(row: dict[str, float]) -> str:
    return "  ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in row.items() if "loss" in name)
