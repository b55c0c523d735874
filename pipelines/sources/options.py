"""What a user may tell a reader that its files do not say."""

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
        faults = [
            f"{name} must be positive, got {value}"
            for name, value in (("source_rate_hz", self.source_rate_hz), ("unit_m", self.unit_m))
            if value is not None and not value > 0
        ]
        if self.dataset == "":
            faults.append("dataset must not be empty")
        refuse("read options", faults)
