"""What came of many inputs, in a few lines."""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import islice

from pipelines.manifest import MANIFEST, Receipt

BAD_SHOWN = 20
"""Bad inputs that a summary names; the manifest names all."""
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def describe_receipts(receipts: Iterable[Receipt], *, named_in: str = MANIFEST) -> list[str]:
    """Lines of a summary: what readers assumed (notes that differ in numbers are one), bad inputs."""
    variants: dict[str, Counter[str]] = {}
    bad: dict[str, str] = {}
    for receipt in receipts:
        for note in receipt.notes:
            variants.setdefault(_NUMBER.sub("...", note), Counter())[note] += 1
        if receipt.status == "bad":
            bad[receipt.url] = str(receipt.reason)
    lines = [
        f"  assumed for {notes.total():,}: {next(iter(notes)) if len(notes) == 1 else general}"
        for general, notes in sorted(variants.items())
    ]
    lines += [
        f"  bad: {reason if url in reason else f'{url}: {reason}'}"
        for url, reason in islice(bad.items(), BAD_SHOWN)
    ]
    if len(bad) > BAD_SHOWN:
        lines.append(f"  bad: {len(bad) - BAD_SHOWN:,} more, all named in {named_in}")
    return lines
