"""How lifting bears up when the 2D is incomplete or shaky."""

import numpy as np
import pytest
from made_up_windows import FRAMES, make_windows

from mpm_model.errors import InputError
from mpm_model.pose.skeletons import H36M_17
from pipelines.protocols.interpolation import mean_body
from pipelines.protocols.occlusion import conditions, score_conditions
from pipelines.protocols.views import held_out_views


def all_conditions():
    name, camera, view = next(iter(held_out_views(make_windows())))
    found = conditions(view, name, camera, rate_hz=50.0, skeleton=H36M_17)
    return view, {condition.name: condition for condition in found}


def test_a_perfect_lifter_has_no_error_in_any_condition():
    rows = score_conditions(
        lambda _px, _confidence, view: view.joints_cam_m, make_windows(), body=mean_body(make_windows())
    )
    assert len(rows) == 1 + 5 + 4 + 17 + 2
    for row in rows:
        assert row.model.joints == 4 * FRAMES * 17
        assert all(value < 1e-3 for value in row.figures().values()), row


def test_a_constant_error_is_found_on_the_hidden_joints_alone():
    wrist = H36M_17.index("left_wrist")

    def lift(_px, confidence, view):
        off_m = np.zeros_like(view.joints_cam_m)
        off_m[:, wrist, 0] = 0.1 * (confidence[:, wrist] == 0)
        return view.joints_cam_m + off_m

    rows = {
        row.condition: row for row in score_conditions(lift, make_windows(), body=mean_body(make_windows()))
    }
    assert rows["whole"].figures() == pytest.approx({"MPJPE mm": 0, "P-MPJPE mm": 0}, abs=1e-3)
    of_wrist, of_arm = rows["without left_wrist"], rows["without left arm"]
    assert of_wrist.model_on_hidden.mpjpe_mm == pytest.approx(100, abs=1e-3)
    assert of_wrist.model.mpjpe_mm == pytest.approx(100 / 17, abs=1e-3)
    assert of_arm.model_on_hidden.mpjpe_mm == pytest.approx(100 / 3, abs=1e-3)
    assert of_wrist.filled_on_hidden.mpjpe_mm == pytest.approx(0, abs=1e-3)


def test_what_is_hidden_does_not_reach_the_model():
    view, found = all_conditions()
    for name, condition in found.items():
        assert not condition.keypoints_px[condition.is_hidden].any(), name
        if name.startswith("without"):
            kept = ~condition.is_hidden
            np.testing.assert_array_equal(condition.keypoints_px[kept], view.keypoints_px[kept])


def test_a_condition_hides_what_it_says():
    _, found = all_conditions()
    assert found["without left arm"].is_hidden.all(0).sum() == 3
    assert found["without nose"].is_hidden[:, H36M_17.index("nose")].all()
    dropped = round(0.3 * FRAMES)
    singles, bursts = (
        condition.is_hidden for name, condition in found.items() if name.startswith("without 30 %")
    )
    for is_hidden in (singles, bursts):
        assert is_hidden.all(1).sum() == is_hidden.any(1).sum() == dropped
    assert np.abs(np.diff(bursts[:, 0].astype(int))).sum() <= 2  # one burst: 24 frames are half a second
    assert np.abs(np.diff(singles[:, 0].astype(int))).sum() > 10


def test_noise_has_the_size_it_says_and_is_the_same_twice():
    view, found = all_conditions()
    off_px = found["noise of 10 px"].keypoints_px - view.keypoints_px
    assert off_px.std() == pytest.approx(10, rel=0.05)
    np.testing.assert_allclose(found["noise of 2 px"].keypoints_px - view.keypoints_px, off_px / 5, atol=1e-3)
    np.testing.assert_array_equal(
        all_conditions()[1]["noise of 10 px"].keypoints_px - view.keypoints_px, off_px
    )


def test_every_kth_view_is_taken_and_nothing_is_refused():
    body = mean_body(make_windows())

    def perfect(_px, _confidence, view):
        return view.joints_cam_m

    rows = score_conditions(perfect, make_windows(), body=body, every_views=2)
    assert rows[0].model.joints == 2 * FRAMES * 17
    with pytest.raises(InputError, match="every_views"):
        score_conditions(perfect, make_windows(), body=body, every_views=0)
