"""The one exception that means: what the user gave is wrong."""

from collections.abc import Iterable, Sequence


class InputError(ValueError):
    """What the user gave is wrong.

    The message says what was wanted, what came, where, and what to do. The command line prints
    it bare and exits with 2; every other exception is our own bug and keeps its traceback.
    """


def refuse(where: str, faults: Sequence[str]) -> None:
    """Raise one InputError that names all faults of one input; do nothing if there are none."""
    if faults:
        raise InputError(f"{where}: " + "; ".join(faults))


def listing(names: Iterable[object], *, shown: int = 6) -> str:
    """The first few of many names, and how many more there are."""
    words = [str(name) for name in names]
    rest = len(words) - shown
    return ", ".join(words[:shown]) + (f" and {rest} more" if rest > 0 else "")
