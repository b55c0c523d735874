import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.sources.articulated import ArticulatedMotion, conjugate, quaternions, resampling


def make_motion(rotations, *, rate_hz=100.0, paths_m=None):
    return ArticulatedMotion(
        joints=("root", "elbow", "wrist"),
        parents=(None, "root", "elbow"),
        offsets_m=np.array([[0, 0, 0], [0.3, 0, 0], [0.25, 0, 0]]),
        rotations=rotations,
        paths_m=paths_m or {},
        rate_hz=rate_hz,
    )


def turning_elbow(angles_deg, **options):
    rotations = np.zeros((len(angles_deg), 3, 4))
    rotations[..., 0] = 1
    rotations[:, 1] = quaternions("z", np.deg2rad(angles_deg)[:, None])
    return make_motion(rotations, **options)


def test_a_bent_elbow_puts_the_wrist_where_trigonometry_says():
    placed_m, turned = turning_elbow([0, 30, 90]).move()
    angles = np.deg2rad([0, 30, 90])
    expected = np.stack([0.3 + 0.25 * np.cos(angles), 0.25 * np.sin(angles), 0 * angles], axis=-1)
    np.testing.assert_allclose(placed_m[:, 2], expected, atol=1e-12)
    np.testing.assert_allclose(turned[2, 2] @ [1, 0, 0], [0, 1, 0], atol=1e-12)


def test_twice_the_rate_puts_half_the_angle_between():
    placed_m, _ = turning_elbow([0, 90]).at_rate(200).move()
    assert len(placed_m) == 3
    np.testing.assert_allclose(
        placed_m[1, 2] - placed_m[1, 1], 0.25 * np.array([1, 1, 0]) / np.sqrt(2), atol=1e-12
    )


def test_slerp_goes_the_short_way_round():
    placed_m, _ = turning_elbow([170, -170]).at_rate(200).move()
    np.testing.assert_allclose(placed_m[1, 2], [0.05, 0, 0], atol=1e-12)


def test_paths_go_straight_between_frames():
    motion = turning_elbow([0, 0], paths_m={"root": np.array([[0, 0, 0], [1, 2, 3]])})
    np.testing.assert_allclose(motion.at_rate(200).move()[0][1, 0], [0.5, 1, 1.5])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), to_hz=st.floats(20, 300))
def test_bones_keep_their_length_at_every_rate(seed, to_hz):
    rotations = np.random.default_rng(seed).normal(size=(40, 3, 4))
    rotations /= np.linalg.norm(rotations, axis=-1, keepdims=True)
    placed_m, _ = make_motion(rotations, rate_hz=120).at_rate(to_hz).move()
    lengths_m = np.linalg.norm(np.diff(placed_m, axis=1), axis=-1)
    np.testing.assert_allclose(lengths_m, np.broadcast_to([0.3, 0.25], lengths_m.shape), atol=1e-12)


def test_120_to_50_hz_keeps_both_ends_of_a_second():
    before, weight = resampling(121, from_hz=120, to_hz=50)
    assert len(before) == 51
    np.testing.assert_allclose(before + weight, np.arange(51) * 2.4, atol=1e-9)
    assert (before[-1], weight[-1]) == (120, 0)


def test_the_same_rate_changes_nothing():
    before, weight = resampling(7, from_hz=50, to_hz=50)
    assert before.tolist() == list(range(7))
    assert not weight.any()


def test_a_single_frame_stays_a_single_frame():
    before, weight = resampling(1, from_hz=120, to_hz=50)
    assert (before.tolist(), weight.tolist()) == ([0], [0])


def test_conjugation_gives_a_turn_in_a_turned_frame():
    quarter_about_z = quaternions("z", np.array([np.pi / 2]))
    about_x = quaternions("x", np.array([[0.7]]))
    np.testing.assert_allclose(
        conjugate(quarter_about_z, about_x), quaternions("y", np.array([[0.7]])), atol=1e-12
    )


def test_a_scaled_figure_moves_as_much_farther():
    motion = turning_elbow([30.0], paths_m={"root": np.array([[1.0, 0, 0]])})
    np.testing.assert_allclose(motion.scaled(2).move()[0], 2 * motion.move()[0], atol=1e-12)
    assert motion.scaled(2).rest_m["wrist"] == pytest.approx([1.1, 0, 0])
