"""The loop, what it asks for, and how well it did."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch

from mpm_model.errors import InputError
from mpm_model.learning.batches import Batch
from mpm_model.learning.masking import MaskConfig
from mpm_model.learning.objectives import (
    CompletionConfig,
    Learner,
    MaskedLossConfig,
    Objective,
    completion,
    hidden_in_3d,
    joint_error,
    lifting,
    lifting_and_completion,
    masked_pose_modelling,
)
from mpm_model.learning.scoring import Mean, mean_pose_m, score_reconstruction
from mpm_model.learning.training import Average, OptimiserConfig, dropout_seed, fit, learner_of, parts_of
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.lifting import LiftingModel
from mpm_model.network.masked import MaskedPoseModel, Reconstruction, UnifiedPoseModel
from mpm_model.pose.skeletons import H36M_17

TINY = PoseTransformerConfig(
    frames=9, width=32, layers=1, heads=4, feed_forward=32, frame_hidden=32, dropout=0.0, frame_dropout=0.0
)


def make_batch(step: int = 0, windows: int = 16) -> Batch:
    """Poses that a camera of unit focal length at depth 4 sees, so lifting can be learnt."""
    rng = np.random.default_rng(step)
    basis = np.random.default_rng(99).normal(size=(3, 17, 3))
    joints = np.einsum("bk,kjc->bjc", rng.normal(size=(windows, 3)), basis)[:, None].repeat(9, axis=1) * 0.2
    joints = torch.from_numpy(joints - joints[:, :, :1]).float()
    keypoints = joints[..., :2] / (joints[..., 2:] + 4) * 4
    return Batch(
        keypoints=keypoints,
        is_hidden=torch.zeros(windows, 9, 17, dtype=torch.bool),
        true_keypoints=keypoints,
        has_image=torch.ones(windows, 9, 17, dtype=torch.bool),
        joints_rel_m=joints,
        is_valid=torch.ones(windows, 9, 17, dtype=torch.bool),
        sample_ids=np.arange(windows) + step * windows,
        window_ids=np.arange(windows) + step * windows,
    )


def train(model, objective, *, steps: range, rows: list, optimiser=None, **more):
    config = OptimiserConfig(learning_rate=3e-3)
    fit(
        Learner(model, objective),
        lambda step: (0, make_batch(step)),
        optimiser=optimiser or config.build(model),
        rate_at=lambda step: 3e-3,
        steps=steps,
        max_grad_norm=1.0,
        report=lambda step, metrics: rows.append((step, metrics)),
        report_every=10,
        seed=0,
        **more,
    )


def seeded(kind, config=TINY):
    torch.manual_seed(0)
    return kind(config)


masked = partial(masked_pose_modelling, mask=MaskConfig(), skeleton=H36M_17, seed=0)
THREE_D = {"config": CompletionConfig(), "skeleton": H36M_17, "seed": 0}


@pytest.mark.parametrize(
    ("kind", "objective"),
    [
        (MaskedPoseModel, masked(loss=MaskedLossConfig())),
        (MaskedPoseModel, masked(loss=MaskedLossConfig(weight_lift=2.0))),
        (LiftingModel, lifting()),
        (MaskedPoseModel, completion(**THREE_D)),
        (UnifiedPoseModel, lifting_and_completion(**THREE_D)),
    ],
    ids=["masked", "masked, three pretexts", "lifting", "completion", "both"],
)
def test_every_task_is_learnt(kind, objective):
    rows = []
    train(seeded(kind), objective, steps=range(60), rows=rows)
    assert [step for step, _ in rows] == [10, 20, 30, 40, 50, 60]
    assert rows[-1][1]["loss"] < 0.6 * rows[0][1]["loss"]


def test_a_learner_is_its_network_and_its_objective():
    model, batch, objective = seeded(LiftingModel).eval(), make_batch(), lifting()
    learner = Learner(model, objective)
    assert [*learner.parameters()] == [*model.parameters()]
    loss, sums = learner(batch, 0, objective.counts(batch))
    wanted, metrics = objective(model, batch, 0)
    assert torch.equal(loss, wanted)
    torch.testing.assert_close(sums.sum(0)[0] / (16 * 9 * 17), metrics["loss_sequence"])
    assert learner_of(torch.nn.parallel.DataParallel(learner)) is learner
    with pytest.raises(TypeError, match="wanted a Learner, got LiftingModel"):
        learner_of(model)


def test_a_run_in_two_legs_is_the_run_dropout_and_all():
    sizes = dataclasses.replace(TINY, dropout=0.3, frame_dropout=0.3)
    whole, legs = seeded(LiftingModel, sizes), seeded(LiftingModel, sizes)
    train(whole, lifting(), steps=range(20), rows=[])
    optimiser = OptimiserConfig(learning_rate=3e-3).build(legs)
    train(legs, lifting(), steps=range(10), rows=[], optimiser=optimiser)
    torch.manual_seed(99)
    train(legs, lifting(), steps=range(10, 20), rows=[], optimiser=optimiser)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, legs.state_dict()[name]), name


def test_a_batch_in_passes_is_the_batch():
    """Also where the joints that count are spread unevenly over the passes: means of means would be wrong."""
    sizes = dataclasses.replace(TINY, norms="standard")
    batch = make_batch()
    is_valid = batch.is_valid.clone()
    is_valid[:11, :, 5:] = False
    batch = dataclasses.replace(batch, is_valid=is_valid)

    def found_in(passes):
        model, rows = seeded(MaskedPoseModel, sizes), []
        fit(
            Learner(model, masked(loss=MaskedLossConfig(weight_lift=1.0))),
            lambda step: (0, batch),
            optimiser=torch.optim.SGD(model.parameters(), lr=1.0),
            rate_at=lambda step: 1.0,
            steps=range(1),
            max_grad_norm=1e9,
            report=lambda step, metrics: rows.append(metrics),
            report_every=1,
            seed=0,
            passes=passes,
        )
        return model.state_dict(), rows[0]

    whole, metrics = found_in(1)
    for passes in (3, 5):
        weights, same_metrics = found_in(passes)
        for name, value in weights.items():
            torch.testing.assert_close(value, whole[name], rtol=1e-4, atol=1e-6, msg=name)
        assert same_metrics == pytest.approx(metrics, rel=1e-5)


def test_parts_of_a_batch_are_the_batch():
    batch = make_batch()
    parts = parts_of(batch, 3)
    assert [len(part.sample_ids) for part in parts] == [5, 5, 6]
    assert torch.equal(torch.cat([part.keypoints for part in parts]), batch.keypoints)
    assert np.concatenate([part.sample_ids for part in parts]).tolist() == batch.sample_ids.tolist()


def test_dropout_differs_between_steps_workers_passes_and_runs():
    seeds = {dropout_seed(*each) for each in np.ndindex(3, 20, 4, 4)}
    assert len(seeds) == 3 * 20 * 4 * 4


def test_a_loss_that_is_not_finite_stops_the_run_and_names_step_and_samples():
    good = lifting()

    def errors(model, batch, epoch):
        found = good.errors(model, batch, epoch)
        is_bad = torch.from_numpy(np.isin(batch.sample_ids, [209, 213]))[:, None, None]
        return {name: error.masked_fill(is_bad, float("nan")) for name, error in found.items()}

    spoiled = Objective(errors=errors, cells=good.cells, weights=good.weights, judged_by=good.judged_by)
    with pytest.raises(FloatingPointError, match=r"nan at step 13, of samples 209, 213$"):
        train(seeded(LiftingModel), spoiled, steps=range(20), rows=[])


def test_the_average_follows_the_weights():
    """Against the sum written out, with the shorter memory that a young average has."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 0.0)
    average = Average(model, 0.5)
    expected = 0.0
    for step, value in enumerate([1.0, 2.0, 4.0, 8.0], 1):
        torch.nn.init.constant_(model.weight, value)
        average.follow(model)
        kept = min(0.5, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * value
        assert float(average.model.weight) == pytest.approx(expected)
    again = Average(model, 0.5)
    again.load_state_dict(average.state_dict())
    assert again.steps == 4
    assert torch.equal(again.model.weight, average.model.weight)


def test_the_average_is_trained_along_and_counts_batches_as_they_are():
    model = seeded(LiftingModel)
    average = Average(model, 0.9)
    train(model, lifting(), steps=range(5), rows=[], average=average)
    counted = average.model.state_dict()["trunk.block.0.norm.num_batches_tracked"]
    assert counted == 5
    assert not torch.equal(average.model.embed_2d.linear.weight, model.embed_2d.linear.weight)


def test_bfloat16_learns_too_and_keeps_float32_weights():
    rows = []
    model = seeded(MaskedPoseModel)
    train(model, masked(loss=MaskedLossConfig()), steps=range(60), rows=rows, precision="bfloat16")
    assert rows[-1][1]["loss"] < 0.7 * rows[0][1]["loss"]
    assert {value.dtype for value in model.parameters()} == {torch.float32}


def test_invalid_joints_count_nothing():
    predicted, target = torch.zeros(1, 1, 2, 3), torch.tensor([[[[3.0, 4.0, 0.0], [9.0, 9.0, 9.0]]]])
    assert joint_error(predicted, target, torch.tensor([[[True, False]]])) == 5.0
    assert joint_error(predicted, target, torch.tensor([[[False, False]]])) == 0.0


def test_published_weights_are_the_default():
    loss, metrics = masked(loss=MaskedLossConfig())(seeded(MaskedPoseModel).eval(), make_batch(), 0)
    torch.testing.assert_close(loss, 5 * metrics["loss_2d"] + 2 * metrics["loss_3d"])
    assert "loss_lift" not in metrics


def test_the_third_pretext_adds_its_weight_and_changes_nothing_else():
    model, batch = seeded(MaskedPoseModel).eval(), make_batch()
    loss, metrics = masked(loss=MaskedLossConfig(weight_lift=3.0))(model, batch, 0)
    _, published = masked(loss=MaskedLossConfig())(model, batch, 0)
    torch.testing.assert_close(loss, published["loss"] + 3 * metrics["loss_lift"])


class Answers(torch.nn.Module):
    """Decodes whatever was encoded to answers known beforehand."""

    def __init__(self, keypoints: torch.Tensor, joints: torch.Tensor) -> None:
        super().__init__()
        self.decode_2d, self.decode_3d = (lambda _: keypoints), (lambda _: joints)

    def encode_2d(self, *_, **__) -> None: ...

    def encode_3d(self, *_, **__) -> None: ...


def test_pretraining_asks_for_the_truth_and_not_for_what_was_seen():
    """Noise enters, truth is asked for, of the joints that have an image alone."""
    batch = make_batch()
    noisy = dataclasses.replace(batch, keypoints=batch.keypoints + 1, has_image=batch.has_image.clone())
    noisy.has_image[:, :, 4] = False
    shift = torch.zeros(17, 2)
    shift[4], shift[5] = 100.0, torch.tensor([0.3, 0.4])
    model = Answers(batch.true_keypoints + shift, batch.joints_rel_m)
    _, metrics = masked(loss=MaskedLossConfig())(model, noisy, 0)
    torch.testing.assert_close(metrics["loss_2d"], torch.tensor(0.5 / 16))
    assert metrics["loss_3d"] == 0


def test_completion_hides_one_tube_through_the_window_and_what_nobody_captured():
    batch = make_batch()
    is_valid = batch.is_valid.clone()
    is_valid[0, 3, 0] = False
    batch = dataclasses.replace(batch, is_valid=is_valid)
    is_hidden = hidden_in_3d(batch, **THREE_D, epoch=0)
    assert is_hidden[0, 3, 0]
    is_hidden[0, 3, 0] = False
    assert (is_hidden == is_hidden[:, :1]).all()
    assert (is_hidden.sum(-1) == 3).all()  # a limb or three joints


def test_what_completion_hides_never_enters():
    model = seeded(UnifiedPoseModel).eval()
    batch = make_batch()
    is_hidden = hidden_in_3d(batch, **THREE_D, epoch=0)
    spoiled = batch.joints_rel_m.masked_fill(is_hidden[..., None], 1e6)
    expected, metrics = completion(**THREE_D)(model, batch, 0)
    completed = model.complete(spoiled, is_hidden=is_hidden)
    torch.testing.assert_close(joint_error(completed, batch.joints_rel_m, batch.is_valid), expected)
    assert metrics["loss"] == metrics["loss_complete"] == expected


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_both_tasks_are_weighed_as_asked(weight):
    model, batch = seeded(UnifiedPoseModel).eval(), make_batch()
    config = CompletionConfig(weight=weight)
    loss, metrics = lifting_and_completion(config=config, skeleton=H36M_17, seed=0)(model, batch, 0)
    lifted = joint_error(model.sequence(batch.keypoints), batch.joints_rel_m, batch.is_valid)
    completed, _ = completion(config=config, skeleton=H36M_17, seed=0)(model, batch, 0)
    torch.testing.assert_close(loss, lifted + weight * completed)
    assert ("loss_complete" in metrics) == bool(weight)


def test_wrong_completion_settings_are_refused_together():
    with pytest.raises(InputError, match=r"weight .*-1; tube_kinds must be of limb, .* got tail"):
        CompletionConfig(weight=-1, tube_kinds=("tail",))


def test_rates_follow_the_schedule():
    published = OptimiserConfig(learning_rate=1e-4)
    assert published.rate_at(0, steps=100, steps_per_epoch=10) == pytest.approx(1e-4)
    assert published.rate_at(25, steps=100, steps_per_epoch=10) == pytest.approx(1e-4 * 0.97**2)
    cosine = OptimiserConfig(learning_rate=1.0, warmup_steps=4, decay="cosine")
    rates = [cosine.rate_at(step, steps=104, steps_per_epoch=10) for step in range(104)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[54] == pytest.approx(0.5)
    assert rates[-1] < 1e-3


def test_wrong_optimiser_settings_are_refused_together():
    with pytest.raises(InputError, match=r"learning_rate .*0; .*decay_per_epoch .*2; decay .*'linear'"):
        OptimiserConfig(learning_rate=0, decay_per_epoch=2, decay="linear")


def test_reconstruction_is_scored_on_hidden_cells_alone():
    class Oracle(torch.nn.Module):
        """Right wherever it may look, one metre off where it may not."""

        def forward(self, keypoints, joints, **hidden):
            off_2d = hidden["is_hidden_joint_2d"] | hidden["is_hidden_frame_2d"][..., None]
            off_3d = hidden["is_hidden_joint_3d"] | hidden["is_hidden_frame_3d"][..., None]
            shift_2d, shift_3d = torch.tensor([0.6, 0.8]), torch.tensor([0.0, 0.0, 1.0])
            return Reconstruction(
                keypoints + off_2d[..., None] * shift_2d, joints + off_3d[..., None] * shift_3d
            )

    score = score_reconstruction(Oracle(), [make_batch(0), make_batch(1)], mask=MaskConfig(), seed=0)
    assert score.joints_mm == pytest.approx(1000, rel=1e-5)
    assert score.keypoints_percent == pytest.approx(100, rel=1e-5)
    assert score.joints_m.count == 2 * 16 * (9 * 17 - 4 * 12)


def test_a_mean_is_a_sum_and_a_count():
    mean = Mean()
    mean.add(torch.tensor([1.0, 100.0]), torch.tensor([True, False]))
    mean.add(torch.tensor([4.0, 7.0]), torch.tensor([True, True]))
    assert mean.value == 4.0


def test_the_mean_pose_ignores_invalid_joints():
    batch = make_batch()
    is_valid = batch.is_valid.clone()
    is_valid[1:, :, 3] = False
    pose = mean_pose_m([dataclasses.replace(batch, is_valid=is_valid)])
    np.testing.assert_allclose(pose[3], batch.joints_rel_m[0, :, 3].mean(0).numpy(), rtol=1e-5)
    np.testing.assert_allclose(
        pose[4], batch.joints_rel_m[:, :, 4].mean((0, 1)).numpy(), rtol=1e-4, atol=1e-6
    )


def test_lifting_in_pretraining_is_asked_of_labelled_windows_alone():
    batch = make_batch(windows=8)
    torch.manual_seed(0)
    model = MaskedPoseModel(
        PoseTransformerConfig(frames=9, width=16, layers=1, feed_forward=16, heads=2)
    ).eval()

    def loss_lift(labelled_ids):
        objective = masked_pose_modelling(
            mask=MaskConfig(),
            loss=MaskedLossConfig(weight_lift=1.0),
            skeleton=H36M_17,
            seed=0,
            labelled_ids=labelled_ids,
        )
        return float(objective(model, batch, 0)[1]["loss_lift"])

    halves = [loss_lift(np.arange(4)), loss_lift(np.arange(4, 8))]
    assert halves[0] != halves[1]
    assert loss_lift(None) == pytest.approx(np.mean(halves), rel=1e-5)
    assert loss_lift(np.array([99])) == 0
