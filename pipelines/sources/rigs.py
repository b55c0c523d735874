"""Rigs by the names of their joints, and what of each stands for the joints of Human3.6M-17."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from jaxtyping import Float

from mpm_model.errors import InputError
from mpm_model.pose.skeletons import H36M_17
from pipelines.sources.articulated import ArticulatedMotion
from pipelines.sources.head import HEAD_TOP_M, NOSE_M, level_turn_rad, place_on_head, turn_head


class Up(Enum):
    """Which way is up in the axes of a file; the value turns them so that z is."""

    Y = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))
    Z = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

    def to_world(self, points: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3"]:
        """The file's axes to z up."""
        return np.asarray(points @ np.array(self.value).T)

    @property
    def axis(self) -> Float[np.ndarray, "3"]:
        """The way up, in the file's axes."""
        return np.array(self.value[2])


ADULT_LEG_M = 0.84
"""Thigh and shin together of the adult to whom `head` gives its lengths: 0.491 of a stature of 1.71 m
(Drillis and Contini 1966)."""


_LIMBS = ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")


@dataclass(frozen=True, kw_only=True)
class Rig:
    """A family of skeletons that name their joints alike, {side} standing for the side.

    Twelve joints are taken as they stand. pelvis is the midpoint of the hips, thorax the midpoint of the
    shoulders (the points that detectors of 2D keypoints mean), spine the trunk joint that in the rest pose is
    nearest to half way between them. nose and head_top are fixed in the head's frame, levelled by
    `level_turn_rad`, at an adult's distances scaled with the leg.
    """

    name: str
    """Name under which notes speak of it."""
    sides: tuple[str, str]
    """What stands for {side} in the names: left, right."""
    hip: str
    knee: str
    ankle: str
    shoulder: str
    elbow: str
    wrist: str
    head: str
    """Joint whose frame is the head's; in the rest pose it looks forward."""
    head_rise_m: float
    """From that joint up to the centre of the head, in an adult."""
    marks: tuple[str, ...] = ()
    """Further joints that tell the rig from others."""

    def prefixed(self, prefix: str) -> "Rig":
        """The same rig where every name begins with a prefix."""
        names = {part: prefix + getattr(self, part) for part in (*_LIMBS, "head")}
        return replace(self, **names)

    @property
    def limbs(self) -> Mapping[str, str]:
        """Native joint of each of the twelve limb joints."""
        return {
            f"{side}_{joint}": getattr(self, joint).replace("{side}", letters)
            for side, letters in zip(("left", "right"), self.sides, strict=True)
            for joint in _LIMBS
        }


ACCLAIM = Rig(
    name="CMU Acclaim",
    sides=("l", "r"),
    hip="{side}femur",
    knee="{side}tibia",
    ankle="{side}foot",
    shoulder="{side}humerus",
    elbow="{side}radius",
    wrist="{side}hand",
    head="head.end",
    head_rise_m=0.0,
)
"""ASF files of CMU and HDM05. The bone called wrist is the far third of the forearm (it turns with the hand),
so the wrist is where the hand begins. The head bone ends at the centre of the head band's markers.
CMU's person 38 has thighs of 0.350 and 0.331 m in the file itself, the shortest of the 17 people at hand."""

CMU_BVH = Rig(
    name="CMU BVH",
    marks=("LHipJoint", "LowerBack"),
    sides=("Left", "Right"),
    hip="{side}UpLeg",
    knee="{side}Leg",
    ankle="{side}Foot",
    shoulder="{side}Arm",
    elbow="{side}ForeArm",
    wrist="{side}FingerBase",
    head="Head",
    head_rise_m=0.095,
)
"""CMU's recordings converted to BVH; as in the ASF, the wrist is where the hand begins. Each hip joint has
angles of its own, which the ASF does not have, so the distance of the hips varies (by 7 mm in 02_01)."""

REACT_IDLE = Rig(
    name="ReActIdle",
    marks=("pelvis.L", "shoulder.L"),
    sides=("L", "R"),
    hip="thigh.{side}",
    knee="shin.{side}",
    ankle="foot.{side}",
    shoulder="upper_arm.{side}",
    elbow="forearm.{side}",
    wrist="forearm.{side}.end",
    head="face",
    head_rise_m=0.0,
)
"""ReActIdle: no hands, the forearm ends at the wrist; the joint face stands for the centre of the head."""

MOTION_BUILDER = replace(CMU_BVH, name="MotionBuilder or Mixamo", marks=("Hips",), wrist="{side}Hand")
"""MotionBuilder, Vicon's exports, Mixamo (`mixamorig:LeftUpLeg`); the joint Head is where the neck ends."""

BIOVISION = Rig(
    name="Biovision",
    sides=("Left", "Right"),
    hip="{side}Hip",
    knee="{side}Knee",
    ankle="{side}Ankle",
    shoulder="{side}Shoulder",
    elbow="{side}Elbow",
    wrist="{side}Wrist",
    head="Head",
    head_rise_m=0.095,
)
"""The names of the first BVH files."""

SMPL = replace(
    BIOVISION,
    name="SMPL",
    sides=("L", "R"),
    hip="{side}_Hip",
    knee="{side}_Knee",
    ankle="{side}_Ankle",
    shoulder="{side}_Shoulder",
    elbow="{side}_Elbow",
    wrist="{side}_Wrist",
)
"""The joints of the SMPL body model."""

RIGIFY = replace(
    REACT_IDLE, name="Blender Rigify", marks=(), wrist="hand.{side}", head="spine.006", head_rise_m=0.095
)
"""Blender's Rigify."""

BVH_RIGS = (REACT_IDLE, RIGIFY, CMU_BVH, MOTION_BUILDER, BIOVISION, SMPL)
"""Rigs that a BVH file may have, the more particular first."""


def find_rig(joints: tuple[str, ...], rigs: tuple[Rig, ...], *, where: str) -> Rig:
    """The first rig whose joints, all with the same prefix (`mixamorig:`) or none, are all there."""
    for rig in rigs:
        wanted = {*rig.limbs.values(), rig.head, *rig.marks}
        prefixes = [joint.removesuffix(rig.head) for joint in joints if joint.endswith(rig.head)]
        for prefix in prefixes:
            if {prefix + joint for joint in wanted} <= set(joints):
                return rig.prefixed(prefix)
    known = "; ".join(f"{rig.name}: {', '.join([*rig.limbs.values(), rig.head])}" for rig in rigs)
    raise InputError(
        f"{where}: no known rig has these joints: {', '.join(joints)}. Rename them as in one of: {known}"
    )


def rest_leg_m(motion: ArticulatedMotion, rig: Rig) -> float:
    """Thigh and shin together in the rest pose, mean of both sides."""
    return rest_bone_m(motion, rig, "hip", "knee") + rest_bone_m(motion, rig, "knee", "ankle")


def rest_bone_m(motion: ArticulatedMotion, rig: Rig, start: str, end: str) -> float:
    """Length of a limb's bone in the rest pose, such as hip to knee, mean of both sides."""
    native = rig.limbs
    bones_m = [
        motion.rest_m[native[f"{side}_{end}"]] - motion.rest_m[native[f"{side}_{start}"]]
        for side in ("left", "right")
    ]
    return float(np.linalg.norm(bones_m, axis=-1).mean())


def spine_joint(motion: ArticulatedMotion, rig: Rig) -> str:
    """The joint between root and head that at rest is nearest to half way from hips to shoulders."""
    ends_m = [
        motion.rest_m[native] for name, native in rig.limbs.items() if name.endswith(("hip", "shoulder"))
    ]
    trunk, joint = [], motion.parent_of[rig.head]
    while joint is not None:
        trunk.append(joint)
        joint = motion.parent_of[joint]
    return min(trunk, key=lambda name: float(np.linalg.norm(motion.rest_m[name] - np.mean(ends_m, axis=0))))


def h36m_joints_world_m(
    motion: ArticulatedMotion, rig: Rig, *, up: Up
) -> tuple[Float[np.ndarray, "T 17 3"], float]:
    """Joints of Human3.6M-17 in world space, z up, float32; and by how many radians the head was turned up.

    Thigh, shin, upper arm, forearm and the bones of the hips keep their length as far as the rig's do.
    """
    placed_m, turned = motion.move()
    placed_m = up.to_world(placed_m)
    joints_m = np.zeros((motion.frames, len(H36M_17), 3))
    for joint, native in {**rig.limbs, "spine": spine_joint(motion, rig)}.items():
        joints_m[:, H36M_17.index(joint)] = placed_m[:, motion.index(native)]
    for joint, ends in (
        ("pelvis", ("left_hip", "right_hip")),
        ("thorax", ("left_shoulder", "right_shoulder")),
    ):
        joints_m[:, H36M_17.index(joint)] = joints_m[:, H36M_17.select(*ends)].mean(axis=1)
    head = motion.index(rig.head)
    rest_left_m = motion.rest_m[rig.limbs["left_hip"]] - motion.rest_m[rig.limbs["right_hip"]]
    ahead = np.cross(rest_left_m, up.axis)
    head_up = up.to_world(turned[:, head] @ up.axis)
    forward = up.to_world(turned[:, head] @ (ahead / np.linalg.norm(ahead)))
    pelvis, thorax, nose, head_top = H36M_17.select("pelvis", "thorax", "nose", "head_top")
    turn_rad = level_turn_rad(forward, trunk=joints_m[:, thorax] - joints_m[:, pelvis])
    head_up, forward = turn_head(head_up, forward, turn_rad=turn_rad)
    scale = rest_leg_m(motion, rig) / ADULT_LEG_M
    centre_m = placed_m[:, head] + scale * rig.head_rise_m * head_up
    joints_m[:, nose] = place_on_head(centre_m, up=head_up, forward=forward, offset_m=NOSE_M, scale=scale)
    joints_m[:, head_top] = place_on_head(
        centre_m, up=head_up, forward=forward, offset_m=HEAD_TOP_M, scale=scale
    )
    return joints_m.astype(np.float32), turn_rad
