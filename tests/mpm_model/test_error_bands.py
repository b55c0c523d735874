"""Error bands: radii that hold what they say, and say the same of a piece as of the whole."""

import dataclasses
import json

import numpy as np
import pytest

from mpm_model.checkpoint import (
    ERROR_BANDS_FILE,
    TENSORS_FILE,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from mpm_model.error_bands import ErrorBands
from mpm_model.errors import InputError
from mpm_model.learning import error_quantiles
from mpm_model.learning.error_quantiles import LiftedTrack, fit_error_bands
from mpm_model.lifting_signs import (
    LONGEST_GAP_S,
    hidden_s,
    image_misfit_m,
    nearest_known,
    speed_m_s,
    what_shows,
)
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.lifting import LiftingModel
from mpm_model.pose.skeletons import H36M_16, H36M_17

RATE_HZ = 25.0
JOINTS = len(H36M_17)
CHI3_50, CHI3_90 = 1.5382, 2.5003
"""Quantiles of the length of a vector of three standard normal numbers."""


def made_up_track(frames: int, std_mm: np.ndarray, *, seed: int = 0, **replaced: object) -> LiftedTrack:
    """Poses at random, seen without perspective at 300 px a metre, whose errors have a known spread."""
    rng = np.random.default_rng(seed)
    joints_rel_m = rng.normal(0, 0.4, (frames, JOINTS, 3)).astype(np.float32)
    joints_rel_m[:, 0] = 0
    error_m = 1e-3 * std_mm[..., None] * rng.normal(size=joints_rel_m.shape)
    track = {
        "joints_rel_m": joints_rel_m,
        "true_rel_m": joints_rel_m - error_m,
        "is_valid": np.ones((frames, JOINTS), bool),
        "keypoints_px": 300 * joints_rel_m[..., :2] + 500,
        "confidence": rng.uniform(0.2, 1.0, (frames, JOINTS)).astype(np.float32),
        "is_hidden": rng.uniform(size=(frames, JOINTS)) < 0.2,
        "rate_hz": RATE_HZ,
        "group": "made up",
    }
    return LiftedTrack(**(track | replaced))


def fitted(*tracks: LiftedTrack, **options: object) -> ErrorBands:
    return fit_error_bands(tracks, skeleton=H36M_17, seed=0, fitted_on="made-up people", people=1, **options)


def of(bands: ErrorBands, track: LiftedTrack, rows: slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
    return bands.of(
        track.joints_rel_m[rows],
        track.keypoints_px[rows],
        track.confidence[rows],
        track.is_hidden[rows],
        rate_hz=track.rate_hz,
    )


SPREAD_MM = np.linspace(10, 90, JOINTS)
"""By joint."""
FRAMES = 12_000


@pytest.fixture(scope="module")
def track() -> LiftedTrack:
    hidden = made_up_track(FRAMES, np.zeros((FRAMES, JOINTS))).is_hidden
    return made_up_track(FRAMES, SPREAD_MM * np.where(hidden, 3, 1))


@pytest.fixture(scope="module")
def bands(track: LiftedTrack) -> ErrorBands:
    return fitted(track)


class TestWhatTheyHold:
    def test_errors_of_known_spread_give_its_quantiles_by_joint_and_state(self, bands, track):
        error_50_mm, error_90_mm = of(bands, track)
        for is_state, times in ((~track.is_hidden, 1), (track.is_hidden, 3)):
            for radius_mm, quantile in ((error_50_mm, CHI3_50), (error_90_mm, CHI3_90)):
                mean_mm = [radius_mm[is_state[:, joint], joint].mean() for joint in range(1, JOINTS)]
                np.testing.assert_allclose(mean_mm, quantile * times * SPREAD_MM[1:], rtol=0.15)

    def test_the_radii_hold_half_and_nine_tenths_of_errors_they_were_not_fitted_on(self, bands):
        new = made_up_track(3000, np.zeros((3000, JOINTS)), seed=1)
        new = made_up_track(3000, SPREAD_MM * np.where(new.is_hidden, 3, 1), seed=1)
        for radius_mm, share in zip(of(bands, new), (0.5, 0.9), strict=True):
            assert (new.error_mm <= radius_mm)[:, 1:].mean() == pytest.approx(share, abs=0.02)

    def test_a_detectors_doubt_widens_where_doubt_meant_errors(self):
        sure = made_up_track(4000, np.zeros((4000, JOINTS))).confidence
        track = made_up_track(4000, 100 * (1.2 - sure), is_hidden=np.zeros((4000, JOINTS), bool))
        error_50_mm, _ = of(fitted(track), track)
        expected_mm = CHI3_50 * 100 * (1.2 - sure)
        np.testing.assert_allclose(np.median(error_50_mm[:, 1:] / expected_mm[:, 1:]), 1, atol=0.05)
        assert np.corrcoef(error_50_mm[:, 1:].ravel(), expected_mm[:, 1:].ravel())[0, 1] > 0.9

    def test_groups_count_alike_however_long(self):
        long = made_up_track(4000, np.full((4000, JOINTS), 10.0))
        short = made_up_track(200, np.full((200, JOINTS), 100.0), seed=1, group="another")
        bands = fitted(long, short)
        within = [(each.error_mm <= of(bands, each)[0])[:, 1:].mean() for each in (long, short)]
        assert np.mean(within) == pytest.approx(0.5, abs=0.02)

    def test_widening_makes_each_radius_so_many_times_as_long(self, bands, track):
        wide = of(fitted(track, widening=(1.5, 2.0)), track)
        for ours, theirs, times in zip(wide, of(bands, track), (1.5, 2.0), strict=True):
            is_same = np.isclose(ours, times * theirs, rtol=1e-3)
            assert is_same.mean() > 0.99  # but where the quantiles would cross

    def test_joints_whose_truth_nobody_knows_do_not_count(self, monkeypatch):
        monkeypatch.setattr(error_quantiles, "STEPS", 200)
        track = made_up_track(500, np.full((500, JOINTS), 20.0))
        is_valid = np.random.default_rng(0).uniform(size=track.is_valid.shape) < 0.7
        lost = np.where(is_valid[..., None], track.true_rel_m, 1e3)
        few = [
            fitted(dataclasses.replace(track, is_valid=is_valid, true_rel_m=truth))
            for truth in (track.true_rel_m, lost)
        ]
        np.testing.assert_array_equal(*(each.output_bias for each in few))


class TestRadii:
    def test_are_float32_rise_and_are_0_at_the_root(self, bands, track):
        error_50_mm, error_90_mm = of(bands, track)
        assert error_50_mm.dtype == error_90_mm.dtype == np.float32
        assert error_50_mm.shape == error_90_mm.shape == track.is_hidden.shape
        assert (error_90_mm >= error_50_mm).all()
        assert not error_90_mm[:, 0].any()
        assert (error_50_mm[:, 1:] > 0).all()

    def test_hidden_keypoints_may_hold_anything(self, bands, track):
        strange_px = np.where(track.is_hidden[..., None], 1e6, track.keypoints_px)
        strange = dataclasses.replace(
            track, keypoints_px=strange_px, confidence=np.where(track.is_hidden, 0.05, track.confidence)
        )
        for ours, theirs in zip(of(bands, track), of(bands, strange), strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def test_do_not_depend_on_the_images_scale_and_place(self, bands, track):
        other = dataclasses.replace(track, keypoints_px=2 * track.keypoints_px - 700)
        for ours, theirs in zip(of(bands, track), of(bands, other), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3)

    def test_of_a_piece_are_those_of_the_whole_beyond_the_longest_gap_from_its_ends(self, bands, track):
        piece = slice(100, 300)
        inside = int(np.ceil(LONGEST_GAP_S * RATE_HZ))
        is_hidden = track.is_hidden.copy()
        is_hidden[150:175] = True
        gapped = dataclasses.replace(track, is_hidden=is_hidden)
        for whole, part in zip(of(bands, gapped), of(bands, gapped, piece), strict=True):
            np.testing.assert_allclose(whole[piece][inside:-inside], part[inside:-inside], rtol=1e-5)

    def test_are_finite_for_one_frame_for_frames_nobody_saw_and_for_poses_without_extent(self, bands):
        nothing = made_up_track(1, np.ones((1, JOINTS)), is_hidden=np.ones((1, JOINTS), bool))
        point = dataclasses.replace(
            made_up_track(3, np.ones((3, JOINTS)), is_hidden=np.zeros((3, JOINTS), bool)),
            joints_rel_m=np.zeros((3, JOINTS, 3), np.float32),
            keypoints_px=np.full((3, JOINTS, 2), 1e5, np.float32),
        )
        for each in (nothing, point):
            for radius_mm in of(bands, each):
                assert np.isfinite(radius_mm).all()

    def test_the_same_seed_gives_the_same_and_leaves_the_global_random_numbers_alone(self, monkeypatch):
        import torch

        monkeypatch.setattr(error_quantiles, "STEPS", 20)
        track = made_up_track(300, np.full((300, JOINTS), 20.0))
        torch.manual_seed(5)
        first, second = fitted(track), fitted(track)
        drawn = torch.rand(3)
        torch.manual_seed(5)
        assert torch.equal(drawn, torch.rand(3))
        np.testing.assert_array_equal(first.output_weight, second.output_weight)


class TestSigns:
    def test_time_hidden_is_to_the_nearest_frame_that_shows_the_joint(self):
        is_hidden = np.array([[1, 0, 1, 1, 1, 0]], bool).T
        np.testing.assert_allclose(
            hidden_s(is_hidden, rate_hz=10.0)[:, 0], [0.1, 0, 0.1, 0.2, 0.1, 0], atol=1e-12
        )
        assert (hidden_s(np.ones((4, 1), bool), rate_hz=10.0) == LONGEST_GAP_S).all()

    def test_a_pose_that_lies_on_its_image_has_no_misfit_at_any_scale_and_place(self):
        track = made_up_track(5, np.ones((5, JOINTS)))
        misfit_m, frame_misfit_m = image_misfit_m(track.joints_rel_m, track.keypoints_px, track.is_hidden)
        assert misfit_m.max() < 1e-6
        assert frame_misfit_m.max() < 1e-6

    def test_one_keypoint_beside_its_joint_misfits_by_about_so_much(self):
        track = made_up_track(1, np.ones((1, JOINTS)), is_hidden=np.zeros((1, JOINTS), bool))
        beside_px = track.keypoints_px.copy()
        beside_px[0, 5] += [0.0, 30.0]  # 0.1 m at 300 px a metre
        misfit_m, _ = image_misfit_m(track.joints_rel_m, beside_px, track.is_hidden)
        assert misfit_m[0, 5] == pytest.approx(0.1, abs=0.02)
        assert np.delete(misfit_m[0], 5).max() < 0.03

    def test_the_misfit_of_a_frame_that_shows_hardly_anything_is_not_known(self):
        track = made_up_track(1, np.ones((1, JOINTS)), is_hidden=np.arange(JOINTS)[None] >= 3)
        _, frame_misfit_m = image_misfit_m(track.joints_rel_m, track.keypoints_px, track.is_hidden)
        assert np.isnan(frame_misfit_m).all()

    def test_what_is_not_known_is_taken_from_the_nearest_frame_the_earlier_of_two(self):
        values = np.array([1.0, np.nan, 2.0, np.nan, np.nan, np.nan, np.nan, np.nan])
        found = nearest_known(values, longest_frames=2)
        np.testing.assert_array_equal(found, [1, 1, 2, 2, 2, np.nan, np.nan, np.nan])

    def test_the_speed_of_an_even_motion_is_its_speed_up_to_the_ends(self):
        way_m = np.arange(20)[:, None, None] / RATE_HZ * np.array([0.3, 0.0, 0.4])
        np.testing.assert_allclose(speed_m_s(way_m, rate_hz=RATE_HZ), 0.5)
        assert not speed_m_s(way_m[:1], rate_hz=RATE_HZ).any()

    def test_all_that_shows_is_finite_and_float32(self):
        track = made_up_track(6, np.ones((6, JOINTS)), is_hidden=np.ones((6, JOINTS), bool))
        shown = what_shows(
            track.joints_rel_m * 0,
            track.keypoints_px,
            track.confidence,
            track.is_hidden,
            rate_hz=RATE_HZ,
            skeleton=H36M_17,
            bone_length_m=np.ones(JOINTS - 1),
        )
        assert shown.dtype == np.float32
        assert np.isfinite(shown).all()


CONFIG = PoseTransformerConfig(
    frames=9, width=16, layers=1, heads=2, feed_forward=16, frame_hidden=16, frame_dropout=0.2
)


class TestTheFile:
    @pytest.fixture
    def folder(self, tmp_path, bands):
        measured = dataclasses.replace(bands, coverage={"held-out people": (0.51, 0.9)})
        checkpoint = Checkpoint(
            model=LiftingModel(CONFIG),
            skeleton=H36M_17,
            normalisation="person",
            rate_hz=25.0,
            card={},
            error_bands=measured,
        )
        save_checkpoint(tmp_path / "calibrated", checkpoint)
        return tmp_path / "calibrated"

    def test_bands_come_back_with_their_checkpoint_to_six_digits(self, folder, bands, track):
        loaded = load_checkpoint(folder).error_bands
        assert loaded.fitted_on == "made-up people"
        assert (loaded.frames, loaded.people) == (FRAMES, 1)
        assert loaded.coverage == {"held-out people": (0.51, 0.9)}
        for ours, theirs in zip(of(loaded, track), of(bands, track), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=5e-3)

    def test_a_checkpoint_that_was_never_calibrated_has_none(self, folder):
        (folder / ERROR_BANDS_FILE).unlink()
        assert load_checkpoint(folder).error_bands is None

    def test_a_checkpoint_may_be_loaded_without_them_whatever_lies_there(self, folder):
        (folder / ERROR_BANDS_FILE).write_text("half")
        assert load_checkpoint(folder, with_error_bands=False).error_bands is None

    def test_bands_of_other_weights_are_refused(self, folder, tmp_path):
        other = Checkpoint(
            model=LiftingModel(CONFIG), skeleton=H36M_17, normalisation="person", rate_hz=25.0, card={}
        )
        save_checkpoint(tmp_path / "other", other)
        (folder / TENSORS_FILE).write_bytes((tmp_path / "other" / TENSORS_FILE).read_bytes())
        with pytest.raises(InputError, match=r"error_bands.json: made for other weights .* calibrate"):
            load_checkpoint(folder)

    def test_bands_of_another_skeleton_are_refused_at_birth(self, bands):
        with pytest.raises(InputError, match="its error bands are of another skeleton, h36m_17"):
            Checkpoint(
                model=LiftingModel(dataclasses.replace(CONFIG, joints=16)),
                skeleton=H36M_16,
                normalisation="person",
                rate_hz=25.0,
                card={},
                error_bands=bands,
            )

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"format": "mpm-error-bands/9"}, "wanted format 'mpm-error-bands/1', got 'mpm-error-bands/9'"),
            ({"colour": "blue"}, "unknown colour"),
            ({"people": 0}, "people must be at least 1, got 0"),
            ({"people": "many"}, "people must be int, got 'many'"),
            ({"hidden_bias": ["a"]}, "hidden_bias must be numbers"),
            ({"hidden_bias": 3.0}, "hidden_bias must be"),
            ({"hidden_weight": [[1, 2], [3]]}, "hidden_weight must be numbers, of equal length"),
            ({"shown_mean": [0.0]}, "shown_mean must be finite numbers"),
            ({"bone_length_m": [0.0] * 16}, "bone_length_m must be positive"),
            ({"output_bias": [float("nan")] * 64}, "output_bias must be finite numbers"),
            ({"coverage": {"all": [0.5]}}, "coverage of all must be shares of 2 radii"),
            ({"parents": [None] * 17}, "must have one root"),
            ({"skeleton": "other_17"}, "made for skeleton other_17, the checkpoint has h36m_17"),
        ],
    )
    def test_every_fault_is_one_line_that_names_the_file(self, folder, change, words):
        path = folder / ERROR_BANDS_FILE
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        with pytest.raises(InputError) as error:
            load_checkpoint(folder)
        assert str(path) in str(error.value)
        assert words in str(error.value)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("keep", [0, 5, 2000])
    def test_a_file_cut_short_is_named(self, folder, keep):
        path = folder / ERROR_BANDS_FILE
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(InputError, match=r"error_bands.json: wanted JSON"):
            load_checkpoint(folder)

    def test_missing_keys_are_named(self, folder):
        path = folder / ERROR_BANDS_FILE
        content = json.loads(path.read_text())
        del content["shown_std"], content["fitted_on"]
        path.write_text(json.dumps(content))
        with pytest.raises(InputError, match="missing fitted_on, shown_std"):
            load_checkpoint(folder)
