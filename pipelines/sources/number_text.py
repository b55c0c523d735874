"""Numbers out of text, and the telling of what is wrong with them."""

import math
from collections.abc import Sequence

from mpm_model.errors import InputError

_FAULTS_SHOWN = 5
"""How many faults of one file a message spells out: a broken export repeats itself a thousandfold."""


def to_number(word: str) -> float:
    """The number a word is; NaN for any other word."""
    try:
        return float(word)
    except ValueError:
        return math.nan


def to_numbers(words: Sequence[str]) -> list[float]:
    """The numbers words are, NaN where one is not: quick when all are."""
    try:
        return list(map(float, words))
    except ValueError:
        return [to_number(word) for word in words]


def refuse_text(where: str, faults: Sequence[str], *, advice: str) -> None:
    """Raise one InputError that names the first faults of a file, counts the others and says what to do."""
    if faults:
        more = f"; and {len(faults) - _FAULTS_SHOWN} more" if len(faults) > _FAULTS_SHOWN else ""
        raise InputError(f"{where}: {'; '.join(faults[:_FAULTS_SHOWN])}{more}. {advice}")
