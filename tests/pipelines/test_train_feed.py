"""The same samples, views and masks for any number of workers, shown by their hashes."""

import numpy as np
import pytest
import torch
from windows_parts import two_corpora, write_parts

from mpm_model.learning.batches import draw_batch
from mpm_model.learning.fingerprint import sample_digests
from mpm_model.learning.masking import draw_hidden
from pipelines.run_config import PretrainConfig, load
from pipelines.train_checks import check_inputs
from pipelines.train_job import TrainJob, WindowIndex, open_feed
from pipelines.window_index import index_chunks

SETTINGS = [
    "network.frames=2",
    "batch_windows=24",
    "mix.temperature=2.0",
    "view.detector.scale=1.0",
    "view.noise_std=0.01",
    "view.pose.probability=0.5",
    "view.hidden_burst_probability=0.3",
]


def digests(job: TrainJob, workers: int, steps: range) -> list[set[str]]:
    """For each step the hashes of all that all workers' samples show, and of what is hidden of them."""
    config, found = job.config, [set() for _ in steps]
    assert isinstance(config, PretrainConfig)
    for rank in range(workers):
        feed, _ = open_feed(
            job, torch.device("cpu"), frames=config.network.frames, rank=rank, workers=workers
        )
        for at, step in enumerate(steps):
            epoch, corpus, samples = feed.take(step)
            batch = draw_batch(corpus, samples, seed=config.seed, epoch=epoch, config=config.view)
            masks = [
                draw_hidden(
                    stream,
                    seed=config.seed,
                    epoch=epoch,
                    sample_ids=batch.sample_ids,
                    frames=config.network.frames,
                    joints=17,
                    config=config.mask,
                )
                for stream in ("2d", "3d")
            ]
            found[at] |= set(sample_digests(batch, *masks))
        feed.close()
    return found


def make_job(folder, *more: str) -> TrainJob:
    data = tuple(write_parts(folder, two_corpora()))
    config = load(PretrainConfig, "pretrain_demo", [*SETTINGS, *more])
    index = WindowIndex(*(index_chunks(data, splits=(split,)) for split in ("train", "validation")))
    return TrainJob(
        config=config, data=data, out="", init=None, card={}, index=index if config.lanes else None
    )


@pytest.mark.parametrize(
    "more", [[], ["lanes=6"], ["lanes=6", "scale.hold_gib=0"]], ids=["memory", "held", "streamed"]
)
def test_samples_cameras_noise_and_masks_are_the_same_for_any_number_of_workers(tmp_path, more):
    job = make_job(tmp_path, *more)
    steps = range(40, 50)  # over the end of an epoch of 42 steps
    alone = digests(job, 1, steps)
    assert [len(step) for step in alone] == [24] * 10
    assert len(set().union(*alone)) == 240
    for workers in (2, 4, 5):
        assert digests(job, workers, steps) == alone
    assert digests(job, 2, range(45, 50)) == alone[5:]  # as a run does that goes on


def test_held_and_streamed_show_the_same(tmp_path):
    held, streamed = make_job(tmp_path, "lanes=4"), make_job(tmp_path, "lanes=4", "scale.hold_gib=0")
    assert digests(held, 2, range(3)) == digests(streamed, 4, range(3))


def test_a_sample_is_cut_from_a_longer_window_anew_each_epoch(tmp_path):
    job = make_job(tmp_path)
    feed, validation = open_feed(job, torch.device("cpu"), frames=2, rank=0, workers=1)
    assert validation.frames == 2
    _, corpus, samples = feed.take(0)
    cuts = [
        corpus.cut(samples, seed=0, epoch=epoch, sample_ids=corpus.sample_ids[samples.indices])[0]
        for epoch in range(8)
    ]
    assert cuts[0].shape == (24, 2, 17, 3)
    window = corpus.joints_world_m[int(samples.indices[0])]
    places = {place for cut in cuts for place in (0, 1) if torch.equal(cut[0], window[place : place + 2])}
    assert places == {0, 1}


def test_lanes_that_do_not_go_with_workers_batch_or_data_are_refused(tmp_path):
    from mpm_model.errors import InputError

    data = write_parts(tmp_path, two_corpora())
    config = load(PretrainConfig, "pretrain_demo", [*SETTINGS, "lanes=3", "scale.workers=4"])
    with pytest.raises(InputError, match=r"lanes 3 are fewer than workers \(4\)"):
        check_inputs(config, data, None)
    config = load(PretrainConfig, "pretrain_demo", [*SETTINGS, "lanes=7"])
    with pytest.raises(InputError, match=r"batch_windows 24 is no multiple of lanes \(7\)"):
        check_inputs(config, data, None)


def test_the_mean_pose_of_streamed_data_is_that_of_its_first_batches(tmp_path):
    from pipelines.train_job import mean_training_pose_m

    job = make_job(tmp_path, "lanes=4")
    feed, _ = open_feed(job, torch.device("cpu"), frames=2, rank=0, workers=1)
    in_memory, _ = open_feed(make_job(tmp_path), torch.device("cpu"), frames=2, rank=0, workers=1)
    streamed, whole = mean_training_pose_m(job, feed), mean_training_pose_m(job, in_memory)
    np.testing.assert_allclose(streamed, whole, atol=0.15)  # of joints strewn with a spread of 1 m
