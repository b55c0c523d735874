"""BVH, the format of Biovision and of most animation tools: takes to recordings."""

from dataclasses import replace

import numpy as np

from mpm_model.errors import InputError
from mpm_model.pose.skeletons import H36M_17
from pipelines.sources.articulated import ArticulatedMotion, quaternions
from pipelines.sources.bvh_text import BvhText, parse_bvh
from pipelines.sources.head import head_note
from pipelines.sources.options import ReadOptions
from pipelines.sources.recording import Recording
from pipelines.sources.rigs import (
    BVH_RIGS,
    CMU_BVH,
    REACT_IDLE,
    Rig,
    Up,
    find_rig,
    h36m_joints_world_m,
    rest_bone_m,
)
from pipelines.sources.take_names import name_bvh_take, name_dataset
from pipelines.storage import read_bytes

UNITS_M = {
    "metre": 1.0,
    "centimetre": 0.01,
    "millimetre": 0.001,
    "inch": 0.0254,
    "1/0.45 inch, as in CMU's files": 0.0254 / 0.45,
}
"""Units that BVH files are found in."""
THIGH_RANGE_M = (0.30, 0.55)
"""Thighs a person may have; no two of the units above put the same thigh in it."""
ADULT_THIGH_RANGE_M = (0.35, 0.50)
"""Thighs an adult may have."""


def read_bvh(url: str, *, rate_hz: float, options: ReadOptions) -> Recording:
    """Read one BVH as Human3.6M-17 at `rate_hz`.

    The rig is known by the names of its joints (see `rigs`), the way up by its rest pose, the unit, which no
    BVH file says, by the length of the thigh. InputError names file and line of what is wrong.
    """
    motion, rig, up, notes = read_motion(url, options=options)
    take = name_bvh_take(url, rig=rig.name)
    joints_world_m, turn_rad = h36m_joints_world_m(motion.at_rate(rate_hz), rig, up=up)
    return Recording(
        joints_world_m=joints_world_m,
        is_valid=np.ones(joints_world_m.shape[:2], dtype=bool),
        skeleton=H36M_17,
        rate_hz=rate_hz,
        dataset=name_dataset(url, take, options.dataset),
        subject=take.subject,
        action=take.action,
        name=take.name,
        source=url,
        notes=(*notes, head_note(turn_rad)),
    )


def read_motion(url: str, *, options: ReadOptions) -> tuple[ArticulatedMotion, Rig, Up, list[str]]:
    """Read one BVH as the motion of its own skeleton, in metres and the file's axes, at the file's rate.

    Returns:
        the motion, its rig, its way up, and what had to be assumed.
    """
    content = parse_bvh(read_bytes(url).decode("latin-1"), where=url)
    rig = find_rig(tuple(joint.name for joint in content.joints), BVH_RIGS, where=url)
    motion = _assemble(content, rate_hz=options.source_rate_hz or content.rate_hz)
    notes = []
    if rig == REACT_IDLE:
        motion = move_root_from_its_offset(motion)
        notes.append("the root's position was counted from its OFFSET, as in ReActIdle")
    if rig == CMU_BVH and lacks_bones(motion):
        motion = restore_lost_bones(motion)
        notes.append("the bones thorax and wrist, lost in the conversion to BVH, were restored by proportion")
    up = find_up(motion, rig, where=url)
    if up is Up.Z:
        notes.append("z is up in this file, as its rest pose stands along z")
    unit_m = options.unit_m
    if unit_m is None:
        unit, unit_m = infer_unit_m(rest_bone_m(motion, rig, "hip", "knee"), where=url)
        notes.append(f"a BVH file does not say its unit; {unit} taken, by the length of the thigh")
    thigh_m = rest_bone_m(motion, rig, "hip", "knee") * unit_m
    if not ADULT_THIGH_RANGE_M[0] <= thigh_m <= ADULT_THIGH_RANGE_M[1]:
        notes.append(f"the thigh, {thigh_m:.2f} m, is not an adult's: the file may be scaled")
    return motion.scaled(unit_m), rig, up, notes


def infer_unit_m(thigh: float, *, where: str) -> tuple[str, float]:
    """The unit, by name and in metres, in which a thigh of that many units is a person's."""
    low_m, high_m = THIGH_RANGE_M
    for name, unit_m in UNITS_M.items():
        if low_m <= thigh * unit_m <= high_m:
            return name, unit_m
    raise InputError(
        f"{where}: cannot tell the unit: the thigh measures {thigh:g}, which is {low_m:.2f}-{high_m:.2f} m "
        f"in none of: {'; '.join(UNITS_M)}. Give the unit in metres with the option unit_m"
    )


def find_up(motion: ArticulatedMotion, rig: Rig, *, where: str) -> Up:
    """The way up: that in which the rest pose's head stands above its ankles."""
    limbs, rest_m = rig.limbs, motion.rest_m
    standing = rest_m[rig.head] - (rest_m[limbs["left_ankle"]] + rest_m[limbs["right_ankle"]]) / 2
    for up in Up:
        if standing @ up.axis > 0.8 * np.linalg.norm(standing):
            return up
    x, y, z = standing / max(float(np.linalg.norm(standing)), 1e-12)
    raise InputError(
        f"{where}: wanted a rest pose (the OFFSETs) that stands upright along y or z, but from ankles to "
        f"head it points along ({x:.2f}, {y:.2f}, {z:.2f}); export it from a T-pose"
    )


def move_root_from_its_offset(motion: ArticulatedMotion) -> ArticulatedMotion:
    """ReActIdle's quirk: the root's position counts from its OFFSET (0.66-0.95 m up), not from the origin.

    In all of its 22 files the position stays within 0.4 m of zero, so taken as it stands it puts the feet a
    leg's length under the floor; other joints' positions repeat their OFFSET, as is usual.
    """
    root = motion.joints[0]
    paths_m = {**motion.paths_m, root: motion.paths_m[root] + motion.offsets_m[0]}
    return replace(motion, paths_m=paths_m)


_LOST_BONES = {
    **dict.fromkeys(("Neck", "LeftShoulder", "RightShoulder"), ("Spine1", 1.0)),
    **{f"{side}FingerBase": (f"{side}Hand", 0.5) for side in ("Left", "Right")},
}
"""For each joint that fell onto its parent: which joint's OFFSET tells the lost bone, and how many times."""


def lacks_bones(motion: ArticulatedMotion) -> bool:
    """Whether this conversion of CMU's recordings lost the bones thorax and wrist."""
    return not any(motion.offsets_m[motion.index(joint)].any() for joint in _LOST_BONES)


def restore_lost_bones(motion: ArticulatedMotion) -> ArticulatedMotion:
    """CMU's quirk in BVH: the common conversion gives the bones thorax and wrist no length.

    In 17 ASF files the thorax is as long as the back's bone below it (within 4.1 %), and the wrist, which
    carries on the radius, half as long as the radius. Without them the trunk is 0.12 m and the forearm 0.10 m
    short.
    """
    offsets_m = motion.offsets_m.copy()
    for joint, (below, times) in _LOST_BONES.items():
        offsets_m[motion.index(joint)] = times * motion.offsets_m[motion.index(below)]
    return replace(motion, offsets_m=offsets_m)


def _assemble(content: BvhText, *, rate_hz: float) -> ArticulatedMotion:
    """Rotations turn about the axes already turned, in channel order; positions replace the OFFSET."""
    rotations = np.zeros((len(content.values), len(content.joints), 4))
    rotations[..., 0] = 1
    paths = {}
    first = 0
    for place, joint in enumerate(content.joints):
        values = content.values[:, first : first + len(joint.channels)]
        first += len(joint.channels)
        turning = [column for column, channel in enumerate(joint.channels) if channel.endswith("rotation")]
        if turning:
            axes = "".join(joint.channels[column][0].upper() for column in turning)
            rotations[:, place] = quaternions(axes, np.deg2rad(values[:, turning]))
        moving = {
            "xyz".index(channel[0]): column
            for column, channel in enumerate(joint.channels)
            if channel.endswith("position")
        }
        if moving:
            path = np.tile(joint.offset, (len(values), 1))
            path[:, list(moving)] = values[:, list(moving.values())]
            paths[joint.name] = path
    return ArticulatedMotion(
        joints=tuple(joint.name for joint in content.joints),
        parents=tuple(joint.parent for joint in content.joints),
        offsets_m=np.array([joint.offset for joint in content.joints]),
        rotations=rotations,
        paths_m=paths,
        rate_hz=rate_hz,
    )
