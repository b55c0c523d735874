import gzip

import numpy as np
import pytest
from made_up_rigs import UNIT_M, amc_text, asf_text

from mpm_model.errors import InputError
from mpm_model.pose.skeletons import H36M_17
from pipelines.sources.asf_amc import find_asf, read_asf_amc, read_motion
from pipelines.sources.options import ReadOptions

KEEP_HZ = 120.0


@pytest.fixture
def take(tmp_path):
    """take(asf, amc) -> URL of the AMC, both written as 77.asf and 77_01.amc."""

    def write(asf: str, amc: str) -> str:
        (tmp_path / "77.asf").write_text(asf)
        (tmp_path / "77_01.amc").write_text(amc)
        return str(tmp_path / "77_01.amc")

    return write


def read_joints(url, rate_hz=KEEP_HZ, **options):
    recording = read_asf_amc(url, rate_hz=rate_hz, options=ReadOptions(**options))
    return {joint: recording.joints_world_m[:, index] for index, joint in enumerate(H36M_17.joints)}


def test_the_rest_pose_stands_with_z_up_and_its_left_at_x(take):
    joints_m = read_joints(take(asf_text(), amc_text([{}])))
    expected_m = {
        "pelvis": (0, 0, 0), "left_hip": (0.1, 0, 0), "left_knee": (0.1, 0, -0.4),
        "left_ankle": (0.1, 0, -0.85), "right_knee": (-0.1, 0, -0.4), "spine": (0, 0, 0.25),
        "thorax": (0, 0, 0.5), "left_shoulder": (0.2, 0, 0.5),
        "left_elbow": (0.5, 0, 0.5), "left_wrist": (0.75, 0, 0.5), "right_wrist": (-0.75, 0, 0.5),
    }  # fmt: skip
    for joint, place_m in expected_m.items():
        np.testing.assert_allclose(joints_m[joint][0], place_m, atol=1e-6, err_msg=joint)
    scale = 0.85 / 0.84
    np.testing.assert_allclose(joints_m["nose"][0], [0, -0.12 * scale, 0.7 - 0.06 * scale], atol=1e-6)
    np.testing.assert_allclose(joints_m["head_top"][0], [0, 0, 0.7 + 0.09 * scale], atol=1e-6)


def test_a_knee_bent_by_90_degrees_puts_the_ankle_behind(take):
    joints_m = read_joints(take(asf_text(), amc_text([{"ltibia": "90"}])))
    np.testing.assert_allclose(joints_m["left_ankle"][0], [0.1, 0.45, -0.4], atol=1e-6)
    np.testing.assert_allclose(joints_m["right_ankle"][0], [-0.1, 0, -0.85], atol=1e-6)


def test_angles_turn_about_fixed_axes_in_channel_order(take):
    # First 90 about x: the thigh points forward against +z, so to -z of the file. Then 90 about y: to -x.
    joints_m = read_joints(take(asf_text(), amc_text([{"lfemur": "90 90 0"}])))
    np.testing.assert_allclose(joints_m["left_knee"][0], [0.1 - 0.4, 0, 0], atol=1e-6)


def test_angles_count_in_the_frame_of_the_bones_axis(take):
    # The frame is turned by 90 about z: its x is y of the file, about which a thigh that hangs does not move.
    asf = asf_text(axes={"lfemur": "0 0 90 XYZ"})
    joints_m = read_joints(take(asf, amc_text([{"lfemur": "90 0 0"}, {"lfemur": "0 -90 0"}])))
    np.testing.assert_allclose(joints_m["left_knee"][0], [0.1, 0, -0.4], atol=1e-6)
    np.testing.assert_allclose(joints_m["left_knee"][1], [0.1, 0.4, 0], atol=1e-6)


def test_the_root_path_counts_in_the_skeletons_unit(take):
    root = f"{1 / UNIT_M} {2 / UNIT_M} {3 / UNIT_M} 0 0 0"
    joints_m = read_joints(take(asf_text(), amc_text([{"root": root}])))
    np.testing.assert_allclose(joints_m["pelvis"][0], [1, -3, 2], atol=1e-6)


def test_the_files_unit_of_length_is_honoured_and_can_be_overridden(take):
    inches = take(asf_text(length="1.0"), amc_text([{}]))
    np.testing.assert_allclose(read_joints(inches)["left_knee"][0], [0.1, 0, -0.4], atol=1e-6)
    twice = read_joints(inches, unit_m=2 * 0.0254)
    np.testing.assert_allclose(twice["left_knee"][0], [0.2, 0, -0.8], atol=1e-6)


def test_radians_are_read_as_radians(take):
    amc = amc_text([{"ltibia": "1.5707963268"}], header=":FULLY-SPECIFIED\n")
    np.testing.assert_allclose(
        read_joints(take(asf_text(angle="rad"), amc))["left_ankle"][0], [0.1, 0.45, -0.4], atol=1e-6
    )
    degrees = amc_text([{"ltibia": "90"}])  # an AMC's own :DEGREES wins over its ASF
    np.testing.assert_allclose(
        read_joints(take(asf_text(angle="rad"), degrees))["left_ankle"][0], [0.1, 0.45, -0.4], atol=1e-6
    )


def test_bones_may_come_in_any_order_and_lines_may_be_empty(take):
    amc = amc_text([{"ltibia": "90"}, {"ltibia": "45"}])
    lines = amc.splitlines()
    lines[3:5] = [lines[4], "", lines[3]]  # the first frame's first two bones change places
    np.testing.assert_array_equal(
        read_joints(take(asf_text(), "\n".join(lines)))["left_ankle"],
        read_joints(take(asf_text(), amc))["left_ankle"],
    )


def test_the_rate_is_120_hz_with_a_note_unless_told(take):
    url = take(asf_text(), amc_text([{}] * 121))
    assumed = read_asf_amc(url, rate_hz=50, options=ReadOptions())
    assert len(assumed.joints_world_m) == 51
    assert any("120 Hz taken" in note for note in assumed.notes)
    told = read_asf_amc(url, rate_hz=50, options=ReadOptions(source_rate_hz=60))
    assert len(told.joints_world_m) == 101
    assert not any("Hz" in note for note in told.notes)


def test_the_longest_name_finds_its_skeleton(tmp_path):
    for name in ("HDM.asf", "HDM_bd.asf.gz", "HDM_bd_grabHighR_001_120.amc"):
        (tmp_path / name).write_bytes(b"")
    assert find_asf(str(tmp_path / "HDM_bd_grabHighR_001_120.amc")).endswith("HDM_bd.asf.gz")


def test_packed_files_read_as_unpacked_ones(take, tmp_path):
    url = take(asf_text(), amc_text([{"ltibia": "33"}]))
    plain = read_joints(url)
    for name in ("77.asf", "77_01.amc"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
        (tmp_path / name).unlink()
    np.testing.assert_array_equal(read_joints(url + ".gz")["left_ankle"], plain["left_ankle"])


def test_native_joints_are_bones_starts_and_outer_ends(take):
    url = take(asf_text(), amc_text([{}]))
    motion = read_motion(url, find_asf(url), options=ReadOptions())
    assert motion.parent_of["ltibia"] == "lfemur"
    assert motion.rest_m["head.end"] == pytest.approx([0, 0.7, 0])


GOOD = amc_text([{}] * 3)


@pytest.mark.parametrize(
    ("amc", "message"),
    [
        (GOOD[: GOOD.rindex("rradius")], r"line 27, frame 3: lacks rradius.*cut or damaged.*fetch it again"),
        (GOOD.replace("lfemur 0 0 0", "lfemur 0 0", 1), r"line 5, frame 1: lfemur wants 3 numbers, got 2"),
        (GOOD.replace("head 0", "head nan", 1), r"line 10, frame 1: head wants finite numbers, got nan"),
        (GOOD.replace("head 0", "head O", 1), r"frame 1: head wants finite numbers, got O"),
        (GOOD.replace("head 0", "hat 0", 1), r"no moving bone 'hat'.*frame 1: lacks head"),
        (GOOD.replace("\n3\n", "\n4\n"), r"line 27: frame 4 follows frame 2"),
        (GOOD.replace("head 0", "head 0\nhead 0", 1), r"line 11, frame 1: bone 'head' comes twice"),
        (GOOD.replace(" 0", " x"), r"; and \d+ more"),
        ("not an amc\n", r"wanted an AMC motion file .*got 'not an amc' on line 1"),
        ("", r"wanted an AMC motion file, got an empty file"),
        ("HIERARCHY\nROOT Hips\n1\n", r"wanted an AMC motion file"),
    ],
)  # fmt: skip
def test_a_bad_amc_is_refused_by_line_and_frame(take, amc, message):
    url = take(asf_text(), amc)
    with pytest.raises(InputError, match=message) as error:
        read_joints(url)
    assert str(error.value).startswith(url)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("asf", "message"),
    [
        ("nothing\n", r"wanted an ASF skeleton, but it has no :units, :root, :bonedata, :hierarchy"),
        (asf_text().replace("  length 0.45\n", ""), r":units: wanted a positive length, got nothing"),
        (
            asf_text().replace("direction 0.000000 -1.000000", "direction x -1.0", 1),
            r"line \d+: wanted three numbers",
        ),
        (asf_text().replace("angle deg", "angle turns"), r"must be deg or rad, got 'turns'"),
        (asf_text().replace("dof rx ry rz", "dof rx l", 1), r"rx, ry, rz, each once; got rx l"),
        (asf_text().replace("0 0 0 XYZ", "0 0 0 XYY", 1), r"order of axes such as XYZ, got 'XYY'"),
        (asf_text().replace("    lhipjoint lfemur\n", ""), r"bone 'lfemur' hangs on nothing"),
        (asf_text().replace("root lhipjoint", "root lhip"), r":bonedata defines no bone 'lhip'"),
        (asf_text().replace("lhand", "lpaw"), r"no known rig has these joints: .*lpaw.*Rename them"),
    ],
)
def test_a_bad_asf_is_refused(take, asf, message):
    with pytest.raises(InputError, match=message):
        read_joints(take(asf, GOOD))


def test_a_missing_asf_is_named(tmp_path):
    (tmp_path / "77_01.amc").write_text(GOOD)
    with pytest.raises(InputError, match=r"77_01.amc: its skeleton is missing: wanted 77.asf .*put it there"):
        read_joints(str(tmp_path / "77_01.amc"))


@pytest.mark.parametrize(
    ("name", "asf", "expected"),
    [
        ("77_01.amc", "77.asf", ("cmu", "77", "trial 01", "77_01")),
        (
            "HDM_bd_grabHighR_001_120.amc",
            "HDM_bd.asf",
            ("hdm05", "bd", "grabHighR", "HDM_bd_grabHighR_001_120"),
        ),
        ("anna_jumps.amc", "anna.asf", ("studio", "anna", "jumps", "anna_jumps")),
    ],
)
def test_names_tell_data_set_person_and_action(tmp_path, name, asf, expected):
    folder = tmp_path / "studio"
    folder.mkdir()
    (folder / name).write_text(GOOD)
    (folder / asf).write_text(asf_text())
    recording = read_asf_amc(str(folder / name), rate_hz=50, options=ReadOptions())
    assert (recording.dataset, recording.subject, recording.action, recording.name) == expected
    if expected[0] == "hdm05":
        with pytest.raises(InputError, match="person bd of hdm05, who is held out"):
            read_asf_amc(str(folder / name), rate_hz=50, options=ReadOptions(dataset="mine"))
        return
    renamed = read_asf_amc(str(folder / name), rate_hz=50, options=ReadOptions(dataset="mine"))
    assert renamed.dataset == "mine"
