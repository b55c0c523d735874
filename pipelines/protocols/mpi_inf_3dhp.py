"""The protocol `3dhp`: the test set of MPI-INF-3DHP (Mehta et al. 2017), by the official measures.

Sequences TS1 to TS6 as published: `TS1/annot_data.mat` and so on. The truth is `univ_annot3`, bodies scaled
to one height, as the field measures. All frames enter, with the 2D of the annotation; valid frames are
measured, relative to the pelvis. PCK counts errors below 150 mm, AUC is its mean over 0, 5, ..., 150 mm, both
over 14 joints (without pelvis, spine and middle of the head); MPJPE is over all 17.

Models of 17 joints: Human3.6M's thorax is the neck here, its nose the middle of the head. Models of 16 joints
have no neck, and the top of their head lies halfway from the middle of the head to its top. So the neck is
measured in the middle of the predicted shoulders, and the top twice as far from the middle of the head.
"""

import dataclasses
import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import h5py
import numpy as np
from jaxtyping import Bool, Float

from mpm_model.checkpoint import Checkpoint
from mpm_model.errors import InputError, refuse
from mpm_model.lifter import Lifter
from mpm_model.pose.metrics import MM_PER_M, auc_percent, mpjpe_mm, pck_percent
from mpm_model.pose.normalize import root_relative
from mpm_model.pose.skeleton import Conversion, Skeleton
from mpm_model.pose.skeletons import H36M_16, H36M_17
from pipelines import storage
from pipelines.protocols.clips import Clip, Predict, flipped, lifter_predicts
from pipelines.protocols.results import Measured, Row

VERSION = 1
"""Raised whenever the figures would change."""
IMAGE_SIZES_PX = {
    **{f"TS{number}": (2048, 2048) for number in (1, 2, 3, 4)},
    **{f"TS{number}": (1920, 1080) for number in (5, 6)},
}
"""Width and height of each sequence's images."""
KEYPOINTS = "2D of the annotation"
FIGURES: dict[str, Callable[..., float]] = {
    "PCK %": pck_percent,
    "AUC %": auc_percent,
    "MPJPE mm": mpjpe_mm,
}

MPI_INF_3DHP_17 = Skeleton(
    name="mpi_inf_3dhp_17",
    joints=(
        "head_top", "neck",
        "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
        "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
        "pelvis", "spine", "head",
    ),
    parents=(
        "head", "spine",
        "neck", "right_shoulder", "right_elbow", "neck", "left_shoulder", "left_elbow",
        "pelvis", "right_hip", "right_knee", "pelvis", "left_hip", "left_knee",
        None, "pelvis", "neck",
    ),
)  # fmt: skip
"""Joints of the test set in the order of its files."""
_NOT_HDF5 = (OSError, RuntimeError, ValueError, KeyError, OverflowError, MemoryError)
"""What h5py raises on bytes that are damaged or none of HDF5 (found by altering them)."""
NOT_IN_PCK = ("pelvis", "spine", "head")
_SAME = {joint: {joint: 1.0} for joint in MPI_INF_3DHP_17.joints if joint in H36M_16.joints}
_SHOULDERS = {"left_shoulder": 0.5, "right_shoulder": 0.5}


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How a model's skeleton and the test set's become each other."""

    to_model: Conversion
    from_model: Conversion
    note: str
    """What is measured where the two differ."""


FITS = {
    H36M_17.name: Fit(
        to_model=Conversion(
            source=MPI_INF_3DHP_17,
            target=H36M_17,
            weights={**_SAME, "thorax": {"neck": 1.0}, "nose": {"head": 1.0}},
        ),
        from_model=Conversion(
            source=H36M_17,
            target=MPI_INF_3DHP_17,
            weights={**_SAME, "neck": {"thorax": 1.0}, "head": {"nose": 1.0}},
        ),
        note="17 joints: the thorax is measured as the neck, the nose as the middle of the head",
    ),
    H36M_16.name: Fit(
        to_model=Conversion(
            source=MPI_INF_3DHP_17,
            target=H36M_16,
            weights={**_SAME, "nose": {"head": 1.0}, "head_top": {"head_top": 0.5, "head": 0.5}},
        ),
        from_model=Conversion(
            source=H36M_16,
            target=MPI_INF_3DHP_17,
            weights={
                **_SAME,
                "head": {"nose": 1.0},
                "head_top": {"head_top": 2.0, "nose": -1.0},
                "neck": _SHOULDERS,
            },
        ),
        note="16 joints: the middle of the predicted shoulders is measured as the neck, and the head's top "
        "extrapolated from the two points of the head",
    ),
}
"""By the name of the model's skeleton."""


def read_clips(folder: str) -> tuple[list[Clip], str]:
    """The six sequences in the test set's own joints, and the SHA-256 of what is measured.

    InputError, with all faults, if one is absent or not as published.
    """
    urls = {name: storage.join(folder, name, "annot_data.mat") for name in IMAGE_SIZES_PX}
    absent = [name for name, url in urls.items() if not storage.exists(url)]
    if absent:
        raise InputError(
            f"{folder}: wanted TS1 to TS6 with annot_data.mat in each, {', '.join(absent)} absent; give the "
            "folder mpi_inf_3dhp_test_set"
        )
    digest = hashlib.sha256()
    clips = []
    for name, url in urls.items():
        joints_m, keypoints_px, is_valid = _read_sequence(url)
        for column in (joints_m, keypoints_px, is_valid):
            digest.update(np.ascontiguousarray(column).tobytes())
        is_seen = np.isfinite(keypoints_px).all(-1) & (keypoints_px != 0).any(-1)
        clips.append(
            Clip(
                name=name,
                group=name,
                joints_cam_m=joints_m,
                is_valid=is_valid,
                keypoints_px=np.where(is_seen[..., None], keypoints_px, 0).astype(np.float32),
                confidence=is_seen.astype(np.float32),
                rate_hz=None,
                width_px=IMAGE_SIZES_PX[name][0],
                height_px=IMAGE_SIZES_PX[name][1],
                skeleton=MPI_INF_3DHP_17,
            )
        )
    return clips, digest.hexdigest()


def _read_sequence(
    url: str,
) -> tuple[Float[np.ndarray, "N 17 3"], Float[np.ndarray, "N 17 2"], Bool[np.ndarray, "N"]]:
    """Truth in metres, 2D and validity of one sequence."""
    content = storage.read_bytes(url)
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            found = {
                key: np.asarray(file[key])
                for key in ("annot2", "univ_annot3", "valid_frame")
                if isinstance(file.get(key), h5py.Dataset)
            }
    except _NOT_HDF5 as error:
        raise InputError(f"{url}: wanted a MATLAB 7.3 file, which is HDF5 ({error}); get it again") from error
    frames = len(found["valid_frame"]) if "valid_frame" in found else 0
    joints = len(MPI_INF_3DHP_17)
    wanted = {
        "annot2": (frames, 1, joints, 2),
        "univ_annot3": (frames, 1, joints, 3),
        "valid_frame": (frames, 1),
    }
    refuse(
        url,
        [
            f"{key} must be {shape}, got {found[key].shape if key in found else 'nothing'}"
            for key, shape in wanted.items()
            if key not in found or found[key].shape != shape
        ]
        + [
            f"{key} must be numbers, got {each.dtype}"
            for key, each in found.items()
            if each.dtype.kind not in "biuf"
        ],
    )
    is_valid = found["valid_frame"][:, 0] != 0
    joints_m = (found["univ_annot3"][:, 0] / MM_PER_M).astype(np.float32)
    if not is_valid.any() or not np.isfinite(joints_m[is_valid]).all():
        raise InputError(
            f"{url}: wanted valid frames with finite joints, there are none or NaN; get it again"
        )
    return joints_m, found["annot2"][:, 0].astype(np.float32), is_valid


def through(predict: Predict, fit: Fit) -> Predict:
    """A predictor of a model's skeleton as one of the test set's."""

    def predict_fitted(clip: Clip) -> Float[np.ndarray, "N 17 3"]:
        fitted = dataclasses.replace(
            clip,
            joints_cam_m=fit.to_model.points(clip.joints_cam_m),
            keypoints_px=fit.to_model.points(clip.keypoints_px),
            confidence=fit.to_model.confidence(clip.confidence),
            skeleton=fit.to_model.target,
        )
        return fit.from_model.points(predict(fitted))

    return predict_fitted


def score(predict: Predict, clips: Sequence[Clip]) -> tuple[Row, ...]:
    """A row for each sequence, their mean, and all frames; the predictor gives the test set's joints."""
    errors = []
    rows = []
    for clip in clips:
        predicted_m = root_relative(predict(clip)[clip.is_valid], MPI_INF_3DHP_17)[0]
        target_m = root_relative(clip.joints_cam_m[clip.is_valid], MPI_INF_3DHP_17)[0]
        errors.append((predicted_m, target_m))
        rows.append(Row(name=clip.group, scores=_figures(predicted_m, target_m)))
    means = {name: float(np.mean([row.scores[name] for row in rows])) for name in FIGURES}
    whole = _figures(*(np.concatenate(each) for each in zip(*errors, strict=True)))
    return (
        *rows,
        Row(name=f"mean over {len(rows)} sequences", scores=means),
        Row(name="all frames", scores=whole),
    )


def _figures(
    predicted_m: Float[np.ndarray, "N 17 3"], target_m: Float[np.ndarray, "N 17 3"]
) -> dict[str, float]:
    is_counted = np.isin(MPI_INF_3DHP_17.joints, NOT_IN_PCK, invert=True)
    counted = predicted_m[:, is_counted], target_m[:, is_counted]
    return {
        name: measure(*((predicted_m, target_m) if measure is mpjpe_mm else counted))
        for name, measure in FIGURES.items()
    }


def measure(checkpoint: Checkpoint, data: Sequence[str], *, is_flipped: bool = False) -> Measured:
    """The protocol's figures of a checkpoint of 16 or 17 joints, from the folder of the test set."""
    if len(data) != 1:
        raise InputError(f"3dhp: wanted one folder, mpi_inf_3dhp_test_set, got {len(data)}")
    fit = FITS.get(checkpoint.skeleton.name)
    if fit is None or checkpoint.skeleton != fit.to_model.target:
        raise InputError(
            f"3dhp: wanted a checkpoint of the skeleton {' or '.join(FITS)}, got {checkpoint.skeleton.name}"
        )
    clips, sha256 = read_clips(data[0])
    predict = through(lifter_predicts(Lifter(checkpoint)), fit)
    return Measured(
        rows=score(flipped(predict) if is_flipped else predict, clips),
        data_sha256=sha256,
        people=tuple(f"mpi_inf_3dhp/{clip.name}" for clip in clips),
        frames=sum(int(clip.is_valid.sum()) for clip in clips),
        keypoints=KEYPOINTS,
        notes=(
            fit.note,
            "truth univ_annot3; every frame enters, at the model's own clock, and valid frames are measured",
        ),
    )
