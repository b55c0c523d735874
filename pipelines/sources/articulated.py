"""Figures of rigid bones in motion: resampled as rotations, placed by forward kinematics."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True, kw_only=True, eq=False)
class ArticulatedMotion:
    """A tree of joints whose local rotations change over time, in the axes of its file.

    A joint is a place and a frame: the place is given in its parent's frame, the frame is the parent's frame
    turned by the joint's rotation. Because rotations and not places are resampled, a bone is as long after
    `at_rate` as before.
    """

    joints: tuple[str, ...]
    """Native joint names; every parent stands before its children."""
    parents: tuple[str | None, ...]
    """Parent of each joint, by name; None marks the root."""
    offsets_m: Float[np.ndarray, "J 3"]
    """Place of each joint in its parent's frame when nothing moves: the rest pose."""
    rotations: Float[np.ndarray, "T J 4"]
    """Rotation of each joint's frame in its parent's, unit quaternions w x y z."""
    paths_m: Mapping[str, Float[np.ndarray, "T 3"]]
    """Place over time of the joints that also move, in their parent's frame; it replaces the offset."""
    rate_hz: float
    """Frames per second."""

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.rotations)

    def index(self, joint: str) -> int:
        """Position of a joint among `joints`."""
        return self.joints.index(joint)

    @cached_property
    def parent_of(self) -> Mapping[str, str | None]:
        """Parent of each joint."""
        return dict(zip(self.joints, self.parents, strict=True))

    @cached_property
    def rest_m(self) -> Mapping[str, Float[np.ndarray, "3"]]:
        """Place of each joint when no frame is turned and nothing moves."""
        placed_m: dict[str, np.ndarray] = {}
        for joint, offset_m in zip(self.joints, self.offsets_m, strict=True):
            parent = self.parent_of[joint]
            placed_m[joint] = offset_m if parent is None else placed_m[parent] + offset_m
        return placed_m

    def scaled(self, scale: float) -> "ArticulatedMotion":
        """The same motion of a figure `scale` times as large, moving as much farther."""
        paths_m = {joint: path_m * scale for joint, path_m in self.paths_m.items()}
        return replace(self, offsets_m=self.offsets_m * scale, paths_m=paths_m)

    def at_rate(self, rate_hz: float) -> "ArticulatedMotion":
        """The same motion at another rate, from the first frame on to the last whole step.

        Rotations go the shortest way at even speed (slerp: Shoemake 1985), paths go straight. No low-pass
        filter is applied.
        """
        before, weight = resampling(self.frames, from_hz=self.rate_hz, to_hz=rate_hz)
        after = np.minimum(before + 1, self.frames - 1)
        return replace(
            self,
            rotations=_slerp(self.rotations[before], self.rotations[after], weight[:, None]),
            paths_m={
                joint: path_m[before] + weight[:, None] * (path_m[after] - path_m[before])
                for joint, path_m in self.paths_m.items()
            },
            rate_hz=rate_hz,
        )

    def move(self) -> tuple[Float[np.ndarray, "T J 3"], Float[np.ndarray, "T J 3 3"]]:
        """Forward kinematics, float64.

        Returns:
            places of all joints, and their frames as rotation matrices, both in the axes of the file.
        """
        local = _matrices(self.rotations)
        turned = np.empty_like(local)
        placed_m = np.empty((self.frames, len(self.joints), 3))
        for joint, (name, parent) in enumerate(zip(self.joints, self.parents, strict=True)):
            offset_m = self.paths_m.get(name, self.offsets_m[joint])
            if parent is None:
                turned[:, joint], placed_m[:, joint] = local[:, joint], offset_m
                continue
            above = self.index(parent)
            turned[:, joint] = turned[:, above] @ local[:, joint]
            step_m = np.broadcast_to(offset_m, (self.frames, 3))[..., None]
            placed_m[:, joint] = placed_m[:, above] + (turned[:, above] @ step_m)[..., 0]
        return placed_m, turned


def resampling(
    frames: int, *, from_hz: float, to_hz: float
) -> tuple[Int[np.ndarray, "T"], Float[np.ndarray, "T"]]:
    """Where the frames of another rate lie: the frame before each, and how far towards the next, 0 to 1.

    The first frame stays; the last lies at or before the last frame there is. Equal rates change nothing.
    """
    ratio = from_hz / to_hz
    count = int(np.floor((frames - 1) / ratio + 1e-9)) + 1
    places = np.minimum(np.arange(count) * ratio, frames - 1)
    nearest = np.rint(places)
    places = np.where(np.abs(places - nearest) < 1e-9, nearest, places)
    before = np.floor(places).astype(np.intp)
    return before, places - before


def quaternions(axes: str, angles_rad: Float[np.ndarray, "T A"]) -> Float[np.ndarray, "T 4"]:
    """Euler angles to unit quaternions w x y z.

    `axes` are scipy's: small letters turn about fixed axes one after the other, capitals about the axes
    already turned.
    """
    return np.asarray(_rotation_class().from_euler(axes, angles_rad).as_quat(scalar_first=True))


def conjugate(frame: Float[np.ndarray, "4"], rotations: Float[np.ndarray, "T 4"]) -> Float[np.ndarray, "T 4"]:
    """Rotations given in the axes of a frame, in the axes around it: C R C^-1, quaternions w x y z."""
    rotation_class = _rotation_class()
    outer = rotation_class.from_quat(frame, scalar_first=True)
    turned = outer * rotation_class.from_quat(rotations, scalar_first=True) * outer.inv()
    return np.asarray(turned.as_quat(scalar_first=True))


def _slerp(
    first: Float[np.ndarray, "*batch 4"],
    second: Float[np.ndarray, "*batch 4"],
    weight: Float[np.ndarray, "*batch"],
) -> Float[np.ndarray, "*batch 4"]:
    is_far = (first * second).sum(-1, keepdims=True) < 0  # a quaternion and its negative turn alike
    second = np.where(is_far, -second, second)
    angle = 2 * np.arctan2(np.linalg.norm(first - second, axis=-1), np.linalg.norm(first + second, axis=-1))
    is_near = angle < 1e-6  # sin(angle) loses its digits; a straight line is exact to 1e-13 there
    sine = np.where(is_near, 1.0, np.sin(angle))
    share_first = np.where(is_near, 1 - weight, np.sin((1 - weight) * angle) / sine)
    share_second = np.where(is_near, weight, np.sin(weight * angle) / sine)
    blend = share_first[..., None] * first + share_second[..., None] * second
    return np.asarray(blend / np.linalg.norm(blend, axis=-1, keepdims=True))


def _matrices(rotations: Float[np.ndarray, "*batch 4"]) -> Float[np.ndarray, "*batch 3 3"]:
    rotation = _rotation_class().from_quat(rotations.reshape(-1, 4), scalar_first=True)
    return np.asarray(rotation.as_matrix()).reshape(*rotations.shape[:-1], 3, 3)


def _rotation_class() -> Any:
    from scipy.spatial.transform import Rotation  # half a second: only a reader that reads pays it

    return Rotation
