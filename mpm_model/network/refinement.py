"""Refinement: mixing a lifted pose with the back-projection of what the camera saw."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mpm_model.errors import refuse
from mpm_model.network.config import share_faults, size_faults


@dataclass(frozen=True, kw_only=True)
class RefinementConfig:
    """Sizes of `RefinementModel`."""

    joints: int = 17
    """Joints J of the skeleton."""
    hidden: int = 1024
    """Hidden width."""
    dropout: float = 0.5
    """Share dropped during training (Cai et al. 2019)."""

    def __post_init__(self) -> None:
        faults = size_faults(self, "joints", "hidden") + share_faults(self, "dropout")
        refuse("refinement sizes", faults)


class RefinementModel(nn.Module):
    """Decides joint by joint how far to trust the lifted x and y, and how far the image (Cai et al. 2019).

    The back-projection places each 2D keypoint at the predicted depth. That needs the depth of the root: an
    estimate in earnest; the paper's figures use the true one, an oracle.
    """

    def __init__(self, config: RefinementConfig) -> None:
        super().__init__()
        self.config = config
        self.expand = nn.Linear(6 * config.joints, config.hidden)
        self.drop = nn.Dropout(config.dropout)
        self.weigh = nn.Linear(config.hidden, 2 * config.joints)

    def forward(
        self, lifted: Float[Tensor, "B T J 3"], back_projected: Float[Tensor, "B T J 3"]
    ) -> Float[Tensor, "B T J 3"]:
        """Mix x and y of both, root-relative metres; z is the lifted one."""
        both = torch.cat((lifted, back_projected), dim=-1)  # (B, T, J, 6)
        hidden = self.drop(torch.relu(self.expand(both.flatten(2))))
        trust = torch.sigmoid(self.weigh(hidden)).view(*lifted.shape[:-1], 2)  # (B, T, J, 2)
        mixed = torch.lerp(back_projected[..., :2], lifted[..., :2], trust)
        return torch.cat((mixed, lifted[..., 2:]), dim=-1)
