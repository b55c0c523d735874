"""Lifting frame after frame, as a camera gives them."""

from collections import deque

import numpy as np
from jaxtyping import Float

from mpm_model.errors import InputError
from mpm_model.lifter import Lifter


class StreamingLifter:
    """Lifts one person frame by frame: each pose is what mode `causal` makes of the whole track.

    Of the past it keeps what one window of the model sees. After a long gap, or for another person, take
    another one.
    """

    def __init__(
        self,
        lifter: Lifter,
        *,
        rate_hz: float | None = None,
        width_px: int | None = None,
        height_px: int | None = None,
    ) -> None:
        """Begin a track of this rate (default: the model's) and image size; see `Lifter.__call__`.

        InputError unless the lifter's mode is `causal`.
        """
        if lifter.mode != "causal":
            raise InputError(f"a stream has no future: give a lifter of mode causal, got {lifter.mode}")
        self._lifter = lifter
        self._rate_hz, self._width_px, self._height_px = rate_hz, width_px, height_px
        self._past: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=lifter.context_frames(rate_hz))

    def push(
        self, keypoints_px: Float[np.ndarray, "J 2"], confidence: Float[np.ndarray, "J"] | None = None
    ) -> Float[np.ndarray, "J 3"]:
        """The pose of the next frame, as `Lifter` gives it; a frame nobody saw is given with confidence 0.

        InputError as from `Lifter`; such a frame is not counted.
        """
        if confidence is None:
            confidence = np.ones(len(keypoints_px))
        joints = len(self._lifter.skeleton)
        if keypoints_px.shape != (joints, 2) or confidence.shape != (joints,):
            raise InputError(
                f"keypoints_px and confidence must be ({joints}, 2) and ({joints},) of "
                f"{self._lifter.skeleton.name}, got {keypoints_px.shape} and {confidence.shape}"
            )
        frame = (np.array(keypoints_px, np.float32), np.array(confidence, np.float32))
        seen_px, sure = zip(*self._past, frame, strict=True)
        joints_rel_m = self._lifter(
            np.stack(seen_px),
            np.stack(sure),
            rate_hz=self._rate_hz,
            width_px=self._width_px,
            height_px=self._height_px,
            only=slice(len(seen_px) - 1, None),
        )
        self._past.append(frame)
        return np.asarray(joints_rel_m[0])
