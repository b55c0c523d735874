"""Acclaim ASF/AMC, the format of the CMU motion capture database and of HDM05: takes to recordings."""

import posixpath

import numpy as np

from mpm_model.errors import InputError
from mpm_model.pose.skeletons import H36M_17
from pipelines.sources.amc import parse_amc, turning_channels
from pipelines.sources.articulated import ArticulatedMotion, conjugate, quaternions
from pipelines.sources.asf import AcclaimSkeleton, parse_asf
from pipelines.sources.head import head_note
from pipelines.sources.options import ReadOptions
from pipelines.sources.recording import Recording
from pipelines.sources.rigs import ACCLAIM, Up, find_rig, h36m_joints_world_m
from pipelines.sources.take_names import name_acclaim_take, name_dataset, stem
from pipelines.storage import exists, join, read_bytes

DEFAULT_RATE_HZ = 120.0
"""Rate of CMU and HDM05; an AMC file does not say its own."""


def read_asf_amc(url: str, *, rate_hz: float, options: ReadOptions) -> Recording:
    """Read one AMC beside its ASF as Human3.6M-17 at `rate_hz`.

    Which joints stand for which: see `rigs.ACCLAIM`. InputError names file, line and frame of what is wrong.
    """
    asf_url = find_asf(url)
    motion = read_motion(url, asf_url, options=options)
    take = name_acclaim_take(url, asf_url)
    notes = []
    if options.source_rate_hz is None:
        notes.append(f"an AMC file does not say its rate; {DEFAULT_RATE_HZ:g} Hz taken, as in CMU and HDM05")
    rig = find_rig(motion.joints, (ACCLAIM,), where=asf_url)
    joints_world_m, turn_rad = h36m_joints_world_m(motion.at_rate(rate_hz), rig, up=Up.Y)
    notes.append(head_note(turn_rad))
    return Recording(
        joints_world_m=joints_world_m,
        is_valid=np.ones(joints_world_m.shape[:2], dtype=bool),
        skeleton=H36M_17,
        rate_hz=rate_hz,
        dataset=name_dataset(url, take, options.dataset),
        subject=take.subject,
        action=take.action,
        name=take.name,
        source=url,
        notes=tuple(notes),
    )


def read_motion(url: str, asf_url: str, *, options: ReadOptions) -> ArticulatedMotion:
    """Read one AMC as the motion of its own skeleton, in the file's axes and at the file's rate.

    A joint carries the name of the bone that starts there; the far end of an outermost bone is `<bone>.end`.
    """
    skeleton = parse_asf(_text(asf_url), where=asf_url, unit_m=options.unit_m)
    values, is_degrees = parse_amc(_text(url), skeleton, where=url)
    rate_hz = options.source_rate_hz or DEFAULT_RATE_HZ
    return _assemble(skeleton, values, is_degrees=is_degrees, rate_hz=rate_hz)


def find_asf(url: str) -> str:
    """The skeleton that belongs to an AMC: in its folder, the longest part of its name up to a `_`.

    `02_01.amc` finds `02.asf`, `HDM_bd_grabHighR_001_120.amc` finds `HDM_bd.asf`; a skeleton may end in
    `.gz`.
    """
    parts = stem(url).split("_")
    names = ["_".join(parts[:count]) for count in range(len(parts), 0, -1)]
    folder = posixpath.dirname(url)
    for name in names:
        for suffix in (".asf", ".asf.gz"):
            if exists(join(folder, name + suffix)):
                return join(folder, name + suffix)
    raise InputError(
        f"{url}: its skeleton is missing: wanted {names[-1]}.asf (or {names[0]}.asf, or either with .gz) "
        "in the same folder; put it there"
    )


def _text(url: str) -> str:
    return read_bytes(url).decode("latin-1")  # comments hold paths in any 8-bit alphabet, the rest is ASCII


def _assemble(
    skeleton: AcclaimSkeleton, values: dict[str, np.ndarray], *, is_degrees: bool, rate_hz: float
) -> ArticulatedMotion:
    """Each bone turns by C M C^-1: M its angles about fixed axes in channel order, C its axis's frame."""
    root, *bones = skeleton.bones
    vectors_m = {bone.name: bone.vector_m for bone in bones}
    tips = [bone for bone in bones if bone.name not in skeleton.parents]
    rotations = np.zeros((len(values[root.name]), len(skeleton.bones) + len(tips), 4))
    rotations[..., 0] = 1
    for place, bone in enumerate(skeleton.bones):
        if bone.channels:
            axes, angles_rad = turning_channels(bone.channels, values[bone.name], is_degrees=is_degrees)
            frame = quaternions(bone.axis_order, bone.axis_rad)
            rotations[:, place] = conjugate(frame, quaternions(axes, angles_rad))
    path = [root.channels.index(channel) for channel in ("tx", "ty", "tz")]
    parents = [*skeleton.parents, *(bone.name for bone in tips)]
    return ArticulatedMotion(
        joints=(*(bone.name for bone in skeleton.bones), *(f"{bone.name}.end" for bone in tips)),
        parents=tuple(parents),
        offsets_m=np.array([vectors_m.get(parent or root.name, np.zeros(3)) for parent in parents]),
        rotations=rotations,
        paths_m={root.name: root.vector_m + values[root.name][:, path] * skeleton.unit_m},
        rate_hz=rate_hz,
    )
