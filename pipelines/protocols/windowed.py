"""The protocols that are measured on prepared windows, as `mpm evaluate` calls them.

`lifting`: every recording of the held-out people (split `test`), seen by four virtual cameras that the
protocols' seed fixes, true 2D, lifted as users lift (whole recordings), all frames counted once. Beside the
model: the mean pose of its training views, and the same network untrained.

`reconstruction`: every window of the held-out people, one fixed camera and one fixed mask each; error of
the hidden cells. Beside the model: the same network untrained.

`open`, `occlusion` and `completion` have files of their own beside this one.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float

from mpm_model.checkpoint import Checkpoint
from mpm_model.completer import Completer
from mpm_model.errors import InputError
from mpm_model.learning.batches import ViewConfig
from mpm_model.learning.masking import MaskConfig
from mpm_model.learning.scoring import score_reconstruction, scoring_batches
from mpm_model.lifter import Lifter
from mpm_model.network.masked import MaskedPoseModel
from mpm_model.pose.metrics import MM_PER_M, procrustes_align
from mpm_model.pose.normalize import root_relative
from pipelines.protocols import completion, occlusion
from pipelines.protocols import open as open_protocol
from pipelines.protocols.interpolation import MeanBody, mean_body, mean_body_of_card
from pipelines.protocols.results import Measured, Row
from pipelines.protocols.views import PROTOCOL_SEED, View, held_out_views
from pipelines.windows_table import Windows, read_all_windows

LIFTING_VERSION = RECONSTRUCTION_VERSION = 1
"""Raised whenever the figures would change."""

Predict = Callable[[View], Float[np.ndarray, "N J 3"]]
"""Root-relative joints in camera axes, metres, from the 2D of a view."""


def untrained(checkpoint: Checkpoint) -> Checkpoint:
    """The same network with fresh weights, drawn from the protocol's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(PROTOCOL_SEED)
        model = type(checkpoint.model)(checkpoint.model.config)  # type: ignore[arg-type]
    return dataclasses.replace(checkpoint, model=model)


def _held_out(data: Sequence[str]) -> Windows:
    windows = read_all_windows(data, splits=("test",))
    if not len(windows):
        raise InputError(f"{', '.join(data)}: no held-out people in these windows (split test is empty)")
    return windows


def _as_masked(checkpoint: Checkpoint) -> MaskedPoseModel:
    """The same weights as a network that is asked for what was hidden: a unified one is asked to lift."""
    assert isinstance(checkpoint.model, MaskedPoseModel)  # the protocol's architectures
    masked = MaskedPoseModel(checkpoint.model.config)
    masked.load_state_dict(checkpoint.model.state_dict())
    return masked


def _people(windows: Windows) -> tuple[str, ...]:
    return tuple(sorted({f"{d}/{s}" for d, s in zip(windows.dataset, windows.subject, strict=True)}))


def _at_model_rate(checkpoint: Checkpoint, data: Sequence[str]) -> Windows:
    windows = _held_out(data)
    if checkpoint.rate_hz != windows.rate_hz:
        raise InputError(
            f"the checkpoint was trained at {checkpoint.rate_hz:g} Hz but the windows have "
            f"{windows.rate_hz:g} Hz; prepare them with --rate-hz {checkpoint.rate_hz:g}"
        )
    return windows


def reconstruction(checkpoint: Checkpoint, data: Sequence[str]) -> Measured:
    """Error of hidden cells of a masked-pose model: see this file's head."""
    from pipelines.recipe import to_corpus

    windows = _at_model_rate(checkpoint, data)
    corpus = to_corpus(windows, "cpu")
    view = ViewConfig(
        normalisation=checkpoint.normalisation,
        mirror_probability=0.0,
        has_confidence=checkpoint.has_confidence,
    )
    assert isinstance(checkpoint.model, MaskedPoseModel)  # the protocol's architectures
    if windows.joints_world_m.shape[1] != checkpoint.model.config.frames:
        raise InputError(
            f"the model sees {checkpoint.model.config.frames} frames but the windows have "
            f"{windows.joints_world_m.shape[1]}; prepare them with that --window-frames"
        )
    rows = []
    for name, each in (("untrained network", untrained(checkpoint)), ("pre-trained", checkpoint)):
        batches = scoring_batches(corpus, seed=PROTOCOL_SEED, view=view, batch_windows=64)
        score = score_reconstruction(_as_masked(each), batches, mask=MaskConfig(), seed=PROTOCOL_SEED)
        rows.append(
            Row(name=name, scores={"hidden 2D %": score.keypoints_percent, "hidden 3D mm": score.joints_mm})
        )
    return Measured(
        rows=tuple(rows),
        data_sha256=_windows_hash(windows),
        people=_people(windows),
        frames=corpus.frames * len(corpus),
        keypoints="true 2D",
    )


def lifting(checkpoint: Checkpoint, data: Sequence[str]) -> Measured:
    """Errors of a lifter beside baselines: see this file's head."""
    windows = _at_model_rate(checkpoint, data)
    predictors: dict[str, Predict] = {}
    mean_pose_m = checkpoint.card.get("mean_training_pose_rel_m")
    if mean_pose_m is not None:
        pose_m = np.asarray(mean_pose_m, dtype=np.float32)
        predictors["mean training pose"] = lambda view: np.broadcast_to(pose_m, view.joints_cam_m.shape)
    for name, each in (("untrained network", untrained(checkpoint)), ("lifted", checkpoint)):
        predictors[name] = _predictor(Lifter(each))
    totals = {name: np.zeros(5) for name in predictors}
    frames = 0
    for _, _, view in held_out_views(windows):
        target_m = root_relative(view.joints_cam_m, windows.skeleton)[0]
        frames += len(target_m)
        for name, predict in predictors.items():
            totals[name] += _sums(predict(view), target_m, view.is_valid)
    rows = tuple(
        Row(
            name=name,
            scores={
                "MPJPE mm": float(MM_PER_M * total[0] / total[2]),
                "P-MPJPE mm": float(MM_PER_M * total[1] / total[2]),
                "MPJVE mm/frame": float(MM_PER_M * total[3] / total[4]),
            },
        )
        for name, total in totals.items()
    )
    return Measured(
        rows=rows,
        data_sha256=_windows_hash(windows),
        people=_people(windows),
        frames=frames,
        keypoints="true 2D",
    )


def _predictor(lifter: Lifter) -> Predict:
    return lambda view: lifter(
        view.keypoints_px, view.confidence, width_px=view.width_px, height_px=view.height_px
    )


def _sums(
    predicted_m: Float[np.ndarray, "N J 3"],
    target_m: Float[np.ndarray, "N J 3"],
    is_valid: Bool[np.ndarray, "N J"],
) -> Float[np.ndarray, "5"]:
    """Summed error, error after Procrustes, valid joints; summed velocity error and valid velocities."""
    aligned_m = procrustes_align(predicted_m, target_m, is_valid)
    is_moving = is_valid[1:] & is_valid[:-1]
    velocity_error_m = np.linalg.norm(np.diff(predicted_m - target_m, axis=0), axis=-1)
    return np.array(
        [
            np.linalg.norm(predicted_m - target_m, axis=-1)[is_valid].sum(),
            np.linalg.norm(aligned_m - target_m, axis=-1)[is_valid].sum(),
            is_valid.sum(),
            velocity_error_m[is_moving].sum(),
            is_moving.sum(),
        ]
    )


def _windows_hash(windows: Windows) -> str:
    """SHA-256 over ids, joints and validity in the order of the ids."""
    order = np.argsort(windows.ids)
    digest = hashlib.sha256()
    for column in (windows.ids, windows.joints_world_m, windows.is_valid):
        digest.update(np.ascontiguousarray(column[order]).tobytes())
    return digest.hexdigest()


def _of_the_open_protocol(
    windows: Windows, rows: Sequence[Row], *, keypoints: str, notes: tuple[str, ...] = ()
) -> Measured:
    return Measured(
        rows=tuple(rows),
        data_sha256=open_protocol.data_hash(windows),
        people=_people(windows),
        frames=sum(len(view.joints_cam_m) for _, _, view in held_out_views(windows)),
        keypoints=keypoints,
        notes=notes,
    )


def open_data(checkpoint: Checkpoint, data: Sequence[str]) -> Measured:
    """The open protocol, by data set, on clean and on noisy 2D."""
    windows = _held_out(data)
    open_protocol.check(windows)
    predict = open_protocol.lifter_predicts(Lifter(checkpoint))
    rows = [
        Row(
            name=f"{dataset}, {keypoints} 2D",
            scores={"MPJPE mm": score.mpjpe_mm, "P-MPJPE mm": score.p_mpjpe_mm},
        )
        for keypoints in open_protocol.KEYPOINTS
        for dataset, score in sorted(
            open_protocol.score(predict, open_protocol.open_views(windows, keypoints=keypoints)).items()
        )
    ]
    return _of_the_open_protocol(windows, rows, keypoints="true 2D, and noisy 2D of the protocol")


def _body(checkpoint: Checkpoint, data: Sequence[str]) -> tuple[MeanBody, str]:
    """What interpolation fills in by, and a note that says where it is from."""
    training = read_all_windows(data, splits=("train",))
    if len(training):
        return mean_body(training), "interpolation by the mean body of the training windows beside these"
    body = mean_body_of_card(checkpoint.card)
    return body, "interpolation by the mean pose of the checkpoint's card: there are no training windows here"


def occluded(checkpoint: Checkpoint, data: Sequence[str]) -> Measured:
    """The protocol `occlusion`, a row for each condition."""
    windows = _held_out(data)
    open_protocol.check(windows)
    body, note = _body(checkpoint, data)
    scored = occlusion.score_occlusion(Lifter(checkpoint), windows, body=body)
    rows = [Row(name=row.condition, scores=row.figures()) for row in scored]
    return _of_the_open_protocol(windows, rows, keypoints="true 2D", notes=(note,))


def completed(checkpoint: Checkpoint, data: Sequence[str]) -> Measured:
    """The protocol `completion`, a row for each condition."""
    windows = _held_out(data)
    open_protocol.check(windows)
    body, note = _body(checkpoint, data)
    scored = completion.score_completion(Completer(checkpoint), windows, body=body)
    rows = [Row(name=row.condition, scores=row.figures()) for row in scored]
    return _of_the_open_protocol(windows, rows, keypoints="no 2D", notes=(note,))
