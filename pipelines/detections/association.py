"""Who is who over time, for detectors that do not say."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

_FORBIDDEN = 1e6
"""Cost of a match that may not be; far above any that may."""


@dataclass(frozen=True, kw_only=True)
class AssociationConfig:
    """When two detections are one person, and when a person is none."""

    max_distance: float = 0.25
    """Mean distance of keypoints from where they were expected, in sizes of the person, up to which it is the
    same person. The size is the diagonal of the box around the keypoints."""
    max_gap_frames: int = 30
    """Frames for which a person may go unseen and still be the same afterwards."""
    min_frames: int = 10
    """People seen in fewer frames are ghosts; in a video shorter than twice that, in less than half of its
    frames."""
    min_confidence: float = 0.15
    """People whose seen keypoints have a lower mean confidence are ghosts."""


@dataclass(frozen=True, kw_only=True)
class Person:
    """One person over time."""

    frames: Int[np.ndarray, "N"]
    """Frame numbers, strictly increasing."""
    points: Float[np.ndarray, "N J 3"]
    """x and y in pixels, and confidence."""


@dataclass(frozen=True, kw_only=True)
class Association:
    """The people of a video, and what it took to find them."""

    people: tuple[Person, ...]
    """By the sum of all their confidences, the largest first: long, well seen and complete."""
    notes: tuple[str, ...]
    """What was dropped or joined, one sentence each."""


@dataclass(kw_only=True)
class _Path:
    """A person while being followed."""

    expected_px: np.ndarray
    """(J, 2): last known place of every keypoint, moved along with the person."""
    is_known: np.ndarray
    """(J,): whether the keypoint was ever seen."""
    velocity_px: np.ndarray
    """(2,): movement of the whole person in one frame."""
    size_px: float
    frames: list[int] = field(default_factory=list)
    points: list[np.ndarray] = field(default_factory=list)

    def expected_at(self, frame: int) -> np.ndarray:
        moved_px: np.ndarray = self.expected_px + self.velocity_px * (frame - self.frames[-1])
        return moved_px

    def add(self, frame: int, points: np.ndarray) -> None:
        is_seen = points[:, 2] > 0
        if self.frames:
            elapsed = frame - self.frames[-1]
            both = is_seen & self.is_known
            shift_px = np.median(points[both, :2] - self.expected_px[both], axis=0)
            # The first step is all there is to know of the velocity; later ones are averaged against jitter.
            weight = max(0.3, 1 / len(self.frames))
            self.velocity_px = (1 - weight) * self.velocity_px + weight * shift_px / elapsed
            self.expected_px = self.expected_px + shift_px
            self.size_px = 0.8 * self.size_px + 0.2 * _size_px(points)
        self.expected_px = np.where(is_seen[:, None], points[:, :2], self.expected_px)
        self.is_known = self.is_known | is_seen
        self.frames.append(frame)
        self.points.append(points)


def associate(
    frames: Sequence[int],
    poses: Sequence[Float[np.ndarray, "P J 3"]],
    *,
    config: AssociationConfig | None = None,
) -> Association:
    """Link the people of successive frames into persons.

    `frames` increase strictly; `poses` holds the people of each as x and y in pixels and confidence, 0 where
    unseen (see `clean_keypoints`). Every person is expected to go on with a constant velocity; people and
    detections are matched at the least total distance (Kuhn 1955, the Hungarian method). A detection left
    over that lies where keypoints missing from a matched person are expected is a part of that person and is
    joined to it.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, and not every format needs it

    config = config or AssociationConfig()
    going: list[_Path] = []
    paths: list[_Path] = []
    joined = 0
    for frame, found in zip(frames, poses, strict=True):
        found = found[(found[..., 2] > 0).any(-1)]
        going = [path for path in going if frame - path.frames[-1] <= config.max_gap_frames + 1]
        distance = _distances(going, found, frame=frame)
        cost = np.where(distance <= config.max_distance, distance, _FORBIDDEN)
        pairs = [(p, d) for p, d in zip(*linear_sum_assignment(cost), strict=True) if cost[p, d] < _FORBIDDEN]
        matched = {person: found[detection] for person, detection in pairs}
        left_over = set(range(len(found))) - {detection for _, detection in pairs}
        for detection in sorted(left_over):
            whole = _missing_part_of(found[detection], matched, distance[:, detection], config=config)
            if whole is None:
                path = _start(frame, found[detection])
                going.append(path)
                paths.append(path)
            else:
                matched[whole] = _join(matched[whole], found[detection])
                joined += 1
        for person, points in matched.items():
            going[person].add(frame, points)
    return _keep_people(paths, video_frames=len(frames), joined=joined, config=config)


def _size_px(points: np.ndarray) -> float:
    seen_px = points[points[:, 2] > 0, :2]
    return max(float(np.linalg.norm(np.ptp(seen_px, axis=0))), 1.0)


def _start(frame: int, points: np.ndarray) -> _Path:
    path = _Path(
        expected_px=points[:, :2],
        is_known=points[:, 2] > 0,
        velocity_px=np.zeros(2),
        size_px=_size_px(points),
    )
    path.add(frame, points)
    return path


def _distances(going: Sequence[_Path], found: np.ndarray, *, frame: int) -> np.ndarray:
    """(people, detections): mean distance over the keypoints known of both, in sizes of the person.

    A single keypoint counts half a size at most, so that one gone astray does not decide; infinite when there
    is none.
    """
    if not going or len(found) == 0:
        return np.full((len(going), len(found)), np.inf)
    expected_px = np.stack([path.expected_at(frame) for path in going])
    both = np.stack([path.is_known for path in going])[:, None] & (found[None, ..., 2] > 0)
    size_px = np.maximum(
        np.array([path.size_px for path in going])[:, None], np.array([_size_px(p) for p in found])[None]
    )
    apart_px = np.linalg.norm(expected_px[:, None] - found[None, ..., :2], axis=-1)
    capped = np.minimum(apart_px / size_px[..., None], 0.5)
    count = both.sum(-1)
    return np.where(count > 0, (capped * both).sum(-1) / np.maximum(count, 1), np.inf)


def _missing_part_of(
    part: np.ndarray, matched: dict[int, np.ndarray], distance: np.ndarray, *, config: AssociationConfig
) -> int | None:
    """The matched person whose missing keypoints this detection gives, if there is one."""
    is_seen = part[:, 2] > 0
    for person in sorted(matched, key=lambda person: distance[person]):
        seen_twice = is_seen & (matched[person][:, 2] > 0)
        if distance[person] <= config.max_distance / 2 and seen_twice.sum() <= 0.25 * is_seen.sum():
            return person
    return None


def _join(points: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Both detections in one; of a keypoint seen twice the surer."""
    return np.where(part[:, 2:] > points[:, 2:], part, points)


def _keep_people(
    paths: Sequence[_Path], *, video_frames: int, joined: int, config: AssociationConfig
) -> Association:
    min_frames = min(config.min_frames, math.ceil(video_frames / 2))
    people, ghost_frames = [], []
    for path in paths:
        points = np.stack(path.points)
        confidence = points[..., 2]
        if len(points) < min_frames or confidence[confidence > 0].mean() < config.min_confidence:
            ghost_frames.append(len(points))
        else:
            people.append(Person(frames=np.array(path.frames, dtype=np.int64), points=points))
    people.sort(key=lambda person: -float(person.points[..., 2].sum()))
    notes = []
    if ghost_frames:
        notes.append(
            f"Dropped as ghosts, seen in fewer than {min_frames} frames or with a mean confidence under "
            f"{config.min_confidence:g}: {sum(ghost_frames)} detections of {len(ghost_frames)} people."
        )
    if joined:
        notes.append(f"Joined to the person of which they are a part: {joined} detections.")
    return Association(people=tuple(people), notes=tuple(notes))
