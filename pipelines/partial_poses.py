"""3D poses with gaps: what `complete` reads, from a poses table of ours or an npz file, as one kind of track.

npz: `joints_m` (N, J, 3) in metres and `rate_hz` are needed, frames following each other without gaps;
`is_valid` (N, J), `skeleton` (a name, h36m_17 if missing) and `person` may be there. A joint that is NaN or
not valid is hidden.
"""

import io
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from mpm_model.errors import InputError, refuse
from mpm_model.pose.skeletons import H36M_17
from pipelines import storage
from pipelines.poses_table import PoseTrack, read_poses

SPACES = ("camera", "world")
"""Axes of an npz file: a camera's (x right, y down, z forward), or a world's (z up)."""
WORLD_TO_CAMERA = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]], dtype=np.float32)
"""Turns z up into y down, as a level camera that looks along the world's y sees it."""
_NOT_NPZ = (
    ValueError, OSError, EOFError, KeyError, SyntaxError, RuntimeError,
    zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError,
)  # fmt: skip
"""What numpy lets through of a file that is cut, damaged or none."""
_SIZES_M = (0.05, 5.0)
"""Between these lies the median distance of a person's joints from the pelvis, whoever it is."""
_LEAST_UPRIGHT = 0.3
"""Mean share of the way from pelvis to head that leads up; people who film or capture people know more."""


@dataclass(frozen=True, kw_only=True)
class PartialTrack:
    """One person's joints, some of them hidden."""

    joints_m: Float[np.ndarray, "N J 3"]
    """Camera axes, metres; the origin is anywhere. Hidden joints hold 0."""
    is_hidden: Bool[np.ndarray, "N J"]
    """Joints to be filled in."""
    rate_hz: float | None
    """Rate at which frame numbers count; None of a single frame."""
    origin: PoseTrack
    """Who it is, when, and the 2D beside it if there was any; its joints are what came."""


def read_partial_poses(url: str, *, space: str) -> list[PartialTrack]:
    """The tracks of a poses table (a folder or a Parquet file) or of an npz file.

    InputError if it is neither, holds no pose, or its numbers cannot be poses in metres.
    """
    if space not in SPACES:
        raise InputError(f"--space must be one of {', '.join(SPACES)}, got {space!r}")
    if url.endswith(".npz"):
        return [_from_npz(url, storage.read_bytes(url), space=space)]
    if space != "camera":
        raise InputError(f"{url}: a poses table is always in camera axes; leave out --space {space}")
    tracks = [_from_pose_track(track) for track in read_poses(url)]
    if not tracks:
        raise InputError(f"{url}: wanted poses to complete, got a finished table without any")
    return tracks


def notes_of(track: PartialTrack) -> list[str]:
    """What looks odd about a track."""
    pelvis, head = H36M_17.select("pelvis", "head_top")
    is_seen = ~track.is_hidden[:, [pelvis, head]].any(1)
    if not is_seen.any():
        return []
    trunk_m = track.joints_m[is_seen, head] - track.joints_m[is_seen, pelvis]
    upright = -trunk_m[:, 1] / np.maximum(np.linalg.norm(trunk_m, axis=-1), 1e-6)
    if upright.mean() >= _LEAST_UPRIGHT:
        return []
    return ["the person lies or bends: the head is mostly not above the pelvis; if not, give another --space"]


def to_npz(joints_m: Float[np.ndarray, "N J 3"], track: PartialTrack, *, space: str) -> bytes:
    """An npz file of one completed track, as the input's: same axes, same place, and `is_given` (N, J)."""
    if space == "world":
        joints_m = joints_m @ WORLD_TO_CAMERA
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        joints_m=joints_m,
        is_given=~track.is_hidden,
        rate_hz=np.array(track.rate_hz),
        skeleton=np.array(H36M_17.name),
        person=np.array(track.origin.person),
    )
    return buffer.getvalue()


def _from_pose_track(track: PoseTrack) -> PartialTrack:
    is_bad = ~np.isfinite(track.joints_rel_m).all(-1)
    is_hidden = is_bad | ~track.is_observed
    root = H36M_17.parents.index(None)
    is_hidden[:, root] = is_bad[:, root]  # the table is relative to it, whether a detector saw it or not
    seconds = track.time_s[-1] - track.time_s[0]
    return PartialTrack(
        joints_m=np.where(is_hidden[..., None], 0, track.joints_rel_m).astype(np.float32),
        is_hidden=is_hidden,
        rate_hz=float((track.frames[-1] - track.frames[0]) / seconds) if seconds > 0 else None,
        origin=track,
    )


def _from_npz(url: str, content: bytes, *, space: str) -> PartialTrack:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except _NOT_NPZ as error:
        raise InputError(
            f"{url}: wanted an npz file of plain arrays, got one that cannot be read ({error})"
        ) from error
    joints_m, is_valid = _checked(url, arrays)
    is_hidden = ~np.isfinite(joints_m).all(-1) | ~is_valid
    joints_m = np.where(is_hidden[..., None], 0, joints_m).astype(np.float32)
    _check_size(url, joints_m, is_hidden)
    if space == "world":
        joints_m = joints_m @ WORLD_TO_CAMERA.T
    frames, rate_hz = np.arange(len(joints_m)), float(arrays["rate_hz"])
    origin = PoseTrack(
        source=url,
        person=str(arrays.get("person", "0")),
        frames=frames,
        time_s=frames / rate_hz,
        joints_rel_m=joints_m,
        is_observed=~is_hidden,
        keypoints_px=np.zeros((*is_hidden.shape, 2), np.float32),
        confidence=np.zeros(is_hidden.shape, np.float32),
        width_px=None,
        height_px=None,
    )
    return PartialTrack(joints_m=joints_m, is_hidden=is_hidden, rate_hz=rate_hz, origin=origin)


def _checked(url: str, arrays: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Joints and validity; InputError names everything that is wrong with the arrays of a file."""
    missing = [name for name in ("joints_m", "rate_hz") if name not in arrays]
    if missing:
        raise InputError(
            f"{url}: wanted arrays joints_m (N, {len(H36M_17)}, 3) and rate_hz, "
            f"it lacks {', '.join(missing)}; it has {', '.join(arrays) or 'none'}"
        )
    joints_m, rate_hz = arrays["joints_m"], arrays["rate_hz"]
    is_valid = arrays.get("is_valid", np.ones(joints_m.shape[:2], dtype=bool))
    skeleton = str(arrays.get("skeleton", H36M_17.name))
    faults = []
    if skeleton != H36M_17.name:
        faults.append(f"skeleton must be {H36M_17.name}, got {skeleton!r}")
    elif joints_m.ndim != 3 or joints_m.shape[1:] != (len(H36M_17), 3) or not len(joints_m):
        faults.append(f"joints_m must be (N, {len(H36M_17)}, 3) with N >= 1, got {joints_m.shape}")
    elif is_valid.shape != joints_m.shape[:2]:
        faults.append(f"is_valid must be {joints_m.shape[:2]}, got {is_valid.shape}")
    faults += [
        f"{name} must hold {what}, got {array.dtype}"
        for name, array, kinds, what in (
            ("joints_m", joints_m, "iuf", "numbers"),
            ("is_valid", is_valid, "biu", "True and False"),
        )
        if array.dtype.kind not in kinds
    ]
    if rate_hz.size != 1 or rate_hz.dtype.kind not in "iuf" or not 0 < rate_hz.item() < np.inf:
        faults.append(f"rate_hz must be one positive number, got {rate_hz}")
    refuse(url, faults)
    return joints_m, is_valid.astype(bool)


def _check_size(url: str, joints_m: np.ndarray, is_hidden: np.ndarray) -> None:
    root = H36M_17.parents.index(None)
    is_seen = ~is_hidden & ~is_hidden[:, [root]]
    is_seen[:, root] = False
    if not is_seen.any():
        return  # the completer says what is missing
    size_m = float(np.median(np.linalg.norm(joints_m - joints_m[:, [root]], axis=-1)[is_seen]))
    if not _SIZES_M[0] <= size_m <= _SIZES_M[1]:
        raise InputError(
            f"{url}: wanted joints of a person in metres, got a median distance of {size_m:.3g} from the "
            "pelvis; convert the unit"
        )
