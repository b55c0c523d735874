"""Digests of samples: the same however a batch is shared out, another for the least change."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from stick_people import EVERYTHING, stick_people

from mpm_model.learning.batches import Batch, draw_batch
from mpm_model.learning.fingerprint import sample_digests
from mpm_model.learning.masking import Hidden, MaskConfig, draw_hidden
from mpm_model.learning.order import Samples

WINDOWS = 24


def draw(rows: np.ndarray, *, seed: int = 0) -> tuple[Batch, Hidden]:
    corpus = stick_people(WINDOWS)
    batch = draw_batch(corpus, Samples.once(rows), seed=seed, epoch=1, config=EVERYTHING)
    hidden = draw_hidden(
        "2d",
        seed=seed,
        epoch=1,
        sample_ids=batch.sample_ids,
        frames=corpus.frames,
        joints=17,
        config=MaskConfig(),
    )
    return batch, hidden


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_samples_have_the_same_digests_for_any_number_of_workers(workers):
    whole = sample_digests(*draw(np.arange(WINDOWS)))
    assert len(set(whole)) == WINDOWS
    assert all(len(bytes.fromhex(digest)) == 32 for digest in whole)
    for rank in range(workers):
        assert sample_digests(*draw(np.arange(WINDOWS)[rank::workers])) == whole[rank::workers]


def test_another_seed_gives_every_sample_another_digest():
    first, second = (sample_digests(*draw(np.arange(WINDOWS), seed=seed)) for seed in (0, 1))
    assert not set(first) & set(second)


@pytest.mark.parametrize("name", [field.name for field in fields(Batch)])
def test_one_number_of_one_field_changes_the_digest_of_its_sample_alone(name):
    batch, hidden = draw(np.arange(WINDOWS))
    as_before = getattr(batch, name)
    values = np.array(as_before.numpy() if isinstance(as_before, torch.Tensor) else as_before)
    place = (5, *[0] * (values.ndim - 1))
    is_float = values.dtype.kind == "f"
    values[place] = np.nextafter(values[place], np.float32(np.inf)) if is_float else values[place] ^ 1
    changed = torch.from_numpy(values) if isinstance(as_before, torch.Tensor) else values
    before, after = sample_digests(batch, hidden), sample_digests(replace(batch, **{name: changed}), hidden)
    assert [row for row in range(WINDOWS) if before[row] != after[row]] == [5]


def test_masks_count_too():
    batch, hidden = draw(np.arange(WINDOWS))
    is_hidden_joint = hidden.is_hidden_joint.clone()
    is_hidden_joint[3, 0, 0] ^= True
    changed = replace(hidden, is_hidden_joint=is_hidden_joint)
    before, after = sample_digests(batch, hidden), sample_digests(batch, changed)
    assert [row for row in range(WINDOWS) if before[row] != after[row]] == [3]


def test_parts_of_different_batches_are_refused():
    with pytest.raises(ValueError, match=r"one batch, they have \[3, 24\] samples"):
        sample_digests(draw(np.arange(WINDOWS))[0], draw(np.arange(3))[1])
