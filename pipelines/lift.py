"""The verb `lift`: 2D keypoints of videos become a poses table."""

import hashlib
import json
import posixpath
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial

from pydantic import JsonValue

from mpm_model.checkpoint import TENSORS_FILE
from mpm_model.errors import InputError, refuse
from mpm_model.lifter import MODES, Lifter, shipped_weights
from mpm_model.pose.skeleton import describe_difference
from mpm_model.pose.skeletons import H36M_16, H36M_17
from pipelines import storage
from pipelines.detections.registry import ReadOptions, Source, find_sources, read_source
from pipelines.detections.track import Track
from pipelines.lift_track import ASSUMED_RATE_HZ, lift_track
from pipelines.manifest import Input, Job, Receipt, describe_receipts
from pipelines.parts import Outcome, PartResult, Progress, run_job, unseen
from pipelines.poses_table import PoseTrack, poses_to_table
from pipelines.schema import TableMetadata, made_by

LIFTED_SKELETONS = (H36M_17, H36M_16)
"""Skeletons that detections can be brought to."""


@dataclass(frozen=True, kw_only=True)
class LiftConfig:
    """How keypoints become poses."""

    checkpoint: str | None = None
    """Folder or URL of a checkpoint that lifts; None: the weights that ship."""
    mode: str = "fast"
    """`fast` or `exact`: see `Lifter`."""
    min_confidence: float = 0.1
    """Keypoints less sure than this enter as hidden."""
    format: str | None = None
    """Format of the keypoints; None looks at the content."""
    rate_hz: float | None = None
    """Rate of the videos, where the format does not say."""
    width_px: int | None = None
    """Image width, where the format does not say."""
    height_px: int | None = None
    """Image height, where the format does not say."""

    def __post_init__(self) -> None:
        faults = []
        if self.checkpoint is None and not (shipped_weights() / TENSORS_FILE).is_file():
            faults.append(
                "no weights ship with this version: give --checkpoint with a folder that finetune made"
            )
        if self.mode not in MODES:
            faults.append(f"--mode must be one of {', '.join(MODES)}, got {self.mode!r}")
        if not 0 <= self.min_confidence <= 1:
            faults.append(f"min_confidence must be in 0..1, got {self.min_confidence}")
        refuse("lift", faults)
        self.read_options()

    def read_options(self) -> ReadOptions:
        """What of this is for the reader."""
        return ReadOptions(
            format=self.format, rate_hz=self.rate_hz, width_px=self.width_px, height_px=self.height_px
        )


class LiftSummary(Outcome):
    """What `lift` made, or had made before."""

    def lines(self) -> list[str]:
        """For the command line."""
        totals = self.manifest.totals
        done = "lifted" if self.is_new else "was lifted already, nothing to do"
        lines = [
            f"{self.out}: {done}; {totals.rows:,} poses of {totals.people:,} people in "
            f"{totals.sources - totals.bad:,} of {totals.sources:,} videos"
        ]
        return lines + describe_receipts(self.manifest.sources)


def run(
    inputs: Sequence[str],
    *,
    out: str,
    config: LiftConfig,
    max_bad_fraction: float,
    progress: Progress = unseen,
) -> LiftSummary:
    """Lift every person of every video below the inputs and write the poses to a folder or URL.

    Small inputs are lifted in this process; large ones by Ray Data. A run that was killed goes on where it
    was. A video that cannot be read is set aside in the manifest.

    Raises:
        InputError: no detections, no lifting checkpoint, an output folder that holds something else, or the
            only video is bad. Nothing is left behind.
    """
    out = storage.absolute(out)
    checkpoint = None if config.checkpoint is None else storage.absolute(config.checkpoint)
    lifter = load_lifter(checkpoint, config.mode, config.min_confidence)  # refuse it before any work
    job = plan(inputs, out=out, checkpoint=checkpoint, config=config)
    metadata = TableMetadata(config=json.dumps(job.config), made_by=job.made_by, skeleton=lifter.skeleton)
    work = partial(lift_shard, checkpoint=checkpoint, config=config, metadata=metadata)
    outcome = run_job(out, job, work, max_bad_fraction=max_bad_fraction, progress=progress)
    return LiftSummary(**vars(outcome))


def plan(inputs: Sequence[str], *, out: str, checkpoint: str | None, config: LiftConfig) -> Job:
    """What is to be made from what: every video below the inputs, once, and the weights that lift it."""
    options = config.read_options()
    found = {
        source.name: source
        for url in inputs
        for source in find_sources(storage.absolute(url), options)
        if not source.name.startswith(f"{out}/")  # an output inside the input is no input
    }
    settings: dict[str, JsonValue] = {
        "checkpoint": checkpoint,
        "weights": storage.file_stamp(
            storage.join(checkpoint or str(shipped_weights()), TENSORS_FILE)
        ).version,
        "mode": config.mode,
        "min_confidence": config.min_confidence,
        "format": config.format,
        "rate_hz": config.rate_hz,
        "width_px": config.width_px,
        "height_px": config.height_px,
    }
    return Job(
        kind="poses",
        config=settings,
        inputs=tuple(_describe_source(found[name]) for name in sorted(found)),
        made_by=made_by("mpm lift"),
    )


def _describe_source(source: Source) -> Input:
    stamps = storage.describe_files(source.files)
    digest = hashlib.sha256(json.dumps([[url, *stamp] for url, stamp in stamps.items()]).encode())
    return Input(
        url=source.name,
        size_bytes=sum(stamp.size_bytes for stamp in stamps.values()),
        stamp=digest.hexdigest()[:16],
    )


def lift_shard(
    inputs: Sequence[Input], *, checkpoint: str | None, config: LiftConfig, metadata: TableMetadata
) -> PartResult:
    """Poses of everybody in the videos that can be read, and what came of each video."""
    lifter = load_lifter(checkpoint, config.mode, config.min_confidence)
    options = config.read_options()
    poses: list[PoseTrack] = []
    receipts = []
    for item in inputs:
        try:
            tracks = read_source(_source_of(item.url, options), options)
            lifted = [lift_track(track, lifter) for track in tracks]
        except storage.StorageError:  # no fault of this video
            raise
        except InputError as error:
            receipts.append(
                Receipt(url=item.url, size_bytes=item.size_bytes, status="bad", reason=str(error))
            )
            continue
        poses += lifted
        receipts.append(_receipt(item, tracks))
    return PartResult(table=poses_to_table(poses, metadata=metadata), receipts=tuple(receipts))


def _source_of(name: str, options: ReadOptions) -> Source:
    """The video of a planned name: where one folder holds several, the name ends in a pattern."""
    where = posixpath.dirname(name) if name.endswith("*") else name
    return next(source for source in find_sources(where, options) if source.name == name)


def _receipt(item: Input, tracks: Sequence[Track]) -> Receipt:
    rows = sum(len(track.frames) for track in tracks)
    notes = dict.fromkeys(note for track in tracks for note in track.notes)
    if any(track.rate_hz is None for track in tracks):
        notes[f"nobody says the rate: {ASSUMED_RATE_HZ:g} Hz assumed; give --rate-hz"] = None
    return Receipt(
        url=item.url,
        size_bytes=item.size_bytes,
        status="done",
        rows=rows,
        frames=rows,
        seconds=sum(len(track.frames) / (track.rate_hz or ASSUMED_RATE_HZ) for track in tracks),
        people=tuple(f"{track.source}/{track.person}" for track in tracks),
        notes=tuple(notes),
    )


@lru_cache(maxsize=1)
def load_lifter(checkpoint: str | None, mode: str, min_confidence: float) -> Lifter:
    """The model, loaded once in a process; None: the weights that ship, wherever that process has them."""
    with nullcontext(shipped_weights()) if checkpoint is None else storage.fetch_folder(checkpoint) as folder:
        lifter = Lifter.load(folder, mode=mode, min_confidence=min_confidence, device=_device())
    if lifter.skeleton not in LIFTED_SKELETONS:
        raise InputError(
            f"{checkpoint or folder}: this checkpoint does not fit; its skeleton is {lifter.skeleton.name}, "
            f"wanted {' or '.join(skeleton.name for skeleton in LIFTED_SKELETONS)}: "
            f"{describe_difference(lifter.skeleton, H36M_17)}; give a checkpoint of such a skeleton"
        )
    return lifter


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def parse_image_size(text: str | None) -> tuple[int | None, int | None]:
    """Width and height of `1920x1080`; InputError if it is not that."""
    if text is None:
        return None, None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise InputError(f"--image-size {text}: wanted WIDTHxHEIGHT in pixels, such as 1920x1080")
    return int(parts[0]), int(parts[1])
