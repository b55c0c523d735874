"""`mpm view`: lifted poses beside their 2D input as one page that needs no network."""

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

from mpm_model.errors import InputError, refuse
from mpm_model.pose.skeleton import Skeleton
from mpm_model.pose.skeletons import H36M_17
from pipelines.manifest import part_urls
from pipelines.poses_table import PoseTrack, read_poses
from pipelines.schema import read_metadata
from pipelines.storage import absolute, read_bytes, write_once

STEP_M = 0.001
"""Joints are embedded to the millimetre."""
STEP_PX = 0.1
"""Keypoints are embedded to a tenth of a pixel."""
MAX_FRAMES = 1800
"""Frames of one track that a page embeds, about 450 kB."""
MAX_TRACKS = 24
"""Tracks that a page embeds."""
_SAID = ("checkpoint", "mode")
MAX_TILT_RAD = np.radians(45)
"""Cameras are taken to look down or up by no more than this."""


def run(
    poses_url: str,
    *,
    out: str,
    sources: Sequence[str] = (),
    title: str = "Lifted poses",
    about: Sequence[str] = (),
) -> list[str]:
    """Write the page of a poses table; returns the lines that say what was written.

    `sources` chooses videos, by URL or by the last part of it; none given means all. `about` are lines
    printed under the title beside who made the poses, such as the checkpoint's score.
    """
    if not out.endswith((".html", ".htm")):
        raise InputError(f"--out {out}: wanted the name of a page, such as page.html")
    poses_url = absolute(poses_url)
    tracks = _choose(read_poses(poses_url, skeleton=None), sources, where=poses_url)
    if not tracks:
        raise InputError(
            f"{poses_url}: wanted poses to show, got a finished table without any; see its manifest"
        )
    first_part = part_urls(poses_url, "poses")[0]
    metadata = read_metadata(read_bytes(first_part), url=first_part)
    page = render(tracks, title=title, about=[*about, _describe_making(metadata)])
    write_once(out, page.encode())
    shown = min(len(tracks), MAX_TRACKS)
    return [f"{out}: {shown} of {len(tracks)} tracks, {len(page) / 1e6:.1f} MB; open it in a browser"]


def render(
    tracks: Sequence[PoseTrack],
    *,
    title: str = "Lifted poses",
    about: Sequence[str] = (),
    max_frames: int = MAX_FRAMES,
    max_tracks: int = MAX_TRACKS,
) -> str:
    """The page as text: style, script and data inside, no reference to anything outside.

    Of a longer track the first `max_frames` are embedded, of more tracks the first `max_tracks`, and the
    page says so. Sources appear under the shortest ends of their URLs that tell them apart.
    """
    if not tracks:
        raise InputError("wanted at least one track to show, got none")
    names = short_names([track.source for track in tracks])
    shown = tracks[:max_tracks]
    lines = list(about)
    if len(tracks) > len(shown):
        lines.append(f"Showing {len(shown)} of {len(tracks)} tracks; name sources to see others.")
    scene = {
        "skeleton": _pack_skeleton(shown[0].skeleton),
        "sources": list(dict.fromkeys(names[track.source] for track in shown)),
        "tracks": [pack(track, source=names[track.source], max_frames=max_frames) for track in shown],
    }
    parts = {
        "title": html.escape(title),
        "about": "\n  ".join(f"<p>{html.escape(line)}</p>" for line in lines),
        "style": _asset("view.css"),
        "script": _asset("view_draw.js") + "\n" + _asset("view_player.js"),
        "scene": _json_in_html(scene),
    }
    # One pass, so that a part may hold anything, braces too.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _asset("view.html"))


def pack(track: PoseTrack, *, source: str, max_frames: int) -> dict[str, Any]:
    """A track as the page's script reads it: quantised, little-endian, base64.

    Keypoints of confidence 0 are nowhere, and their coordinates are not kept. How the floor is placed and
    the camera levelled is guessed from the pose: see `floor_height_m` and `camera_tilt_rad`.
    """
    joints_rel_m = track.joints_rel_m[:max_frames].astype(np.float64)
    bad = ~np.isfinite(joints_rel_m).all(axis=(1, 2))
    if bad.any():
        raise InputError(
            f"{track.source}, person {track.person}: wanted finite joints, got NaN or infinity in "
            f"{bad.sum()} of {bad.size} frames, first in frame {track.frames[bad.argmax()]}; lift it again"
        )
    confidence = np.nan_to_num(track.confidence[:max_frames])
    keypoints_px, is_known = _known_keypoints(track.keypoints_px[:max_frames], confidence)
    time_s = track.time_s[:max_frames].astype(np.float64)
    tilt_rad = camera_tilt_rad(joints_rel_m, skeleton=track.skeleton)
    joints_up_m = level(joints_rel_m, tilt_rad=tilt_rad)
    floor_m = floor_height_m(joints_up_m, skeleton=track.skeleton)
    top_m = float(np.percentile(joints_up_m[..., 1].max(axis=1), 99))
    centre_m = np.array([0.0, (floor_m + top_m) / 2, 0.0])
    reach_m = np.linalg.norm(joints_up_m - centre_m, axis=-1).max(axis=1)
    is_image_known = track.width_px is not None and track.height_px is not None
    return {
        "source": source,
        "person": track.person,
        "note": _note(len(track.frames), max_frames, tilt_rad=tilt_rad),
        "frames": _base64(track.frames[:max_frames], "<i4"),
        "time_s": _base64(time_s, "<f8"),
        "step_s": float(np.median(np.diff(time_s))) if len(time_s) > 1 else 0.04,
        "joints_rel_m": quantise(joints_rel_m, STEP_M),
        "is_observed": _base64(np.packbits(track.is_observed[:max_frames]), "u1"),
        "keypoints_px": quantise(keypoints_px, STEP_PX),
        # Rounded up: what was seen at all stays above 0.
        "confidence": _base64(np.ceil(np.where(is_known, confidence, 0.0).clip(0, 1) * 255), "u1"),
        "is_image_known": is_image_known,
        "image_box_px": [0, 0, track.width_px, track.height_px] if is_image_known else _box(keypoints_px),
        "tilt_rad": tilt_rad,
        "floor_m": floor_m,
        "bounds": {"centre": centre_m.tolist(), "radius_m": max(float(np.percentile(reach_m, 99)), 0.1)},
    }


def quantise(values: np.ndarray, step: float) -> dict[str, float | str]:
    """Numbers as int16 multiples of a step from an origin, at most half a step wrong.

    The step grows where the values span more than 65,000 of them.
    """
    low, high = float(values.min()), float(values.max())
    step = max(step, (high - low) / 65_000)
    origin = (low + high) / 2
    return {"origin": origin, "step": step, "data": _base64(np.rint((values - origin) / step), "<i2")}


def camera_tilt_rad(joints_rel_m: np.ndarray, *, skeleton: Skeleton = H36M_17) -> float:
    """How far the camera seems to look down, radians, positive downwards.

    Taken as the slant towards the camera of the median line from between the ankles to the thorax, where the
    skeleton has none to between the shoulders: right for people who mostly stand or walk. A slant beyond
    `MAX_TILT_RAD` is held to be the posture, and gives 0.
    """
    foot_m = joints_rel_m[:, skeleton.select("left_ankle", "right_ankle")].mean(axis=1)
    chest = ("thorax",) if "thorax" in skeleton.joints else ("left_shoulder", "right_shoulder")
    chest_m = joints_rel_m[:, skeleton.select(*chest)].mean(axis=1)
    _, down_m, forward_m = np.median(foot_m - chest_m, axis=0)
    tilt_rad = float(np.arctan2(forward_m, down_m))
    return tilt_rad if abs(tilt_rad) <= MAX_TILT_RAD else 0.0


def level(joints_rel_m: np.ndarray, *, tilt_rad: float) -> np.ndarray:
    """Camera axes (x right, y down, z forward) to x right, y up, z towards a camera made level."""
    rise, run = np.sin(tilt_rad), np.cos(tilt_rad)
    turn = np.array([[1, 0, 0], [0, -run, -rise], [0, rise, -run]])
    return np.asarray(joints_rel_m @ turn.T)


def floor_height_m(joints_up_m: np.ndarray, *, skeleton: Skeleton = H36M_17) -> float:
    """Height of the assumed floor over the pelvis, metres: median over time of the lower ankle's."""
    ankles_up_m = joints_up_m[:, skeleton.select("left_ankle", "right_ankle"), 1]
    return float(np.median(ankles_up_m.min(axis=1)))


def short_names(sources: Sequence[str]) -> dict[str, str]:
    """Each source's shortest end, in whole path parts, that no other source has."""
    parts = {source: source.rstrip("/").split("/") for source in sources}
    longest = max((len(path) for path in parts.values()), default=1)
    for depth in range(1, longest + 1):
        names = {source: "/".join(path[-depth:]) for source, path in parts.items()}
        if len(set(names.values())) == len(names):
            return names
    return {source: source for source in sources}


def _describe_making(metadata: Mapping[str, str]) -> str:
    """Command, version and checkpoint of a poses table, without the folders of who made it."""
    config = json.loads(metadata.get("mpm.config") or "{}")
    said = [f"{name} {str(config[name]).rstrip('/').split('/')[-1]}" for name in _SAID if config.get(name)]
    return ", ".join([metadata.get("mpm.made_by", "made by an unknown command"), *said])


def _choose(tracks: Sequence[PoseTrack], sources: Sequence[str], *, where: str) -> list[PoseTrack]:
    """The wanted tracks, the longest track of each source first."""
    last_part = {track.source: track.source.rstrip("/").split("/")[-1] for track in tracks}
    known = [*last_part, *last_part.values()]
    refuse(
        where,
        [
            f"wanted source {source!r}, got a table with {', '.join(sorted(set(last_part.values())))}"
            for source in sources
            if source not in known
        ],
    )
    wanted = [
        track
        for track in tracks
        if not sources or track.source in sources or last_part[track.source] in sources
    ]
    place = {source: i for i, source in enumerate(dict.fromkeys(track.source for track in wanted))}
    return sorted(wanted, key=lambda track: (place[track.source], -len(track.frames)))


def _known_keypoints(keypoints_px: np.ndarray, confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints with unknown ones put amid the known, not to widen the range; which are known."""
    is_known = np.isfinite(keypoints_px).all(-1) & (confidence > 0)
    middle = np.median(keypoints_px[is_known], axis=0) if is_known.any() else np.zeros(2)
    return np.where(is_known[..., None], keypoints_px, middle), is_known


def _box(keypoints_px: np.ndarray) -> list[float]:
    """Left, top, right, bottom of all keypoints with a margin, for a source that does not say its size."""
    low, high = keypoints_px.min(axis=(0, 1)), keypoints_px.max(axis=(0, 1))
    margin = max(0.06 * float((high - low).max()), 1.0)
    return [round(float(edge), 1) for edge in (*(low - margin), *(high + margin))]


def _note(frames: int, max_frames: int, *, tilt_rad: float) -> str:
    cut = (
        f"Showing the first {max_frames:,} of {frames:,} frames of this track. "
        if frames > max_frames
        else ""
    )
    levelled = (
        f"levelled by {np.degrees(abs(tilt_rad)):.0f}° after the median posture"
        if tilt_rad
        else "not levelled"
    )
    return f"{cut}Floor and upright are guesses: camera axes {levelled}, floor at the median lower ankle."


def _pack_skeleton(skeleton: Skeleton) -> Mapping[str, Any]:
    def side(joint: str) -> str:
        first = joint.partition("_")[0]
        return first if first in ("left", "right") else "middle"

    return {
        "joints": skeleton.joints,
        "sides": [side(joint) for joint in skeleton.joints],
        "bones": [[*map(skeleton.index, bone), side(bone[0])] for bone in skeleton.bones],
    }


def _base64(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values).astype(kind).tobytes()).decode()


def _json_in_html(value: object) -> str:
    """JSON that no content can end the script element from, nor open a comment in it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    return resources.files("pipelines").joinpath("assets", name).read_text(encoding="utf-8").rstrip("\n")
