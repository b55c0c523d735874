"""The protocol `occlusion`: how lifting bears up when the 2D is incomplete or shaky.

On the views of the open protocol, with true 2D, each of the conditions below. Beside the model with the
joints hidden stands the SAME model given 2D in which they were filled in (`interpolation.fill_image`) with
full confidence: that is what a user without masks would do. Figures are root-relative, pooled over all frames
of the windows given, over all valid joints and over the hidden ones alone; alignment for P-MPJPE always uses
all valid joints.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from mpm_model.errors import InputError
from mpm_model.learning.counted import counted_normal
from mpm_model.lifter import Lifter
from mpm_model.pose.metrics import MM_PER_M, procrustes_align
from mpm_model.pose.normalize import root_relative
from mpm_model.pose.skeleton import Skeleton
from pipelines.protocols.hidden import dropped_frames, hidden_limbs
from pipelines.protocols.interpolation import MeanBody, fill_image
from pipelines.protocols.views import PROTOCOL_SEED, View, held_out_views, view_id
from pipelines.windows_table import Windows

VERSION = 1
"""Raised whenever the figures would change."""
NOISE_PX = (2.0, 4.0, 6.0, 8.0, 10.0)
"""Standard deviations of Gaussian noise on each coordinate; 0 is the condition `whole`."""

Lift = Callable[[Float[np.ndarray, "N J 2"], Float[np.ndarray, "N J"], View], Float[np.ndarray, "N J 3"]]
"""Joints in camera axes, metres, from keypoints in pixels, their confidence and the view they are of."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What the model is given of a view."""

    name: str
    keypoints_px: Float[np.ndarray, "N J 2"]
    """2D; hidden keypoints hold 0."""
    is_hidden: Bool[np.ndarray, "N J"]
    """Keypoints that the condition takes away."""


@dataclass
class Sums:
    """Errors added up over joints and frames, before and after alignment."""

    error_m: float = 0.0
    aligned_error_m: float = 0.0
    joints: int = 0

    def add(
        self,
        error_m: Float[np.ndarray, "N J"],
        aligned_error_m: Float[np.ndarray, "N J"],
        is_counted: Bool[np.ndarray, "N J"],
    ) -> None:
        """Count the joints whose cell is True."""
        self.error_m += float(error_m[is_counted].sum())
        self.aligned_error_m += float(aligned_error_m[is_counted].sum())
        self.joints += int(is_counted.sum())

    @property
    def mpjpe_mm(self) -> float:
        """Mean error; NaN of nothing."""
        return MM_PER_M * self.error_m / self.joints if self.joints else float("nan")

    @property
    def p_mpjpe_mm(self) -> float:
        """Mean error after similarity alignment of each frame; NaN of nothing."""
        return MM_PER_M * self.aligned_error_m / self.joints if self.joints else float("nan")


@dataclass
class OcclusionRow:
    """Figures of one condition."""

    condition: str
    model: Sums = field(default_factory=Sums)
    """The model with the joints hidden, over all joints."""
    model_on_hidden: Sums = field(default_factory=Sums)
    """The same over the hidden joints."""
    filled: Sums = field(default_factory=Sums)
    """The same model given 2D without gaps, over all joints; nothing where nothing is hidden."""
    filled_on_hidden: Sums = field(default_factory=Sums)
    """The same over the hidden joints."""

    def figures(self) -> dict[str, float]:
        """Every figure there is, by name with its unit."""
        sums = {
            "": self.model,
            "hidden ": self.model_on_hidden,
            "filled-in 2D ": self.filled,
            "filled-in 2D hidden ": self.filled_on_hidden,
        }
        return {
            f"{name}{metric} mm": value
            for name, each in sums.items()
            if each.joints
            for metric, value in (("MPJPE", each.mpjpe_mm), ("P-MPJPE", each.p_mpjpe_mm))
        }


def score_occlusion(
    lifter: Lifter, windows: Windows, *, body: MeanBody, every_views: int = 1
) -> list[OcclusionRow]:
    """The table of a lifter on held-out windows.

    `body` fills in joints that are never seen: `mean_body` of training windows, or `mean_body_of_card`.
    `every_views=k` takes every k-th view, which is no longer the protocol but an estimate of it.
    """

    def lift(keypoints_px: np.ndarray, confidence: np.ndarray, view: View) -> np.ndarray:
        return lifter(
            keypoints_px,
            confidence,
            rate_hz=windows.rate_hz,
            width_px=view.width_px,
            height_px=view.height_px,
        )

    return score_conditions(lift, windows, body=body, every_views=every_views)


def score_conditions(
    lift: Lift, windows: Windows, *, body: MeanBody, every_views: int = 1
) -> list[OcclusionRow]:
    """The table of anything that lifts: see `score_occlusion`."""
    if every_views < 1:
        raise InputError(f"every_views must be at least 1, got {every_views}")
    skeleton = windows.skeleton
    rows: dict[str, OcclusionRow] = {}
    for number, (name, camera, view) in enumerate(held_out_views(windows)):
        if number % every_views:
            continue
        for condition in conditions(view, name, camera, rate_hz=windows.rate_hz, skeleton=skeleton):
            row = rows.setdefault(condition.name, OcclusionRow(condition.name))
            is_hidden = condition.is_hidden | (view.confidence == 0)
            is_counted = condition.is_hidden & view.is_valid
            seen = (~is_hidden).astype(np.float32) * view.confidence
            errors = _errors(lift(condition.keypoints_px, seen, view), view, skeleton)
            row.model.add(*errors, view.is_valid)
            if not condition.is_hidden.any():
                continue
            row.model_on_hidden.add(*errors, is_counted)
            filled_px = fill_image(condition.keypoints_px, is_hidden, body)
            errors = _errors(lift(filled_px, np.ones_like(seen), view), view, skeleton)
            row.filled.add(*errors, view.is_valid)
            row.filled_on_hidden.add(*errors, is_counted)
    return list(rows.values())


def conditions(
    view: View, name: str, camera: int, *, rate_hz: float, skeleton: Skeleton
) -> Iterator[Condition]:
    """All conditions of one view: whole, noise, a limb hidden throughout, a joint hidden throughout, frames
    dropped."""
    nothing = np.zeros(view.is_valid.shape, dtype=bool)
    yield Condition(name="whole", keypoints_px=view.keypoints_px, is_hidden=nothing)
    normal = counted_normal(
        "protocol/occlusion",
        seed=PROTOCOL_SEED,
        epoch=camera,
        sample_ids=view_id(name),
        count=view.keypoints_px.size,
    ).reshape(view.keypoints_px.shape)
    for std_px in NOISE_PX:
        noisy_px = (view.keypoints_px + std_px * normal).astype(np.float32)
        yield Condition(name=f"noise of {std_px:g} px", keypoints_px=noisy_px, is_hidden=nothing)

    def hide(what: str, is_hidden: np.ndarray) -> Condition:
        is_hidden = np.broadcast_to(is_hidden, nothing.shape)
        kept_px = np.where(is_hidden[..., None], 0, view.keypoints_px)
        return Condition(name=f"without {what}", keypoints_px=kept_px, is_hidden=is_hidden)

    for limb, of_limb in hidden_limbs(skeleton):
        yield hide(limb, of_limb)
    for joint, of_joint in zip(skeleton.joints, np.eye(len(skeleton), dtype=bool), strict=True):
        yield hide(joint, of_joint)
    for how, is_dropped in dropped_frames(name, camera, frames=len(nothing), rate_hz=rate_hz):
        yield hide(how, is_dropped[:, None])


def _errors(
    predicted_m: Float[np.ndarray, "N J 3"], view: View, skeleton: Skeleton
) -> tuple[Float[np.ndarray, "N J"], Float[np.ndarray, "N J"]]:
    """Distances from the truth with the roots put together, and after alignment of each frame."""
    target_m = root_relative(view.joints_cam_m, skeleton)[0]
    predicted_m = root_relative(predicted_m, skeleton)[0]
    aligned_m = procrustes_align(predicted_m, target_m, view.is_valid)
    return (
        np.linalg.norm(predicted_m - target_m, axis=-1),
        np.linalg.norm(aligned_m - target_m, axis=-1),
    )
