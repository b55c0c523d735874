"""COCO keypoints: annotation files (images, annotations) and result files (a list of detections).

- Annotations give a visibility, not a confidence: 2 (visible) counts as 1, 1 (hidden, its place guessed by a
  person) as 0.5, 0 (not labelled) as 0. Results give a score for each keypoint, which is the confidence, at
  most 1.
- COCO's images are no video: without `track_id` every person in every image is a track of one frame, whose
  source is `file#image`. With `track_id` on every entry (PoseTrack, MMTracking, CVAT) the images are frames:
  their number is `frame_id`, or the last number in the file name, or the id; `video_id` or `vid_id` tells the
  videos of a file apart.
- Entries without any keypoint, and crowds, are left out and counted.
"""

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpm_model.errors import InputError, refuse
from mpm_model.pose.skeletons import COCO_17
from pipelines.detections.json_file import read_json
from pipelines.detections.keypoints import clean_keypoints
from pipelines.detections.source import ReadOptions, Source
from pipelines.detections.track import Track

VISIBILITY_CONFIDENCE = (0.0, 0.5, 1.0)
"""Confidence that stands for COCO's visibility 0, 1 and 2."""

_WANTED = "COCO keypoints"


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """One person in one image."""

    image_id: Any
    track_id: Any
    points: np.ndarray
    """(17, 3): x, y, and visibility or score."""


def read_coco(source: Source, options: ReadOptions) -> list[Track]:
    """The people of a COCO file; see the module for what becomes a track.

    InputError names entries that do not hold COCO's 17 keypoints, or a file in which nobody has any.
    """
    (url,) = source.files
    content = read_json(url, wanted=_WANTED)
    notes: tuple[str, ...] = ()
    images, raw = _images_and_entries(url, content)
    entries, dropped = _entries(url, raw)
    if dropped:
        notes += (f"{dropped} entries without a keypoint, or of a crowd, were left out.",)
    values = np.concatenate([entry.points[:, 2] for entry in entries]) if entries else np.zeros(0)
    are_levels = bool(np.isin(values, (0, 1, 2)).all()) and (
        isinstance(content, Mapping) or bool((values == 2).any())
    )
    if are_levels:
        notes += ("Confidence 1 and 0.5 stand for COCO's visible and hidden keypoints.",)
    entries = [
        _Entry(image_id=e.image_id, track_id=e.track_id, points=_clean(e.points, are_levels=are_levels))
        for e in entries
    ]
    entries = [entry for entry in entries if (entry.points[:, 2] > 0).any()]
    if not entries:
        raise InputError(
            f"{url}: wanted people with keypoints, got nobody in {len(raw)} entries; leave this file out"
        )
    tracked = sum(entry.track_id is not None for entry in entries)
    if tracked not in (0, len(entries)):
        raise InputError(
            f"{url}: wanted a track_id on all entries or on none, got one on {tracked} of {len(entries)}"
        )
    if tracked:
        return _videos(source, entries, images, options, notes)
    return _stills(source, entries, images, options, notes)


def _images_and_entries(url: str, content: Any) -> tuple[dict[Any, Mapping[str, Any]], list[Any]]:
    """Images by id (none in a result file) and the raw entries."""
    if isinstance(content, list):
        return {}, content
    entries = content.get("annotations") if isinstance(content, Mapping) else None
    images = content.get("images", []) if isinstance(content, Mapping) else None
    if not isinstance(entries, list) or not isinstance(images, list):
        raise InputError(f"{url}: wanted {_WANTED} with lists `images` and `annotations`, got other JSON")
    for category in content.get("categories") or []:
        names = category.get("keypoints")
        if names and tuple(names) != COCO_17.joints:
            raise InputError(
                f"{url}: wanted COCO's 17 keypoints ({COCO_17.joints[0]} ... {COCO_17.joints[-1]}), "
                f"got {len(names)}: {', '.join(map(str, names))}"
            )
    return {image["id"]: image for image in images if isinstance(image, Mapping) and "id" in image}, entries


def _entries(url: str, raw: Sequence[Any]) -> tuple[list[_Entry], int]:
    """The usable entries, and how many have no keypoints or are crowds."""
    entries, faults, dropped = [], [], 0
    for position, entry in enumerate(raw):
        if not isinstance(entry, Mapping) or "image_id" not in entry:
            faults.append(f"entry {position} has no image_id")
            continue
        numbers = entry.get("keypoints")
        if entry.get("iscrowd") or not numbers or not any(numbers):
            dropped += 1
            continue
        try:
            points = np.array(numbers, dtype=np.float64).reshape(len(COCO_17), 3)
        except (TypeError, ValueError):
            faults.append(
                f"entry {position} (image {entry['image_id']}) holds {len(numbers)} numbers, not 17 x 3"
            )
            continue
        entries.append(_Entry(image_id=entry["image_id"], track_id=entry.get("track_id"), points=points))
    if len(faults) > 3:
        faults = [*faults[:3], f"and {len(faults) - 3} more entries"]
    refuse(url, faults)
    return entries, dropped


def _clean(points: np.ndarray, *, are_levels: bool) -> np.ndarray:
    if are_levels:
        confidence = np.array(VISIBILITY_CONFIDENCE)[points[:, 2].astype(int)]
        points = np.concatenate([points[:, :2], confidence[:, None]], axis=1)
    return clean_keypoints(points)


def _stills(
    source: Source,
    entries: Sequence[_Entry],
    images: Mapping[Any, Mapping[str, Any]],
    options: ReadOptions,
    notes: tuple[str, ...],
) -> list[Track]:
    """Every person in every image as a track of one frame."""
    seen: dict[Any, int] = {}
    tracks = []
    for entry in entries:
        image = images.get(entry.image_id, {})
        person = seen[entry.image_id] = seen.get(entry.image_id, -1) + 1
        name = f"{source.name}#{image.get('file_name', entry.image_id)}"
        tracks.append(
            _track([0], [entry], name=name, person=str(person), image=image, options=options, notes=notes)
        )
    return tracks


def _videos(
    source: Source,
    entries: Sequence[_Entry],
    images: Mapping[Any, Mapping[str, Any]],
    options: ReadOptions,
    notes: tuple[str, ...],
) -> list[Track]:
    """Every `track_id` of every video as a track; of two entries in one frame the surer."""
    people: dict[tuple[Any, Any], dict[int, _Entry]] = {}
    repeated = 0
    for entry in entries:
        image = images.get(entry.image_id, {})
        frames = people.setdefault((image.get("video_id", image.get("vid_id")), entry.track_id), {})
        frame = _frame_number(entry.image_id, image)
        before = frames.get(frame)
        repeated += before is not None
        if before is None or entry.points[:, 2].sum() > before.points[:, 2].sum():
            frames[frame] = entry
    if repeated:
        notes += (f"{repeated} entries repeat a person in a frame; the surer was kept.",)
    is_one_video = len({video for video, _ in people}) == 1
    tracks = []
    for (video, person), frames in people.items():
        numbers = sorted(frames)
        chosen = [frames[number] for number in numbers]
        name = source.name if is_one_video else f"{source.name}#{video}"
        image = images.get(chosen[0].image_id, {})
        tracks.append(
            _track(numbers, chosen, name=name, person=str(person), image=image, options=options, notes=notes)
        )
    return tracks


def _frame_number(image_id: Any, image: Mapping[str, Any]) -> int:
    for key in ("frame_id", "frame"):
        if isinstance(image.get(key), int):
            return int(image[key])
    name = posixpath.splitext(posixpath.basename(str(image.get("file_name", image_id))))[0]
    digits = re.findall(r"\d+", name)
    if not digits:
        raise InputError(
            f"image {image_id!r}: wanted a frame number in its name, frame_id or id, got {name!r}"
        )
    return int(digits[-1])


def _track(
    frames: list[int],
    entries: Sequence[_Entry],
    *,
    name: str,
    person: str,
    image: Mapping[str, Any],
    options: ReadOptions,
    notes: tuple[str, ...],
) -> Track:
    points = np.stack([entry.points for entry in entries])
    return Track(
        keypoints_px=points[..., :2],
        confidence=points[..., 2],
        frames=np.array(frames, dtype=np.int64),
        skeleton=COCO_17,
        source=name,
        person=person,
        rate_hz=options.rate_hz,
        width_px=image.get("width", options.width_px),
        height_px=image.get("height", options.height_px),
        notes=notes,
    )
