"""A person filmed in a laboratory with the truth beside: what published data sets give, one camera a clip."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mpm_model.lifter import Lifter
from mpm_model.pose.skeleton import Skeleton


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Frames that follow each other without gaps."""

    name: str
    """Where it is from: subject, action and camera, or the sequence."""
    group: str
    """What its figures are put together by: the action, or the sequence."""
    joints_cam_m: Float[np.ndarray, "N J 3"]
    """Truth in camera axes; anything where `is_valid` is False."""
    is_valid: Bool[np.ndarray, "N"]
    """Frames that are measured."""
    keypoints_px: Float[np.ndarray, "N J 2"]
    """2D; anything where nobody was seen."""
    confidence: Float[np.ndarray, "N J"]
    """0 where nobody was seen."""
    rate_hz: float | None
    """None: nobody says; frames are taken at the model's own rate."""
    width_px: int
    height_px: int
    skeleton: Skeleton


Predict = Callable[[Clip], Float[np.ndarray, "N J 3"]]
"""Joints in camera axes, metres, in the clip's skeleton, from the 2D of a clip."""


def lifter_predicts(lifter: Lifter) -> Predict:
    """A model as its users use it: whole clips, at their own rate."""
    return lambda clip: lifter(
        clip.keypoints_px,
        clip.confidence,
        rate_hz=clip.rate_hz,
        width_px=clip.width_px,
        height_px=clip.height_px,
    )


def flipped(predict: Predict) -> Predict:
    """The mean of what is predicted of a clip and, mirrored back, of the mirrored clip."""

    def predict_both(clip: Clip) -> Float[np.ndarray, "N J 3"]:
        mirrored_m = predict(mirror(clip))[:, clip.skeleton.mirror] * np.array([-1, 1, 1])
        return np.asarray((predict(clip) + mirrored_m) / 2)

    return predict_both


def mirror(clip: Clip) -> Clip:
    """The clip as a mirror shows it: the image's left and right change places, and so do the person's."""
    swap = clip.skeleton.mirror
    return dataclasses.replace(
        clip,
        joints_cam_m=clip.joints_cam_m[:, swap] * np.array([-1, 1, 1], clip.joints_cam_m.dtype),
        keypoints_px=np.array([clip.width_px, 0], clip.keypoints_px.dtype)
        + clip.keypoints_px[:, swap] * np.array([-1, 1], clip.keypoints_px.dtype),
        confidence=clip.confidence[:, swap],
    )
