"""The report of a lifting job over an archive: one page that needs no network, however large the archive."""

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import JsonValue

from mpm_model.pose.metrics import MM_PER_M
from pipelines.lift_charts import MEASURES, large, lasted, pace_chart, quality_charts
from pipelines.lift_summary import (
    Group,
    Pace,
    TrackSummary,
    group_bad,
    group_notes,
    pace_of,
    rank,
    summarise_track,
)
from pipelines.manifest import MANIFEST, Totals
from pipelines.pages import asset, fill, json_in_html
from pipelines.poses_table import PoseTrack
from pipelines.quality import person_size_px, step_s

REPORT_FILE = "report.html"
"""Beside the poses."""
MOST_SAMPLES = 6
"""Tracks that are drawn."""
MOST_DRAWN_FRAMES = 150
"""Frames of each that are drawn, from its middle."""
MOST_GROUPS = 12
"""Reasons and assumptions that are told apart; more are counted."""
MOST_WORST = 8
"""Tracks that are named as the worst."""

_MOST_SETTINGS = 60
_MOST_LETTERS, _MOST_NAME = 200, 42
_DRAWN_STEP_S = 0.04
_FARTHEST_MM = 100_000


@dataclass(frozen=True, kw_only=True)
class LiftReport:
    """All that the page tells."""

    title: str
    made_by: str
    """Command, version and commit."""
    config: Mapping[str, JsonValue]
    """What decided the poses, beside the inputs."""
    totals: Totals
    written: Sequence[tuple[float, int]]
    """Unix time and rows of each part, in any order."""
    bad: Sequence[tuple[str, str]]
    """URL and reason of the videos that could not be read: all, or the first."""
    bad_count: int
    """Of all."""
    bad_named_in: str = MANIFEST
    """File that names all."""
    notes: Mapping[str, int]
    """What readers assumed, and for how many videos."""
    quality: Sequence[TrackSummary]
    """Of all tracks, or of an even sample."""
    samples: Sequence[tuple[str, PoseTrack]]
    """Tracks to draw, and what each is: see `pick_samples`. `MOST_SAMPLES` are drawn."""


def write_report(report: LiftReport) -> bytes:
    """The page: style, script and drawings inside, no reference to anything outside; at most about 1 MB."""
    pace = pace_of(report.written) if report.totals.rows else None
    samples = [(label, track) for label, track in report.samples if len(track.frames)]
    parts = {
        "title": html.escape(report.title),
        "made_by": html.escape(report.made_by),
        "result": _result(report),
        "tiles": "\n".join(f"<li><b>{value}</b> {about}</li>" for value, about in _tiles(report, pace)),
        "pace": pace_chart(pace) if pace else "",
        "quality": "\n".join(quality_charts(report.quality)),
        "worst": _worst(report.quality),
        "bad": _bad(report),
        "notes": _counted("What was assumed", "and for how many videos", group_notes(report.notes)),
        "dropped": _counted("What was left out", "", group_notes(report.totals.dropped)),
        "making": "\n".join(_making(report)),
        "style": asset("train_report.css"),
        "scene": json_in_html([_pack(*sample) for sample in samples[:MOST_SAMPLES]]),
    }
    # Names of files may hold bytes that are no text.
    return fill(asset("lift_report.html"), parts).encode(errors="replace")


def _result(report: LiftReport) -> str:
    videos = report.totals.sources
    if not videos:
        return "There was no video to lift."
    if not report.bad_count:
        return f"Every one of the {videos:,} videos was lifted." if videos > 1 else "The video was lifted."
    lifted = videos - report.bad_count
    return f"{lifted:,} of {videos:,} videos were lifted, {report.bad_count:,} could not be read."


def _tiles(report: LiftReport, pace: Pace | None) -> Iterator[tuple[str, str]]:
    totals = report.totals
    yield large(totals.sources - report.bad_count), f"of {large(totals.sources)} videos"
    yield large(totals.people), "people"
    yield large(totals.rows), "poses"
    yield lasted(totals.seconds), "of people moving, all added up"
    if pace:
        yield lasted(pace.working_s), "at work"
        yield large(totals.rows / pace.working_s), "poses a second"


def _worst(quality: Sequence[TrackSummary]) -> str:
    worst = rank(quality)[: -MOST_WORST - 1 : -1]
    measures = [measure for measure in MEASURES if np.isfinite(measure.of(worst)).any()]
    columns = ["video", "person", "poses", *(measure.title.lower() for measure in measures)]
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = "\n".join(
        f'<tr><th scope="row">{_name(track.source)}</th><td>{_name(track.person)}</td>'
        f"<td>{track.frames:,}</td>"
        + "".join(f"<td>{measure.said(measure.of([track])[0])}</td>" for measure in measures)
        + "</tr>"
        for track in worst
    )
    return body and (
        '<section class="card"><h2>Look here first '
        "<span>the worst by all but the expected error, added up</span></h2>"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n'
        "</tbody></table></div></section>"
    )


def _bad(report: LiftReport) -> str:
    told = f"{report.bad_count:,} videos, all named in {html.escape(report.bad_named_in)}"
    if len(report.bad) < report.bad_count:
        told += f"; below, {len(report.bad):,} of them"
    return _counted("What could not be read", told, group_bad(report.bad)) if report.bad_count else ""


def _counted(title: str, told: str, groups: Sequence[Group]) -> str:
    """A card with what was said and how often; the rarest only counted."""
    lines = [
        f"<tr><td>{group.times:,}</td><td>{html.escape(_cut(group.words))}"
        + "".join(f"<small>{_name(name)}</small>" for name in group.named)
        + (
            f"<small>and {left:,} more</small>"
            if group.named and (left := group.times - len(group.named))
            else ""
        )
        + "</td></tr>"
        for group in groups[:MOST_GROUPS]
    ]
    if others := groups[MOST_GROUPS:]:
        count = sum(group.times for group in others)
        lines.append(f"<tr><td>{count:,}</td><td>{len(others):,} other kinds</td></tr>")
    table = "\n".join(lines)
    return (lines or told) and (
        f'<section class="card"><h2>{title} <span>{told}</span></h2>'
        f'<table class="counted"><tbody>\n{table}\n</tbody></table></section>'
    )


def _making(report: LiftReport) -> Iterator[str]:
    """Table rows of what was run."""
    settings = list(report.config.items())
    said = [("made by", report.made_by), *settings[:_MOST_SETTINGS]]
    if len(settings) > _MOST_SETTINGS:
        said.append(("and", f"{len(settings) - _MOST_SETTINGS:,} more settings"))
    for name, value in said:
        shown = "–" if value is None else value if isinstance(value, str) else json.dumps(value)
        yield f'<tr><th scope="row">{html.escape(_cut(name))}</th><td>{html.escape(_cut(shown))}</td></tr>'


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}…"


def _name(text: str) -> str:
    """A foreign name as HTML; what it does to the direction of text stays within."""
    return f'<bdi title="{html.escape(text[-_MOST_LETTERS:])}">{html.escape(_end(text))}</bdi>'


def _end(text: str) -> str:
    """The end of a name, where names differ, in whole parts of a path if it may be."""
    if len(text) <= _MOST_NAME:
        return text
    _, slash, parts = text[-_MOST_NAME:].partition("/")
    return f"…/{parts}" if slash and parts else f"…{text[-_MOST_NAME:]}"


def _pack(label: str, track: PoseTrack) -> dict[str, Any]:
    """A track as the page draws it, in whole millimetres; null where a joint is nowhere.

    The 2D is brought to the scale of the 3D, and in each frame to its place: they compare at a glance.
    """
    stride = max(1, round(_DRAWN_STEP_S / step_s(track)))
    rows = np.arange(0, len(track.frames), stride)
    first = max(0, (len(rows) - MOST_DRAWN_FRAMES) // 2)
    rows = rows[first : first + MOST_DRAWN_FRAMES]
    step = step_s(track) * stride
    joints_m, keypoints_px = track.joints_rel_m[rows], track.keypoints_px[rows]
    is_seen = track.is_observed[rows] & np.isfinite(keypoints_px).all(-1)
    across_m = joints_m[..., :2]
    size_m = person_size_px(across_m, is_seen, step_s=step)
    m_per_px = size_m / person_size_px(keypoints_px, is_seen, step_s=step)
    keypoints_m = m_per_px[:, None, None] * (keypoints_px - _middle(keypoints_px, is_seen))
    keypoints_m = np.where(is_seen[..., None], keypoints_m + _middle(across_m, is_seen), np.nan)
    whole = joints_m[np.isfinite(joints_m).all(axis=(1, 2))].reshape(-1, 3)
    low_m, high_m = np.percentile(whole, [1, 99], axis=0) if len(whole) else np.array([[-1.0] * 3, [1.0] * 3])
    summary = summarise_track(track)
    return {
        "label": _cut(label),
        "source": _end(track.source),
        "person": _end(track.person),
        "said": [
            f"{measure.title.lower()} {measure.said(value)}"
            for measure in MEASURES
            if np.isfinite(value := measure.of([summary])[0])
        ],
        "frames": track.frames[rows].tolist(),
        "step_s": step,
        "middle_mm": (MM_PER_M * (low_m + high_m) / 2).tolist(),
        "reach_mm": (MM_PER_M * np.maximum((high_m - low_m) / 2, 0.1)).tolist(),
        "joints_mm": _whole_mm(joints_m),
        "keypoints_mm": _whole_mm(keypoints_m),
        "seen": "".join("1" if seen else "0" for seen in is_seen.ravel()),
        "bones": [[*map(track.skeleton.index, bone), _side(bone[0])] for bone in track.skeleton.bones],
        "sides": [_side(joint) for joint in track.skeleton.joints],
    }


def _middle(points: np.ndarray, is_seen: np.ndarray) -> np.ndarray:
    """Mean of the seen points of each frame."""
    count = np.maximum(is_seen.sum(1), 1)[:, None, None]
    return np.asarray(np.where(is_seen[..., None], points, 0).sum(1, keepdims=True) / count)


def _whole_mm(points_m: np.ndarray) -> list[int | None]:
    points_mm = MM_PER_M * points_m.ravel()
    return [round(float(mm)) if abs(mm) < _FARTHEST_MM else None for mm in points_mm]


def _side(joint: str) -> str:
    first = joint.partition("_")[0]
    return first if first in ("left", "right") else "middle"
