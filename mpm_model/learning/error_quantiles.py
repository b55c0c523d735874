"""Error bands fitted to errors that are known: quantile regression by a small network.

The pinball loss of a quantile is least where that share of the errors lies below (Koenker & Bassett,
Regression quantiles, 1978); a network under it gives quantiles that bend with what it is shown (Taylor 2000).
Afterwards each quantile is moved until it holds its share exactly (Romano et al., Conformalized quantile
regression, 2019), over all joints of a state together, and widened for people the lifter has not learnt from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mpm_model.error_bands import QUANTILES, STATES, ErrorBands, standardised
from mpm_model.lifting_signs import bone_lengths_m, what_shows
from mpm_model.pose.metrics import MM_PER_M
from mpm_model.pose.skeleton import Skeleton

HIDDEN_UNITS = 32

STEPS = 2500
BATCH_FRAMES = 512
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-2
"""Keeps slopes that few frames ask for small."""
LEAST_STD = 0.02
"""What hardly changes tells hardly anything, and is not blown up."""
LEAST_ERROR_MM = 0.1
"""Errors below this are taken as this: their logarithm says nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LiftedTrack:
    """A track as it was lifted, and where its joints really are."""

    joints_rel_m: Float[np.ndarray, "N J 3"]
    true_rel_m: Float[np.ndarray, "N J 3"]
    is_valid: Bool[np.ndarray, "N J"]
    """Whether the truth is known."""
    keypoints_px: Float[np.ndarray, "N J 2"]
    confidence: Float[np.ndarray, "N J"]
    is_hidden: Bool[np.ndarray, "N J"]
    rate_hz: float
    group: str
    """Tracks of each group, such as a data set, count as much as those of any other."""

    @property
    def error_mm(self) -> Float[np.ndarray, "N J"]:
        """Distance of the lifted joints from their true places."""
        return np.asarray(MM_PER_M * np.linalg.norm(self.joints_rel_m - self.true_rel_m, axis=-1))


def fit_error_bands(
    tracks: Sequence[LiftedTrack],
    *,
    skeleton: Skeleton,
    seed: int,
    fitted_on: str,
    people: int,
    widening: tuple[float, float] = (1.0, 1.0),
) -> ErrorBands:
    """Bands that hold what they say on these tracks, each group counted alike, before the `widening`: so many
    times as long each radius becomes.

    `fitted_on` and `people` are for the bands' reader; nothing is measured yet.
    """
    bones_m = np.concatenate([bone_lengths_m(track.joints_rel_m, skeleton) for track in tracks])
    bone_length_m = np.maximum(np.median(bones_m, axis=0), 1e-3)
    shown = np.concatenate(
        [
            what_shows(
                track.joints_rel_m,
                track.keypoints_px,
                track.confidence,
                track.is_hidden,
                rate_hz=track.rate_hz,
                skeleton=skeleton,
                bone_length_m=bone_length_m,
            )
            for track in tracks
        ]
    )
    mean, std = shown.mean(0), np.maximum(shown.std(0), LEAST_STD)
    log_mm = np.log(np.maximum(np.concatenate([track.error_mm for track in tracks])[:, 1:], LEAST_ERROR_MM))
    frames = _Frames(
        shown=torch.from_numpy(standardised(shown, mean, std)),
        log_mm=torch.from_numpy(log_mm.astype(np.float32)),
        is_hidden=torch.from_numpy(np.concatenate([track.is_hidden for track in tracks])[:, 1:]),
        is_valid=torch.from_numpy(np.concatenate([track.is_valid for track in tracks])[:, 1:]),
        weight=torch.from_numpy(_weights(tracks)),
    )
    network = _fit_network(frames, seed=seed)
    _hold_their_shares(network, frames, widening=widening)
    return ErrorBands(
        skeleton=skeleton,
        fitted_on=fitted_on,
        frames=len(shown),
        people=people,
        coverage={},
        bone_length_m=bone_length_m.astype(np.float32),
        shown_mean=mean,
        shown_std=std,
        hidden_weight=network.hidden.weight.detach().numpy().T.copy(),
        hidden_bias=network.hidden.bias.detach().numpy(),
        output_weight=network.output.weight.detach().numpy().T.copy(),
        output_bias=network.output.bias.detach().numpy(),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Frames:
    """Frames of all tracks; joints without the root."""

    shown: Float[Tensor, "N I"]
    log_mm: Float[Tensor, "N J"]
    is_hidden: Bool[Tensor, "N J"]
    is_valid: Bool[Tensor, "N J"]
    weight: Float[Tensor, "N"]


def _weights(tracks: Sequence[LiftedTrack]) -> Float[np.ndarray, "N"]:
    """One over the frames of a frame's group."""
    frames: dict[str, int] = {}
    for track in tracks:
        frames[track.group] = frames.get(track.group, 0) + len(track.joints_rel_m)
    return np.concatenate([np.full(len(track.joints_rel_m), 1 / frames[track.group]) for track in tracks])


class _Network(torch.nn.Module):
    """What `ErrorBands.of` computes, in torch."""

    def __init__(self, shown: int, *, joints: int) -> None:
        super().__init__()
        # Drawn from the caller's generator later: the global one is left alone.
        with torch.device("meta"):
            self.hidden = torch.nn.Linear(shown, HIDDEN_UNITS)
            self.output = torch.nn.Linear(HIDDEN_UNITS, STATES * len(QUANTILES) * joints)
        self.to_empty(device="cpu")

    def forward(
        self, shown: Float[Tensor, "B I"], is_hidden: Bool[Tensor, "B J"]
    ) -> Float[Tensor, "B quantiles J"]:
        log_mm = self.output(self.hidden(shown).tanh())
        of_seen, of_hidden = log_mm.view(len(shown), STATES, len(QUANTILES), -1).unbind(1)
        return torch.where(is_hidden[:, None], of_hidden, of_seen)


def _fit_network(frames: _Frames, *, seed: int) -> _Network:
    generator = torch.Generator().manual_seed(seed)
    network = _Network(frames.shown.shape[1], joints=frames.log_mm.shape[1])
    with torch.no_grad():
        for layer in (network.hidden, network.output):
            layer.weight.normal_(std=layer.in_features**-0.5, generator=generator)
            layer.bias.zero_()
        network.output.bias.fill_(float(frames.log_mm[frames.is_valid].median()))
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    drawn = torch.multinomial(
        frames.weight, STEPS * BATCH_FRAMES, replacement=True, generator=generator
    ).view(STEPS, BATCH_FRAMES)
    for rows in drawn:
        missing = frames.log_mm[rows, None] - network(
            frames.shown[rows], frames.is_hidden[rows]
        )  # (B, quantiles, J)
        share = missing.new_tensor(QUANTILES)[:, None]
        pinball = torch.maximum(share * missing, (share - 1) * missing)
        is_valid = frames.is_valid[rows, None]
        loss = (pinball * is_valid).sum() / is_valid.sum().clamp(min=1)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return network


@torch.no_grad()
def _hold_their_shares(network: _Network, frames: _Frames, *, widening: tuple[float, float]) -> None:
    """Move the quantiles, of each state apart, until each holds its share of these errors; widen them."""
    missing = frames.log_mm[:, None] - network(frames.shown, frames.is_hidden)
    bias = network.output.bias.view(STATES, len(QUANTILES), -1)
    bias += bias.new_tensor(widening).log()[:, None]
    for state, is_state in enumerate((~frames.is_hidden, frames.is_hidden)):
        is_counted = is_state & frames.is_valid
        if not is_counted.any():
            continue
        weight = frames.weight[:, None].expand_as(is_counted)[is_counted]
        for number, share in enumerate(QUANTILES):
            ordered, order = missing[:, number][is_counted].sort()
            held = weight[order].cumsum(0)
            bias[state, number] += ordered[int(torch.searchsorted(held, share * held[-1]))]
