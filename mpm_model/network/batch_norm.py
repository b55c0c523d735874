"""Batch norm over all workers' frames, so that a network with it learns the same on any number of workers.

torch's own `SyncBatchNorm` runs on GPUs only; this one is for any device and worker count.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mpm_model.workers import total_through, worker_count


class SharedBatchNorm(nn.BatchNorm1d):
    """`nn.BatchNorm1d` whose statistics, while training, are of the frames of all workers together."""

    def forward(self, frames: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """Normalise; alone, or when not training, exactly as the class it is made of."""
        if not self.training or worker_count() == 1:
            alone: Tensor = super().forward(frames)
            return alone
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        values = frames.float()
        sums = total_through(torch.cat([values.sum(0), values.new_tensor([len(values)])]))
        mean, count = sums[:-1] / sums[-1], sums[-1].detach()
        # The mean first: a mean of squares less a squared mean would lose digits.
        centred = values - mean
        variance = total_through(centred.square().sum(0)) / count
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean.detach(), self.momentum)
        self.running_var.lerp_(variance.detach() * count / (count - 1), self.momentum)
        normalised: Tensor = centred * (variance + self.eps).rsqrt() * self.weight + self.bias
        return normalised.to(frames.dtype)
