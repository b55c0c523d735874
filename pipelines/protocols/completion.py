"""The protocol `completion`: how well hidden joints of 3D poses are filled in.

On the views of the open protocol: true 3D in camera axes, relative to the pelvis, with each limb, three
random joints or whole frames hidden. Figures are the mean error of the hidden joints, root-relative, pooled
over all frames of the windows given. The model is measured as its users use it: `Completer` itself draws
straight lines across gaps of up to 0.1 s. Beside it stands what one does without a model:
`interpolation.fill_space`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mpm_model.completer import Completer
from mpm_model.errors import InputError
from mpm_model.pose.metrics import MM_PER_M
from mpm_model.pose.normalize import root_relative
from mpm_model.pose.skeleton import Skeleton
from pipelines.protocols.hidden import dropped_frames, hidden_limbs, three_random_joints
from pipelines.protocols.interpolation import MeanBody, fill_space
from pipelines.protocols.views import held_out_views
from pipelines.windows_table import Windows

VERSION = 1
"""Raised whenever the figures would change."""

Complete = Callable[[Float[np.ndarray, "N J 3"], Bool[np.ndarray, "N J"]], Float[np.ndarray, "N J 3"]]
"""Whole poses from root-relative joints in camera axes, metres, and which are hidden (those hold 0)."""


@dataclass
class CompletionRow:
    """Figures of one way of hiding joints."""

    condition: str
    error_m: float = 0.0
    """Errors of the model, added up over the hidden joints."""
    interpolated_error_m: float = 0.0
    """The same of interpolation."""
    joints: int = 0
    """Hidden joints that have a truth, over all frames."""

    @property
    def model_mm(self) -> float:
        """Mean error of the model on hidden joints; NaN if none was hidden."""
        return MM_PER_M * self.error_m / self.joints if self.joints else float("nan")

    @property
    def interpolated_mm(self) -> float:
        """Mean error of interpolation on hidden joints; NaN if none was hidden."""
        return MM_PER_M * self.interpolated_error_m / self.joints if self.joints else float("nan")

    def figures(self) -> dict[str, float]:
        """Figures by name with their unit; none if nothing was hidden."""
        if not self.joints:
            return {}
        return {"hidden mm": self.model_mm, "hidden by interpolation mm": self.interpolated_mm}


def score_completion(
    completer: Completer, windows: Windows, *, body: MeanBody, every_views: int = 1
) -> list[CompletionRow]:
    """The table of a completer on held-out windows.

    `body` is what interpolation fills limbs in by: `mean_body` of training windows, or `mean_body_of_card`.
    `every_views=k` takes every k-th view, which is no longer the protocol but an estimate of it.
    """
    return score_hidden(
        lambda joints_rel_m, is_hidden: completer(joints_rel_m, is_hidden, rate_hz=windows.rate_hz),
        windows,
        body=body,
        every_views=every_views,
    )


def score_hidden(
    complete: Complete, windows: Windows, *, body: MeanBody, every_views: int = 1
) -> list[CompletionRow]:
    """The table of anything that completes: see `score_completion`."""
    if every_views < 1:
        raise InputError(f"every_views must be at least 1, got {every_views}")
    skeleton = windows.skeleton
    root = skeleton.parents.index(None)
    rows: dict[str, CompletionRow] = {}
    for number, (name, camera, view) in enumerate(held_out_views(windows)):
        if number % every_views:
            continue
        target_m = root_relative(view.joints_cam_m, skeleton)[0]
        for condition, is_taken in hidden_joints(
            name, camera, frames=len(target_m), rate_hz=windows.rate_hz, skeleton=skeleton
        ):
            is_hidden = is_taken | ~view.is_valid
            is_hidden[:, root] = False  # relative to itself it is 0
            given_m = np.where(is_hidden[..., None], 0, target_m).astype(np.float32)
            is_counted = is_taken & view.is_valid
            is_counted[:, root] = False
            row = rows.setdefault(condition, CompletionRow(condition))
            row.joints += int(is_counted.sum())
            row.error_m += _error_m(complete(given_m, is_hidden), target_m, is_counted, skeleton)
            filled_m = fill_space(given_m, is_hidden, body)
            row.interpolated_error_m += _error_m(filled_m, target_m, is_counted, skeleton)
    return list(rows.values())


def hidden_joints(
    name: str, camera: int, *, frames: int, rate_hz: float, skeleton: Skeleton
) -> Iterator[tuple[str, Bool[np.ndarray, "N J"]]]:
    """Every way of hiding joints of one view: limbs and three joints throughout, and frames."""
    joints = [*hidden_limbs(skeleton), ("three random joints", three_random_joints(name, camera, skeleton))]
    for what, is_joint in joints:
        yield f"without {what}", np.tile(is_joint, (frames, 1))
    for how, is_dropped in dropped_frames(name, camera, frames=frames, rate_hz=rate_hz):
        yield f"without {how}", np.tile(is_dropped[:, None], (1, len(skeleton)))


def _error_m(
    predicted_m: Float[np.ndarray, "N J 3"],
    target_m: Float[np.ndarray, "N J 3"],
    is_counted: Bool[np.ndarray, "N J"],
    skeleton: Skeleton,
) -> float:
    """Distances with the roots put together, added up over the joints that count."""
    off_m = root_relative(predicted_m, skeleton)[0] - target_m
    return float(np.linalg.norm(off_m, axis=-1)[is_counted].sum())
