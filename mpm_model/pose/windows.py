"""Cutting a recording into windows, and putting windows together again without a seam."""

import math
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mpm_model.errors import InputError, refuse

Array = TypeVar("Array", np.ndarray, Tensor)

_BLOCK_FRAMES = 4096
"""Frames that `stitch` blends at once: many for the interpreter, few for the processor's cache."""


def window_starts(
    frames: int, *, window_frames: int, hop_frames: int, first_frame: int = 0
) -> Int[np.ndarray, "N"]:
    """First frames of the windows that cover every frame of a recording that begins at `first_frame`.

    There is one at every multiple of the hop, so that recordings cut from one share its windows away from
    the cuts, one that begins with the recording and one that ends with it.

    A recording shorter than a window has no windows and is refused: the caller pads it or leaves it out.
    """
    faults = []
    if not 1 <= hop_frames <= window_frames:
        faults.append(f"hop_frames must be in 1..window_frames ({window_frames}), got {hop_frames}")
    if frames < window_frames:
        faults.append(
            f"a window of {window_frames} frames does not fit into {frames}; pad them or leave them out"
        )
    refuse("windows", faults)
    last = first_frame + frames - window_frames
    multiples = np.arange(-(-first_frame // hop_frames) * hop_frames, last + 1, hop_frames)
    return np.unique(np.concatenate([[first_frame], multiples, [last]]))


def cut(track: Array, starts: Int[np.ndarray, "N"], *, window_frames: int) -> Array:
    """Windows (N, window_frames, ...) of a track (frames, ...), numpy or tensor."""
    return track[starts[:, None] + np.arange(window_frames)]


def stitch(windows: Array, starts: Int[np.ndarray, "N"], frames: int) -> Array:
    """Blend windows (N, T, ...) that begin at `starts`, in rising order, into one track (frames, ...).

    Where windows overlap, each counts by a raised cosine that is highest in its middle and vanishes at
    its ends; the weights of every frame sum to one. Frames where all windows agree come out unchanged to
    the last bit. Works on numpy arrays and tensors of any float type.
    """
    length = windows.shape[1]
    _check_cover(len(windows), length, starts, frames)
    # As many sets as windows ever overlap: within a set they do not, and can be added at once.
    overlapping = int((np.searchsorted(starts, starts + length) - np.arange(len(starts))).max())
    hat = np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2
    total = np.zeros(frames)
    track = _zeros_like(windows, (frames, *windows.shape[2:]))
    within = np.arange(length)
    block = math.ceil(_BLOCK_FRAMES / length)
    for first in range(overlapping):
        for begin in range(first, len(starts), overlapping * block):
            members = slice(begin, begin + overlapping * block, overlapping)
            rows = starts[members, None] + within
            total[rows] += hat
            share = _like(hat / total[rows], windows).reshape(*rows.shape, *[1] * (windows.ndim - 2))
            # A running weighted mean: where windows agree the difference is 0 and nothing is rounded.
            so_far = track[rows]
            track[rows] = so_far + share * (windows[members] - so_far)
    return track


def _check_cover(windows: int, length: int, starts: Int[np.ndarray, "N"], frames: int) -> None:
    if len(starts) != windows or not windows:
        raise InputError(
            f"stitch: {windows} windows but {len(starts)} starts; at least one of each is needed"
        )
    hops = np.diff(starts)
    if starts[0] != 0 or starts[-1] + length != frames or (hops < 1).any() or (hops > length).any():
        raise InputError(
            f"stitch: windows of {length} frames must rise and cover 0..{frames} without a gap, "
            f"they start at {starts[:3]}...{starts[-1]}"
        )


def _zeros_like(array: Array, shape: tuple[int, ...]) -> Array:
    if isinstance(array, Tensor):
        return array.new_zeros(shape)
    return np.zeros(shape, dtype=array.dtype)


def _like(values: Float[np.ndarray, "*shape"], array: Array) -> Array:
    if isinstance(array, Tensor):
        return torch.from_numpy(values).to(device=array.device, dtype=array.dtype)
    return values.astype(array.dtype)
