"""All that is drawn for a step is drawn on the device, and the host waits for none of it."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from devices import NEEDS_GPU
from stick_people import EVERYTHING, stick_people
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mpm_model.learning.batches import Batch, draw_batch
from mpm_model.learning.corpus import Corpus
from mpm_model.learning.masking import MaskConfig, draw_hidden
from mpm_model.learning.order import Samples


class WatchCopies(TorchDispatchMode):
    """Counts copies between devices, but not those of Python numbers: see `RefuseConstants`."""

    def __init__(self) -> None:
        super().__init__()
        self.copies = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        answer = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, answer)) if isinstance(leaf, torch.Tensor)]
        self.copies += len({tensor.device for tensor in tensors}) > 1
        return answer


class RefuseConstants(TorchFunctionMode):
    """Refuses to make tensors out of Python numbers."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        assert func not in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor), resolve_name(func)
        return func(*args, **(kwargs or {}))


def draw(corpus: Corpus) -> Batch:
    samples = Samples.once(np.arange(len(corpus)))
    return draw_batch(corpus, samples, seed=0, epoch=3, config=EVERYTHING)


def step(corpus: Corpus) -> None:
    """All that is drawn for a step of pre-training."""
    batch = draw(corpus)
    device = batch.keypoints.device
    for stream in ("2d", "3d"):
        hidden = draw_hidden(
            stream,
            seed=0,
            epoch=0,
            sample_ids=batch.sample_ids,
            frames=corpus.frames,
            joints=17,
            config=MaskConfig(),
            device=device,
        )
        assert hidden.is_hidden.device == device


def on(device: str, *, sample_frames: int | None = None) -> Corpus:
    """Forty windows on a device."""
    corpus = stick_people()
    return replace(
        corpus,
        joints_world_m=corpus.joints_world_m.to(device),
        is_valid=corpus.is_valid.to(device),
        sample_frames=sample_frames,
    )


@pytest.mark.parametrize("sample_frames", [None, 5])
def test_a_step_sends_its_rows_and_ids_to_the_device_and_takes_nothing_back(sample_frames):
    # Tensors without memory stand in for a device: reading any of their numbers on the host raises.
    corpus = on("meta", sample_frames=sample_frames)
    step(corpus)  # constants go to the device once
    with WatchCopies() as watch, RefuseConstants():
        step(corpus)
    assert watch.copies == 4  # rows; ids for the view and for either mask


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=NEEDS_GPU)])
class TestOnAGpu:
    def test_the_host_never_waits(self, device):
        corpus = on(device, sample_frames=5)
        step(corpus)
        torch.cuda.set_sync_debug_mode("error")
        try:
            step(corpus)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def test_a_batch_is_the_same_as_on_the_cpu_but_for_rounding(self, device):
        there, here = (draw(on(where, sample_frames=5)) for where in (device, "cpu"))
        for name in (field.name for field in fields(Batch)):
            ours, theirs = getattr(there, name), getattr(here, name)
            if isinstance(ours, Tensor):
                torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-4, atol=1e-4, msg=name)
            else:
                np.testing.assert_array_equal(ours, theirs)
