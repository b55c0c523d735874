"""Order of windows in chunks: dealt evenly, the same from any step on, every data set its share."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpm_model.errors import InputError
from mpm_model.learning.lanes import ChunkSamples, LaneOrder, deal
from mpm_model.learning.order import MixConfig, quotas

CHUNKS = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3)), min_size=1, max_size=30)
WINDOWS = np.array([30, 7, 30, 30, 12, 30, 5, 30, 30, 9])
DATASET = np.array([0, 1, 0, 2, 2, 0, 1, 0, 2, 2])


def make_order(windows=WINDOWS, dataset=DATASET, *, temperature: float = 1.0, **options) -> LaneOrder:
    settings = {"lanes": 4, "batch_windows": 12, "shuffle_windows": 25, "seed": 1} | options
    return LaneOrder(windows, dataset, mix=MixConfig(temperature=temperature), **settings)


def lane_count(order: LaneOrder) -> int:
    return len(order.pieces)


def batch_at(order: LaneOrder, step: int) -> list[tuple[int, int, int]]:
    """(chunk, row, copy) of a whole batch."""
    shares = [order.samples_at(step, lane)[1] for lane in range(lane_count(order))]
    return as_list(ChunkSamples.concatenate(shares))


def as_list(samples: ChunkSamples) -> list[tuple[int, int, int]]:
    columns = (samples.chunks, samples.rows, samples.copies)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def epoch_of(order: LaneOrder, epoch: int = 0) -> list[tuple[int, int, int]]:
    steps = order.steps_per_epoch
    return [sample for step in range(epoch * steps, (epoch + 1) * steps) for sample in batch_at(order, step)]


@settings(deadline=None)
@given(chunks=CHUNKS, lanes=st.integers(1, 9), seed=st.integers(0, 5))
def test_every_window_is_dealt_once_and_evenly_in_all_and_of_each_data_set(chunks, lanes, seed):
    windows, dataset = map(np.array, zip(*chunks, strict=True))
    dealt = deal(windows, dataset, lanes=lanes, seed=seed)
    rows = [
        (chunk, row)
        for pieces in dealt
        for chunk, first, count in zip(pieces.chunk, pieces.first, pieces.windows, strict=True)
        for row in range(first, first + count)
    ]
    assert sorted(rows) == [(chunk, row) for chunk, count in enumerate(windows) for row in range(count)]
    assert np.ptp([pieces.windows.sum() for pieces in dealt]) <= 1
    for number in range(4):
        assert np.ptp([pieces.windows[pieces.dataset == number].sum() for pieces in dealt]) <= 1
    for pieces in dealt:
        np.testing.assert_array_equal(dataset[pieces.chunk], pieces.dataset)


def test_no_more_chunks_are_shared_than_there_are_cuts():
    dealt = deal(np.full(60, 10), np.zeros(60, int), lanes=7, seed=0)
    assert sum(len(pieces.chunk) for pieces in dealt) <= 60 + 6


def test_another_seed_deals_otherwise():
    one, other = (deal(np.full(60, 10), np.zeros(60, int), lanes=4, seed=seed) for seed in (0, 1))
    assert set(one[0].chunk) != set(other[0].chunk)


@settings(deadline=None)
@given(
    chunks=CHUNKS,
    lanes=st.integers(1, 5),
    lane_batch=st.integers(1, 3),
    shuffle_windows=st.integers(1, 90),
    epoch=st.integers(0, 3),
)
def test_an_epoch_sees_no_window_twice_and_leaves_out_less_than_a_batch(
    chunks, lanes, lane_batch, shuffle_windows, epoch
):
    windows, dataset = map(np.array, zip(*chunks, strict=True))
    batch_windows = lanes * lane_batch
    if batch_windows > windows.sum():
        return
    order = make_order(
        windows, dataset, lanes=lanes, batch_windows=batch_windows, shuffle_windows=shuffle_windows
    )
    seen = epoch_of(order, epoch)
    assert len(set(seen)) == len(seen) == windows.sum() // batch_windows * batch_windows
    assert all(copy == 0 and 0 <= row < windows[chunk] for chunk, row, copy in seen)


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(4, 60), min_size=1, max_size=4),
    lanes=st.integers(1, 4),
    temperature=st.sampled_from([1.0, 1.5, 2.0, 5.0, 1e9]),
)
def test_data_sets_have_their_shares_and_a_window_its_copies_in_turn(sizes, lanes, temperature):
    dataset = np.repeat(np.arange(len(sizes)), 3)
    windows = np.concatenate([[size, 1, 2 * size] for size in sizes])
    order = make_order(
        windows, dataset, lanes=lanes, batch_windows=lanes, shuffle_windows=7, temperature=temperature
    )
    seen = epoch_of(order)
    shares = np.bincount(dataset[[chunk for chunk, *_ in seen]], minlength=len(sizes))
    held = [int(windows[dataset == number].sum()) for number in range(len(sizes))]
    wanted = np.array(quotas(tuple(held), temperature))
    # Each lane rounds for itself, by a window at each end, and may leave out the end of its epoch.
    assert np.abs(shares - wanted).max() <= 2 * lanes + lanes
    assert len(set(seen)) == len(seen)
    times = Counter((chunk, row) for chunk, row, _ in seen)
    for pieces in order.pieces:
        for number in range(len(sizes)):
            own = [
                times[chunk, row]
                for chunk, first, count, of in zip(*vars(pieces).values(), strict=True)
                for row in range(first, first + count)
                if of == number
            ]
            # The end of the epoch that is left out is of one window here.
            assert max(own) <= -(-(sum(own) + 1) // len(own))
            assert temperature > 1 or max(own) == 1


def test_copies_count_up_from_zero_and_all_but_the_last_come_whole():
    order = make_order(
        np.array([3, 3, 1000]), np.array([0, 0, 1]), lanes=1, batch_windows=1006, temperature=1e9
    )
    seen = [sample for sample in epoch_of(order) if sample[0] < 2]
    copies = Counter(copy for *_, copy in seen)
    assert len(seen) == 503
    assert copies == Counter(dict.fromkeys(range(83), 6) | {83: 5})


def test_a_data_set_with_fewer_windows_than_lanes_is_seen_where_it_is():
    order = make_order(np.array([2, 200]), np.array([0, 1]), lanes=4, batch_windows=8, temperature=2.0)
    holders = [lane for lane, pieces in enumerate(order.pieces) if 0 in pieces.dataset]
    assert len(holders) == 2
    for lane in range(4):
        _, samples = zip(
            *(order.samples_at(step, lane) for step in range(order.steps_per_epoch)), strict=True
        )
        assert (0 in ChunkSamples.concatenate(samples).chunks) == (lane in holders)


def test_steps_in_any_order_give_what_steps_in_turn_give():
    order, steps = make_order(), 60
    in_turn = [batch_at(order, step) for step in range(steps)]
    fresh = make_order()
    for step in np.random.default_rng(0).permutation(steps).tolist():
        assert batch_at(fresh, step) == in_turn[step]
    assert batch_at(make_order(), 47) == in_turn[47]


def test_every_epoch_has_another_order_and_every_seed():
    order = make_order()
    assert epoch_of(order, 0) != epoch_of(order, 1)
    assert epoch_of(order, 0) != epoch_of(make_order(seed=2), 0)


def test_what_an_epoch_leaves_out_comes_in_others():
    order = make_order(batch_windows=32, lanes=4)
    seen = {sample[:2] for epoch in range(20) for sample in epoch_of(order, epoch)}
    assert len(seen) == WINDOWS.sum()


def test_groups_follow_each_other_and_hold_what_the_steps_take():
    order = make_order(shuffle_windows=10)
    for lane in range(4):
        taken = [
            sample
            for step in range(2 * order.steps_per_epoch)
            for sample in as_list(order.samples_at(step, lane)[1])
        ]
        key = order.groups_at(0, lane)[0][0]
        grouped = []
        while key.epoch < 2:
            grouped += as_list(order.group(key))
            key = order.following(key)
        assert grouped == taken


def test_a_group_mixes_rows_of_several_chunks_and_reads_each_once():
    order = make_order(np.full(40, 16), np.zeros(40, int), shuffle_windows=64, lanes=2, batch_windows=2)
    samples = order.group(order.groups_at(0, 0)[0][0])
    assert len(samples) == 64
    assert len(set(samples.chunks)) in (4, 5)  # five with the rest of a chunk that lanes share
    changes = np.count_nonzero(np.diff(samples.chunks))
    assert changes > 30  # a chunk after the other would change 4 times


def test_the_order_is_pinned():
    # Runs are resumed by later versions: the same step must mean the same windows.
    batch = batch_at(make_order(), 40)
    assert [chunk for chunk, *_ in batch] == [0, 0, 0, 8, 7, 7, 5, 5, 5, 2, 2, 2]
    assert [row for _, row, _ in batch] == [19, 21, 16, 23, 21, 5, 25, 17, 14, 15, 18, 13]


def test_what_does_not_go_together_is_refused_all_at_once():
    with pytest.raises(InputError) as caught:
        make_order(lanes=7, batch_windows=500, shuffle_windows=0)
    for fault in (
        "shuffle_windows must be at least 1, got 0",
        "batch_windows 500 is no multiple of lanes (7)",
        "batch_windows is 500 but there are 213 windows",
    ):
        assert fault in str(caught.value)
