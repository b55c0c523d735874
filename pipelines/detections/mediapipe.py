"""MediaPipe Pose: one JSON file a video.

MediaPipe itself writes no files; this is how its results are commonly kept, and what is read:

    {"width": 1080, "height": 1920, "fps": 60.0,
     "frames": [{"frame": 0, "pose_landmarks": [33 landmarks]}, ...]}

A landmark is `[x, y, z, visibility]` or `{"x": .., "y": .., "z": .., "visibility": ..}`, x and y as fractions
of the image. A frame may also be the 33 landmarks alone, hold them under `landmarks`, or hold several people
(the Tasks API: a list of lists of 33). A frame without a person is null or empty. The file may be the list of
frames alone; then rate and size come from the options, and the frames are numbered from 0.
`pose_world_landmarks` and z are not read.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from mpm_model.errors import InputError, refuse
from mpm_model.pose.skeletons import BLAZEPOSE_33
from pipelines.detections.association import Person, associate
from pipelines.detections.json_file import read_json
from pipelines.detections.keypoints import clean_keypoints
from pipelines.detections.source import ReadOptions, Source
from pipelines.detections.track import Track

_WANTED = "MediaPipe Pose results"


def read_mediapipe(source: Source, options: ReadOptions) -> list[Track]:
    """The people of one video. Confidence is MediaPipe's visibility.

    With at most one person in every frame all frames are one person's; otherwise people are followed through
    time, see `associate`. InputError names every frame that does not hold 33 landmarks.
    """
    (url,) = source.files
    content = read_json(url, wanted=_WANTED)
    header = content if isinstance(content, Mapping) else {}
    frames = header.get("frames") if isinstance(content, Mapping) else content
    if not isinstance(frames, list):
        raise InputError(f"{url}: wanted {_WANTED} with a list `frames`, got JSON without one")
    rate_hz, width_px, height_px = _video(url, header, options)
    numbers, poses, notes = _read_frames(url, frames, size_px=(width_px, height_px))
    if max((len(found) for found in poses), default=0) <= 1:
        people = _one_person(numbers, poses)
    else:
        association = associate(numbers, poses)
        people, notes = association.people, (*notes, *association.notes)
    if not people:
        raise InputError(f"{url}: wanted people, got nobody in {len(frames)} frames; leave this video out")
    return [
        Track(
            keypoints_px=person.points[..., :2],
            confidence=person.points[..., 2],
            frames=person.frames,
            skeleton=BLAZEPOSE_33,
            source=source.name,
            person=str(number),
            rate_hz=rate_hz,
            width_px=width_px,
            height_px=height_px,
            notes=notes,
        )
        for number, person in enumerate(people)
    ]


def _video(url: str, header: Mapping[str, Any], options: ReadOptions) -> tuple[float | None, int, int]:
    """Rate, width and height, from the file or else from the options."""
    said: dict[str, Any] = {
        "fps": header.get("fps") or options.rate_hz,
        "width": header.get("width") or options.width_px,
        "height": header.get("height") or options.height_px,
    }
    faults = [
        f"{name} must be a positive number, got {value!r}"
        for name, value in said.items()
        if value is not None and not (isinstance(value, int | float) and value > 0)
    ]
    if said["width"] is None or said["height"] is None:
        faults.append(
            "landmarks are fractions of an image whose size is not given: say --image-size 1920x1080"
        )
    refuse(url, faults)
    rate_hz = None if said["fps"] is None else float(said["fps"])
    return rate_hz, int(said["width"]), int(said["height"])


def _read_frames(
    url: str, frames: list[Any], *, size_px: tuple[int, int]
) -> tuple[list[int], list[np.ndarray], tuple[str, ...]]:
    """Frame numbers, increasing; the people of each, (P, 33, 3) in pixels and visibility; and notes."""
    people_of: dict[int, np.ndarray] = {}
    faults, repeated = [], 0
    for position, entry in enumerate(frames):
        frame = entry.get("frame", position) if isinstance(entry, Mapping) else position
        try:
            found = _people(entry)
        except (TypeError, ValueError, KeyError) as error:
            faults.append(f"frame {frame}: wanted 33 landmarks of x, y, z, visibility, got {error}")
            continue
        if not isinstance(frame, int):
            faults.append(f"frame {position} has the number {frame!r}")
        elif frame in people_of:
            repeated += 1
        else:
            people_of[frame] = clean_keypoints(found * np.array([*size_px, 1]))
    if len(faults) > 3:
        faults = [*faults[:3], f"and {len(faults) - 3} more frames"]
    refuse(url, faults)
    notes = (f"{repeated} frames repeat the number of another and were left out.",) if repeated else ()
    numbers = sorted(people_of)
    return numbers, [people_of[number] for number in numbers], notes


def _people(entry: Any) -> Float[np.ndarray, "P 33 3"]:
    """x and y as fractions of the image, and visibility, of the people of a frame.

    TypeError, ValueError or KeyError if it holds something else.
    """
    if isinstance(entry, Mapping):
        known = [entry[key] for key in ("pose_landmarks", "landmarks") if key in entry]
        if not known:
            raise ValueError(f"an entry with {', '.join(map(repr, entry)) or 'nothing'}")
        entry = known[0]
    if not entry:
        return np.zeros((0, 33, 3))
    if not isinstance(entry, list):
        raise ValueError(f"{type(entry).__name__}")
    is_alone = isinstance(entry[0], Mapping) or not isinstance(entry[0][0], list | Mapping)
    people = [[_landmark(point) for point in person] for person in ([entry] if is_alone else entry) if person]
    found = np.array(people, dtype=np.float64).reshape(len(people), -1, 3)
    if people and found.shape[1] != len(BLAZEPOSE_33):
        raise ValueError(f"{found.shape[1]} landmarks")
    return found.reshape(len(people), len(BLAZEPOSE_33), 3)


def _landmark(point: Any) -> tuple[Any, Any, Any]:
    if isinstance(point, Mapping):
        return point["x"], point["y"], point["visibility"]
    x, y, _, visibility = point
    return x, y, visibility


def _one_person(numbers: list[int], poses: list[np.ndarray]) -> tuple[Person, ...]:
    """All frames in which anybody is seen, as one person's."""
    seen = [
        (number, found[0]) for number, found in zip(numbers, poses, strict=True) if (found[..., 2] > 0).any()
    ]
    if not seen:
        return ()
    return (
        Person(
            frames=np.array([number for number, _ in seen], dtype=np.int64),
            points=np.stack([points for _, points in seen]),
        ),
    )
