"""Counted randomness: the same everywhere, and as good as drawn."""

import numpy as np
import pytest
import torch
from devices import DEVICES
from hypothesis import given
from hypothesis import strategies as st

from mpm_model.learning import counted
from mpm_model.learning.counted import (
    counted_normal,
    counted_uniform,
    ids_on,
    normal_on,
    sample_order,
    uniform_on,
)

IDS = np.arange(200)


def uniform(stream: str = "masks", *, seed: int = 0, epoch: int = 0, ids: np.ndarray = IDS, count: int = 250):
    return counted_uniform(stream, seed=seed, epoch=epoch, sample_ids=ids, count=count)


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


@pytest.mark.parametrize("draw", [counted_uniform, counted_normal])
@given(order=st.permutations(range(20)), split=st.integers(0, 20), count=st.integers(1, 9))
def test_a_samples_numbers_do_not_depend_on_its_batch_nor_on_how_many_are_asked_for(
    draw, order, split, count
):
    ids = np.arange(20) * 977 + 5
    whole = draw("cameras", seed=3, epoch=7, sample_ids=ids, count=9)
    for part in (np.array(order[:split], dtype=int), np.array(order[split:], dtype=int)):
        drawn = draw("cameras", seed=3, epoch=7, sample_ids=ids[part], count=count)
        np.testing.assert_array_equal(drawn, whole[part, :count])


def test_signed_and_unsigned_ids_are_the_same_ids():
    ids = np.array([0, 1, 2**62], dtype=np.int64)
    np.testing.assert_array_equal(uniform(ids=ids), uniform(ids=ids.astype(np.uint64)))


def test_ids_may_use_all_64_bits():
    ids = np.array([0, 1, 2**63, 2**64 - 1], dtype=np.uint64)
    assert len(np.unique(uniform(ids=ids, count=1))) == 4


def test_the_numbers_of_a_seed_stay_what_they_are():
    # A pin: released runs are repeated with these.
    drawn = counted_uniform("masks", seed=0, epoch=0, sample_ids=np.array([0, 1]), count=2)
    pinned = [[0.2181581401961621, 0.2536077800297619], [0.42701410116582494, 0.6601410817191293]]
    np.testing.assert_array_equal(drawn, pinned)


def test_a_batch_of_many_numbers_is_made_in_pieces_that_do_not_show():
    for draw in (counted_uniform, counted_normal):
        whole = draw("masks", seed=0, epoch=0, sample_ids=IDS, count=5001)
        for row in (0, 7, 199):
            alone = draw("masks", seed=0, epoch=0, sample_ids=IDS[row : row + 1], count=5001)
            np.testing.assert_array_equal(alone[0], whole[row])


EXTREME_IDS = np.array([0, 1, 977, 2**62, 2**63 - 1, 2**63, 2**64 - 1], dtype=np.uint64)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [0, 1, 250])
def test_every_device_makes_the_same_uniform_numbers(device, count):
    wanted = uniform(seed=5, epoch=-1, ids=EXTREME_IDS, count=count)
    for ids in (EXTREME_IDS, EXTREME_IDS.astype(np.int64), ids_on(device, EXTREME_IDS)):
        drawn = uniform_on(device, "masks", seed=5, epoch=-1, sample_ids=ids, count=count)
        assert (drawn.device.type, drawn.dtype) == (device, torch.float64)
        np.testing.assert_array_equal(drawn.cpu().numpy(), wanted)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [0, 1, 250, 251])
def test_every_device_makes_the_same_normal_numbers_but_for_its_own_rounding(device, count):
    wanted = counted_normal("noise", seed=5, epoch=9, sample_ids=EXTREME_IDS, count=count)
    drawn = normal_on(device, "noise", seed=5, epoch=9, sample_ids=EXTREME_IDS, count=count)
    assert (drawn.device.type, drawn.dtype, drawn.shape) == (device, torch.float64, (7, count))
    np.testing.assert_allclose(drawn.cpu().numpy(), wanted, rtol=1e-12, atol=1e-14)


@given(
    key=st.integers(0, 2**64 - 1),
    ids=st.lists(st.integers(0, 2**64 - 1), max_size=5),
    count=st.integers(0, 9),
)
def test_what_devices_other_than_the_cpu_compute_is_the_same_bit_for_bit(key, ids, count):
    ids = np.array(ids, dtype=np.uint64)
    bits = counted._bits(key, ids, count) >> np.uint64(11)
    np.testing.assert_array_equal(
        counted._uniform(key, ids_on("cpu", ids), count).numpy(), bits.astype(np.float64) / 2**53
    )


def test_what_devices_other_than_the_cpu_compute_is_normal():
    key = counted._stream_key("noise", seed=5, epoch=9)
    for count in (0, 1, 250, 251):
        wanted = counted_normal("noise", seed=5, epoch=9, sample_ids=EXTREME_IDS, count=count)
        drawn = counted._normal(key, ids_on("cpu", EXTREME_IDS), count)
        np.testing.assert_allclose(drawn.numpy(), wanted, rtol=1e-12, atol=1e-14)


def test_numbers_are_uniform():
    drawn = np.sort(uniform().ravel())
    size = len(drawn)
    assert drawn[0] >= 0
    assert drawn[-1] < 1
    # Kolmogorov and Smirnov at one per cent.
    assert np.abs(drawn - (np.arange(size) + 0.5) / size).max() < 1.63 / np.sqrt(size)
    assert abs(drawn.mean() - 1 / 2) < 3 / np.sqrt(12 * size)
    assert abs(np.square(drawn).mean() - 1 / 3) < 3 * np.sqrt(4 / 45 / size)


def test_each_sample_and_each_index_is_uniform():
    drawn = uniform()
    deviation = 1 / np.sqrt(12)
    assert np.abs(drawn.mean(0) - 0.5).max() < 4.5 * deviation / np.sqrt(drawn.shape[0])
    assert np.abs(drawn.mean(1) - 0.5).max() < 4.5 * deviation / np.sqrt(drawn.shape[1])


@pytest.mark.parametrize(
    "other",
    [
        {"stream": "cameras"},
        {"stream": "masks "},
        {"seed": 1},
        {"epoch": 1},
        {"seed": 1, "epoch": -1},
        {"ids": IDS + 1},
        {"ids": IDS + 2**32},
        {"ids": IDS * 2 + 1},
    ],
    ids=str,
)
def test_neighbouring_streams_seeds_epochs_and_ids_share_nothing(other):
    first, second = uniform(), uniform(**other)
    assert abs(correlation(first, second)) < 4 / np.sqrt(first.size)


def test_neighbouring_numbers_are_unrelated():
    drawn = uniform()
    limit = 4 / np.sqrt(drawn.size)
    assert abs(correlation(drawn[:, 1:], drawn[:, :-1])) < limit
    assert abs(correlation(drawn[1:], drawn[:-1])) < limit
    assert len(np.unique(drawn)) == drawn.size


def test_normal_numbers_are_normal():
    drawn = counted_normal("noise", seed=0, epoch=0, sample_ids=IDS, count=251)
    size = drawn.size
    assert drawn.shape == (200, 251)
    assert abs(drawn.mean()) < 3 / np.sqrt(size)
    assert abs(np.square(drawn).mean() - 1) < 3 * np.sqrt(2 / size)
    assert abs((drawn**3).mean()) < 3 * np.sqrt(15 / size)
    assert abs((drawn**4).mean() - 3) < 3 * np.sqrt(96 / size)
    assert abs((np.abs(drawn) < 1.959964).mean() - 0.95) < 3 * np.sqrt(0.95 * 0.05 / size)
    assert abs(correlation(drawn[:, 0:250:2], drawn[:, 1:250:2])) < 4 / np.sqrt(size / 2)


@given(samples=st.integers(0, 500), epoch=st.integers(0, 5))
def test_an_epoch_visits_every_sample_once(samples, epoch):
    np.testing.assert_array_equal(
        np.sort(sample_order(seed=0, epoch=epoch, samples=samples)), np.arange(samples)
    )


def test_every_epoch_and_every_seed_has_its_own_order():
    orders = [sample_order(seed=seed, epoch=epoch, samples=1000) for seed in (0, 1) for epoch in (0, 1)]
    for row, order in enumerate(orders):
        assert abs(correlation(order, np.arange(1000))) < 0.12
        for other in orders[:row]:
            assert abs(correlation(order, other)) < 0.12


def test_ids_that_are_no_whole_numbers_are_refused():
    with pytest.raises(TypeError, match="whole numbers, got float64"):
        uniform(ids=np.array([0.5]))
    for ids in (np.array([0.5]), torch.tensor([0.5], dtype=torch.float64)):
        with pytest.raises(TypeError, match=r"whole numbers, got (torch\.)?float64"):
            uniform_on("cpu", "masks", seed=0, epoch=0, sample_ids=ids, count=1)
