"""The verb `prepare`: motion-capture recordings become a windows table."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from mpm_model.errors import InputError, refuse
from mpm_model.pose.windows import window_starts
from pipelines import storage
from pipelines.manifest import Input, Job, Receipt
from pipelines.parts import Outcome, PartResult, Progress, run_job, unseen
from pipelines.receipts_text import describe_receipts
from pipelines.schema import TableMetadata, made_by
from pipelines.sources.held_out import is_held_out
from pipelines.sources.options import ReadOptions
from pipelines.sources.recording import Recording
from pipelines.sources.registry import READERS, find_takes
from pipelines.windows_table import Windows, window_id, windows_to_table


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """How recordings become windows."""

    window_frames: int = 81
    """Length of one window, in frames at `rate_hz`."""
    hop_frames: int = 27
    """Frames between the starts of neighbouring windows."""
    rate_hz: float = 50.0
    """Rate every recording is resampled to before cutting."""
    shortest_frames: int | None = None
    """A recording shorter than a window, but of at least so many frames, becomes one window whose last frames
    are not valid; None leaves it out."""
    validation_fraction: float = 0.05
    """Share of the training people's recordings that is set aside for validation, drawn by name."""
    max_invalid_fraction: float = 0.2
    """A window with more invalid joints than this share is dropped, as is one without its pelvis."""
    source_rate_hz: float | None = None
    """Rate of the files, where they do not say or are wrong."""
    unit_m: float | None = None
    """Metres of one unit of length in the files, where they do not say or are wrong."""
    dataset: str | None = None
    """Name of the data set, where the reader cannot tell."""

    def __post_init__(self) -> None:
        faults = []
        if self.window_frames < 1:
            faults.append(f"window_frames must be at least 1, got {self.window_frames}")
        elif not 1 <= self.hop_frames <= self.window_frames:
            faults.append(
                f"hop_frames must be in 1..{self.window_frames} (window_frames), got {self.hop_frames}"
            )
        if not 1 <= self.rate_hz <= 1000:
            faults.append(f"rate_hz must lie in 1..1000, got {self.rate_hz}")
        if self.shortest_frames is not None and not 1 <= self.shortest_frames <= self.window_frames:
            faults.append(
                f"shortest_frames must be in 1..{self.window_frames} (window_frames), "
                f"got {self.shortest_frames}"
            )
        for name in ("validation_fraction", "max_invalid_fraction"):
            if not 0 <= getattr(self, name) < 1:
                faults.append(f"{name} must be in 0..1, without 1, got {getattr(self, name)}")
        refuse("prepare", faults)
        self.read_options()

    def read_options(self) -> ReadOptions:
        """What of this is for the reader."""
        return ReadOptions(source_rate_hz=self.source_rate_hz, unit_m=self.unit_m, dataset=self.dataset)


class PrepareSummary(Outcome):
    """What `prepare` made, or had made before."""

    def lines(self) -> list[str]:
        """For the command line."""
        totals = self.manifest.totals
        done = "prepared" if self.is_new else "was prepared already, nothing to do"
        lines = [
            f"{self.out}: {done}; {totals.rows:,} windows of {totals.people} people from {totals.sources:,} "
            f"recordings, {totals.seconds:,.0f} s"
        ]
        lines += [
            f"  {split}: {sums.rows:,} windows, {sums.people} people, {sums.sources:,} recordings, "
            f"{sums.seconds:,.0f} s"
            for split, sums in totals.splits.items()
        ]
        if totals.dropped:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in totals.dropped.items())
            lines.append(f"  dropped: {reasons}")
        return lines + describe_receipts(self.manifest.sources)


def run(
    sources: Sequence[str],
    *,
    reader: str,
    out: str,
    config: PrepareConfig,
    max_bad_fraction: float,
    progress: Progress = unseen,
) -> PrepareSummary:
    """Read all recordings below the sources and write their windows to a folder or URL.

    A run that was killed goes on where it was; a finished one is left as it is. An input that cannot be read
    is set aside in the manifest.

    Raises:
        InputError: no recordings, an unknown reader, an output folder that holds something else, the same
            recording twice, or the only recording is bad. Nothing is left behind.
    """
    out = storage.absolute(out)
    job = plan(sources, reader=reader, config=config)
    work = partial(prepare_shard, reader=reader, config=config, metadata=_metadata(job))
    outcome = run_job(
        out, job, work, max_bad_fraction=max_bad_fraction, progress=progress, faults_of=_same_recordings
    )
    return PrepareSummary(**vars(outcome))


def plan(sources: Sequence[str], *, reader: str, config: PrepareConfig) -> Job:
    """What is to be made from what: every take below the sources, once, with its size and stamp."""
    if reader not in READERS:
        raise InputError(f"--reader {reader}: no such reader; there are {', '.join(READERS)}")
    takes = {take for source in sources for take in find_takes(READERS[reader], storage.absolute(source))}
    stamps = storage.describe_files(sorted(takes))
    return Job(
        kind="windows",
        config={"reader": reader, **dataclasses.asdict(config)},
        inputs=tuple(
            Input(url=take, size_bytes=stamp.size_bytes, stamp=stamp.version)
            for take, stamp in stamps.items()
        ),
        made_by=made_by("mpm prepare"),
    )


def _metadata(job: Job) -> TableMetadata:
    return TableMetadata(config=json.dumps(job.config), made_by=job.made_by)


def _same_recordings(receipts: Sequence[Receipt]) -> list[str]:
    """What is wrong with all inputs together, known only after reading: recordings that come twice."""
    first: dict[tuple[str | None, str | None], str] = {}
    faults = []
    for receipt in receipts:
        if receipt.status == "bad":
            continue
        other = first.setdefault((receipt.dataset, receipt.recording), receipt.url)
        if other != receipt.url:
            faults.append(
                f"{other} and {receipt.url} are both recording {receipt.recording} of {receipt.dataset}"
            )
    return faults[:5] and [*faults[:5], "give every recording once"]


def prepare_shard(
    inputs: Sequence[Input], *, reader: str, config: PrepareConfig, metadata: TableMetadata
) -> PartResult:
    """Windows of all inputs that can be read, and what came of each input."""
    windows, receipts = [], []
    for item in inputs:
        try:
            recording = READERS[reader].read(item.url, rate_hz=config.rate_hz, options=config.read_options())
        except storage.StorageError:
            raise  # no fault of this file
        except InputError as error:
            receipts.append(
                Receipt(url=item.url, size_bytes=item.size_bytes, status="bad", reason=str(error))
            )
            continue
        split = choose_split(recording, validation_fraction=config.validation_fraction)
        cut, dropped = cut_windows(recording, split=split, config=config)
        windows.append(cut)
        receipts.append(_receipt(item, recording, split=split, rows=len(cut), dropped=dropped))
    table = windows_to_table(windows, metadata=metadata, window_frames=config.window_frames)
    return PartResult(table=table, receipts=tuple(receipts))


def _receipt(item: Input, recording: Recording, *, split: str, rows: int, dropped: dict[str, int]) -> Receipt:
    frames = len(recording.joints_world_m)
    return Receipt(
        url=item.url,
        size_bytes=item.size_bytes,
        status="done",
        rows=rows,
        frames=frames,
        seconds=frames / recording.rate_hz,
        dropped=dropped,
        dataset=recording.dataset,
        people=(f"{recording.dataset}/{recording.subject}",),
        recording=recording.name,
        split=split,
        notes=recording.notes,
    )


def choose_split(recording: Recording, *, validation_fraction: float) -> str:
    """test for held-out people; for others train, or validation by the hash of the recording's name."""
    if is_held_out(recording.dataset, recording.subject):
        return "test"
    name = f"{recording.dataset}/{recording.name}"
    draw = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    return "validation" if draw < validation_fraction else "train"


def cut_windows(recording: Recording, *, split: str, config: PrepareConfig) -> tuple[Windows, dict[str, int]]:
    """The windows of a recording, and how many were dropped for which reason.

    too_short: the recording has fewer frames than a window (counts as one). no_pelvis: a frame lacks its
    pelvis, to which all poses are relative. not_enough_valid: more invalid joints than allowed.
    """
    frames = len(recording.joints_world_m)
    padding = config.window_frames - frames
    if padding > 0 and config.shortest_frames is not None and frames >= config.shortest_frames:
        return _padded_window(recording, split=split, config=config)
    long_enough = padding <= 0
    starts = (
        np.asarray(window_starts(frames, window_frames=config.window_frames, hop_frames=config.hop_frames))
        if long_enough
        else np.zeros(0)
    ).astype(np.int64)
    rows = starts[:, None] + np.arange(config.window_frames)  # (N, T)
    is_valid = recording.is_valid[rows]
    has_pelvis = is_valid[:, :, recording.skeleton.index("pelvis")].all(axis=1)
    has_enough = (~is_valid).mean(axis=(1, 2)) <= config.max_invalid_fraction
    dropped = {
        "too_short": int(not long_enough),
        "no_pelvis": int((~has_pelvis).sum()),
        "not_enough_valid": int((has_pelvis & ~has_enough).sum()),
    }
    is_kept = has_pelvis & has_enough
    starts = starts[is_kept]

    def repeat(text: str) -> np.ndarray:
        return np.full(len(starts), text)

    windows = Windows(
        ids=np.array(
            [
                window_id(
                    recording.dataset,
                    recording.name,
                    start_frame=int(start),
                    window_frames=config.window_frames,
                    rate_hz=recording.rate_hz,
                )
                for start in starts
            ],
            dtype=np.int64,
        ),
        joints_world_m=recording.joints_world_m[rows[is_kept]],
        is_valid=is_valid[is_kept],
        dataset=repeat(recording.dataset),
        subject=repeat(recording.subject),
        action=repeat(recording.action),
        recording=repeat(recording.name),
        split=repeat(split),
        start_frame=starts,
        rate_hz=recording.rate_hz,
        skeleton=recording.skeleton,
    )
    return windows, {reason: count for reason, count in dropped.items() if count}


def _padded_window(
    recording: Recording, *, split: str, config: PrepareConfig
) -> tuple[Windows, dict[str, int]]:
    """The one window of a short recording, judged by the frames that there are."""
    frames = len(recording.joints_world_m)
    windows, dropped = cut_windows(
        recording,
        split=split,
        config=dataclasses.replace(config, window_frames=frames, hop_frames=frames, shortest_frames=None),
    )
    room = [(0, 0), (0, config.window_frames - frames), (0, 0)]
    ids = [
        window_id(
            recording.dataset,
            recording.name,
            start_frame=0,
            window_frames=config.window_frames,
            rate_hz=recording.rate_hz,
        )
    ]
    return (
        dataclasses.replace(
            windows,
            ids=np.array(ids, dtype=np.int64)[: len(windows)],
            joints_world_m=np.pad(windows.joints_world_m, [*room, (0, 0)]),
            is_valid=np.pad(windows.is_valid, room),
        ),
        dropped,
    )
