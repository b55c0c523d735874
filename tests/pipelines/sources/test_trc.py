import gzip

import numpy as np
import pytest

from mpm_model.errors import InputError
from mpm_model.pose.skeletons import H36M_17
from pipelines.sources.options import ReadOptions
from pipelines.sources.trc import read_trc

# A person who stands, y up, facing z, left at x, in metres; the right side is mirrored.
LEFT = {
    "LHip": (0.1, 0.9, 0), "LKnee": (0.1, 0.5, 0), "LAnkle": (0.1, 0.1, 0),
    "LShoulder": (0.2, 1.4, 0), "LElbow": (0.25, 1.1, 0), "LWrist": (0.25, 0.85, 0.05),
}  # fmt: skip
RIGHT = {"R" + name[1:]: (-x, y, z) for name, (x, y, z) in LEFT.items()}
STANDING = RIGHT | LEFT | {"Neck": (0, 1.5, 0.3), "Head": (0, 1.75, 0), "Nose": (0, 1.6, 0.1)}


def trc_text(points: dict, *, frames: int = 5, rate: object = 60, unit: str = "m", scale: float = 1.0) -> str:
    """A take in which everything moves 0.06 m a frame along x."""
    blanks = "\t".join(f"{name}\t\t" for name in points)
    axes = "\t".join(f"X{n}\tY{n}\tZ{n}" for n in range(1, len(points) + 1))
    lines = [
        "PathFileType\t4\t(X/Y/Z)\ttake.trc",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
        f"{rate}\t60\t{frames}\t{len(points)}\t{unit}\t60\t0\t{frames}",
        f"Frame#\tTime\t{blanks}",
        f"\t\t{axes}",
    ]
    for frame in range(frames):
        places = np.array(list(points.values()), dtype=float) + np.array([0.06 * frame, 0, 0])
        cells = "\t".join(f"{value:.6f}" for value in (scale * places).ravel())
        lines.append(f"{frame + 1}\t{frame / 60:.6f}\t{cells}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def read(tmp_path):
    """read(text) -> Recording at the file's own 60 Hz."""

    def write_and_read(text: str, *, rate_hz: float = 60.0, options: ReadOptions = ReadOptions()):  # noqa: B008
        path = tmp_path / "lab" / "take.trc"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode())
        return read_trc(str(path), rate_hz=rate_hz, options=options)

    return write_and_read


def at(recording, joint, frame=0):
    return recording.joints_world_m[frame, H36M_17.index(joint)]


def test_y_up_becomes_z_up_and_stays_right_handed(read):
    recording = read(trc_text(STANDING))
    np.testing.assert_allclose(at(recording, "left_hip"), [0.1, 0, 0.9], atol=1e-6)
    np.testing.assert_allclose(at(recording, "nose"), [0, -0.1, 1.6], atol=1e-6)
    left = at(recording, "left_hip") - at(recording, "right_hip")
    ahead = np.cross(left, [0, 0, 1])
    assert (at(recording, "nose") - at(recording, "head_top")) @ ahead > 0
    assert any("y taken" in note for note in recording.notes)


def test_z_up_is_told_by_how_the_person_stands(read):
    recording = read(trc_text({name: (x, -z, y) for name, (x, y, z) in STANDING.items()}))
    np.testing.assert_allclose(at(recording, "left_wrist"), [0.25, -0.05, 0.85], atol=1e-6)
    assert any("z taken" in note for note in recording.notes)


def test_a_person_along_no_axis_is_refused(read):
    with pytest.raises(InputError, match="cannot tell which way is up"):
        read(trc_text({name: (y, x, z) for name, (x, y, z) in STANDING.items()}))


def test_the_midline_is_made_of_hips_and_shoulders_not_of_the_neck(read):
    recording = read(trc_text(STANDING))
    for joint, height_m in (("pelvis", 0.9), ("thorax", 1.4), ("spine", 1.15), ("head_top", 1.75)):
        np.testing.assert_allclose(at(recording, joint), [0, 0, height_m], atol=1e-6)
    assert recording.is_valid.all()


@pytest.mark.parametrize(("unit", "scale"), [("m", 1), ("cm", 100), ("mm", 1000), ("MM", 1000)])
def test_all_units_come_out_in_metres(read, unit, scale):
    recording = read(trc_text(STANDING, unit=unit, scale=scale))
    np.testing.assert_allclose(at(recording, "left_hip"), [0.1, 0, 0.9], atol=1e-6)


def test_a_unit_that_is_given_wins(read):
    recording = read(trc_text(STANDING, unit="furlong", scale=1000), options=ReadOptions(unit_m=0.001))
    np.testing.assert_allclose(at(recording, "left_hip"), [0.1, 0, 0.9], atol=1e-6)


def test_rates_are_resampled_along_straight_lines(read):
    recording = read(trc_text(STANDING), rate_hz=120)
    assert recording.joints_world_m.shape == (9, 17, 3)
    np.testing.assert_allclose(np.diff(recording.joints_world_m[..., 0], axis=0), 0.03, atol=1e-6)
    assert len(read(trc_text(STANDING), options=ReadOptions(source_rate_hz=30)).joints_world_m) == 9


@pytest.mark.parametrize("gone", ["\t\t", "NaN\tnan\tNaN", "0.0\t0\t0.000"])
def test_a_missing_point_spoils_only_its_joints_and_its_frame(read, gone):
    lines = trc_text(STANDING).splitlines()
    cells = lines[7].split("\t")
    first = 2 + 3 * list(STANDING).index("LHip")
    cells[first : first + 3] = gone.split("\t")
    lines[7] = "\t".join(cells)
    recording = read("\n".join(lines))
    spoiled = {H36M_17.joints[joint] for joint in np.flatnonzero(~recording.is_valid[2])}
    assert spoiled == {"left_hip", "pelvis", "spine"}
    assert not recording.joints_world_m[~recording.is_valid].any()
    assert recording.is_valid[[0, 1, 3, 4]].all()


def test_lines_may_end_as_on_windows_begin_with_a_mark_and_lack_their_last_tabs(read):
    clean = read(trc_text(STANDING))
    lines = trc_text(STANDING).splitlines()
    lines[5:] = [line + "\t" for line in lines[5:]]
    lines.insert(5, "")
    dirty = read("\ufeff" + "\r\n".join(lines) + "\r\n\r\n")
    np.testing.assert_array_equal(clean.joints_world_m, dirty.joints_world_m)

    ends = trc_text(STANDING).splitlines()
    ends[6] = "\t".join(ends[6].split("\t")[:-3])  # the last point, Nose, is missing with its tabs
    assert not read("\n".join(ends)).is_valid[1, H36M_17.index("nose")]


def test_a_file_without_head_reads_without_it(read):
    recording = read(
        trc_text({name: place for name, place in STANDING.items() if name not in ("Head", "Neck")})
    )
    assert set(np.flatnonzero(~recording.is_valid[0])) == {H36M_17.index("head_top")}


def test_folder_and_file_name_the_take_also_when_packed(read, tmp_path):
    recording = read(trc_text(STANDING))
    assert (recording.dataset, recording.subject, recording.name) == ("lab", "take", "take")
    packed = tmp_path / "take.trc.gz"
    packed.write_bytes(gzip.compress(trc_text(STANDING).encode()))
    again = read_trc(str(packed), rate_hz=60, options=ReadOptions(dataset="mine"))
    np.testing.assert_array_equal(again.joints_world_m, recording.joints_world_m)
    assert (again.dataset, again.name) == ("mine", "take")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: "", "begins PathFileType, got nothing"),
        (lambda text: "HIERARCHY\n" * 9, "begins PathFileType, got 'HIERARCHY'"),
        (lambda text: text.replace("\tm\t", "\tfeet\t"), "Units must be one of m, cm, mm, got 'feet'"),
        (lambda text: text.replace("60\t60", "zero\t60"), "line 3: DataRate must lie in .*'zero'"),
        (lambda text: text.replace("LHip", "L.ASIS"), r"lacks the joints LHip; it holds .*not markers"),
        (lambda text: text.replace("LHip", "RHip"), "line 4: names repeat: RHip"),
        (lambda text: text.replace("\t0.100000", "\t0,1", 1), "line 6: wanted numbers, got '0,1'"),
        (lambda text: text.replace("\t0.100000", "\tinf", 1), "line 6: wanted numbers, got 'inf'"),
        (lambda text: text + "6\t0.1\n", "line 11: wanted 47 cells, got 2"),
        (lambda text: text.rsplit("\n", 2)[0], "header says 5 frames, it holds 4"),
        (lambda text: text.replace("\n3\t", "\n7\t"), "line 8: frame 7 follows frame 2"),
        (lambda text: "\n".join(text.splitlines()[:5]), "holds no frames"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_by_line(read, damage, message):
    with pytest.raises(InputError, match=message) as error:
        read(damage(trc_text(STANDING)))
    assert "\n" not in str(error.value)
    assert "take.trc" in str(error.value)
