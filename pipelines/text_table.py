"""Tables as lines of plain text."""

from collections.abc import Sequence


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, indent: str = "  ") -> list[str]:
    """Lines with aligned columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        indent + "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]  # fmt: skip


def percent(share: float, *, digits: int = 1) -> str:
    """A share as per cent; a dash where there is none."""
    return "-" if share != share else f"{100 * share:.{digits}f} %"


def count(number: int, what: str) -> str:
    """A number with its noun: 1 frame, 1,200 frames, 3 people."""
    plural = {"person": "people"}.get(what, f"{what}s")
    return f"{number:,} {what if number == 1 else plural}"
