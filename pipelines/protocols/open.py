"""The open protocol: held-out people of CMU and UI-PRMD and all of HDM05, at 50 Hz, through four cameras.

Anybody can build it from public data: `mpm prepare` at 50 Hz with windows of 27 frames, hop 27, of the three
data sets; recordings are put together again from their windows. Cameras stand where the protocol's seed says.
The 2D is `clean`, the exact projection, or `noisy`, through the detector-noise model at the fixed setting
below. Figures are root-relative, over all 17 joints and all frames, by data set.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from mpm_model.errors import InputError, refuse
from mpm_model.learning.detector_noise import DetectorNoiseConfig, detect
from mpm_model.lifter import Lifter
from mpm_model.pose.metrics import MM_PER_M, procrustes_align
from mpm_model.pose.normalize import root_relative
from mpm_model.pose.skeletons import H36M_17
from pipelines.protocols.views import PROTOCOL_SEED, View, held_out_views, recordings_of, view_id
from pipelines.sources.held_out import is_held_out
from pipelines.windows_table import Windows

VERSION = 1
"""Raised whenever the figures would change."""
RATE_HZ = 50.0
TEST_WINDOW_FRAMES = 27
"""Windows, and hop, of the tables that recordings are put together from."""
DATASETS = ("cmu", "ui_prmd", "hdm05")
NOISE = DetectorNoiseConfig(
    scale=1.0,
    joint_error={
        "pelvis": 0.75, "hip": 0.8, "knee": 1.0, "ankle": 1.1,
        "spine": 0.65, "thorax": 0.85, "nose": 1.4, "head_top": 1.4,
        "shoulder": 1.05, "elbow": 1.0, "wrist": 1.2,
    },
    jitter_std=0.006,
    jitter_time_s=0.05,
    bias_std=0.01,
    quality_spread=0.45,
    quality_time_s=0.15,
    median_confidence=0.65,
    confidence_spread=0.6,
    confidence_truth=0.5,
    swaps_per_s=0.02,
    swap_s=0.1,
    dropouts_per_s=0.12,
    dropout_s=0.13,
    outlier_probability=0.003,
    outlier_std=0.15,
)  # fmt: skip
"""The setting of the noisy 2D: fixed here, whatever becomes of the defaults."""
KEYPOINTS = ("clean", "noisy")

Predict = Callable[[View], Float[np.ndarray, "N J 3"]]
"""Root-relative joints in camera axes, metres, from the 2D of a view."""


@dataclass
class Score:
    """Sums over frames and joints."""

    error_m: float = 0.0
    aligned_error_m: float = 0.0
    joints: int = 0
    frames: int = 0

    @property
    def mpjpe_mm(self) -> float:
        """Mean error after the roots are put together."""
        return MM_PER_M * self.error_m / max(self.joints, 1)

    @property
    def p_mpjpe_mm(self) -> float:
        """Mean error after similarity alignment of each frame."""
        return MM_PER_M * self.aligned_error_m / max(self.joints, 1)

    def add(self, predicted_m: Float[np.ndarray, "N J 3"], view: View) -> None:
        """Count one view."""
        target_m = root_relative(view.joints_cam_m, H36M_17)[0]
        predicted_m = root_relative(predicted_m, H36M_17)[0]
        aligned_m = procrustes_align(predicted_m, target_m, view.is_valid)
        self.error_m += float(np.linalg.norm(predicted_m - target_m, axis=-1)[view.is_valid].sum())
        self.aligned_error_m += float(np.linalg.norm(aligned_m - target_m, axis=-1)[view.is_valid].sum())
        self.joints += int(view.is_valid.sum())
        self.frames += len(target_m)


def check(windows: Windows) -> None:
    """InputError unless the windows are of held-out people of the protocol's data sets, at its rate."""
    faults = []
    if windows.rate_hz != RATE_HZ:
        faults.append(f"the windows have {windows.rate_hz:g} Hz; prepare them with --rate-hz {RATE_HZ:g}")
    if foreign := sorted(set(windows.dataset.tolist()) - set(DATASETS)):
        faults.append(f"{', '.join(foreign)} is no data set of the protocol ({', '.join(DATASETS)})")
    people = {(str(d), str(s)) for d, s in zip(windows.dataset, windows.subject, strict=True)}
    if trained := sorted(f"{d}/{s}" for d, s in people if not is_held_out(d, s)):
        faults.append(f"{', '.join(trained[:5])} may be trained on: give the split test alone")
    refuse("the open protocol", faults)


def open_views(windows: Windows, *, keypoints: str) -> Iterator[tuple[str, View]]:
    """Every recording through every camera, with its data set."""
    if keypoints not in KEYPOINTS:
        raise InputError(f"2D must be one of {', '.join(KEYPOINTS)}, got {keypoints!r}")
    for name, camera, view in held_out_views(windows):
        dataset = name.partition("/")[0]
        yield dataset, (view if keypoints == "clean" else _through_detector(view, name, camera))


def _through_detector(view: View, name: str, camera: int) -> View:
    seen_px, confidence, is_hidden = detect(
        torch.from_numpy(view.keypoints_px)[None],
        torch.from_numpy(view.confidence == 0)[None],
        rate_hz=RATE_HZ,
        skeleton=H36M_17,
        config=NOISE,
        seed=PROTOCOL_SEED,
        epoch=camera,
        sample_ids=view_id(name),
    )
    return dataclasses.replace(
        view,
        keypoints_px=seen_px[0].numpy(),
        confidence=confidence.masked_fill(is_hidden, 0.0)[0].numpy(),
    )


def score(predict: Predict, views: Iterable[tuple[str, View]]) -> dict[str, Score]:
    """Figures of a predictor by data set."""
    scores: dict[str, Score] = {}
    for dataset, view in views:
        scores.setdefault(dataset, Score()).add(predict(view), view)
    return scores


def lifter_predicts(lifter: Lifter) -> Predict:
    """A model as its users use it: whole recordings, at their own rate."""
    return lambda view: lifter(
        view.keypoints_px,
        view.confidence,
        rate_hz=RATE_HZ,
        width_px=view.width_px,
        height_px=view.height_px,
    )


def data_hash(windows: Windows) -> str:
    """SHA-256 over names, joints and validity of the recordings, whatever windows they were cut into."""
    digest = hashlib.sha256()
    for name, joints_world_m, is_valid in recordings_of(windows):
        digest.update(name.encode())
        digest.update(joints_world_m.tobytes())
        digest.update(is_valid.tobytes())
    return digest.hexdigest()
