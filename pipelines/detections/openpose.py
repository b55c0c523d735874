"""OpenPose: a folder with one JSON file a frame, people without identity.

Names end in the frame number: `cam01.0000.json`, `video_000000000012_keypoints.json`, also with `.gz`. What
stands before the number tells the videos of one folder apart. Read are bodies of 25 points (BODY_25 and
BODY_25B), of 18 (OpenPose's COCO model) and of 17 (COCO as other tools write it in this form); hands and
faces are not.
"""

import posixpath
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Float

from mpm_model.errors import InputError
from mpm_model.pose.skeleton import Skeleton
from mpm_model.pose.skeletons import BODY_25, BODY_25B, COCO_17, COCO_18
from pipelines import storage
from pipelines.detections.association import associate
from pipelines.detections.json_file import parse_json
from pipelines.detections.keypoints import clean_keypoints
from pipelines.detections.source import ReadOptions, Source
from pipelines.detections.track import Track

MAX_BAD_FRACTION = 0.1
"""Share of a video's frames that may be unreadable; each is a gap. With more the video is refused."""

_READERS = 16
_FORCED = {"openpose_body25": BODY_25, "openpose_body25b": BODY_25B}
_OTHER_SIZES = {17: COCO_17, 18: COCO_18}
_KNOWN_SIZES = {25, *_OTHER_SIZES}
_CLEAR_RESIDUAL = 0.08
"""Points in the middle of others lie this near to it, in sizes of the person, if the skeleton is the right
one."""


def split_videos(folder: str, files: Iterable[str]) -> list[Source]:
    """The videos whose frames stand in one folder, told apart by what stands before the frame number."""
    videos: dict[str, list[str]] = {}
    for url in files:
        videos.setdefault(_name_and_frame(url)[0], []).append(url)
    return [
        Source(
            name=folder if len(videos) == 1 else storage.join(folder, f"{name}*"),
            format="openpose",
            files=tuple(sorted(urls)),
        )
        for name, urls in sorted(videos.items())
    ]


def read_openpose(source: Source, options: ReadOptions) -> list[Track]:
    """The people of one video, followed through time; see `associate`.

    People are numbered from 0, the one with the largest sum of confidences first. OpenPose says neither rate
    nor image size: both come from the options. InputError when nobody is seen, when more than a tenth of the
    frames cannot be read, or when 25 points may be BODY_25 as well as BODY_25B.
    """
    people_of, notes = _read_frames(source)
    skeleton = _choose_skeleton(source, people_of, options)
    frames = sorted(people_of)
    poses = [clean_keypoints(people_of[frame].reshape(-1, len(skeleton), 3)) for frame in frames]
    _check_pixels(source, poses)
    association = associate(frames, poses)
    notes += association.notes
    if not association.people:
        ghosts = sum(int((found[..., 2] > 0).any(-1).sum()) for found in poses)
        seen = f"only {ghosts} passing detections" if ghosts else "nobody"
        raise InputError(
            f"{source.name}: wanted people, got {seen} in {len(frames)} frames; leave this video out"
        )
    return [
        Track(
            keypoints_px=person.points[..., :2],
            confidence=person.points[..., 2],
            frames=person.frames,
            skeleton=skeleton,
            source=source.name,
            person=str(number),
            rate_hz=options.rate_hz,
            width_px=options.width_px,
            height_px=options.height_px,
            notes=notes,
        )
        for number, person in enumerate(association.people)
    ]


def _name_and_frame(url: str) -> tuple[str, int]:
    """What stands before the last number of a file name, and that number; a name without one is frame 0."""
    stem = posixpath.basename(url).removesuffix(".gz").removesuffix(".json")
    numbered = re.fullmatch(r"(.*?)(\d+)\D*", stem)
    return (numbered[1], int(numbered[2])) if numbered else (stem, 0)


def _read_frames(source: Source) -> tuple[dict[int, np.ndarray], tuple[str, ...]]:
    """People of each readable frame, (people, points * 3), and notes on the others."""
    with ThreadPoolExecutor(_READERS) as pool:
        results = list(pool.map(_read_people, source.files))
    sizes = [
        len(person) // 3 for people in results if not isinstance(people, InputError) for person in people
    ]
    size = max(set(sizes), key=sizes.count, default=25)
    people_of: dict[int, np.ndarray] = {}
    bad, repeated = [], 0
    for url, people in zip(source.files, results, strict=True):
        frame = _name_and_frame(url)[1]
        if isinstance(people, InputError):
            bad.append(str(people))
        elif odd := [len(person) for person in people if len(person) != 3 * size]:
            bad.append(f"{url}: wanted {size} points as in most frames, got {odd[0]} numbers for a person")
        elif frame in people_of:
            repeated += 1
        else:
            people_of[frame] = np.array(people, dtype=np.float64).reshape(len(people), 3 * size)
    if len(bad) > MAX_BAD_FRACTION * len(results):
        shown = "; ".join(bad[:3]) + ("; ..." if len(bad) > 3 else "")
        if len(results) == 1:
            raise InputError(shown)
        raise InputError(f"{source.name}: {len(bad)} of {len(results)} frames cannot be read: {shown}")
    notes = []
    if bad:
        named = "; ".join(bad[:10]) + (f"; and {len(bad) - 10} more" if len(bad) > 10 else "")
        notes.append(f"{len(bad)} of {len(results)} frames could not be read and are gaps: {named}.")
    if repeated:
        notes.append(f"{repeated} files repeat the number of another frame and were left out.")
    return people_of, tuple(notes)


def _read_people(url: str) -> list[np.ndarray] | InputError:
    """The bodies of one frame, (points * 3,) each, or what is wrong with the file."""
    try:
        content = parse_json(storage.read_bytes(url), where=url, wanted="one frame of OpenPose")
        return _bodies(url, content)
    except storage.StorageError:  # no fault of this frame
        raise
    except InputError as error:
        return error


def _bodies(url: str, content: Any) -> list[np.ndarray]:
    people = content.get("people") if isinstance(content, Mapping) else None
    if not isinstance(people, list) or not all(isinstance(person, Mapping) for person in people):
        raise InputError(f"{url}: wanted one frame of OpenPose with a list `people`, got other JSON")
    bodies = []
    for person in people:
        numbers = person.get("pose_keypoints_2d", person.get("pose_keypoints", []))
        try:
            body = np.array(numbers, dtype=np.float64)  # null becomes NaN: not seen
        except (TypeError, ValueError) as error:
            raise InputError(f"{url}: pose_keypoints_2d must be a list of numbers ({error})") from error
        if body.ndim != 1 or len(body) % 3:
            raise InputError(
                f"{url}: pose_keypoints_2d must hold x, y, confidence in turn, got shape {body.shape}"
            )
        if len(body):  # a person known only by hands or face has no body
            bodies.append(_without_edge_points(body))
    return bodies


def _without_edge_points(body: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """Hide keypoints on the image's first column or row: OpenPose puts there, with confidence, what it lost.

    In the Pose2Sim sample six noses stand at x = 0 beside bodies that are 500 px away.
    """
    points = body.reshape(-1, 3)
    points[(points[:, :2] == 0).any(axis=1), 2] = 0.0
    return points.reshape(-1)


def _choose_skeleton(source: Source, people_of: Mapping[int, np.ndarray], options: ReadOptions) -> Skeleton:
    size = next(iter(people_of.values())).shape[1] // 3
    forced = _FORCED.get(options.format or "")
    if size not in _KNOWN_SIZES or (forced is not None and size != len(forced)):
        wanted = (
            forced.name if forced is not None else "bodies of 25 (BODY_25, BODY_25B), 18 or 17 (COCO) points"
        )
        raise InputError(
            f"{source.name}: wanted {wanted}, got bodies of {size} points; run OpenPose with one of these"
        )
    if size in _OTHER_SIZES:
        return _OTHER_SIZES[size]
    if forced is not None:
        return forced
    points = clean_keypoints(np.concatenate(list(people_of.values())).reshape(-1, 25, 3))
    points = points[(points[..., 2] > 0).any(-1)]
    if len(points) == 0:
        return BODY_25  # nobody in any frame: the caller says so
    return _tell_body_25(source, points)


def _tell_body_25(source: Source, points: Float[np.ndarray, "P 25 3"]) -> Skeleton:
    """BODY_25 or BODY_25B, by which points lie in the middle of others.

    In BODY_25 the neck lies between the shoulders and mid_hip between the hips. In BODY_25B the nose lies
    near the middle of the eyes, and the upper neck near the middle of nose and shoulders. Read with the wrong
    names these points are far from there. The medians over all people in all frames are compared.
    """
    residual = {
        BODY_25: _residual(
            points,
            BODY_25,
            {"neck": ("left_shoulder", "right_shoulder"), "mid_hip": ("left_hip", "right_hip")},
        ),
        BODY_25B: _residual(
            points,
            BODY_25B,
            {
                "nose": ("left_eye", "right_eye"),
                "upper_neck": ("nose", "nose", "left_shoulder", "right_shoulder"),
            },
        ),
    }
    likely, other = sorted(residual, key=lambda skeleton: residual[skeleton])
    if residual[likely] > _CLEAR_RESIDUAL or 2 * residual[likely] >= residual[other]:
        values = ", ".join(f"{skeleton.name} {value:.3f}" for skeleton, value in residual.items())
        raise InputError(
            f"{source.name}: wanted 25 points that are clearly BODY_25 or BODY_25B, got points that fit both "
            f"(distance from the expected middles: {values}); "
            "say which with --format openpose_body25 or --format openpose_body25b"
        )
    return likely


def _residual(points: np.ndarray, skeleton: Skeleton, middles: Mapping[str, tuple[str, ...]]) -> float:
    """Distance of points from the middle of others, in sizes of the person; infinite if none was ever seen.

    The median over all people, and of several such points the worst.
    """
    is_seen = points[..., 2] > 0
    seen_px = np.where(is_seen[..., None], points[..., :2], np.nan)
    size_px = np.linalg.norm(np.nanmax(seen_px, axis=1) - np.nanmin(seen_px, axis=1), axis=-1)
    medians = []
    for joint, parts in middles.items():
        middle_px = seen_px[:, skeleton.select(*parts)].mean(1)
        apart = np.linalg.norm(seen_px[:, skeleton.index(joint)] - middle_px, axis=-1) / np.maximum(
            size_px, 1
        )
        if np.isfinite(apart).any():
            medians.append(float(np.nanmedian(apart)))
    return max(medians, default=float("inf"))


def _check_pixels(source: Source, poses: list[np.ndarray]) -> None:
    seen_px = (
        np.concatenate([found[found[..., 2] > 0][:, :2] for found in poses]) if poses else np.zeros((0, 2))
    )
    if len(seen_px) and np.abs(seen_px).max() <= 1:
        raise InputError(
            f"{source.name}: wanted keypoints in pixels, "
            f"got numbers from {seen_px.min():g} to {seen_px.max():g}; run OpenPose with --keypoint_scale 0"
        )
