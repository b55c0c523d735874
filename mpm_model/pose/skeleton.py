"""Named joints, and conversions between sets of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float

from mpm_model.errors import listing, refuse


def opposite(joint: str) -> str:
    """The joint of the same kind on the subject's other side; the joint itself on the midline."""
    if joint.startswith("left_"):
        return "right_" + joint.removeprefix("left_")
    if joint.startswith("right_"):
        return "left_" + joint.removeprefix("right_")
    return joint


@dataclass(frozen=True)
class Skeleton:
    """An ordered set of named joints; every index array is derived from the names.

    left and right are the subject's own.
    """

    name: str
    """Name under which files refer to this skeleton, such as `h36m_17`."""
    joints: tuple[str, ...]
    """Joint names in storage order."""
    parents: tuple[str | None, ...]
    """Parent of each joint, by name; None marks a root."""

    def __post_init__(self) -> None:
        faults = []
        if len(set(self.joints)) != len(self.joints):
            faults.append("joint names repeat")
        if len(self.parents) != len(self.joints):
            faults.append(f"{len(self.joints)} joints but {len(self.parents)} parents")
        known = set(self.joints)
        faults += [
            f"parent {parent!r} is no joint"
            for parent in self.parents
            if parent is not None and parent not in known
        ]
        faults += [
            f"{joint!r} has no opposite {opposite(joint)!r}"
            for joint in self.joints
            if opposite(joint) not in known
        ]
        refuse(f"skeleton {self.name}", faults)

    def __len__(self) -> int:
        return len(self.joints)

    def index(self, joint: str) -> int:
        """Position of a joint; KeyError names the joints there are."""
        if joint not in self.joints:
            raise KeyError(f"{self.name} has no joint {joint!r}; it has {', '.join(self.joints)}")
        return self.joints.index(joint)

    def select(self, *joints: str) -> np.ndarray:
        """Positions of several joints, (len(joints),) int."""
        return np.array([self.index(joint) for joint in joints], dtype=np.intp)

    @cached_property
    def mirror(self) -> np.ndarray:
        """Permutation (J,): entry i is the joint opposite joint i (itself on the midline)."""
        return self.select(*(opposite(joint) for joint in self.joints))

    @cached_property
    def bones(self) -> tuple[tuple[str, str], ...]:
        """(child, parent) by name, one for each joint that has a parent, in joint order."""
        return tuple(
            (joint, parent)
            for joint, parent in zip(self.joints, self.parents, strict=True)
            if parent is not None
        )

    @cached_property
    def bone_indices(self) -> np.ndarray:
        """(bones, 2) int: child and parent of each bone."""
        return np.array([(self.index(child), self.index(parent)) for child, parent in self.bones])


def describe_difference(came: Skeleton, wanted: Skeleton) -> str:
    """In what the skeleton of a checkpoint differs from the one that is wanted, by name."""
    here = [joint for joint in came.joints if joint not in wanted.joints]
    there = [joint for joint in wanted.joints if joint not in came.joints]
    parts = [f"only in the checkpoint {listing(here)}"] * bool(here)
    parts += [f"only in what is wanted {listing(there)}"] * bool(there)
    if not parts and came.joints != wanted.joints:
        moved = [joint for joint, other in zip(came.joints, wanted.joints, strict=True) if joint != other]
        parts.append(f"the same joints in another order, at {listing(moved)}")
    if not parts and came.parents != wanted.parents:
        pairs = zip(came.joints, came.parents, wanted.parents, strict=True)
        parts.append(f"other parents of {listing(joint for joint, ours, theirs in pairs if ours != theirs)}")
    return ", ".join(parts) if parts else "the same joints under another name"


@dataclass(frozen=True)
class Conversion:
    """Joints of one skeleton as weighted sums of joints of another, by name.

    Every target joint has weights that sum to one, so the conversion commutes with shifts; a target
    joint that the source cannot give is left out of `weights` and comes out invalid.
    """

    source: Skeleton
    """Skeleton that is read."""
    target: Skeleton
    """Skeleton that is written."""
    weights: Mapping[str, Mapping[str, float]]
    """For each target joint: source joint -> weight."""
    approximations: Mapping[str, str] = field(default_factory=dict)
    """For each target joint that is not the same point of the body: what stands in for it."""

    def __post_init__(self) -> None:
        faults = []
        for joint, parts in self.weights.items():
            if joint not in self.target.joints:
                faults.append(f"{joint!r} is no joint of {self.target.name}")
            faults += [
                f"{part!r} is no joint of {self.source.name}"
                for part in parts
                if part not in self.source.joints
            ]
            if abs(sum(parts.values()) - 1) > 1e-9:
                faults.append(f"weights of {joint!r} sum to {sum(parts.values())}, not 1")
        faults += [
            f"approximation of unknown joint {j!r}" for j in self.approximations if j not in self.weights
        ]
        refuse(f"conversion {self.source.name} -> {self.target.name}", faults)

    @cached_property
    def matrix(self) -> Float[np.ndarray, "J_target J_source"]:
        """Weights as a matrix; rows of joints that cannot be given are zero."""
        matrix = np.zeros((len(self.target), len(self.source)))
        for joint, parts in self.weights.items():
            for part, weight in parts.items():
                matrix[self.target.index(joint), self.source.index(part)] = weight
        return matrix

    def points(
        self, points: Float[np.ndarray, "*batch J_source C"]
    ) -> Float[np.ndarray, "*batch J_target C"]:
        """Convert coordinates, of any space and unit. Joints that cannot be given come out 0."""
        # A source joint nobody saw may hold NaN: it must not leak into joints that do not use it.
        is_finite = np.isfinite(points)
        converted = self.matrix @ np.where(is_finite, points, 0.0)
        spoiled = (self.matrix != 0).astype(float) @ (~is_finite).astype(float) > 0
        return np.where(spoiled, np.nan, converted).astype(points.dtype)

    def validity(self, is_valid: Bool[np.ndarray, "*batch J_source"]) -> Bool[np.ndarray, "*batch J_target"]:
        """A target joint is valid when all source joints it is made of are."""
        uses = self.matrix != 0
        is_given: np.ndarray = uses.any(-1) & (is_valid[..., None, :] | ~uses).all(-1)
        return is_given

    def confidence(
        self, confidence: Float[np.ndarray, "*batch J_source"]
    ) -> Float[np.ndarray, "*batch J_target"]:
        """A target keypoint is as sure as the least sure keypoint it is made of; 0 when it has none."""
        uses = self.matrix != 0
        least = np.where(uses, confidence[..., None, :], np.inf).min(-1)
        return np.where(uses.any(-1), least, 0.0).astype(confidence.dtype)
