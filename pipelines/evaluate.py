"""`mpm evaluate`: a model on people it never saw, beside baselines, by a named protocol.

`lifting/1`: every recording of the held-out people (split `test`), seen by four virtual cameras that the
protocol's seed fixes, true 2D, lifted as users lift (whole recordings), all frames counted once. Beside the
model: the mean pose of its training views, and the same network untrained.

`reconstruction/1`: every window of the held-out people, one fixed camera and one fixed mask each; error of
the hidden cells. Beside the model: the same network untrained.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from mpm_model.checkpoint import Checkpoint, load_checkpoint
from mpm_model.errors import InputError
from mpm_model.learning.batches import ViewConfig
from mpm_model.learning.masking import MaskConfig
from mpm_model.learning.scoring import score_reconstruction, scoring_batches
from mpm_model.lifter import Lifter
from mpm_model.network.masked import MaskedPoseModel
from mpm_model.pose.metrics import MM_PER_M, procrustes_align
from mpm_model.pose.normalize import root_relative
from pipelines import storage
from pipelines.protocols.views import PROTOCOL_SEED, View, held_out_views
from pipelines.schema import made_by
from pipelines.windows_table import Windows, read_all_windows

PROTOCOLS = ("lifting", "reconstruction")
VERSION = 1
"""Raised whenever a protocol's figures would change."""


Predict = Callable[[View], Float[np.ndarray, "N J 3"]]
"""Root-relative joints in camera axes, metres, from the 2D of a view."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: a predictor, by name, and its figures."""

    name: str
    scores: dict[str, float]
    """Figure by name; the unit is in the name."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Figures, and all that makes them comparable."""

    protocol: str
    checkpoint: str
    data: tuple[str, ...]
    data_sha256: str
    """Of the ids and joints that were measured on."""
    people: tuple[str, ...]
    """dataset/subject of everybody measured on."""
    frames: int
    """Frames measured, all views together."""
    keypoints: str
    """Where the 2D came from."""
    made_by: str
    rows: tuple[Row, ...]

    def lines(self) -> list[str]:
        """A table for the command line."""
        names = list(self.rows[0].scores)
        width = max(len(row.name) for row in self.rows)
        header = " " * width + "".join(f"  {name:>16}" for name in names)
        body = [
            f"{row.name:<{width}}" + "".join(f"  {row.scores[name]:>16.1f}" for name in names)
            for row in self.rows
        ]
        return [
            f"protocol {self.protocol} on {', '.join(self.people)} ({self.frames} frames, {self.keypoints}; "
            f"data {self.data_sha256[:12]})",
            header,
            *body,
        ]


def run(*, checkpoint: str, data: Sequence[str], protocol: str, json_url: str | None = None) -> Evaluation:
    """Measure a checkpoint on the held-out people of prepared windows."""
    if protocol not in PROTOCOLS:
        raise InputError(f"--protocol {protocol}: wanted one of {', '.join(PROTOCOLS)}")
    windows = read_all_windows([storage.absolute(url) for url in data], splits=("test",))
    if not len(windows):
        raise InputError(f"{', '.join(data)}: no held-out people in these windows (split test is empty)")
    architecture = "lifting" if protocol == "lifting" else "masked"
    with storage.fetch_folder(storage.absolute(checkpoint)) as folder:
        model = load_checkpoint(folder, expect_architecture=architecture, expect_skeleton=windows.skeleton)
    if model.rate_hz != windows.rate_hz:
        raise InputError(
            f"{checkpoint} was trained at {model.rate_hz:g} Hz but the windows have {windows.rate_hz:g} Hz; "
            f"prepare them with --rate-hz {model.rate_hz:g}"
        )
    measure = _lifting if protocol == "lifting" else _reconstruction
    rows, frames = measure(model, windows)
    evaluation = Evaluation(
        protocol=f"{protocol}/{VERSION}",
        checkpoint=checkpoint,
        data=tuple(data),
        data_sha256=_data_hash(windows),
        people=tuple(sorted({f"{d}/{s}" for d, s in zip(windows.dataset, windows.subject, strict=True)})),
        frames=frames,
        keypoints="true 2D, no test-time flip",
        made_by=made_by("mpm evaluate"),
        rows=rows,
    )
    if json_url is not None:
        storage.write_json(storage.absolute(json_url), dataclasses.asdict(evaluation))
    return evaluation


def untrained(checkpoint: Checkpoint) -> Checkpoint:
    """The same network with fresh weights, drawn from the protocol's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(PROTOCOL_SEED)
        model = type(checkpoint.model)(checkpoint.model.config)  # type: ignore[arg-type]
    return dataclasses.replace(checkpoint, model=model)


def _reconstruction(checkpoint: Checkpoint, windows: Windows) -> tuple[tuple[Row, ...], int]:
    from pipelines.recipe import to_corpus

    corpus = to_corpus(windows, "cpu")
    view = ViewConfig(normalisation=checkpoint.normalisation, mirror_probability=0.0)
    if windows.joints_world_m.shape[1] != checkpoint.model.config.frames:  # type: ignore[union-attr]
        raise InputError(
            f"the model sees {checkpoint.model.config.frames} frames but the windows have "  # type: ignore[union-attr]
            f"{windows.joints_world_m.shape[1]}; prepare them with that --window-frames"
        )
    rows = []
    for name, each in (("untrained network", untrained(checkpoint)), ("pre-trained", checkpoint)):
        assert isinstance(each.model, MaskedPoseModel)  # load_checkpoint expected it
        batches = scoring_batches(corpus, seed=PROTOCOL_SEED, view=view, batch_windows=64)
        score = score_reconstruction(each.model, batches, mask=MaskConfig(), seed=PROTOCOL_SEED)
        rows.append(
            Row(name=name, scores={"hidden 2D %": score.keypoints_percent, "hidden 3D mm": score.joints_mm})
        )
    return tuple(rows), corpus.frames * len(corpus)


def _lifting(checkpoint: Checkpoint, windows: Windows) -> tuple[tuple[Row, ...], int]:
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
    return rows, frames


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


def _data_hash(windows: Windows) -> str:
    """SHA-256 over ids, joints and validity in the order of the ids."""
    order = np.argsort(windows.ids)
    digest = hashlib.sha256()
    for column in (windows.ids, windows.joints_world_m, windows.is_valid):
        digest.update(np.ascontiguousarray(column[order]).tobytes())
    return digest.hexdigest()
