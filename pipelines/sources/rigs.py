"""Rigs by the names of their joints, and what of each stands for the joints of Human3.6M-17."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
from jaxtyping import Float

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
"""Thigh and shin together of the adult to whom `head` gives its lengths: 0.491 of a stature of 1.71 m (Drillis and
Contini 1966)."""


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
    forearm_ratio: float = 1.0
    """Elbow to wrist, as a multiple of elbow to the joint named as the wrist."""

    @property
    def limbs(self) -> Mapping[str, str]:
        """Native joint of each of the twelve limb joints."""
        patterns = {"hip": self.hip, "knee": self.knee, "ankle": self.ankle}
        patterns |= {"shoulder": self.shoulder, "elbow": self.elbow, "wrist": self.wrist}
        return {
            f"{side}_{joint}": pattern.format(side=letters)
            for side, letters in zip(("left", "right"), self.sides, strict=True)
            for joint, pattern in patterns.items()
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
"""ASF files of CMU and HDM05. The bone called wrist is the far third of the forearm (it turns with the hand), so the
wrist is where the hand begins. The head bone ends at the centre of the head band's markers."""

CMU_BVH = Rig(
    name="CMU BVH",
    sides=("Left", "Right"),
    hip="{side}UpLeg",
    knee="{side}Leg",
    ankle="{side}Foot",
    shoulder="{side}Arm",
    elbow="{side}ForeArm",
    wrist="{side}Hand",
    head="Head",
    head_rise_m=0.095,
    forearm_ratio=1.5,
)
"""CMU's recordings converted to BVH: the conversion lost the lengths of the bones thorax and wrist. The wrist bone is
half as long as the radius in every ASF, so the forearm is made half as long again; the trunk stays 0.12 m short."""

REACT_IDLE = Rig(
    name="ReActIdle",
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


def rest_leg_m(motion: ArticulatedMotion, rig: Rig) -> float:
    """Thigh and shin together in the rest pose, mean of both sides."""
    limbs = rig.limbs
    lower_m = [motion.offsets_m[motion.index(native)] for name, native in limbs.items() if name.endswith(("knee", "ankle"))]
    return float(np.linalg.norm(lower_m, axis=-1).sum()) / 2


def spine_joint(motion: ArticulatedMotion, rig: Rig) -> str:
    """The joint between root and head that at rest is nearest to half way from hips to shoulders."""
    ends_m = [motion.rest_m[native] for name, native in rig.limbs.items() if name.endswith(("hip", "shoulder"))]
    trunk, joint = [], motion.parent_of[rig.head]
    while joint is not None:
        trunk.append(joint)
        joint = motion.parent_of[joint]
    return min(trunk, key=lambda name: float(np.linalg.norm(motion.rest_m[name] - np.mean(ends_m, axis=0))))


def h36m_joints_world_m(motion: ArticulatedMotion, rig: Rig, *, up: Up) -> tuple[Float[np.ndarray, "T 17 3"], float]:
    """Joints of Human3.6M-17 in world space, z up, float32; and by how much the head was turned up, in radians.

    Thigh, shin, upper arm, forearm and the bones of the hips keep their length as far as the rig's do.
    """
    placed_m, turned = motion.move()
    placed_m = up.to_world(placed_m)
    joints_m = np.zeros((motion.frames, len(H36M_17), 3))
    for joint, native in {**rig.limbs, "spine": spine_joint(motion, rig)}.items():
        joints_m[:, H36M_17.index(joint)] = placed_m[:, motion.index(native)]
    for joint, ends in (("pelvis", ("left_hip", "right_hip")), ("thorax", ("left_shoulder", "right_shoulder"))):
        joints_m[:, H36M_17.index(joint)] = joints_m[:, H36M_17.select(*ends)].mean(axis=1)
    for side in ("left", "right"):
        elbow, wrist = H36M_17.select(f"{side}_elbow", f"{side}_wrist")
        joints_m[:, wrist] = joints_m[:, elbow] + rig.forearm_ratio * (joints_m[:, wrist] - joints_m[:, elbow])

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
    joints_m[:, head_top] = place_on_head(centre_m, up=head_up, forward=forward, offset_m=HEAD_TOP_M, scale=scale)
    return joints_m.astype(np.float32), turn_rad
