"""What the user says about a lifting job."""

from dataclasses import dataclass, field

from mpm_model.checkpoint import TENSORS_FILE
from mpm_model.errors import refuse
from mpm_model.lifter import MODES, shipped_weights
from pipelines.detections.source import ReadOptions
from pipelines.lift_plan import SHARD_BYTES
from pipelines.placing import Placing


@dataclass(frozen=True, kw_only=True)
class LiftConfig:
    """How keypoints become poses."""

    checkpoint: str | None = None
    """Folder or URL of a checkpoint that lifts; None: the weights that ship."""
    mode: str = "fast"
    """`fast`, `exact` or `causal`: see `Lifter`."""
    is_mirrored: bool = False
    """Whether the mirrored keypoints are lifted as well, and both averaged: twice the work."""
    min_confidence: float = 0.1
    """Keypoints less sure than this enter as hidden."""
    format: str | None = None
    """Format of the keypoints; None looks at the content."""
    rate_hz: float | None = None
    """Rate of the videos, where the format does not say."""
    width_px: int | None = None
    """Image width, where the format does not say."""
    height_px: int | None = None
    """Image height, where the format does not say."""
    placing: Placing = field(default_factory=Placing)
    """What is known of the camera and the people, to say where they are."""
    shard_mib: float = SHARD_BYTES / 2**20
    """Size of the input that one unit of work takes; larger files are shared by several."""

    def __post_init__(self) -> None:
        faults = []
        if self.checkpoint is None and not (shipped_weights() / TENSORS_FILE).is_file():
            faults.append(
                "no weights ship with this version: give --checkpoint with a folder that finetune made"
            )
        if self.mode not in MODES:
            faults.append(f"--mode must be one of {', '.join(MODES)}, got {self.mode!r}")
        if not 0 <= self.min_confidence <= 1:
            faults.append(f"min_confidence must be in 0..1, got {self.min_confidence}")
        if not 0 < self.shard_mib <= 1024:
            faults.append(f"--shard-mib must be in 0..1024, got {self.shard_mib}")
        refuse("lift", faults)
        self.read_options()

    def read_options(self) -> ReadOptions:
        """What of this is for the reader."""
        return ReadOptions(
            format=self.format, rate_hz=self.rate_hz, width_px=self.width_px, height_px=self.height_px
        )
