"""What `mpm inspect` says of our own tables: windows, and lifted poses with their quality."""

from collections.abc import Sequence

import numpy as np

from mpm_model.pose.metrics import bone_lengths
from mpm_model.pose.skeleton import Skeleton
from pipelines import storage
from pipelines.lift_inspect import describe_job, is_lifting_job
from pipelines.lift_report import REPORT_FILE
from pipelines.manifest import MANIFEST, Manifest, SplitTotals, Totals, part_urls, read_manifest, sum_receipts
from pipelines.poses_table import PoseTrack, read_poses
from pipelines.quality import MIN_FRAMES, TrackQuality, measure_quality, step_s
from pipelines.schema import read_metadata
from pipelines.storage import join, read_bytes
from pipelines.text_table import count, percent, text_table
from pipelines.windows_table import Windows, read_windows

MAX_PARTS = 4
"""Parts of a windows table whose bones are measured, spread over the table."""
MOST_ROWS = 500_000
"""Poses of a table whose tracks are measured here."""
MAX_TRACKS = 12
"""Tracks of a poses table whose limbs are printed one by one."""
_METADATA = ("schema", "skeleton", "units", "space", "made_by", "config")
MAX_BAD = 10
"""Bad inputs named one by one; the manifest names all."""
ADULT_M = {"thigh": (0.35, 0.50), "shin": (0.35, 0.52)}
"""Where an adult's bone is expected; another length hints at a wrong unit."""
_MIN_UPRIGHT = 0.8


def describe_windows(url: str) -> list[str]:
    """Schema, counts by split and data set, what was dropped and why, whether units and axes look right."""
    if url.endswith(".parquet"):
        windows = read_windows(url)
        lines = [f"{url}: windows", *_describe_metadata([url]), *_count_windows(windows)]
        return lines + _describe_bones([windows], "of all windows")
    manifest = read_manifest(url, "windows")
    parts = [join(url, part.name) for part in manifest.parts if part.rows]
    lines = [f"{url}: windows", *_describe_metadata(parts), *_describe_windows_manifest(manifest)]
    step = max(1, -(-len(parts) // MAX_PARTS))
    sampled = [read_windows(part) for part in parts[::step]]
    return lines + _describe_bones(sampled, f"of {len(sampled)} of {count(len(parts), 'part')}")


def describe_poses(url: str) -> list[str]:
    """Schema, people, frames, gaps, how much was filled in, how steady the limbs are beside the 2D input."""
    if not url.endswith(".parquet") and is_lifting_job(url):
        return _describe_lifted(url)
    lines = [f"{url}: poses", *_describe_metadata(part_urls(url, "poses"))]
    if not url.endswith(".parquet"):
        lines += _describe_totals(read_manifest(url, "poses"))
    return lines + _describe_tracks(read_poses(url, skeleton=None))


def _describe_lifted(url: str) -> list[str]:
    """A lifting job: how far it is, and the quality of its tracks, of a large one only in sum."""
    lines = [f"{url}: poses", *describe_job(url)]
    if not storage.exists(join(url, MANIFEST)):
        return lines
    manifest = read_manifest(url, "poses")
    lines[1:1] = _describe_metadata([join(url, part.name) for part in manifest.parts if part.rows][:1])
    lines += _describe_totals(manifest)
    if manifest.totals.rows <= MOST_ROWS:
        return lines + _describe_tracks(read_poses(url, skeleton=None))
    return [*lines, f"quality of all tracks: see {REPORT_FILE} there"]


def _describe_tracks(tracks: Sequence[PoseTrack]) -> list[str]:
    frames = sum(len(track.frames) for track in tracks)
    sources = len({track.source for track in tracks})
    lines = [f"{count(len(tracks), 'track')} in {count(sources, 'source')}, {count(frames, 'frame')}"]
    qualities = [measure_quality(track) for track in tracks]
    for track, quality in list(zip(tracks, qualities, strict=True))[:MAX_TRACKS]:
        lines += ["", *describe_track(track, quality)]
    if len(tracks) > MAX_TRACKS:
        lines += ["", f"... and {count(len(tracks) - MAX_TRACKS, 'track')} more"]
    return [*lines, "", *summarise(qualities)]


def describe_track(track: PoseTrack, quality: TrackQuality) -> list[str]:
    """One track: its frames, and a table of its limbs beside the 2D input."""
    steps = np.diff(track.frames)
    usual = np.median(steps) if len(steps) else 1
    gaps = steps[steps > usual]
    missing = int((gaps / usual - 1).sum())
    seconds = track.time_s[-1] - track.time_s[0] + step_s(track)
    lines = [
        f"{track.source}, person {track.person}: {count(len(track.frames), 'frame')} ({seconds:.2f} s), "
        f"{count(len(gaps), 'gap')} ({count(missing, 'frame')}), "
        f"{percent(1 - float(track.is_observed.mean()))} of the joints filled in"
    ]
    if not quality.limbs:
        return [*lines, f"  no limb was seen in {MIN_FRAMES} frames or more: nothing to measure"]
    rows = [
        [
            name,
            f"{limb.frames}",
            f"{limb.length_m:.3f}",
            percent(limb.variation_3d),
            percent(limb.variation_2d),
            "-" if limb.ratio != limb.ratio else f"{limb.ratio:.2f}",
            percent(limb.robust_variation_3d),
            percent(limb.robust_variation_2d),
        ]
        for name, limb in quality.limbs.items()
    ]
    lines += text_table(["limb", "frames", "length m", "varies 3D", "2D", "3D/2D", "robust 3D", "2D"], rows)
    differences = ", ".join(f"{name} {percent(share)}" for name, share in quality.asymmetry.items())
    jitters = (quality.jitter_3d_mm, quality.jitter_3d_across_mm, quality.jitter_2d_mm)
    lines += [
        f"  left longer than right: {differences or 'not measured'}",
        f"  laid over the image, the 3D misses the keypoints by {percent(quality.image_error)} of the "
        "person's size",
        "  jitter, mm per frame²: 3D {}, of it across the image {}; 2D input {}".format(
            *("-" if np.isnan(jitter_mm) else f"{jitter_mm:.1f}" for jitter_mm in jitters)
        ),
    ]
    return [*lines, f"  {judge(quality)}"]


def judge(quality: TrackQuality) -> str:
    """Whether limb lengths vary less in 3D than those of the 2D input would suggest, in one sentence."""
    of_3d, of_2d = quality.median_variation(3), quality.median_variation(2)
    return (
        f"limb lengths {'vary less' if of_3d < of_2d else 'do not vary less'} in 3D than in the 2D input: "
        f"median {percent(of_3d)} against {percent(of_2d)}, "
        f"less in {quality.steadier_limbs} of {count(len(quality.limbs), 'limb')}"
    )


def summarise(qualities: Sequence[TrackQuality]) -> list[str]:
    """All tracks that could be measured, in one sentence."""
    figures = [(q.median_variation(3), q.median_variation(2), q.image_error) for q in qualities if q.limbs]
    if not figures:
        return ["quality: no track is long enough to measure"]
    less = sum(of_3d < of_2d for of_3d, of_2d, _ in figures)
    of_3d, of_2d, error = np.median(figures, axis=0)
    return [
        f"quality: limb lengths vary less in 3D than in the 2D input in {less} of "
        f"{count(len(figures), 'track')} measured; median {percent(of_3d)} against {percent(of_2d)}; "
        f"the 3D misses the keypoints by {percent(error)} of the person's size",
        "(a pose that never moved would be steady, too, and miss them by far)",
        "varies: standard deviation over mean; robust: 1.4826 x median absolute deviation over median; "
        "2D: length in the image over the person's size, which is smoothed over a second",
    ]


def describe_bones(joints_m: np.ndarray, is_valid: np.ndarray, skeleton: Skeleton) -> list[str]:
    """Median thigh and shin in metres, and the share of frames with the head over the feet, as table cells.

    World space, z up; joints (*batch, J, 3). What an adult would not have is marked with `?`.
    """
    children = [child for child, _ in skeleton.bones]
    lengths_m = bone_lengths(joints_m, skeleton)
    cells = []
    for limb, end in (("thigh", "knee"), ("shin", "ankle")):
        bones = [children.index(f"{side}_{end}") for side in ("left", "right")]
        both_valid = is_valid[..., skeleton.bone_indices[bones]].all(-1)
        values_m = lengths_m[..., bones][both_valid]
        length_m = float(np.median(values_m)) if values_m.size else float("nan")
        low_m, high_m = ADULT_M[limb]
        cells.append(f"{length_m:.3f}" + ("" if low_m <= length_m <= high_m else " ?"))
    head, feet = skeleton.index("head_top"), skeleton.select("left_ankle", "right_ankle")
    known = is_valid[..., [head, *feet]].all(-1)
    is_up = joints_m[..., head, 2] > joints_m[..., feet, 2].mean(-1)
    upright = float(is_up[known].mean()) if known.any() else float("nan")
    return [*cells, percent(upright, digits=0) + ("" if upright >= _MIN_UPRIGHT else " ?")]


def _describe_bones(sampled: Sequence[Windows], which: str) -> list[str]:
    datasets = sorted({str(name) for windows in sampled for name in windows.dataset})
    rows = []
    for dataset in datasets:
        chosen = [(windows, windows.dataset == dataset) for windows in sampled]
        joints_m = np.concatenate([windows.joints_world_m[is_of] for windows, is_of in chosen])
        is_valid = np.concatenate([windows.is_valid[is_of] for windows, is_of in chosen])
        bones = describe_bones(joints_m, is_valid, sampled[0].skeleton)
        rows.append([dataset, f"{len(joints_m):,}", *bones, percent(float(is_valid.mean()))])
    if not rows:
        return []
    header = ["data set", "windows", "thigh m", "shin m", "head over feet", "joints valid"]
    frames, rate_hz = sampled[0].joints_world_m.shape[1], sampled[0].rate_hz
    what = f"windows of {frames} frames at {rate_hz:g} Hz; median bones ({which}; "
    return [
        "",
        f"{what}? marks what an adult in a world with z up would not have):",
        *text_table(header, rows),
    ]


def _describe_metadata(parts: Sequence[str]) -> list[str]:
    if not parts:
        return ["no rows: the table is finished and empty"]
    metadata = read_metadata(read_bytes(parts[0]), url=parts[0])
    return [f"  {name.replace('_', ' ')}: {metadata.get(f'mpm.{name}', '-')}" for name in _METADATA]


def _describe_windows_manifest(manifest: Manifest) -> list[str]:
    datasets = sorted({receipt.dataset for receipt in manifest.sources if receipt.dataset is not None})
    totals: list[tuple[str, Totals | SplitTotals]] = [
        *manifest.totals.splits.items(),
        *((name, sum_receipts([r for r in manifest.sources if r.dataset == name])) for name in datasets),
        ("all", manifest.totals),
    ]
    rows = [
        [name, f"{total.sources:,}", f"{total.rows:,}", f"{total.people}", f"{total.seconds:,.0f}"]
        for name, total in totals
    ]
    table = text_table(["split or data set", "recordings", "windows", "people", "seconds"], rows)
    return [*_describe_totals(manifest), *table]


def _describe_totals(manifest: Manifest) -> list[str]:
    dropped = ", ".join(
        f"{reason} {number:,}" for reason, number in manifest.totals.dropped.items() if number
    )
    bad = [f"  bad: {_reason(receipt.url, receipt.reason)}" for receipt in manifest.bad[:MAX_BAD]]
    if len(manifest.bad) > MAX_BAD:
        bad.append(f"  bad: and {len(manifest.bad) - MAX_BAD} more, see the manifest")
    return [
        f"{count(manifest.totals.sources, 'input')}, {manifest.totals.bad} bad; "
        f"{count(len(manifest.parts), 'part')}; dropped: {dropped or 'nothing'}",
        *bad,
    ]


def _reason(url: str, reason: str | None) -> str:
    reason = reason or "no reason given"
    return reason if url in reason else f"{url}: {reason}"


def _count_windows(windows: Windows) -> list[str]:
    names = np.char.add(np.char.add(windows.dataset, "/"), windows.subject)
    rows = [
        [split, dataset, f"{(here := (windows.split == split) & (windows.dataset == dataset)).sum():,}",
         f"{len(np.unique(names[here]))}"]
        for split in np.unique(windows.split)
        for dataset in np.unique(windows.dataset[windows.split == split])
    ]  # fmt: skip
    return [count(len(windows), "window"), *text_table(["split", "data set", "windows", "people"], rows)]
