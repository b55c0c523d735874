"""What a reader process is told to do in tests: to die, once or always. Light, as each reader loads it."""

import os
from collections.abc import Sequence
from pathlib import Path


def read_or_die(items: Sequence[str]) -> list[str]:
    """Each item again; dies of `killer`, and, once, of a path that is not there yet."""
    for item in items:
        if item == "killer":
            os._exit(1)
        if item.startswith("/") and not Path(item).exists():
            Path(item).touch()
            os._exit(1)
    return list(items)
