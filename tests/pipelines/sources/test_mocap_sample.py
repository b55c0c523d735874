"""The bundled sample: every take of it, as the readers give it."""

import numpy as np
import pytest

from mpm_model.pose.skeletons import H36M_17
from pipelines.sources.asf_amc import find_asf
from pipelines.sources.asf_amc import read_motion as read_acclaim_motion
from pipelines.sources.bvh import read_motion as read_bvh_motion
from pipelines.sources.held_out import is_held_out
from pipelines.sources.options import ReadOptions
from pipelines.sources.registry import READERS, find_takes

FOLDERS = {"cmu": "asf_amc", "cmu_bvh": "bvh", "ui_prmd": "ui_prmd"}
HIPS = ("left_hip", "right_hip")
RIGID = [
    *(
        (f"{side}_{start}", f"{side}_{end}")
        for side in ("left", "right")
        for start, end in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
    ),
    ("nose", "head_top"),
]
TENTH_OF_A_MM = 1e-4
SHORT_THIGHS = {("s08", "left"): (0.344, 0.375)}
"""Thighs that read shorter than an adult's, with the range over all takes of the person: s08's left one is
35 mm shorter than the right one. The left shin is 14 mm longer, so a high knee marker is part of it."""


@pytest.fixture(scope="module")
def recordings(sample_mocap):
    """All recordings of each folder, at 50 Hz."""
    return {
        folder: [
            READERS[reader].read(url, rate_hz=50.0, options=ReadOptions())
            for url in find_takes(READERS[reader], str(sample_mocap / folder))
        ]
        for folder, reader in FOLDERS.items()
    }


def everything(recordings):
    return [recording for folder in recordings.values() for recording in folder]


def bone_m(recording, start, end):
    ends_m = recording.joints_world_m[:, H36M_17.select(start, end)].astype(float)
    return np.linalg.norm(ends_m[:, 0] - ends_m[:, 1], axis=-1)


def test_the_sample_holds_people_to_train_on_and_people_to_hold_out(recordings):
    counts = {
        folder: {
            held_out: len(
                {take.subject for take in takes if is_held_out(take.dataset, take.subject) == held_out}
            )
            for held_out in (False, True)
        }
        for folder, takes in recordings.items()
    }
    assert counts == {
        "cmu": {False: 10, True: 2},
        "cmu_bvh": {False: 0, True: 1},
        "ui_prmd": {False: 8, True: 2},
    }
    names = [(take.dataset, take.name) for folder in ("cmu", "ui_prmd") for take in recordings[folder]]
    assert len(set(names)) == len(names)


def test_the_sample_is_small_and_carries_its_licences(sample_mocap):
    sizes = [path.stat().st_size for path in sample_mocap.rglob("*") if path.is_file()]
    assert sum(sizes) <= 2_300_000
    for folder in FOLDERS:
        assert (sample_mocap / folder / "LICENCE.txt").read_text()


def test_the_readme_lists_every_take(sample_mocap):
    readme = (sample_mocap.parent / "README.md").read_text()
    for folder, reader in FOLDERS.items():
        for url in find_takes(READERS[reader], str(sample_mocap / folder)):
            assert url.removeprefix(f"{sample_mocap}/") in readme


def test_thighs_and_shins_are_an_adults(recordings):
    for recording in everything(recordings):
        for side in ("left", "right"):
            shortest_m, longest_m = SHORT_THIGHS.get((recording.subject, side), (0.35, 0.50))
            thigh_m = np.median(bone_m(recording, f"{side}_hip", f"{side}_knee"))
            assert shortest_m <= thigh_m <= longest_m, recording.name
            assert 0.35 <= np.median(bone_m(recording, f"{side}_knee", f"{side}_ankle")) <= 0.50, (
                recording.name
            )


def test_people_stand_on_their_feet_near_the_floor(recordings):
    on_steps = {"03_02"}
    for recording in everything(recordings):
        head, *ankles = H36M_17.select("head_top", "left_ankle", "right_ankle")
        height_m = recording.joints_world_m[..., 2]
        lowest_m = height_m[:, ankles].min(axis=1)
        assert (height_m[:, head] > lowest_m + 0.7).all(), recording.name
        assert 0.0 < lowest_m.min() < (0.3 if recording.name in on_steps else 0.13), recording.name


def test_noses_point_ahead_of_the_hips(recordings):
    for recording in everything(recordings):
        at = dict(zip(H36M_17.joints, np.moveaxis(recording.joints_world_m.astype(float), 1, 0), strict=True))
        ahead = np.cross(at["left_hip"] - at["right_hip"], [0, 0, 1])
        assert np.median(((at["nose"] - at["head_top"]) * ahead).sum(-1)) > 0, recording.name


def test_people_who_walk_walk_forwards(recordings):
    for recording in recordings["cmu"]:
        at = dict(zip(H36M_17.joints, np.moveaxis(recording.joints_world_m.astype(float), 1, 0), strict=True))
        ahead = np.cross(at["left_hip"] - at["right_hip"], [0, 0, 1])[:-1]
        assert np.median((np.diff(at["pelvis"], axis=0) * ahead).sum(-1)) > 0, recording.name


def test_hips_of_a_skeleton_keep_their_distance(recordings):
    for recording in recordings["cmu"]:
        assert np.ptp(bone_m(recording, *HIPS)) < TENTH_OF_A_MM, recording.name


def test_hips_of_the_bvh_move_because_its_file_turns_each_of_them(sample_mocap):
    """Its hip joints have angles of their own: 129.3-136.7 mm apart, before anything is resampled."""
    motion = read_bvh_motion(str(sample_mocap / "cmu_bvh" / "02_01.bvh.gz"), options=ReadOptions())[0]
    placed_m, _ = motion.move()
    left_m, right_m, root_m = (
        placed_m[:, motion.index(joint)] for joint in ("LeftUpLeg", "RightUpLeg", "Hips")
    )
    assert np.ptp(np.linalg.norm(left_m - right_m, axis=-1)) == pytest.approx(0.0074, abs=1e-4)
    assert np.ptp(np.linalg.norm(left_m - root_m, axis=-1)) < 1e-12


@pytest.mark.parametrize("folder", ["cmu", "cmu_bvh"])
def test_rigid_bones_keep_their_length_to_a_tenth_of_a_millimetre(recordings, folder):
    for recording in recordings[folder]:
        for start, end in RIGID:
            assert np.ptp(bone_m(recording, start, end)) < TENTH_OF_A_MM, (recording.name, start, end)


@pytest.mark.parametrize("name", ["cmu/11/11_01.amc.gz", "cmu/02/02_03.amc.gz", "cmu_bvh/02_01.bvh.gz"])
def test_native_bones_keep_their_length_to_a_tenth_of_a_millimetre(sample_mocap, name):
    url = str(sample_mocap / name)
    if name.endswith(".amc.gz"):
        motion = read_acclaim_motion(url, find_asf(url), options=ReadOptions())
    else:
        motion = read_bvh_motion(url, options=ReadOptions())[0]
    placed_m, _ = motion.at_rate(50).move()
    for joint, parent in motion.parent_of.items():
        if parent is not None:
            lengths_m = np.linalg.norm(
                placed_m[:, motion.index(joint)] - placed_m[:, motion.index(parent)], axis=-1
            )
            rest_m = np.linalg.norm(motion.offsets_m[motion.index(joint)])
            np.testing.assert_allclose(lengths_m, rest_m, atol=TENTH_OF_A_MM, err_msg=joint)


def test_hips_of_markers_keep_their_distance(recordings):
    for recording in recordings["ui_prmd"]:
        assert np.ptp(bone_m(recording, "left_hip", "right_hip")) < TENTH_OF_A_MM


def test_the_same_walk_reads_alike_from_amc_and_bvh(recordings):
    """The BVH's skeleton was fitted anew: its joints lie 20 mm from the AMC's on the average, not on them."""
    (amc,) = (take for take in recordings["cmu"] if take.name == "02_01")
    (bvh,) = recordings["cmu_bvh"]
    assert (bvh.dataset, bvh.subject, bvh.name) == (amc.dataset, amc.subject, amc.name)
    relative_m = [take.joints_world_m - take.joints_world_m[:, :1] for take in (amc, bvh)]
    distance_m = np.linalg.norm(relative_m[0] - relative_m[1], axis=-1)
    assert distance_m.mean() < 0.022
    assert distance_m.mean(axis=0).max() < 0.040


def test_bodies_of_all_sources_have_like_proportions(recordings):
    """Shares of thigh and shin together: joints mean the same points of the body in every reader."""
    expected = {
        ("pelvis", "spine"): 0.26,
        ("pelvis", "thorax"): 0.62,
        ("thorax", "nose"): 0.27,
        ("nose", "head_top"): 0.23,
        HIPS: 0.22,
    }
    for folder in ("cmu", "ui_prmd"):
        for (start, end), share in expected.items():
            shares = [
                np.median(bone_m(take, start, end))
                / np.median(bone_m(take, "left_hip", "left_knee") + bone_m(take, "left_knee", "left_ankle"))
                for take in recordings[folder]
            ]
            assert np.mean(shares) == pytest.approx(share, abs=0.045), (folder, start, end)
