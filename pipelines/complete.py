"""The verb `complete`: hidden joints of 3D poses are filled in."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from pydantic import JsonValue

from mpm_model.checkpoint import TENSORS_FILE
from mpm_model.completer import HIDDEN_ROOT, SHORT_GAP_S, Completer
from mpm_model.errors import InputError, refuse
from mpm_model.lifter import shipped_weights
from mpm_model.pose.normalize import root_relative
from mpm_model.pose.skeletons import H36M_17
from pipelines import storage, storage_folders
from pipelines.manifest import Input, Job, Receipt, part_urls
from pipelines.partial_poses import PartialTrack, notes_of, read_partial_poses, to_npz
from pipelines.parts import Outcome, PartResult, run_job
from pipelines.poses_table import PoseTrack, poses_to_table
from pipelines.receipts_text import describe_receipts
from pipelines.schema import TableMetadata, made_by
from pipelines.text_table import count, percent

_BRIDGED = f"  gaps of up to {SHORT_GAP_S:g} s are straight lines in time; the model fills what is longer"


@dataclass(frozen=True, kw_only=True)
class CompleteConfig:
    """How gaps are filled."""

    checkpoint: str | None = None
    """Folder or URL of a checkpoint that completes; None: the weights that ship."""
    space: str = "camera"
    """Axes of an npz file: see `partial_poses.SPACES`."""
    hidden_root: str = "refuse"
    """What becomes of frames without a pelvis: see `mpm_model.completer.HIDDEN_ROOT`."""
    keep_seen: bool = True
    """Whether joints that were given come back as they were."""

    def __post_init__(self) -> None:
        faults = []
        if self.hidden_root not in HIDDEN_ROOT:
            faults.append(f"--hidden-root must be one of {', '.join(HIDDEN_ROOT)}, got {self.hidden_root!r}")
        if self.checkpoint is None and not (shipped_weights() / TENSORS_FILE).is_file():
            faults.append("no weights ship with this version: give --checkpoint")
        refuse("complete", faults)


class CompleteSummary(Outcome):
    """The poses table that `complete` made, or had made before."""

    def lines(self) -> list[str]:
        """For the command line."""
        totals = self.manifest.totals
        done = "completed" if self.is_new else "was completed already, nothing to do"
        line = f"{self.out}: {done}; {count(totals.rows, 'pose')} of {count(totals.people, 'person')}"
        return [line, _BRIDGED, *describe_receipts(self.manifest.sources)]


def run(source: str, *, out: str, config: CompleteConfig) -> list[str]:
    """Complete the poses of a poses table or npz file; lines that say what came of it.

    `out` is a folder or URL for a poses table, or, for npz input, the name of a new npz file: a poses table
    is in camera axes and relative to the pelvis, an npz file keeps the axes and the path that came.

    Raises:
        InputError: no poses, no checkpoint that completes, a hidden pelvis, or an output that holds something
            else.
    """
    source, out = storage.absolute(source), storage.absolute(out)
    checkpoint = None if config.checkpoint is None else storage.absolute(config.checkpoint)
    load_completer(checkpoint, config.hidden_root, config.keep_seen)  # refuse it before any work
    if out.endswith(".npz"):
        return _complete_to_npz(source, out=out, checkpoint=checkpoint, config=config)
    job = plan(source, checkpoint=checkpoint, config=config)
    metadata = TableMetadata(config=json.dumps(job.config), made_by=job.made_by)
    work = partial(complete_shard, checkpoint=checkpoint, config=config, metadata=metadata)
    outcome = run_job(out, job, work, max_bad_fraction=0.0, progress=lambda _done, _total: None)
    return CompleteSummary(**vars(outcome)).lines()


def plan(source: str, *, checkpoint: str | None, config: CompleteConfig) -> Job:
    """What is to be made from what."""
    files = [source] if source.endswith((".npz", ".parquet")) else part_urls(source, "poses")
    stamps = storage.describe_files(files)
    digest = hashlib.sha256(json.dumps([[url, *stamp] for url, stamp in stamps.items()]).encode())
    settings: dict[str, JsonValue] = {
        "completed": True,
        "checkpoint": checkpoint,
        "weights": storage.file_stamp(
            storage.join(checkpoint or str(shipped_weights()), TENSORS_FILE)
        ).version,
        "space": config.space,
        "hidden_root": config.hidden_root,
        "keep_seen": config.keep_seen,
    }
    size_bytes = sum(stamp.size_bytes for stamp in stamps.values())
    return Job(
        kind="poses",
        config=settings,
        inputs=(Input(url=source, size_bytes=size_bytes, stamp=digest.hexdigest()[:16]),),
        made_by=made_by("mpm complete"),
    )


def complete_shard(
    inputs: Sequence[Input], *, checkpoint: str | None, config: CompleteConfig, metadata: TableMetadata
) -> PartResult:
    """Whole poses of everybody in the inputs, and what came of each."""
    completer = load_completer(checkpoint, config.hidden_root, config.keep_seen)
    poses: list[PoseTrack] = []
    receipts = []
    for item in inputs:
        tracks = read_partial_poses(item.url, space=config.space)
        poses += [_to_pose_track(complete_track(track, completer), track) for track in tracks]
        rows = sum(len(track.joints_m) for track in tracks)
        receipts.append(
            Receipt(
                url=item.url,
                size_bytes=item.size_bytes,
                status="done",
                rows=rows,
                frames=rows,
                seconds=sum(len(track.joints_m) / (track.rate_hz or completer.rate_hz) for track in tracks),
                people=tuple(f"{track.origin.source}/{track.origin.person}" for track in tracks),
                notes=tuple(dict.fromkeys(note for track in tracks for note in _notes(track))),
            )
        )
    return PartResult(table=poses_to_table(poses, metadata=metadata), receipts=tuple(receipts))


def _complete_to_npz(source: str, *, out: str, checkpoint: str | None, config: CompleteConfig) -> list[str]:
    if not source.endswith(".npz"):
        raise InputError(f"--out {out}: a poses table is completed into a folder; give the name of one")
    if storage.exists(out):
        raise InputError(f"--out {out}: there is such a file already; give another name")
    (track,) = read_partial_poses(source, space=config.space)
    completer = load_completer(checkpoint, config.hidden_root, config.keep_seen)
    completed_m = complete_track(track, completer)
    storage.write_once(out, to_npz(completed_m, track, space=config.space))
    hidden = percent(float(track.is_hidden.mean()))
    return [
        f"{out}: completed; {count(len(completed_m), 'pose')}, {hidden} of the joints were filled in",
        _BRIDGED,
        *(f"  assumed: {note}" for note in _notes(track)),
    ]


@lru_cache(maxsize=1)
def load_completer(checkpoint: str | None, hidden_root: str, keep_seen: bool) -> Completer:
    """The model, loaded once in a process."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with (
        nullcontext(shipped_weights())
        if checkpoint is None
        else storage_folders.fetch_folder(checkpoint) as folder
    ):
        return Completer.load(
            folder, hidden_root=hidden_root, keep_seen=keep_seen, expect_skeleton=H36M_17, device=device
        )


def complete_track(track: PartialTrack, completer: Completer) -> Float[np.ndarray, "N J 3"]:
    """Whole joints of the track's own frames, where and as they were given.

    Missing frames within enter as hidden; a gap longer than the model's window splits the track.
    """
    frames = track.origin.frames
    step = max(int(np.gcd.reduce(np.diff(frames))), 1) if len(frames) > 1 else 1
    rate_hz = None if track.rate_hz is None else track.rate_hz / step
    longest = max(1, round(completer.window_frames * (rate_hz or completer.rate_hz) / completer.rate_hz))
    breaks = np.flatnonzero(np.diff(frames) > (longest + 1) * step) + 1
    completed_m = np.zeros_like(track.joints_m)
    root = H36M_17.parents.index(None)
    for start, stop in pairwise([0, *breaks.tolist(), len(frames)]):
        at = (frames[start:stop] - frames[start]) // step
        joints_m = np.zeros((int(at[-1]) + 1, *track.joints_m.shape[1:]), np.float32)
        is_hidden = np.ones(joints_m.shape[:2], dtype=bool)
        is_hidden[:, root] = False  # only tables that are relative to it have gaps: there it is 0
        joints_m[at], is_hidden[at] = track.joints_m[start:stop], track.is_hidden[start:stop]
        try:
            completed_m[start:stop] = completer(joints_m, is_hidden, rate_hz=rate_hz)[at]
        except InputError as error:
            raise InputError(f"{track.origin.source}, person {track.origin.person}: {error}") from error
    return completed_m


def _to_pose_track(completed_m: Float[np.ndarray, "N J 3"], track: PartialTrack) -> PoseTrack:
    return replace(
        track.origin,
        joints_rel_m=root_relative(completed_m, H36M_17)[0],
        is_observed=~track.is_hidden,
    )


def _notes(track: PartialTrack) -> list[str]:
    """What was assumed, and what looks odd."""
    hidden_roots = int(track.is_hidden[:, H36M_17.parents.index(None)].sum())
    interpolated = [f"the pelvis moves straight through {hidden_roots} frames that lack it"]
    return interpolated * bool(hidden_roots) + notes_of(track)
