"""Mixing data sets: shares in closed form, and one epoch for any number of workers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpm_model.errors import InputError
from mpm_model.learning.order import MixConfig, Samples, quotas, samples_at

SIZES = (5, 120, 43)
DATASET = np.random.default_rng(0).permutation(np.repeat(np.arange(3), SIZES))
SET_SIZES = st.lists(st.integers(1, 5000), min_size=1, max_size=6).map(tuple)


def draw(step: int, *, temperature: float = 1.0, dataset: np.ndarray = DATASET, **options):
    return samples_at(
        step,
        dataset=dataset,
        mix=MixConfig(temperature=temperature),
        **({"batch_windows": 12, "seed": 1} | options),
    )


def epoch_of(temperature: float, *, epoch: int = 0) -> Samples:
    """All samples of an epoch that one batch holds."""
    came, samples = draw(epoch, temperature=temperature, batch_windows=len(DATASET))
    assert came == epoch
    return samples


@given(sizes=SET_SIZES, temperature=st.floats(1, 1e6))
def test_quotas_sum_to_the_total_and_follow_the_power_law(sizes, temperature):
    shares = quotas(sizes, temperature)
    assert sum(shares) == sum(sizes)
    weights = np.array(sizes) ** (1 / temperature)
    # Both ends of a quota are rounded, each by half a window at most.
    assert np.abs(shares - weights / weights.sum() * sum(sizes)).max() <= 1 + 1e-6


@given(sizes=SET_SIZES)
def test_temperature_one_is_proportion_and_a_large_one_equal_shares(sizes):
    assert quotas(sizes, 1.0) == sizes
    assert np.ptp(quotas(sizes, 1e9)) <= 2


def test_the_quota_of_temperature_two_by_hand():
    assert quotas((100, 400, 2500), 2.0) == (375, 750, 1875)  # 10 : 20 : 50 of 3000


def test_temperature_one_is_a_permutation():
    samples = epoch_of(1.0)
    assert sorted(samples.indices) == list(range(len(DATASET)))
    assert (samples.copies == 0).all()


@pytest.mark.parametrize("temperature", [1.0, 1.7, 3.0, 1e9])
def test_every_window_of_a_set_comes_floor_or_ceil_times(temperature):
    samples = epoch_of(temperature)
    counts = np.bincount(samples.indices, minlength=len(DATASET))
    for number, (size, quota) in enumerate(zip(SIZES, quotas(SIZES, temperature), strict=True)):
        of_set = counts[number == DATASET]
        assert of_set.sum() == quota
        assert set(of_set) <= {quota // size, -(-quota // size)}


def test_the_copies_of_a_window_are_numbered():
    samples = epoch_of(1e9)
    for row in range(len(DATASET)):
        copies = sorted(samples.copies[samples.indices == row])
        assert copies == list(range(len(copies)))
    assert samples.copies.max() == 56 // 5  # the smallest set of 5 has a third of 168


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("workers", [2, 3, 4])
@pytest.mark.parametrize("step", [0, 7, 15])
def test_all_workers_together_see_the_batch_of_one(temperature, workers, step):
    epoch, whole = draw(step, temperature=temperature)
    shares = [draw(step, temperature=temperature, rank=rank, world_size=workers) for rank in range(workers)]
    assert {came for came, _ in shares} == {epoch} == {step // 14}
    for rank, (_, share) in enumerate(shares):
        assert share.indices.tolist() == whole.indices[rank::workers].tolist()
        assert share.copies.tolist() == whole.copies[rank::workers].tolist()


def test_the_steps_of_an_epoch_are_its_samples_without_the_rest():
    steps = [draw(step, temperature=3.0, batch_windows=10) for step in range(16)]
    whole = epoch_of(3.0)
    assert {epoch for epoch, _ in steps} == {0}
    assert np.concatenate([samples.indices for _, samples in steps]).tolist() == whole.indices[:160].tolist()


def test_every_epoch_and_every_seed_has_its_own_order():
    first, again, later = (epoch_of(3.0, epoch=epoch).indices for epoch in (0, 0, 1))
    _, other = draw(0, temperature=3.0, batch_windows=len(DATASET), seed=2)
    assert first.tolist() == again.tolist()
    assert first.tolist() != later.tolist()
    assert first.tolist() != other.indices.tolist()


def test_sets_are_mixed_within_an_epoch():
    """Every quarter of an epoch has its share of the largest set, within five standard deviations."""
    samples = epoch_of(1.0)
    shares = [(DATASET[part] == 1).mean() for part in np.array_split(samples.indices, 4)]
    assert np.abs(np.array(shares) - 120 / 168).max() < 5 * np.sqrt(0.21 / 42)


@pytest.mark.parametrize("temperature", [0.5, 0, -1, float("nan")])
def test_a_temperature_below_one_is_refused(temperature):
    with pytest.raises(InputError, match="temperature must be at least 1"):
        MixConfig(temperature=temperature)
