"""What every motion-capture reader returns."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mpm_model.errors import refuse
from mpm_model.pose.skeleton import Skeleton


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One take of one person: world space, metres, z up, one skeleton, one rate."""

    joints_world_m: Float[np.ndarray, "T J 3"]
    """Joint positions, float32. Invalid joints hold 0."""
    is_valid: Bool[np.ndarray, "T J"]
    """Whether the joint was really captured in that frame."""
    skeleton: Skeleton
    """Skeleton of the joints; readers return Human3.6M-17."""
    rate_hz: float
    """Frames per second."""
    dataset: str
    """Data set, such as `cmu`."""
    subject: str
    """Person, unique within the data set."""
    action: str
    """What is done, as far as the data set says."""
    name: str
    """Name of the take, unique within the data set."""
    source: str
    """URL of the file it came from."""
    notes: tuple[str, ...] = ()
    """What the reader had to assume, one sentence each (a rate not in the file, a guessed unit)."""

    def __post_init__(self) -> None:
        faults = []
        if not self.rate_hz > 0:
            faults.append(f"rate_hz must be positive, got {self.rate_hz}")
        shape = (*self.is_valid.shape, 3)
        if self.joints_world_m.shape != shape or shape[1] != len(self.skeleton):
            faults.append(
                f"joints_world_m must be (T, {len(self.skeleton)}, 3) beside is_valid, "
                f"got {self.joints_world_m.shape} beside {self.is_valid.shape}"
            )
        else:
            bad = ~np.isfinite(self.joints_world_m).all(axis=(1, 2))
            if bad.any():
                faults.append(
                    f"{bad.sum()} of {bad.size} frames hold NaN or infinity, first at frame {bad.argmax()}"
                )
        refuse(self.source, faults)
