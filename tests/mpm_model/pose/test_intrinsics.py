import numpy as np
import pytest

from mpm_model.errors import InputError
from mpm_model.pose.intrinsics import Intrinsics

LENS = Intrinsics(
    focal_px=(1000.0, 500.0), center_px=(320.0, 240.0), distortion=(-0.12, 0.05, 0.001, -0.002, -0.01)
)


def test_pixels_become_directions_by_hand():
    pinhole = Intrinsics(focal_px=(1000.0, 500.0), center_px=(320.0, 240.0))
    np.testing.assert_allclose(pinhole.to_plane(np.array([[420.0, 140.0]])), [[0.1, -0.2]])


def test_a_lens_moves_a_point_as_its_formula_says():
    bulged = Intrinsics(focal_px=(100.0, 100.0), center_px=(0.0, 0.0), distortion=(0.1, 0, 0, 0, 0))
    np.testing.assert_allclose(bulged.to_px(np.array([0.5, 1.0])), [50 * 1.125, 100 * 1.125])


def test_what_the_lens_did_is_undone():
    plane = np.random.default_rng(0).uniform(-0.7, 0.7, size=(4, 17, 2))
    np.testing.assert_allclose(LENS.to_plane(LENS.to_px(plane)), plane, rtol=0, atol=1e-9)


def test_all_faults_are_named_at_once():
    with pytest.raises(InputError, match=r"focal lengths must be positive pixels, got 0, nan; distortion"):
        Intrinsics(focal_px=(0.0, np.nan), center_px=(1.0, 2.0), distortion=(np.inf, 0, 0, 0, 0))
