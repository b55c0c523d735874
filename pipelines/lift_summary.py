"""A lifting job over an archive in figures: how good its tracks are, how fast it went, what was odd."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pipelines.poses_table import PoseTrack
from pipelines.quality import measure_quality

MOST_FRAMES = 500
"""Frames of a track that are measured: of a longer one, so many evenly spread over it."""
MOST_STEPS = 120
"""Stretches of time in which a job's pace is told."""
NAMED = 3
"""Videos that are named for each reason."""

_LONG_BESIDE_USUAL = 10
_PAUSE_S = (600.0, 21_600.0)
_PER_FRAME = ("frames", "time_s", "joints_rel_m", "is_observed", "keypoints_px", "confidence")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_PLACE = re.compile(r"(?<![\w/])(?:\w+:/)?/[^\s;,]+?(?=:?(?:[\s;,]|$))")
"""A path or URL, without the colon of the sentence."""
_DOTS = re.compile("…[…/]*")
_WORDS = {0.0: "best", 0.5: "median", 1.0: "worst"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackSummary:
    """One track in figures, measured without any truth; what cannot be measured is NaN."""

    source: str
    """URL of the video's detections."""
    person: str
    """Person within the source."""
    frames: int
    """Frames of the track."""
    image_error: float
    """How far the 3D, laid over the image, misses the seen keypoints, over the person's size."""
    limb_variation: float
    """Median over the limbs of their 3D length's standard deviation over its mean."""
    inpainted_share: float
    """Joints that the detector did not see, of all joints and frames."""
    error_50_mm: float | None = None
    """Mean distance within which joints other than the pelvis are expected half of the time; None if the
    model was never calibrated."""

    @property
    def doubt(self) -> float:
        """By what tracks are ranked: image error, limb variation and inpainted share together.

        Each alone is blind: a frozen pose has steady limbs, a flat one meets the image, and what was filled
        in may be as steady as it is wrong.
        """
        return self.image_error + self.limb_variation + self.inpainted_share


def summarise_track(track: PoseTrack) -> TrackSummary:
    """Figures of a track, from at most `MOST_FRAMES` of its frames; the same frames every time."""
    rows = np.unique(np.linspace(0, len(track.frames) - 1, MOST_FRAMES).round().astype(int))
    rows = rows[: len(track.frames)]
    thinned = replace(track, **{name: getattr(track, name)[rows] for name in _PER_FRAME})
    quality = measure_quality(thinned)
    errors_mm = np.zeros(0) if track.error_50_mm is None else track.error_50_mm[rows]
    if errors_mm.size:  # the pelvis is the origin, and never wrong
        errors_mm = np.delete(errors_mm, track.skeleton.index("pelvis"), axis=1)
    known_mm = errors_mm[np.isfinite(errors_mm)]
    return TrackSummary(
        source=track.source,
        person=track.person,
        frames=len(track.frames),
        image_error=quality.image_error,
        limb_variation=quality.median_variation(3),
        inpainted_share=float(1 - thinned.is_observed.mean()) if len(rows) else float("nan"),
        error_50_mm=float(known_mm.mean()) if len(known_mm) else None,
    )


def rank(quality: Sequence[TrackSummary]) -> list[TrackSummary]:
    """Tracks that could be measured, the best first; of equals the longer."""
    measured = [each for each in quality if np.isfinite(each.doubt)]
    return sorted(measured, key=lambda each: (each.doubt, -each.frames, each.source, each.person))


def pick_samples(quality: Sequence[TrackSummary], count: int = 3) -> list[tuple[str, TrackSummary]]:
    """Tracks to draw and what each is: evenly spread from the best pose to the worst, which is always there.

    The median is the track that holds the median pose, so that many short tracks do not outweigh a long one.
    No track is picked twice. Of tracks that all are too short to be measured, the longest one.
    """
    ranked = rank(quality)
    if not ranked:
        longest = max(quality, key=lambda each: each.frames, default=None)
        return [] if longest is None else [("too short to measure", longest)]
    poses_up_to = np.cumsum([each.frames for each in ranked], dtype=float)
    places = np.linspace(0, 1, count) if count > 1 else [1.0]
    picked: dict[int, str] = {}
    for place in sorted(places, key=lambda place: -abs(place - 0.5)):  # the ends before what lies between
        track = {0.0: 0, 1.0: len(ranked) - 1}.get(place)
        if track is None:
            track = int(np.searchsorted(poses_up_to, place * poses_up_to[-1]))
        picked.setdefault(track, _WORDS.get(place, f"worse than {place:.0%} of the poses"))
    if len(ranked) == 1:
        return [("the only one", ranked[0])]
    return [(picked[track], ranked[track]) for track in sorted(picked)]


class Pause(NamedTuple):
    """A time in which nobody worked."""

    after_s: float
    """Working time before it."""
    lasted_s: float
    until_s: float
    """Unix time of the first part after it."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast a job went while it worked: pauses are cut out of its time."""

    edges_s: Float[np.ndarray, "K+1"]
    """Working time at which each stretch begins, and the end."""
    rows_per_s: Float[np.ndarray, "K"]
    """Over each stretch."""
    pauses: tuple[Pause, ...]
    first_s: float
    """Unix time of the first part."""
    last_s: float
    """And of the last."""

    @property
    def working_s(self) -> float:
        """Time without pauses."""
        return float(self.edges_s[-1])


def pace_of(written: Iterable[tuple[float, int]]) -> Pace | None:
    """The pace of a job that wrote parts of so many rows at these Unix times; None if they do not tell it.

    The rows of a part are taken to have been made since the part before. Nothing written for ten times as
    long as is usual (the median), at least 10 minutes, at most 6 hours, is a pause. What the first part of
    all and the first after each pause took, nobody knows: it counts as the mean of the others.
    """
    parts = sorted((at_s, rows) for at_s, rows in written if np.isfinite(at_s))
    if len(parts) < 2:
        return None
    at_s, rows = np.array(parts, dtype=float).T
    steps_s = np.diff(at_s)
    is_pause = steps_s > np.clip(_LONG_BESIDE_USUAL * np.median(steps_s), *_PAUSE_S)
    if not steps_s[~is_pause].any():
        return None
    usual_s = steps_s[~is_pause].mean()
    worked_s = np.cumsum([usual_s, *np.where(is_pause, usual_s, steps_s)])
    is_last = np.append(np.diff(worked_s) > 0, True)  # of parts written at once
    known_s, known_rows = np.append(0, worked_s[is_last]), np.append(0, np.cumsum(rows)[is_last])
    edges_s = np.linspace(0, worked_s[-1], min(MOST_STEPS, is_last.sum()) + 1)
    return Pace(
        edges_s=edges_s,
        rows_per_s=np.diff(np.interp(edges_s, known_s, known_rows)) / np.diff(edges_s),
        pauses=tuple(
            Pause(float(worked_s[i]), float(steps_s[i]), float(at_s[i + 1])) for i in np.flatnonzero(is_pause)
        ),
        first_s=float(at_s[0]),
        last_s=float(at_s[-1]),
    )


class Group(NamedTuple):
    """What was said alike of several videos."""

    words: str
    """As it was said, or with dots for what differs."""
    times: int
    named: tuple[str, ...]
    """The first of the videos."""


def group_bad(bad: Iterable[tuple[str, str]]) -> list[Group]:
    """Reasons that differ only in places and numbers together, the most frequent first."""
    return _group((reason.replace(url, "…"), 1, url) for url, reason in bad)


def group_notes(notes: Mapping[str, int]) -> list[Group]:
    """The same of what readers assumed, for so many videos each."""
    return _group((note, count, None) for note, count in notes.items())


def _group(said: Iterable[tuple[str, int, str | None]]) -> list[Group]:
    counts: Counter[str] = Counter()
    words_of: dict[str, str] = {}
    named: dict[str, list[str]] = {}
    for words, count, name in said:
        words = words.removeprefix("…: ")
        general = _DOTS.sub("…", _NUMBER.sub("…", _PLACE.sub("…", words))).removeprefix("…: ")
        counts[general] += count
        if words_of.setdefault(general, words) != words:
            words_of[general] = general
        names = named.setdefault(general, [])
        if name is not None and len(names) < NAMED:
            names.append(name)
    groups = [Group(words_of[general], count, tuple(named[general])) for general, count in counts.items()]
    return sorted(groups, key=lambda group: (-group.times, group.words))
