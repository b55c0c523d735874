"""The charts of a lifting report: bars over time and over quality, drawn once, as HTML without a script."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from pipelines.lift_summary import Pace, TrackSummary

_MOST_PAUSES = 20
_ROOM = 0.15
"""Part of a chart's width that a few words take on a phone."""
_LEAST_HEIGHT = 1.5
"""In per cent: what there is, is seen."""


class Measure(NamedTuple):
    """A figure of a track, and the bars in which many are shown."""

    field: str
    """Of `TrackSummary`."""
    title: str
    about: str
    step: float
    """Width of a bar."""
    bars: int
    """Before the one that holds all that is larger."""
    unit: str = "%"

    def said(self, value: float) -> str:
        """`7.2 %` or `31 mm`, not to be broken into lines."""
        return f"{round(100 * value, 1):g}\u00a0%" if self.unit == "%" else f"{value:.0f}\u00a0{self.unit}"

    def of(self, tracks: Sequence[TrackSummary]) -> np.ndarray:
        """Of each track; NaN where it is not known."""
        values = [getattr(track, self.field) for track in tracks]
        return np.array([np.nan if value is None else value for value in values], dtype=float)


MEASURES = (
    Measure(
        field="image_error",
        title="Misses the image by",
        about="The 3D, laid over the 2D it came from: distance over the person's size.",
        step=0.01,
        bars=30,
    ),
    Measure(
        field="limb_variation",
        title="Limbs change length by",
        about="Bones do not: deviation over mean of the limbs' lengths in a track.",
        step=0.01,
        bars=30,
    ),
    Measure(
        field="inpainted_share",
        title="Joints filled in",
        about="The detector did not see them, or not surely; the model made them up.",
        step=0.05,
        bars=20,
    ),
    Measure(
        field="error_50_mm",
        title="Expected error",
        about="The model's own estimate: half of the joints lie within this distance of the truth.",
        step=5.0,
        bars=30,
        unit="mm",
    ),
)


def pace_chart(pace: Pace) -> str:
    """Poses in a second over the working time, with a line where there was a pause."""
    high = float(pace.rows_per_s.max()) or 1.0
    bars = [
        (rate / high, f"{large(rate)} poses a second, {lasted(begin_s)} after work began")
        for begin_s, rate in zip(pace.edges_s, pace.rows_per_s, strict=False)
    ]
    about = f"First part {_moment(pace.first_s)}, last {_moment(pace.last_s)} UTC."
    if pace.pauses:
        times = "once" if len(pace.pauses) == 1 else f"{len(pace.pauses):,} times"
        paused_s = sum(pause.lasted_s for pause in pace.pauses)
        which = "the longest are dashed" if len(pace.pauses) > _MOST_PAUSES else "dashed"
        about += f" Work stopped {times}, for {lasted(paused_s)} in all: {which}, and cut out."
    return _chart(
        "Poses a second",
        "while at work",
        bars,
        top=f"{large(high)}/s",
        below=["0", lasted(pace.working_s / 2), f"{lasted(pace.working_s)} of work"],
        about=about,
        over="".join(_pauses(pace)),
    )


def _pauses(pace: Pace) -> Iterator[str]:
    """Lines for the longest; how long each lasted where there is room to say it."""
    longest = sorted(pace.pauses, key=lambda pause: -pause.lasted_s)[:_MOST_PAUSES]
    places = [0.0, *sorted(pause.after_s / pace.working_s for pause in longest), 1.0]
    for pause in longest:
        place = pause.after_s / pace.working_s
        has_room = min(abs(place - other) for other in places if other != place) > _ROOM
        yield (
            f'<i class="pause" style="left:{100 * place:.2f}%" '
            f'title="nothing for {lasted(pause.lasted_s)}, until {_moment(pause.until_s)}">'
            f"{lasted(pause.lasted_s) if has_room else ''}</i>"
        )


def quality_charts(quality: Sequence[TrackSummary]) -> Iterator[str]:
    """The share of the poses by each figure of their tracks; none of a figure that no track has."""
    poses = np.array([max(track.frames, 1) for track in quality], dtype=float)
    for measure in MEASURES:
        values = measure.of(quality)
        is_known = np.isfinite(values)
        if is_known.any():
            yield _histogram(measure, values[is_known], poses[is_known], unknown=int((~is_known).sum()))


def _histogram(measure: Measure, values: np.ndarray, poses: np.ndarray, *, unknown: int) -> str:
    weights = poses / poses.sum()
    # A hair more, so that 0.3 in steps of 0.1 is the fourth.
    place = np.clip(values / measure.step + 1e-9, 0, measure.bars).astype(int)
    shares = np.bincount(place, weights=weights, minlength=measure.bars + 1)
    tracks = np.bincount(place, minlength=measure.bars + 1)
    edges = [measure.said(i * measure.step) for i in range(measure.bars + 1)]
    spans = [
        *(f"{low} to {high}" for low, high in pairwise(edges)),
        f"{edges[-1]} or more",
    ]
    bars = [
        (share / shares.max(), f"{span}: {100 * share:.2g} % of the poses, in {count:,} tracks")
        for span, share, count in zip(spans, shares, tracks, strict=True)
    ]
    order = np.argsort(values)
    up_to = np.cumsum(poses[order])
    half, most = (measure.said(values[order[np.searchsorted(up_to, up_to[-1] * p)]]) for p in (0.5, 0.95))
    return _chart(
        measure.title,
        f"median {half}, 19 of 20 poses up to {most}",
        bars,
        top=f"{100 * shares.max():.0f} % of the poses",
        below=["0", edges[measure.bars // 2], spans[-1]],
        about=measure.about + (f" {unknown:,} tracks could not be measured." if unknown else ""),
    )


def _chart(
    title: str,
    said: str,
    bars: Sequence[tuple[float, str]],
    *,
    top: str,
    below: Sequence[str],
    about: str,
    over: str = "",
) -> str:
    """A card with bars of heights 0 to 1, each with the words it says when pointed at."""
    drawn = "".join(_bar(i, height, words) for i, (height, words) in enumerate(bars))
    return (
        f'<section class="card"><h2>{title} <span>{said}</span></h2>\n'
        f'<div class="bars"><b>{top}</b>{over}<svg viewBox="0 0 {len(bars)} 100" preserveAspectRatio="none" '
        f'role="img" aria-label="{title}: {said}">{drawn}</svg></div>\n'
        f'<p class="ends">{"".join(f"<span>{end}</span>" for end in below)}</p>\n'
        f'<p class="muted">{about}</p></section>'
    )


def _bar(i: int, height: float, words: str) -> str:
    tall = max(100 * height, _LEAST_HEIGHT) if height > 0 else 0.0
    return (
        f'<g><title>{words}</title><rect class="reach" x="{i}" width="1" height="100"/>'
        f'<rect class="bar" x="{i + 0.05:.2f}" y="{100 - tall:.1f}" width=".9" height="{tall:.1f}"/></g>'
    )


def large(number: float) -> str:
    """A count as a person says it: 7.5, 1,204, 12.34 million."""
    for least, size, word in ((1e9, 1e9, "billion"), (1e7, 1e6, "million")):
        if number >= least:
            return f"{number / size:.4g} {word}"
    return f"{number:,.0f}" if number >= 10 or number == round(number) else f"{number:.2g}"


def lasted(seconds: float) -> str:
    """A time in its two largest units: 9 s, 4 min 5 s, 3 h 12 min, 2 d 4 h."""
    left, said = round(seconds), list[str]()
    for unit_s, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, unit_s)
        if count or said:
            said.append(f"{count:,} {unit}")
    return " ".join(said[:2]) or f"{seconds:.2g} s"


def _moment(unix_s: float) -> str:
    return str(np.datetime64(int(unix_s), "s"))[:16].replace("T", " ")
