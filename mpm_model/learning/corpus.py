"""Windows held in memory, on the device that trains, and samples cut from them."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mpm_model.errors import refuse
from mpm_model.learning.counted import SampleIds, uniform_on
from mpm_model.learning.order import Samples
from mpm_model.on_device import send
from mpm_model.pose.skeleton import Skeleton


@dataclass(frozen=True)
class Corpus:
    """Windows, each as long as a sample or longer; a sample of a longer one begins anywhere within it."""

    joints_world_m: Float[Tensor, "N T_stored J 3"]
    """World joints, z up."""
    is_valid: Bool[Tensor, "N T_stored J"]
    """Whether a joint was captured."""
    sample_ids: Int[np.ndarray, "N"]
    """Stable ids that all randomness is counted from."""
    skeleton: Skeleton
    """Skeleton of the joints."""
    rate_hz: float
    """Frames per second."""
    dataset: Int[np.ndarray, "N"]
    """Number of the data set each window is of, in `dataset_names`."""
    dataset_names: tuple[str, ...]
    """The data sets, sorted."""
    sample_frames: int | None = None
    """Frames of a sample; None: as many as are stored."""

    def __post_init__(self) -> None:
        stored = self.joints_world_m.shape[1]
        refuse(
            "corpus",
            [f"samples of {self.frames} frames cannot be cut from windows of {stored}"]
            * (not 1 <= self.frames <= stored),
        )

    def __len__(self) -> int:
        return len(self.sample_ids)

    @property
    def frames(self) -> int:
        """Frames of a sample."""
        return self.joints_world_m.shape[1] if self.sample_frames is None else self.sample_frames

    def ids(self, samples: Samples) -> Int[np.ndarray, "B"]:
        """What the randomness of samples is counted from."""
        ids: np.ndarray = self.sample_ids[samples.indices] + samples.copies
        return ids

    def cut(
        self, samples: Samples, *, seed: int, epoch: int, sample_ids: SampleIds
    ) -> tuple[Float[Tensor, "B T J 3"], Bool[Tensor, "B T J"]]:
        """World joints of samples, and which of them are valid.

        Every place in a stored window is as likely, and counted from (seed, epoch, sample id) alone.
        """
        device = self.joints_world_m.device
        rows = send(samples.indices, device)
        places = self.joints_world_m.shape[1] - self.frames + 1
        if places == 1:
            return self.joints_world_m[rows], self.is_valid[rows]
        uniform = uniform_on(device, "offset", seed=seed, epoch=epoch, sample_ids=sample_ids, count=1)
        # In double precision a number below 1 times a whole number stays below that.
        frames = (uniform * places).long() + torch.arange(self.frames, device=device)  # (B, T)
        return self.joints_world_m[rows[:, None], frames], self.is_valid[rows[:, None], frames]
