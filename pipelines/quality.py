"""How steady lifted poses are, measured without any truth: against the 2D input they were lifted from.

Bones do not change their length, so what a limb's 3D length varies is error. The same limb in the image
varies by foreshortening and by the detector's jitter: that is what the 3D would do if depth were ignored.
Steadiness alone proves little, as a pose that never moves is perfectly steady: read it beside how well the
3D, laid over the image, meets the 2D input, and how alike left and right are.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import median_filter

from mpm_model.pose.metrics import MM_PER_M, bone_lengths
from mpm_model.pose.skeleton import Skeleton
from pipelines.poses_table import PoseTrack

LIMBS = {"thigh": "knee", "shin": "ankle", "upper arm": "elbow", "forearm": "wrist"}
"""The limbs of a side, and the joint at whose bone's end each lies."""
MIN_FRAMES = 10
"""Frames in which a limb must be seen for its variation to be measured."""
_MIN_KEYPOINTS = 6
_SMOOTHING_S = 1.0
_MAD_TO_STD = 1.4826
"""Median absolute deviation to standard deviation, for normally distributed values."""


@dataclass(frozen=True, kw_only=True)
class LimbQuality:
    """How much one limb's length varies over the frames in which the detector saw both its ends."""

    frames: int
    """Frames measured."""
    length_m: float
    """Median 3D length."""
    variation_3d: float
    """Standard deviation over mean of the 3D length."""
    variation_2d: float
    """The same of its length in the image over the person's size there: see `person_size_px`."""
    robust_variation_3d: float
    """1.4826 times the median absolute deviation, over the median: blind to a few wild frames."""
    robust_variation_2d: float
    """The same in the image."""

    @property
    def ratio(self) -> float:
        """3D over 2D variation: below 1 the lifted limb is steadier than its input."""
        return _share(self.variation_3d, self.variation_2d)


@dataclass(frozen=True, kw_only=True)
class TrackQuality:
    """Steadiness of one track."""

    limbs: Mapping[str, LimbQuality]
    """By name (`left thigh`); without limbs that were seen in fewer than `MIN_FRAMES` frames."""
    asymmetry: Mapping[str, float]
    """Left minus right median length over their mean, by limb (`thigh`)."""
    image_error: float
    """How far the 3D, laid over the image, misses the seen keypoints: see the function of that name."""
    jitter_3d_mm: float
    """Mean length of the second difference of the joints, relative to the pelvis, in mm per squared frame."""
    jitter_3d_across_mm: float
    """The same of its part across the image (x and y), which alone the 2D input knows."""
    jitter_2d_mm: float
    """The same of the 2D input, at the scale at which it has the body's size in metres."""

    @property
    def steadier_limbs(self) -> int:
        """Limbs that vary less in 3D than in the image."""
        return sum(limb.variation_3d < limb.variation_2d for limb in self.limbs.values())

    def median_variation(self, dimensions: int) -> float:
        """Median over the limbs of their variation in 3 or 2 dimensions; NaN without limbs."""
        values = [limb.variation_3d if dimensions == 3 else limb.variation_2d for limb in self.limbs.values()]
        return float(np.median(values)) if values else float("nan")


def measure_quality(track: PoseTrack) -> TrackQuality:
    """Limb variation, asymmetry and jitter of a track; what cannot be measured is NaN or left out."""
    skeleton = track.skeleton
    is_seen = track.is_observed & np.isfinite(track.keypoints_px).all(-1)
    size_px = person_size_px(track.keypoints_px, is_seen, step_s=step_s(track))
    lengths_m = bone_lengths(track.joints_rel_m, skeleton)
    lengths_2d = bone_lengths(track.keypoints_px, skeleton) / size_px[:, None]
    limbs, medians_m = {}, {}
    for name, end in LIMBS.items():
        for side in ("left", "right"):
            bone = [child for child, _ in skeleton.bones].index(f"{side}_{end}")
            both_seen = is_seen[:, skeleton.bone_indices[bone]].all(-1) & np.isfinite(lengths_2d[:, bone])
            if both_seen.sum() < MIN_FRAMES:
                continue
            limb = _measure_limb(lengths_m[both_seen, bone], lengths_2d[both_seen, bone])
            limbs[f"{side} {name}"] = limb
            medians_m[side, name] = limb.length_m
    asymmetry = {
        name: _share(2 * (medians_m["left", name] - right_m), medians_m["left", name] + right_m)
        for (side, name), right_m in medians_m.items()
        if side == "right" and ("left", name) in medians_m
    }
    jitter_3d_mm, jitter_3d_across_mm, jitter_2d_mm = _measure_jitter(track, is_seen, size_px, skeleton)
    return TrackQuality(
        limbs=limbs,
        asymmetry=asymmetry,
        image_error=image_error(track.joints_rel_m[..., :2], track.keypoints_px, is_seen),
        jitter_3d_mm=jitter_3d_mm,
        jitter_3d_across_mm=jitter_3d_across_mm,
        jitter_2d_mm=jitter_2d_mm,
    )


def person_size_px(
    keypoints_px: Float[np.ndarray, "N J 2"], is_seen: Bool[np.ndarray, "N J"], *, step_s: float
) -> Float[np.ndarray, "N"]:
    """How large the person is in each image: the overall scale, which is no limb's.

    Root mean square distance of the seen keypoints from their mean, median over a second. Frames with fewer
    than 6 seen keypoints take part by interpolation; if there are no others, all sizes are NaN.
    """
    spread_px = _spread(keypoints_px, is_seen)
    is_known = (is_seen.sum(1) >= _MIN_KEYPOINTS) & (spread_px > 0)
    if not is_known.any():
        return np.full(len(keypoints_px), np.nan)
    places = np.arange(len(spread_px))
    spread_px = np.interp(places, places[is_known], spread_px[is_known])
    window = 2 * round(_SMOOTHING_S / step_s / 2) + 1
    return np.asarray(median_filter(spread_px, size=window, mode="nearest"))


def image_error(
    across_m: Float[np.ndarray, "N J 2"],
    keypoints_px: Float[np.ndarray, "N J 2"],
    is_seen: Bool[np.ndarray, "N J"],
) -> float:
    """Root mean square distance of the seen keypoints from the 3D's x and y, over the person's size.

    The 3D is laid over each image by the scale and shift that fit best (scaled orthography, so perspective
    within the body counts as error). Median over the frames with 6 seen keypoints or more; 0 is perfect, 1 as
    bad as all joints in one point.
    """
    is_used = is_seen.sum(1) >= _MIN_KEYPOINTS
    is_seen = is_seen[is_used]
    image, body = _centred(keypoints_px[is_used], is_seen), _centred(across_m[is_used], is_seen)
    size_of_image, size_of_body = np.square(image).sum((1, 2)), np.square(body).sum((1, 2))
    common = (image * body).sum((1, 2))
    has_size = (size_of_image > 0) & (size_of_body > 0)
    if not has_size.any():
        return float("nan")
    # The best scale leaves 1 - cosine^2 of the square; a mirrored pose (negative scale) is no fit at all.
    cosine = np.maximum(common[has_size], 0) / np.sqrt(size_of_image[has_size] * size_of_body[has_size])
    return float(np.median(np.sqrt(np.maximum(1 - np.square(cosine), 0))))


def step_s(track: PoseTrack) -> float:
    """Time between neighbouring frames: the median over the track; a second for a single frame."""
    return float(np.median(np.diff(track.time_s))) if len(track.time_s) > 1 else 1.0


def _centred(
    points: Float[np.ndarray, "N J C"], is_seen: Bool[np.ndarray, "N J"]
) -> Float[np.ndarray, "N J C"]:
    """The seen points relative to their mean; the others 0."""
    points = np.where(is_seen[..., None], points, 0.0)
    middle = points.sum(1, keepdims=True) / np.maximum(is_seen.sum(1), 1)[:, None, None]
    return np.where(is_seen[..., None], points - middle, 0.0)


def _spread(points: Float[np.ndarray, "N J C"], is_seen: Bool[np.ndarray, "N J"]) -> Float[np.ndarray, "N"]:
    """Root mean square distance of the seen points from their mean."""
    squares = np.square(_centred(points, is_seen)).sum((1, 2))
    return np.asarray(np.sqrt(squares / np.maximum(is_seen.sum(1), 1)))


def _measure_limb(lengths_m: np.ndarray, lengths_2d: np.ndarray) -> LimbQuality:
    return LimbQuality(
        frames=len(lengths_m),
        length_m=float(np.median(lengths_m)),
        variation_3d=_share(lengths_m.std(), lengths_m.mean()),
        variation_2d=_share(lengths_2d.std(), lengths_2d.mean()),
        robust_variation_3d=_robust_variation(lengths_m),
        robust_variation_2d=_robust_variation(lengths_2d),
    )


def _robust_variation(values: np.ndarray) -> float:
    middle = np.median(values)
    return _share(_MAD_TO_STD * np.median(np.abs(values - middle)), middle)


def _share(part: float, whole: float) -> float:
    """NaN of a whole that is nothing, such as a limb of no length."""
    return float(part / whole) if whole > 0 else float("nan")


def _measure_jitter(
    track: PoseTrack, is_seen: np.ndarray, size_px: np.ndarray, skeleton: Skeleton
) -> tuple[float, float, float]:
    """3D, 3D across the image, 2D: over the same cells, seen in three frames in a row with their pelvis."""
    nothing = float("nan")
    if len(track.frames) < 3 or np.isnan(size_px).all():
        return nothing, nothing, nothing
    pelvis = skeleton.index("pelvis")
    across_m = track.joints_rel_m[..., :2]
    size_m = np.median(_spread(across_m, is_seen)[is_seen.sum(1) >= _MIN_KEYPOINTS])
    input_m = (track.keypoints_px - track.keypoints_px[:, pelvis, None]) * (size_m / size_px)[:, None, None]
    steps = np.diff(track.frames)
    is_usual = steps == np.median(steps)
    is_seen = is_seen & is_seen[:, pelvis, None]
    cells = is_seen[:-2] & is_seen[1:-1] & is_seen[2:] & (is_usual[:-1] & is_usual[1:])[:, None]
    cells[:, pelvis] = False

    def jitter_mm(points_m: np.ndarray) -> float:
        bends_m = np.linalg.norm(np.diff(points_m, n=2, axis=0), axis=-1)[cells]
        return MM_PER_M * float(bends_m.mean()) if len(bends_m) else nothing

    return jitter_mm(track.joints_rel_m), jitter_mm(across_m), jitter_mm(input_m)
