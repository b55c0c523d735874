"""The share of the labels that `make bench-accuracy` fine-tunes on."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from mpm_model.learning.batches import Corpus
from mpm_model.pose.skeletons import H36M_17
from tests.benchmarks.accuracy_training import share_of

SIZES = (5, 120, 43)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    rng = np.random.default_rng(0)
    windows = sum(SIZES)
    numbers = torch.arange(windows, dtype=torch.float32)
    return Corpus(
        joints_world_m=numbers[:, None, None, None].expand(-1, 3, 17, 3),
        is_valid=(numbers % 2 == 0)[:, None, None].expand(-1, 3, 17),
        sample_ids=rng.permutation(windows) * 1_000_003,
        skeleton=H36M_17,
        rate_hz=25.0,
        dataset=rng.permutation(np.repeat(np.arange(3), SIZES)),
        dataset_names=("a", "b", "c"),
    )


def rows_of(part: Corpus) -> list[int]:
    """Which rows of the whole a part is made of."""
    return part.joints_world_m[:, 0, 0, 0].int().tolist()


@pytest.mark.parametrize(
    ("share", "counts"), [(0.5, (2, 60, 22)), (0.1, (1, 12, 4)), (0.01, (1, 1, 1)), (0.9, (4, 108, 39))]
)
def test_exactly_the_share_of_every_set_is_taken_and_one_window_at_least(corpus, share, counts):
    part = share_of(corpus, share, seed=0)
    assert tuple(np.bincount(part.dataset)) == counts
    assert len(part) == sum(counts) == len(part.joints_world_m) == len(part.is_valid)


def test_windows_keep_their_order_ids_sets_and_validity(corpus):
    part = share_of(corpus, 0.3, seed=0)
    rows = rows_of(part)
    assert rows == sorted(set(rows))
    assert part.sample_ids.tolist() == corpus.sample_ids[rows].tolist()
    assert part.dataset.tolist() == corpus.dataset[rows].tolist()
    assert torch.equal(part.is_valid, corpus.is_valid[rows])


def test_a_smaller_share_lies_within_a_larger_one(corpus):
    parts = [set(rows_of(share_of(corpus, share, seed=0))) for share in (0.01, 0.1, 0.5, 0.9, 1.0)]
    for smaller, larger in pairwise(parts):
        assert smaller < larger


def test_a_share_is_its_seed(corpus):
    first, again, other = (rows_of(share_of(corpus, 0.3, seed=seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_the_whole_share_is_the_corpus(corpus):
    assert share_of(corpus, 1.0, seed=0) is corpus
