"""Human3.6M in the public layout of VideoPose3D, and its cameras.

`data_3d_h36m.npz` holds `positions_3d`: subject -> action -> (T, 32, 3), world metres. `data_2d_h36m_*.npz`
holds `positions_2d`: subject -> action -> four arrays (T, 17, 2) in pixels, one for each camera, and
`metadata`.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float

from mpm_model.errors import InputError, listing, refuse
from mpm_model.pose.metrics import MM_PER_M
from mpm_model.pose.skeletons import H36M_17
from pipelines import storage
from pipelines.protocols.clips import Clip
from pipelines.protocols.pickled_npz import read_pickled

TEST_SUBJECTS = ("S9", "S11")
RATE_HZ = 50.0
KEYPOINTS_FILE = "data_2d_h36m_"
"""How names of 2D files begin; their source follows."""
RAW_JOINTS = 32
KEPT_JOINTS = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
"""Of the 32 joints of the recordings those that have a meaning of their own, in the order of `H36M_17`: the
files have no names."""


def read_clips(urls: Sequence[str], *, keypoints_source: str | None = None) -> tuple[list[Clip], str, str]:
    """Clips of the test subjects, one for each action and camera; where the 2D is from; the data's SHA-256.

    InputError, with all faults, if the files are not one of 3D and one of 2D in the public layout.
    """
    joints, keypoints, keypoints_url = _read_both(urls)
    source = source_of(keypoints_url, keypoints_source)
    faults = [
        f"{kind} lacks {', '.join(absent)}"
        for kind, data in (("the 3D", joints), ("the 2D", keypoints))
        if (absent := [subject for subject in TEST_SUBJECTS if subject not in data])
    ]
    refuse(", ".join(urls), faults)
    clips: list[Clip] = []
    digest = hashlib.sha256()
    for subject in TEST_SUBJECTS:
        if lacking := sorted(set(joints[subject]) - set(keypoints[subject])):
            faults.append(f"the 2D of {subject} lacks {listing(lacking)}")
        for action in sorted(set(joints[subject]) & set(keypoints[subject])):
            joints_m, views, wrong = _checked(joints[subject][action], keypoints[subject][action])
            faults += [f"{subject} {action}: {fault}" for fault in wrong]
            if wrong:
                continue
            digest.update(f"{subject}/{action}".encode())
            digest.update(joints_m.tobytes())
            for keypoints_px in views:
                digest.update(keypoints_px.tobytes())
            clips += _clips(subject, action, joints_m, views)
    refuse(", ".join(urls), faults[:5])
    if not clips:
        raise InputError(f"{', '.join(urls)}: no action of {', '.join(TEST_SUBJECTS)}")
    return clips, source, digest.hexdigest()


def _read_both(urls: Sequence[str]) -> tuple[Mapping[str, Any], Mapping[str, Any], str]:
    """Actions by subject, of the 3D and of the 2D file, and which file is the 2D's."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for url in urls:
        members = read_pickled(storage.read_bytes(url), url=url)
        kind = "positions_3d" if "positions_3d" in members else "positions_2d"
        if kind not in members:
            raise InputError(f"{url}: wanted positions_3d or positions_2d, got {listing(members)}")
        if kind in found:
            raise InputError(f"{url} and {found[kind][0]} both hold {kind}; give one 3D and one 2D file")
        found[kind] = url, members
    if absent := [kind for kind in ("positions_3d", "positions_2d") if kind not in found]:
        raise InputError(
            f"{', '.join(urls)}: no {' and no '.join(absent)} there; give data_3d_h36m.npz and one "
            "data_2d_h36m_*.npz, each with --data"
        )
    for kind, (url, members) in found.items():
        data = members[kind]
        if not isinstance(data, Mapping) or not all(isinstance(each, Mapping) for each in data.values()):
            raise InputError(f"{url}: {kind} must be a dictionary of subjects with dictionaries of actions")
    url, members = found["positions_2d"]
    refuse(url, _metadata_faults(members.get("metadata")))
    return found["positions_3d"][1]["positions_3d"], members["positions_2d"], url


def source_of(url: str, said: str | None = None) -> str:
    """Where 2D is from, by the name of its file or, where that says nothing, by what the user said.

    `2D gt`, `2D cpn (cpn_ft_h36m_dbb)`, `2D` and any other source. InputError if nobody says, or if the two
    contradict each other.
    """
    name = PurePosixPath(url).name.removesuffix(".npz")
    named = name.removeprefix(KEYPOINTS_FILE) if name.startswith(KEYPOINTS_FILE) else None
    if named is None and not said:
        raise InputError(
            f"{url}: its name is not {KEYPOINTS_FILE}SOURCE.npz, so say where the 2D is from, with "
            "--keypoints-source gt for instance"
        )
    if named is not None and said is not None and not named.startswith(said):
        raise InputError(f"{url}: by its name the 2D is {named}, by --keypoints-source {said}; which is it?")
    source = said if named is None else named
    return f"2D cpn ({source})" if str(source).startswith("cpn_") else f"2D {source}"


def _metadata_faults(metadata: Any) -> list[str]:
    """What of a 2D file's description is not that of Human3.6M's 17 joints."""
    if not isinstance(metadata, Mapping):
        return ["metadata must be a dictionary"]
    sides = [
        [place for place, joint in enumerate(H36M_17.joints) if joint.startswith(side)]
        for side in ("left_", "right_")
    ]
    wanted = {"num_joints": len(H36M_17), "layout_name": "h36m"}
    faults = [
        f"metadata {name} must be {value!r}, got {metadata.get(name)!r}"
        for name, value in wanted.items()
        if metadata.get(name) != value
    ]
    symmetry = metadata.get("keypoints_symmetry")
    try:
        is_ours = symmetry is not None and [sorted(map(int, side)) for side in symmetry] == sides
    except (TypeError, ValueError):
        is_ours = False
    if not is_ours:
        faults.append(f"metadata keypoints_symmetry must be {sides}, left first, got {symmetry!r}")
    return faults


def _checked(
    joints: Any, views: Any
) -> tuple[Float[np.ndarray, "T 17 3"], list[Float[np.ndarray, "T 17 2"]], list[str]]:
    """World joints, the 2D of each camera cut to their length, and what is wrong with them."""
    joints = np.asarray(joints)
    if joints.ndim != 3 or joints.shape[1:] != (RAW_JOINTS, 3) or joints.dtype.kind != "f" or not len(joints):
        return joints, [], [f"3D must be (T, {RAW_JOINTS}, 3) numbers, got {joints.shape} {joints.dtype}"]
    cameras = len(calibration()["cameras"])
    if not isinstance(views, list | tuple | np.ndarray) or len(views) != cameras:
        return joints, [], [f"2D must be {cameras} arrays, one for each camera"]
    joints_m = np.ascontiguousarray(joints[:, KEPT_JOINTS], dtype=np.float32)
    faults = [] if np.isfinite(joints_m).all() else ["3D holds NaN or infinity"]
    cut = []
    for number, view in enumerate(map(np.asarray, views)):
        if view.ndim != 3 or view.shape[1:] != (len(H36M_17), 2) or view.dtype.kind != "f":
            faults.append(f"2D of camera {number} must be (T, {len(H36M_17)}, 2) numbers, got {view.shape}")
        elif len(view) < len(joints_m):
            faults.append(
                f"2D of camera {number} has {len(view)} frames, fewer than the 3D's {len(joints_m)}"
            )
        else:
            cut.append(np.ascontiguousarray(view[: len(joints_m)], dtype=np.float32))
            if not np.isfinite(cut[-1]).all():
                faults.append(f"2D of camera {number} holds NaN or infinity")
    return joints_m, cut, faults


def _clips(
    subject: str,
    action: str,
    joints_world_m: Float[np.ndarray, "T 17 3"],
    views: Sequence[Float[np.ndarray, "T 17 2"]],
) -> Iterator[Clip]:
    frames = len(joints_world_m)
    for camera, keypoints_px in zip(calibration()["cameras"], views, strict=True):
        yield Clip(
            name=f"{subject}/{action}/{camera['id']}",
            group=action.partition(" ")[0],
            joints_cam_m=to_camera(joints_world_m, camera["placed"][subject]),
            is_valid=np.ones(frames, dtype=bool),
            keypoints_px=keypoints_px,
            confidence=np.ones((frames, len(H36M_17)), dtype=np.float32),
            rate_hz=RATE_HZ,
            width_px=camera["width_px"],
            height_px=camera["height_px"],
            skeleton=H36M_17,
        )


def to_camera(
    joints_world_m: Float[np.ndarray, "T J 3"], placed: Mapping[str, Sequence[float]]
) -> Float[np.ndarray, "T J 3"]:
    """World joints in a camera's axes; `placed` is a camera's entry in `h36m_cameras.json`."""
    w, *axis = placed["orientation_wxyz"]
    cross = np.cross(np.eye(3), axis)  # cross @ v is axis x v
    square = w * w + float(np.dot(axis, axis))
    to_world_axes = np.eye(3) + 2 * (w * cross + cross @ cross) / square
    position_m = np.asarray(placed["position_world_mm"]) / MM_PER_M
    return np.asarray(((joints_world_m - position_m) @ to_world_axes).astype(np.float32))


@cache
def calibration() -> Any:
    """What `h36m_cameras.json` holds."""
    return json.loads((resources.files("pipelines.protocols") / "h36m_cameras.json").read_text())
