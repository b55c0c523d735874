import numpy as np
import pytest
from made_up_rigs import bvh_text

from mpm_model.errors import InputError
from mpm_model.pose.skeletons import H36M_17
from pipelines.sources.bvh import infer_unit_m, read_bvh
from pipelines.sources.options import ReadOptions


@pytest.fixture
def take(tmp_path):
    """take(text) -> URL of a BVH."""

    def write(text: str, name: str = "walk.bvh") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def read_joints(url, rate_hz=50.0, **options):
    recording = read_bvh(url, rate_hz=rate_hz, options=ReadOptions(**options))
    return {joint: recording.joints_world_m[:, index] for index, joint in enumerate(H36M_17.joints)}


def test_the_rest_pose_stands_with_z_up_and_its_left_at_x(take):
    joints_m = read_joints(take(bvh_text([{}])))
    expected_m = {
        "pelvis": (0, 0, 0), "left_hip": (0.1, 0, 0), "left_knee": (0.1, 0, -0.4),
        "left_ankle": (0.1, 0, -0.85), "right_knee": (-0.1, 0, -0.4), "spine": (0, 0, 0.25),
        "thorax": (0, 0, 0.5), "left_shoulder": (0.2, 0, 0.5),
        "left_elbow": (0.5, 0, 0.5), "left_wrist": (0.75, 0, 0.5), "right_wrist": (-0.75, 0, 0.5),
    }  # fmt: skip
    for joint, place_m in expected_m.items():
        np.testing.assert_allclose(joints_m[joint][0], place_m, atol=1e-6, err_msg=joint)
    scale = 0.85 / 0.84
    np.testing.assert_allclose(joints_m["nose"][0], [0, -0.12 * scale, 0.6 + 0.035 * scale], atol=1e-6)
    np.testing.assert_allclose(joints_m["head_top"][0], [0, 0, 0.6 + 0.185 * scale], atol=1e-6)


def test_a_root_that_walks_and_turns_takes_the_body_along(take):
    # Half a turn about y and 1 m to the left, 2 m ahead (+z, so -y of the world).
    joints_m = read_joints(take(bvh_text([{"Hips": "1 0.9 2 0 0 180"}])))
    np.testing.assert_allclose(joints_m["pelvis"][0], [1, -2, 0.9], atol=1e-6)
    np.testing.assert_allclose(joints_m["left_hip"][0], [0.9, -2, 0.9], atol=1e-6)


@pytest.mark.parametrize(
    ("order", "angles", "knee_m"),
    [
        ("ZXY", "0 90 0", (0.1, 0.4, 0)),  # about x: down goes to -z of the file, which is behind
        ("ZXY", "90 90 0", (0.1, 0.4, 0)),  # Rz Rx (0,-1,0) = Rz (0,0,-1): about z that stays
        ("XZY", "90 90 0", (0.1 + 0.4, 0, 0)),  # Rx Rz (0,-1,0) = Rx (1,0,0): to the left
        ("YXZ", "90 90 0", (0.1 - 0.4, 0, 0)),  # Ry Rx (0,-1,0) = Ry (0,0,-1): to the right
    ],
)
def test_rotations_turn_in_the_order_of_their_channels(take, order, angles, knee_m):
    joints_m = read_joints(take(bvh_text([{"LeftUpLeg": angles}], order=order)))
    np.testing.assert_allclose(joints_m["left_knee"][0], knee_m, atol=1e-6)


def test_a_joint_that_moves_is_placed_by_its_positions_and_not_its_offset(take):
    text = bvh_text([{"LeftForeArm": "0.31 0 0 0 0 0"}], moving=("LeftForeArm",))
    np.testing.assert_allclose(read_joints(take(text))["left_elbow"][0], [0.51, 0, 0.5], atol=1e-6)


def test_a_rig_that_stands_along_z_is_not_turned(take):
    recording = read_bvh(take(bvh_text([{}], z_up=True)), rate_hz=50, options=ReadOptions())
    assert any("z is up in this file" in note for note in recording.notes)
    joints_m = dict(zip(H36M_17.joints, recording.joints_world_m[0], strict=True))
    np.testing.assert_allclose(joints_m["left_ankle"], [0.1, 0, -0.85], atol=1e-6)
    assert joints_m["nose"][1] < -0.1


@pytest.mark.parametrize(
    ("units_per_m", "unit"),
    [
        (1, "metre"),
        (100, "centimetre"),
        (1000, "millimetre"),
        (1 / 0.0254, "inch"),
        (0.45 / 0.0254, "1/0.45 inch"),
    ],
)
def test_the_unit_follows_from_the_thigh_and_is_noted(take, units_per_m, unit):
    recording = read_bvh(take(bvh_text([{}], scale=units_per_m)), rate_hz=50, options=ReadOptions())
    assert any(f"{unit}" in note and "does not say its unit" in note for note in recording.notes)
    np.testing.assert_allclose(
        recording.joints_world_m[0, H36M_17.index("left_ankle")], [0.1, 0, -0.85], atol=1e-5
    )


def test_no_thigh_fits_two_units():
    for thigh in np.geomspace(0.1, 1000, 2000):
        try:
            _, unit_m = infer_unit_m(float(thigh), where="x.bvh")
        except InputError:
            continue
        fitting = [unit for unit in (1, 0.01, 0.001, 0.0254, 0.0254 / 0.45) if 0.30 <= thigh * unit <= 0.55]
        assert fitting == [unit_m]


def test_an_unknown_unit_can_be_told(take):
    url = take(bvh_text([{}], scale=3))
    with pytest.raises(InputError, match=r"cannot tell the unit: the thigh measures 1.2, .*option unit_m"):
        read_joints(url)
    np.testing.assert_allclose(read_joints(url, unit_m=1 / 3)["left_ankle"][0], [0.1, 0, -0.85], atol=1e-6)


def test_a_thigh_that_is_no_adults_is_noted(take):
    recording = read_bvh(take(bvh_text([{}], scale=0.8)), rate_hz=50, options=ReadOptions())
    assert any("the thigh, 0.32 m, is not an adult's" in note for note in recording.notes)


def test_prefixes_of_joint_names_are_seen_through(take):
    plain = read_joints(take(bvh_text([{"LeftLeg": "0 60 0"}])))
    prefixed = read_joints(take(bvh_text([{"LeftLeg": "0 60 0"}], prefix="mixamorig:")))
    np.testing.assert_array_equal(plain["left_ankle"], prefixed["left_ankle"])


@pytest.mark.parametrize(
    ("printed", "rate_hz"),
    [("0.041667", 24), ("0.008333", 120), ("0.0333333", 30), ("0.033367", 1 / 0.033367)],
)
def test_a_rounded_frame_time_means_the_whole_rate(take, printed, rate_hz):
    recording = read_bvh(
        take(bvh_text([{}] * 241, frame_time=printed)), rate_hz=rate_hz, options=ReadOptions()
    )
    assert len(recording.joints_world_m) == 241


def test_the_rate_can_be_told(take):
    recording = read_bvh(take(bvh_text([{}] * 11)), rate_hz=50, options=ReadOptions(source_rate_hz=10))
    assert len(recording.joints_world_m) == 51


def reactidle_text(frames: list[str]) -> str:
    """The rig of ReActIdle, whose root counts from its OFFSET."""

    def joint(kind, name, offset, *children):
        channels = "CHANNELS 6 Xposition Yposition Zposition Xrotation Yrotation Zrotation"
        return "\n".join([f"{kind} {name}", "{", f"OFFSET {offset}", channels, *children, "}"])

    end = "End Site\n{\nOFFSET 0.2 0 0\n}"
    legs, arms = [], []
    for side, sign in (("L", 1), ("R", -1)):
        shin = joint("JOINT", f"shin.{side}", "0 -0.4 0", joint("JOINT", f"foot.{side}", "0 -0.4 0", end))
        legs.append(joint("JOINT", f"thigh.{side}", f"{0.1 * sign} 0 0", shin))
        forearm = joint("JOINT", f"forearm.{side}", f"{0.2 * sign} 0 0", end)
        upper_arm = joint("JOINT", f"upper_arm.{side}", f"{0.2 * sign} 0 0", forearm)
        arms.append(joint("JOINT", f"shoulder.{side}", "0 0.25 0", upper_arm))
    face = joint("JOINT", "neck", "0 0.25 0", joint("JOINT", "face", "0 0.2 0", end))
    spine = joint("JOINT", "spine", "0 0 0", joint("JOINT", "spine.001", "0 0.25 0", face, *arms))
    pelvis = [joint("JOINT", f"pelvis.{side}", "0 0 0", end) for side in "LR"]
    root = joint("ROOT", "pelvis", "0 0.85 0", spine, *pelvis, *legs)
    return "\n".join(
        ["HIERARCHY", root, "MOTION", f"Frames: {len(frames)}", "Frame Time: 0.041667", *frames, ""]
    )


def test_reactidle_counts_its_root_from_the_offset_and_ends_arms_at_the_wrist(take):
    offsets = (
        "0 0 0|0 0.25 0|0 0.25 0|0 0.2 0|0 0.25 0|0.2 0 0|0.2 0 0|0 0.25 0|-0.2 0 0|-0.2 0 0|0 0 0|0 0 0"
    )
    offsets += "|0.1 0 0|0 -0.4 0|0 -0.4 0|-0.1 0 0|0 -0.4 0|0 -0.4 0"
    frame = "0.05 -0.01 0 0 0 0 " + " ".join(f"{offset} 0 0 0" for offset in offsets.split("|"))
    url = take(reactidle_text([frame]), name="007_genuine.bvh")
    recording = read_bvh(url, rate_hz=24, options=ReadOptions())
    joints_m = dict(zip(H36M_17.joints, recording.joints_world_m[0], strict=True))
    np.testing.assert_allclose(joints_m["pelvis"], [0.05, 0, 0.84], atol=1e-6)
    np.testing.assert_allclose(joints_m["left_ankle"], [0.15, 0, 0.04], atol=1e-6)
    np.testing.assert_allclose(joints_m["left_wrist"], [0.05 + 0.6, 0, 0.84 + 0.5], atol=1e-6)
    assert (recording.dataset, recording.subject, recording.action) == ("reactidle", "007", "genuine")
    assert any("counted from its OFFSET" in note for note in recording.notes)


GOOD = bvh_text([{}] * 3)
LAST = GOOD.rstrip("\n").rindex("\n") + 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("Frames: 3", "Frames: 4"), r"'Frames:' says 4, but 3 lines of motion .*fetch it again"),
        (GOOD[:LAST], r"'Frames:' says 3, but 2 lines"),
        (GOOD[:-3], r"line \d+: wanted 51 numbers, .*got 50"),
        (GOOD[:LAST] + GOOD[LAST:].replace("0", "nan", 1), r"line \d+: wanted finite numbers, got 'nan"),
        (GOOD[:LAST] + GOOD[LAST:].replace("0", "zero", 1), r"line \d+: wanted finite numbers, got 'zero"),
        (GOOD.replace("Frames: 3", "Frames: many"), r"line \d+: wanted 'Frames:' and a number"),
        (GOOD.replace("Frame Time: 0.020000", "Frame Time: 0"), r"frame time of 0.0001 to 1 s"),
        (GOOD[: GOOD.index("MOTION")], r"wanted a line MOTION"),
        (GOOD[: GOOD.index("Frame Time")], r"wanted 'Frame Time:' after MOTION, found the end of the file"),
        (GOOD.replace("OFFSET 0.100000", "OFFSET x", 1), r"line \d+: OFFSET wants three finite numbers"),
        (GOOD.replace("CHANNELS 6", "CHANNELS 5", 1), r"line 5: CHANNELS wants a count"),
        (GOOD.replace("Zrotation", "Wrotation", 1), r"line 5: CHANNELS wants a count"),
        (GOOD.replace("JOINT LeftLeg", "JOINT Spine", 1), r"a name of its own, got 'Spine'"),
        (GOOD.replace("JOINT LeftLeg", "BONE LeftLeg", 1), r"wanted ROOT, JOINT, .*got 'BONE LeftLeg'"),
        (GOOD.replace("JOINT LeftUpLeg", "ROOT LeftUpLeg", 1), r"wanted one ROOT that holds all joints"),
        (GOOD.replace("}\nMOTION", "MOTION"), r"the hierarchy ends inside 'Hips'"),
        (GOOD.replace("RightForeArm", "Tentacle"), r"no known rig .*Tentacle.*Rename them"),
        (GOOD.replace("OFFSET 0.000000 0.100000 0.000000", "OFFSET 3 0.1 0"), r"rest pose .* upright"),
        ("1\nroot 0 0 0\n", r"wanted a BVH file, which begins with HIERARCHY, got '1'"),
        ("", r"wanted a BVH file, .* got an empty file"),
    ],
)  # fmt: skip
def test_a_bad_bvh_is_refused_by_line(take, text, message):
    url = take(text)
    with pytest.raises(InputError, match=message) as error:
        read_joints(url)
    assert str(error.value).startswith(url)
    assert "\n" not in str(error.value)
