"""`report.html` beside lifted poses, made from the folder itself."""

from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa

from pipelines import storage
from pipelines.lift_index import INDEX, bad_inputs, parts_of, qualities, receipts
from pipelines.lift_report import REPORT_FILE, LiftReport, write_report
from pipelines.lift_summary import TrackSummary, pick_samples
from pipelines.manifest import Manifest
from pipelines.poses_table import PoseTrack, read_track

MOST_BAD = 1000
"""Bad inputs handed to the page; the index names all."""


def write_page(out: str, manifest: Manifest, index: pa.Table) -> None:
    """Write the summary page of a job. How fast it went is told by the times at which parts were written."""
    report = LiftReport(
        title=out.rstrip("/").rsplit("/", 1)[-1],
        made_by=manifest.made_by,
        config=manifest.config,
        totals=manifest.totals,
        written=_written(out, manifest),
        bad=bad_inputs(index)[:MOST_BAD],
        bad_count=manifest.totals.bad,
        bad_named_in=INDEX,
        notes=Counter(note for receipt in receipts(index) for note in receipt.notes),
        quality=(quality := qualities(index)),
        samples=list(_samples(out, index, quality)),
    )
    storage.write_once(storage.join(out, REPORT_FILE), write_report(report))


def _written(out: str, manifest: Manifest) -> list[tuple[float, int]]:
    at_s = storage.list_times(out)
    return [
        (at_s[url], part.rows)
        for part in manifest.parts
        if (url := storage.join(out, part.name)) in at_s and part.rows
    ]


def _samples(out: str, index: pa.Table, quality: Sequence[TrackSummary]) -> Iterator[tuple[str, PoseTrack]]:
    for label, track in pick_samples(quality):
        parts = parts_of(index, source=track.source, person=track.person)
        # One part is enough to draw from; a long track may lie in hundreds.
        urls = [storage.join(out, name) for name in parts[:1]]
        for found in read_track(urls, source=track.source, person=track.person):
            yield label, found
