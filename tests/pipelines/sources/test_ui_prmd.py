import numpy as np
import pytest

from mpm_model.errors import InputError
from mpm_model.pose.skeletons import H36M_17
from pipelines.sources.options import ReadOptions
from pipelines.sources.plug_in_gait import MARKERS, harrington_hip_m, joints_under_markers
from pipelines.sources.ui_prmd import read_ui_prmd

# A person who stands, facing x, left at y, z up, millimetres; the right side's markers are mirrored.
LEFT = {
    "LFHD": (80, 60, 1600), "LBHD": (-80, 60, 1600), "LSHO": (0, 150, 1400), "LELB": (0, 200, 1100),
    "LWRA": (20, 200, 850), "LWRB": (-20, 200, 850), "LASI": (90, 125, 950), "LPSI": (-90, 50, 950),
    "LKNE": (0, 140, 480), "LANK": (0, 140, 80),
}  # fmt: skip
MIDDLE = {"C7": (-60, 0, 1420), "CLAV": (60, 0, 1420), "T10": (-100, 0, 1200), "STRN": (100, 0, 1200)}


def standing_markers(frames: int = 4) -> np.ndarray:
    """(frames, 39, 3) millimetres; markers that no joint needs lie at 1, 1, 1."""
    places = dict.fromkeys(MARKERS, (1, 1, 1)) | MIDDLE | LEFT
    places |= {"R" + name[1:]: (x, -y, z) for name, (x, y, z) in LEFT.items()}
    return np.tile(np.array([places[marker] for marker in MARKERS], dtype=float), (frames, 1, 1))


@pytest.fixture
def take(tmp_path):
    """take(markers) -> URL of a positions file."""

    def write(markers: np.ndarray, *, decimals: int = 1, name: str = "m04_s03_e02_positions.txt") -> str:
        lines = [",".join(f"{value:.{decimals}f}" for value in frame.ravel()) for frame in markers]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return str(tmp_path / name)

    return write


def test_joints_lie_under_the_markers_of_a_standing_person():
    joints_m, width_m, turn_rad = joints_under_markers(standing_markers() / 1000)
    at = dict(zip(H36M_17.joints, joints_m[0], strict=True))
    behind_m, below_m, aside_m = harrington_hip_m(width_m=0.25, depth_m=0.18)
    assert (width_m, turn_rad) == (pytest.approx(0.25), pytest.approx(0))
    np.testing.assert_allclose(at["left_hip"], [0.09 - behind_m, aside_m, 0.95 - below_m], atol=1e-9)
    np.testing.assert_allclose(at["pelvis"], [0.09 - behind_m, 0, 0.95 - below_m], atol=1e-9)
    np.testing.assert_allclose(at["right_shoulder"], [0, -0.15, 1.4 - 0.17 * 0.3], atol=1e-9)
    np.testing.assert_allclose(at["thorax"], [0, 0, 1.4 - 0.17 * 0.3], atol=1e-9)
    np.testing.assert_allclose(at["left_elbow"], [0, 0.2, 1.1], atol=1e-9)
    np.testing.assert_allclose(at["left_wrist"], [0, 0.2, 0.85], atol=1e-9)
    np.testing.assert_allclose(at["spine"], [0, 0, (0.95 + 1.2) / 2], atol=1e-9)
    np.testing.assert_allclose(at["nose"], [0.12, 0, 1.6 - 0.06], atol=1e-9)
    np.testing.assert_allclose(at["head_top"], [0, 0, 1.69], atol=1e-9)
    for joint, marker_m, distance_m in (("knee", [0, 0.14, 0.48], 0.055), ("ankle", [0, 0.14, 0.08], 0.045)):
        assert np.linalg.norm(at[f"left_{joint}"] - marker_m) == pytest.approx(distance_m)
        assert at[f"left_{joint}"][1] == pytest.approx(-at[f"right_{joint}"][1])
        assert 0.08 < at[f"left_{joint}"][1] < 0.1


def test_hips_follow_the_regression_of_harrington_2007():
    behind_m, below_m, aside_m = harrington_hip_m(width_m=0.240, depth_m=0.150)
    assert (behind_m, below_m, aside_m) == pytest.approx((0.0459, 0.0829, 0.0865))


def test_a_sloping_head_band_does_not_make_the_nose_rise():
    markers = standing_markers()
    for marker in ("LFHD", "RFHD"):
        markers[:, MARKERS.index(marker), 2] += 30
    joints_m, _, turn_rad = joints_under_markers(markers / 1000)
    assert turn_rad == pytest.approx(-np.arctan2(30, 160))
    nose_m, top_m = joints_m[0, H36M_17.index("nose")], joints_m[0, H36M_17.index("head_top")]
    np.testing.assert_allclose(top_m - nose_m, [-0.12, 0, 0.15], atol=1e-9)


def test_a_pelvis_too_wide_for_a_person_is_cut_and_noted(take):
    markers = standing_markers()
    for marker, y in (("LASI", 220), ("RASI", -220)):
        markers[:, MARKERS.index(marker), 1] = y
    recording = read_ui_prmd(take(markers), rate_hz=50, options=ReadOptions())
    assert any(
        "LASI and RASI are 0.440 m apart" in note and "0.30 m taken" in note for note in recording.notes
    )
    left, right = recording.joints_world_m[0, H36M_17.select("left_hip", "right_hip")]
    assert np.linalg.norm(left - right) == pytest.approx(2 * (0.33 * 0.30 + 0.0073), abs=1e-6)


def test_a_dropped_marker_spoils_only_its_joints_and_only_its_frames(take):
    markers = standing_markers(frames=5)
    markers[2, MARKERS.index("LELB")] = 0
    markers[3, MARKERS.index("LASI")] = 0
    recording = read_ui_prmd(take(markers), rate_hz=50, options=ReadOptions())
    spoiled = {
        frame: {H36M_17.joints[j] for j in np.flatnonzero(~recording.is_valid[frame])} for frame in range(5)
    }
    lower = {f"{side}_{joint}" for side in ("left", "right") for joint in ("hip", "knee", "ankle")}
    assert spoiled == {0: set(), 1: set(), 2: {"left_elbow"}, 3: lower | {"pelvis", "spine"}, 4: set()}
    assert not recording.joints_world_m[~recording.is_valid].any()


def test_between_frames_a_joint_needs_both_of_them(take):
    markers = standing_markers(frames=4)
    markers[1, MARKERS.index("LELB")] = 0
    recording = read_ui_prmd(take(markers), rate_hz=100, options=ReadOptions())
    assert recording.is_valid[:, H36M_17.index("left_elbow")].tolist() == [
        True,
        False,
        False,
        False,
        True,
        True,
        True,
    ]


def test_joints_go_straight_between_frames(take):
    markers = standing_markers(frames=2)
    markers[1, :, 0] += 100
    recording = read_ui_prmd(take(markers), rate_hz=100, options=ReadOptions())
    np.testing.assert_allclose(np.diff(recording.joints_world_m[:, :, 0], axis=0), 0.05, atol=1e-6)


@pytest.mark.parametrize(("decimals", "rate_hz"), [(6, 100), (1, 50)])
def test_the_rate_is_told_by_the_decimals_and_noted(take, decimals, rate_hz):
    url = take(standing_markers(frames=rate_hz + 1), decimals=decimals)
    recording = read_ui_prmd(url, rate_hz=50, options=ReadOptions())
    assert len(recording.joints_world_m) == 51
    assert any(f"{rate_hz} Hz taken" in note for note in recording.notes)
    told = read_ui_prmd(url, rate_hz=50, options=ReadOptions(source_rate_hz=25))
    assert len(told.joints_world_m) == 2 * rate_hz + 1
    assert not any("Hz taken" in note for note in told.notes)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("m04_s03_e02_positions.txt", ("ui_prmd", "s03", "m04", "m04_s03_e02")),
        ("m10_s01_e05_positions_inc.txt", ("ui_prmd", "s01", "m10 done wrongly", "m10_s01_e05_inc")),
    ],
)
def test_names_tell_person_and_exercise(take, name, expected):
    recording = read_ui_prmd(take(standing_markers(), name=name), rate_hz=50, options=ReadOptions())
    assert (recording.dataset, recording.subject, recording.action, recording.name) == expected


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-30], r"line 4: wanted 117 numbers .*got 1\d\d.*fetch it again"),
        (lambda text: text.replace("80.0", "nan", 1), r"line 1: LFHD wants finite numbers, got 'nan'"),
        (lambda text: text.replace("80.0", "eighty", 1), r"line 1: LFHD wants finite numbers, got 'eighty'"),
        (lambda text: text.replace(",", " "), r"line 1: wanted 117 numbers .*got 1; .*Wanted"),
        (lambda text: "", r"got an empty file"),
        (lambda text: text.replace(".0", ".00"), r"cannot tell the rate: .*this one 2; .*source_rate_hz"),
    ],
)  # fmt: skip
def test_a_bad_positions_file_is_refused_by_line(take, tmp_path, damage, message):
    url = take(standing_markers())
    path = tmp_path / "m04_s03_e02_positions.txt"
    path.write_text(damage(path.read_text()))
    with pytest.raises(InputError, match=message) as error:
        read_ui_prmd(url, rate_hz=50, options=ReadOptions())
    assert str(error.value).startswith(url)
    assert "\n" not in str(error.value)
