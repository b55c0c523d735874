"""The one exception that means: what the user gave is wrong."""

from collections.abc import Sequence


class InputError(ValueError):
    """What the user gave is wrong.

    The message says what was wanted, what came, where, and what to do. The command line prints
    it bare and exits with 2; every other exception is our own bug and keeps its traceback.
    """


def refuse(where: str, faults: Sequence[str]) -> None:
    """Raise one InputError that names all faults of one input; do nothing if there are none."""
    if faults:
        raise InputError(f"{where}: " + "; ".join(faults))
