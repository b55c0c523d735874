"""What a user may tell a reader that its files do not say."""

import re
from dataclasses import dataclass

from mpm_model.errors import refuse


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Facts that replace what a reader would take from the file, or assume."""

    source_rate_hz: float | None = None
    """Rate of the files."""
    unit_m: float | None = None
    """Metres of one unit of length in the files."""
    dataset: str | None = None
    """Name of the data set."""

    def __post_init__(self) -> None:
        bounds = (("source_rate_hz", self.source_rate_hz, 1.0, 10_000.0), ("unit_m", self.unit_m, 1e-6, 1e3))
        faults = [
            f"{name} must lie in {low:g}..{high:g}, got {value}"
            for name, value, low, high in bounds
            if value is not None and not low <= value <= high
        ]
        if self.dataset is not None and not re.fullmatch(r"[a-z0-9_]+", self.dataset):
            faults.append(f"dataset must be of a-z, 0-9 and _, got {self.dataset!r}")
        refuse("read options", faults)
