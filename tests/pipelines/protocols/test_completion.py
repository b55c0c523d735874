"""How well hidden joints of 3D poses are filled in."""

import dataclasses

import numpy as np
import pytest
import torch
from made_up_windows import FRAMES, make_windows

from mpm_model.checkpoint import Checkpoint
from mpm_model.completer import Completer
from mpm_model.errors import InputError
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.masked import UnifiedPoseModel
from mpm_model.pose.normalize import root_relative
from mpm_model.pose.skeletons import H36M_17
from pipelines.protocols.completion import hidden_joints, score_completion, score_hidden
from pipelines.protocols.interpolation import mean_body
from pipelines.protocols.views import held_out_views

PELVIS = H36M_17.index("pelvis")


class Oracle:
    """Knows the truth of the views in their order, whatever it is given."""

    def __init__(self, windows, *, conditions: int, off_m: float = 0.0):
        self.truth = iter(
            [
                root_relative(view.joints_cam_m, H36M_17)[0]
                for _, _, view in held_out_views(windows)
                for _ in range(conditions)
            ]
        )
        self.off_m = off_m

    def __call__(self, joints_rel_m, is_hidden):
        assert not joints_rel_m[is_hidden].any()
        truth_m = next(self.truth)
        np.testing.assert_allclose(joints_rel_m[~is_hidden], truth_m[~is_hidden], atol=1e-6)
        return truth_m + self.off_m * is_hidden[..., None] * np.array([1.0, 0, 0])


def test_a_perfect_completer_has_no_error_and_a_constant_one_is_found():
    windows = make_windows()
    for off_m in (0.0, 0.1):
        oracle = Oracle(windows, conditions=7, off_m=off_m)
        rows = score_hidden(oracle, windows, body=mean_body(windows))
        assert len(rows) == 7
        for row in rows:
            assert row.model_mm == pytest.approx(1000 * off_m, abs=1e-3), row.condition
            assert list(row.figures()) == ["hidden mm", "hidden by interpolation mm"]


def test_interpolation_is_exact_for_a_motion_that_is_straight_and_for_the_mean_body():
    windows = make_windows()
    still = dataclasses.replace(
        windows, joints_world_m=np.tile(windows.joints_world_m[:, :1], (1, FRAMES, 1, 1))
    )
    for row in score_hidden(Oracle(still, conditions=7), still, body=mean_body(still)):
        assert row.interpolated_mm == pytest.approx(0, abs=0.01), row.condition


def test_conditions_hide_what_they_say():
    found = dict(hidden_joints("cmu/one", 0, frames=100, rate_hz=50.0, skeleton=H36M_17))
    assert found["without left arm"].sum() == 3 * 100
    three = found["without three random joints"]
    assert three.sum() == 3 * 100
    assert not three[:, PELVIS].any()
    for name in found:
        if "30 %" in name:
            assert found[name].all(1).sum() == found[name].any(1).sum() == 30, name


def test_joints_without_a_truth_do_not_count_and_are_hidden():
    windows = make_windows()
    is_valid = windows.is_valid.copy()
    is_valid[:, :, H36M_17.index("left_wrist")] = False
    windows = dataclasses.replace(windows, is_valid=is_valid)
    body = mean_body(make_windows())
    rows = {row.condition: row for row in score_hidden(Oracle(windows, conditions=7), windows, body=body)}
    assert rows["without left arm"].joints == 4 * 2 * FRAMES
    assert rows["without right arm"].joints == 4 * 3 * FRAMES


def test_a_checkpoint_is_scored_on_every_kth_view():
    torch.manual_seed(0)
    sizes = PoseTransformerConfig(frames=27, width=32, layers=1, heads=4, feed_forward=32, frame_hidden=32)
    checkpoint = Checkpoint(
        model=UnifiedPoseModel(sizes), skeleton=H36M_17, normalisation="person", rate_hz=25.0, card={}
    )
    windows = make_windows()
    rows = score_completion(Completer(checkpoint), windows, body=mean_body(windows), every_views=4)
    assert all(np.isfinite(row.model_mm) and row.model_mm > 0 for row in rows)
    assert rows[0].joints == 3 * FRAMES
    with pytest.raises(InputError, match="every_views"):
        score_completion(Completer(checkpoint), windows, body=mean_body(windows), every_views=0)
