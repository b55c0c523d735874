"""Which way is up for a camera that stands still, and poses turned upright."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from mpm_model.pose.skeleton import Skeleton

STILL_M_PER_S = 0.6
"""An ankle that is slower may belong to a foot that stands; depth alone makes one on the floor this fast."""
LEAST_EXTENT_M = 0.4
"""Standard deviation of the places where feet stood, along the floor's narrower side, that a floor takes."""
MOST_LEAN_RAD = np.radians(30)
"""A body whose trunk is bent more against its legs is not upright, and a floor that leans more against the
upright body is none."""

_LOW_M = 0.1
_STRAIGHT_KNEE_RAD = np.radians(35)
_LEAST_UPRIGHT_SHARE = 0.1
_ROUNDS = 10
_FLOOR_SCALE_M = 0.03
_LOOKS_ALONG_UP = 0.999


@dataclass(frozen=True, kw_only=True, eq=False)
class Upright:
    """Which way is up, and what says so."""

    up_cam: Float[np.ndarray, "3"]
    """Unit vector in the camera's axes."""
    basis: Literal["floor", "body"]
    """The plane on which the feet stood, or the body's long axis."""


def up_direction(
    joints_rel_m: Float[np.ndarray, "N J 3"],
    *,
    time_s: Float[np.ndarray, "N"],
    skeleton: Skeleton,
    root_cam_m: Float[np.ndarray, "N 3"] | None = None,
    is_observed: Bool[np.ndarray, "N J"] | None = None,
) -> Upright | None:
    """Up in the axes of a camera that does not move, from one person's track.

    Where there is a root path and feet stood in an area wide enough, up is the normal of the plane through
    the ankles that stood: seen, slow and the lower of the two or level with it (Cauchy weights of 3 cm
    against those that did not). Eight walks round a square, lifted by the weights that ship, camera pitched
    by 5 to 30 degrees: 0.7 to 2.9 degrees off.

    Otherwise it is the mean axis from ankles to chest over the frames in which trunk and legs are in line and
    a knee is straight: on 48 lifted clips of held-out people 3 degrees off (median), 8 in one of twenty. A
    lifter takes the person for upright in the camera's own axes: on the walks 10 degrees of a pitch of 30 are
    lost, on the sample's four real videos, of somebody who balances, 8 to 12 of 18 to 25.

    None if the body is upright in fewer than a tenth of the frames: lying people say nothing of up.
    """
    joints_m, time_s = joints_rel_m.astype(np.float64), time_s.astype(np.float64)
    along_body = _body_axis(joints_m, skeleton)
    if along_body is None:
        return None
    if root_cam_m is not None:
        ankles = skeleton.select("left_ankle", "right_ankle")
        is_seen = np.ones(joints_m.shape[:2], bool) if is_observed is None else is_observed
        stood_m = _where_feet_stood(
            joints_m[:, ankles] + root_cam_m[:, None], is_seen[:, ankles], time_s, along_body
        )
        across_floor = _floor_normal(stood_m, along_body)
        if across_floor is not None:
            return Upright(up_cam=across_floor, basis="floor")
    return Upright(up_cam=along_body, basis="body")


def to_upright(points: Float[np.ndarray, "*points 3"], up_cam: Float[np.ndarray, "3"]) -> np.ndarray:
    """Camera axes to axes with z up: x is the camera's right and y its forward, both made level.

    A camera that looks straight up or down has no forward; there y is what is up in its image.
    """
    return np.asarray(points @ upright_rotation(up_cam).T)


def upright_rotation(up_cam: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """The matrix of `to_upright`: upright = rotation @ camera."""
    ahead = np.array([0.0, 0.0, 1.0] if abs(up_cam[2]) < _LOOKS_ALONG_UP else [0.0, -1.0, 0.0])
    forward = _unit(ahead - (ahead @ up_cam) * up_cam)
    return np.stack([np.cross(forward, up_cam), forward, up_cam])


def _body_axis(joints_m: Float[np.ndarray, "N J 3"], skeleton: Skeleton) -> Float[np.ndarray, "3"] | None:
    def at(*joints: str) -> Float[np.ndarray, "N 3"]:
        return np.asarray(joints_m[:, skeleton.select(*joints)].mean(1))

    chest = at("thorax") if "thorax" in skeleton.joints else at("left_shoulder", "right_shoulder")
    pelvis, ankles = at("pelvis"), at("left_ankle", "right_ankle")
    knees_rad = [
        _angle_rad(at(f"{side}_knee") - at(f"{side}_hip"), at(f"{side}_ankle") - at(f"{side}_knee"))
        for side in ("left", "right")
    ]
    is_upright = _angle_rad(chest - pelvis, pelvis - ankles) < MOST_LEAN_RAD
    is_upright &= np.minimum(*knees_rad) < _STRAIGHT_KNEE_RAD
    if is_upright.mean() < _LEAST_UPRIGHT_SHARE:
        return None
    return _unit(_unit(chest - ankles)[is_upright].mean(0))


def _where_feet_stood(
    ankles_cam_m: Float[np.ndarray, "N 2 3"],
    is_seen: Bool[np.ndarray, "N 2"],
    time_s: Float[np.ndarray, "N"],
    up_cam: Float[np.ndarray, "3"],
) -> Float[np.ndarray, "M 3"]:
    if len(time_s) < 2:
        return np.zeros((0, 3))
    speed_m_per_s = np.linalg.norm(np.gradient(ankles_cam_m, time_s, axis=0), axis=-1)
    height_m = ankles_cam_m @ up_cam
    is_low = height_m <= height_m.min(1, keepdims=True) + _LOW_M
    return np.asarray(ankles_cam_m[is_seen & is_low & (speed_m_per_s < STILL_M_PER_S)])


def _floor_normal(
    stood_cam_m: Float[np.ndarray, "M 3"], along_body: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "3"] | None:
    """Heights along the body as a linear function of the place on the ground, by reweighted least squares."""
    if len(stood_cam_m) < 3:
        return None
    turn = upright_rotation(along_body)
    stood_m = (stood_cam_m - stood_cam_m.mean(0)) @ turn.T
    if np.linalg.eigvalsh(np.cov(stood_m[:, :2].T))[0] < LEAST_EXTENT_M**2:
        return None
    ground = np.column_stack([stood_m[:, :2], np.ones(len(stood_m))])
    weight = np.ones(len(stood_m))
    for _ in range(_ROUNDS):
        weighted = ground.T * weight
        slope = np.linalg.solve(weighted @ ground, weighted @ stood_m[:, 2])
        weight = 1 / (1 + np.square((stood_m[:, 2] - ground @ slope) / _FLOOR_SCALE_M))
    normal = _unit(np.array([-slope[0], -slope[1], 1.0]))
    return np.asarray(normal @ turn) if normal[2] > np.cos(MOST_LEAN_RAD) else None


def _unit(vectors: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3"]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True).clip(min=1e-12))


def _angle_rad(first: Float[np.ndarray, "N 3"], second: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N"]:
    return np.asarray(np.arccos((_unit(first) * _unit(second)).sum(-1).clip(-1, 1)))
