"""Samples cut from longer windows: anywhere, at counted places, and nothing after sees the rest."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from devices import DEVICES
from stick_people import EVERYTHING, stick_people

from mpm_model.errors import InputError
from mpm_model.learning import corpus as corpus_module
from mpm_model.learning.batches import draw_batch
from mpm_model.learning.corpus import Corpus
from mpm_model.learning.counted import counted_uniform
from mpm_model.learning.order import Samples

STORED, FRAMES = 9, 5
PLACES = STORED - FRAMES + 1


def numbered(windows: int, *, device: str = "cpu") -> Corpus:
    """Windows whose joints hold the number of their window, their frame and their joint."""
    grid = torch.meshgrid(torch.arange(windows), torch.arange(STORED), torch.arange(17), indexing="ij")
    joints_world_m = torch.stack(grid, dim=-1).float()
    return replace(
        stick_people(windows, STORED),
        joints_world_m=joints_world_m.to(device),
        is_valid=((joints_world_m[..., 0] + joints_world_m[..., 1] + joints_world_m[..., 2]) % 3 > 0).to(
            device
        ),
        sample_frames=FRAMES,
    )


def cut(corpus: Corpus, samples: Samples, *, seed: int = 0, epoch: int = 0):
    return corpus.cut(samples, seed=seed, epoch=epoch, sample_ids=corpus.ids(samples))


def offsets(corpus: Corpus, samples: Samples, **counted: int) -> np.ndarray:
    """Where the cuts of `numbered` windows begin."""
    return cut(corpus, samples, **counted)[0][:, 0, 0, 1].cpu().numpy().astype(int)


@pytest.mark.parametrize("device", DEVICES)
def test_a_cut_is_the_frames_from_its_counted_offset_on(device):
    corpus = numbered(30, device=device)
    samples = Samples(np.arange(30)[::-1].copy(), np.arange(30) % 2)
    joints_world_m, is_valid = cut(corpus, samples, seed=4, epoch=7)
    ids = corpus.sample_ids[samples.indices] + samples.copies
    drawn = counted_uniform("offset", seed=4, epoch=7, sample_ids=ids, count=1)[:, 0]
    for sample, (row, number) in enumerate(zip(samples.indices, drawn, strict=True)):
        start = int(number * PLACES)
        assert torch.equal(joints_world_m[sample], corpus.joints_world_m[row, start : start + FRAMES])
        assert torch.equal(is_valid[sample], corpus.is_valid[row, start : start + FRAMES])


def test_every_place_is_as_likely_both_ends_too():
    windows = 2000
    counts = np.bincount(offsets(numbered(windows), Samples.once(np.arange(windows))), minlength=PLACES)
    assert len(counts) == PLACES
    share = 1 / PLACES
    assert np.abs(counts / windows - share).max() < 4 * np.sqrt(share * (1 - share) / windows)


def test_an_offset_depends_on_the_sample_and_not_on_its_batch():
    corpus = numbered(200)
    whole = offsets(corpus, Samples.once(np.arange(200)), epoch=2)
    for rows in (np.array([7]), np.array([150, 3, 7])):
        np.testing.assert_array_equal(offsets(corpus, Samples.once(rows), epoch=2), whole[rows])


def test_another_seed_epoch_or_copy_is_cut_elsewhere():
    corpus, rows = numbered(500), np.arange(500)
    first = offsets(corpus, Samples.once(rows))
    for other in (
        offsets(corpus, Samples.once(rows), seed=1),
        offsets(corpus, Samples.once(rows), epoch=1),
        offsets(corpus, Samples(rows, np.ones_like(rows))),
    ):
        # Of independent places one in five is the same.
        assert abs((first == other).mean() - 1 / PLACES) < 4 * np.sqrt(0.2 * 0.8 / 500)


def test_whatever_comes_after_sees_the_cut_alone():
    corpus = replace(stick_people(40, STORED), sample_frames=FRAMES)
    samples = Samples.once(np.arange(40))
    joints_world_m, is_valid = cut(corpus, samples, epoch=3)
    short = replace(corpus, joints_world_m=joints_world_m, is_valid=is_valid, sample_frames=None)
    of_long, of_short = (
        draw_batch(each, samples, seed=0, epoch=3, config=EVERYTHING) for each in (corpus, short)
    )
    assert of_long.keypoints.shape[:2] == (40, FRAMES)
    for field in fields(of_long):
        np.testing.assert_array_equal(getattr(of_long, field.name), getattr(of_short, field.name))


@pytest.mark.parametrize("sample_frames", [None, STORED])
def test_windows_as_long_as_a_sample_are_taken_whole_and_nothing_is_drawn(sample_frames, monkeypatch):
    monkeypatch.delattr(corpus_module, "uniform_on")
    corpus = replace(numbered(8), sample_frames=sample_frames)
    assert corpus.frames == STORED
    rows = np.array([5, 1])
    joints_world_m, is_valid = cut(corpus, Samples.once(rows))
    assert torch.equal(joints_world_m, corpus.joints_world_m[rows])
    assert torch.equal(is_valid, corpus.is_valid[rows])


@pytest.mark.parametrize("sample_frames", [0, STORED + 1])
def test_a_sample_longer_than_what_is_stored_or_empty_is_refused(sample_frames):
    with pytest.raises(InputError, match=rf"samples of {sample_frames} frames .* windows of {STORED}"):
        replace(numbered(2), sample_frames=sample_frames)
