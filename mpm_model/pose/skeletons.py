"""The skeletons that the readers need, and how each becomes the common one, Human3.6M-17.

Joint orders are those of the formats' own documentation; left and right are the subject's own.
"""

from collections.abc import Mapping

from mpm_model.pose.skeleton import Conversion, Skeleton

H36M_17 = Skeleton(
    name="h36m_17",
    joints=(
        "pelvis",
        "right_hip", "right_knee", "right_ankle",
        "left_hip", "left_knee", "left_ankle",
        "spine", "thorax", "nose", "head_top",
        "left_shoulder", "left_elbow", "left_wrist",
        "right_shoulder", "right_elbow", "right_wrist",
    ),
    parents=(
        None,
        "pelvis", "right_hip", "right_knee",
        "pelvis", "left_hip", "left_knee",
        "pelvis", "spine", "thorax", "nose",
        "thorax", "left_shoulder", "left_elbow",
        "thorax", "right_shoulder", "right_elbow",
    ),
)  # fmt: skip
"""Human3.6M's 17 joints in the order of VideoPose3D and all that came after; the common skeleton."""

H36M_16 = Skeleton(
    name="h36m_16",
    joints=tuple(joint for joint in H36M_17.joints if joint != "thorax"),
    parents=tuple(
        "spine" if parent == "thorax" else parent
        for joint, parent in zip(H36M_17.joints, H36M_17.parents, strict=True)
        if joint != "thorax"
    ),
)
"""Human3.6M's joints without the thorax: what MPM takes of MPI-INF-3DHP, whose `nose` is the middle of the
head and whose `head_top` lies halfway from there to the top."""

COCO_17 = Skeleton(
    name="coco_17",
    joints=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear",
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
    parents=(
        None, "nose", "nose", "left_eye", "right_eye",
        "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
        "left_shoulder", "right_shoulder", "left_hip", "right_hip", "left_knee", "right_knee",
    ),
)  # fmt: skip
"""COCO's keypoints; of YOLO-pose, ViTPose, RTMPose and many others. It has no midline below the nose."""

COCO_18 = Skeleton(
    name="coco_18",
    joints=(
        "nose", "neck",
        "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
        "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
        "right_eye", "left_eye", "right_ear", "left_ear",
    ),
    parents=(
        "neck", None,
        "neck", "right_shoulder", "right_elbow", "neck", "left_shoulder", "left_elbow",
        "neck", "right_hip", "right_knee", "neck", "left_hip", "left_knee",
        "nose", "nose", "right_eye", "left_eye",
    ),
)  # fmt: skip
"""OpenPose's first model: COCO's keypoints and a neck midway between the shoulders."""

_FEET = (
    "left_big_toe", "left_small_toe", "left_heel",
    "right_big_toe", "right_small_toe", "right_heel",
)  # fmt: skip
_FEET_PARENTS = (
    "left_ankle", "left_big_toe", "left_ankle",
    "right_ankle", "right_big_toe", "right_ankle",
)  # fmt: skip

BODY_25 = Skeleton(
    name="body_25",
    joints=(
        "nose", "neck",
        "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
        "mid_hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
        "right_eye", "left_eye", "right_ear", "left_ear",
        *_FEET,
    ),
    parents=(
        "neck", "mid_hip",
        "neck", "right_shoulder", "right_elbow", "neck", "left_shoulder", "left_elbow",
        None, "mid_hip", "right_hip", "right_knee", "mid_hip", "left_hip", "left_knee",
        "nose", "nose", "right_eye", "left_eye",
        *_FEET_PARENTS,
    ),
)  # fmt: skip
"""OpenPose's standard model. Neck and mid_hip were trained as the middle of the shoulders and of the hips."""

BODY_25B = Skeleton(
    name="body_25b",
    joints=(*COCO_17.joints, "upper_neck", "head_top", *_FEET),
    parents=(
        "upper_neck", "nose", "nose", "left_eye", "right_eye",
        "upper_neck", "upper_neck", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
        "left_shoulder", "right_shoulder", "left_hip", "right_hip", "left_knee", "right_knee",
        None, "upper_neck",
        *_FEET_PARENTS,
    ),
)  # fmt: skip
"""OpenPose's experimental model, also 25 points: no middle of the hips, but the top of the neck and of the
head."""

BLAZEPOSE_33 = Skeleton(
    name="blazepose_33",
    joints=(
        "nose",
        "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye", "right_eye_outer",
        "left_ear", "right_ear", "left_mouth", "right_mouth",
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_pinky", "right_pinky", "left_index", "right_index", "left_thumb", "right_thumb",
        "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
        "left_heel", "right_heel", "left_foot_index", "right_foot_index",
    ),
    parents=(
        None,
        "nose", "left_eye_inner", "left_eye", "nose", "right_eye_inner", "right_eye",
        "left_eye_outer", "right_eye_outer", "nose", "nose",
        "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
        "left_wrist", "right_wrist", "left_wrist", "right_wrist", "left_wrist", "right_wrist",
        "left_shoulder", "right_shoulder", "left_hip", "right_hip", "left_knee", "right_knee",
        "left_ankle", "right_ankle", "left_ankle", "right_ankle",
    ),
)  # fmt: skip
"""MediaPipe Pose."""

SKELETONS: Mapping[str, Skeleton] = {
    skeleton.name: skeleton
    for skeleton in (H36M_17, H36M_16, COCO_17, COCO_18, BODY_25, BODY_25B, BLAZEPOSE_33)
}
"""All skeletons by the name that files carry."""


def _middle(*joints: str) -> dict[str, float]:
    return {joint: 1 / len(joints) for joint in joints}


def _blend(*parts: tuple[float, Mapping[str, float]]) -> dict[str, float]:
    """Weights of a weighted sum of points that are weighted sums themselves."""
    blended: dict[str, float] = {}
    for share, weights in parts:
        for joint, weight in weights.items():
            blended[joint] = blended.get(joint, 0.0) + share * weight
    return blended


_LIMBS = tuple(
    f"{side}_{part}"
    for side in ("left", "right")
    for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
)


def _detector_to_h36m_17(
    source: Skeleton,
    *,
    pelvis: Mapping[str, float],
    thorax: Mapping[str, float],
    head_top: Mapping[str, float] | None = None,
    head_reach: float = 1.8,
) -> Conversion:
    """The conversion that all detectors share; only where the midline comes from differs.

    Without a point for the top of the head it lies on the line from the thorax through the middle of the
    ears, `head_reach` times as far as the ears. On the 320 real BODY_25B detections with both ears seen
    (Pose2Sim's four-camera sample) 1.8 misses the detector's own top of the head by a median of 0.10 and in
    nine of ten frames less than 0.20 of the length from the top of the neck to the top of the head.
    """
    middles = {"pelvis": "the middle of the hips", "thorax": "the middle of the shoulders"}
    stated = {
        joint: text if len(weights) > 1 else f"the detector's {next(iter(weights))}, {text}"
        for (joint, text), weights in zip(middles.items(), (pelvis, thorax), strict=True)
    }
    stated["spine"] = "halfway from pelvis to thorax"
    stated["nose"] = "the tip of the nose, some centimetres before Human3.6M's point inside the head"
    if head_top is None:
        ears = _middle("left_ear", "right_ear")
        head_top = _blend((head_reach, ears), (1 - head_reach, thorax))
        stated["head_top"] = f"{head_reach:g} times as far from the thorax as the middle of the ears"
    return Conversion(
        source=source,
        target=H36M_17,
        weights={
            **{limb: {limb: 1.0} for limb in _LIMBS},
            "pelvis": pelvis,
            "spine": _blend((0.5, pelvis), (0.5, thorax)),
            "thorax": thorax,
            "nose": {"nose": 1.0},
            "head_top": head_top,
        },
        approximations=stated,
    )


_HIPS = _middle("left_hip", "right_hip")
_SHOULDERS = _middle("left_shoulder", "right_shoulder")

_CONVERSIONS = (
    Conversion(source=H36M_17, target=H36M_17, weights={joint: {joint: 1.0} for joint in H36M_17.joints}),
    _detector_to_h36m_17(COCO_17, pelvis=_HIPS, thorax=_SHOULDERS),
    _detector_to_h36m_17(COCO_18, pelvis=_HIPS, thorax={"neck": 1.0}),
    _detector_to_h36m_17(BODY_25, pelvis={"mid_hip": 1.0}, thorax={"neck": 1.0}),
    _detector_to_h36m_17(BODY_25B, pelvis=_HIPS, thorax=_SHOULDERS, head_top={"head_top": 1.0}),
    # MediaPipe's ears sit lower: on a video that both saw, 2.0 misses BODY_25B's top by 0.14 (median).
    _detector_to_h36m_17(BLAZEPOSE_33, pelvis=_HIPS, thorax=_SHOULDERS, head_reach=2.0),
    Conversion(
        source=H36M_16,
        target=H36M_17,
        weights={**{joint: {joint: 1.0} for joint in H36M_16.joints}, "thorax": _SHOULDERS},
        approximations={
            "thorax": "the middle of the shoulders",
            "nose": "the middle of the head",
            "head_top": "of MPI-INF-3DHP halfway from the middle of the head to its top",
        },
    ),
)

TO_H36M_17: Mapping[str, Conversion] = {conversion.source.name: conversion for conversion in _CONVERSIONS}
"""How each skeleton becomes Human3.6M-17, by the skeleton's name.

A keypoint that nobody saw contributes nothing: whatever is made of it comes out with confidence 0. Hips are
where the detectors put them, a few centimetres from the joint centres that motion capture gives.
"""

H36M_17_TO_16 = Conversion(
    source=H36M_17, target=H36M_16, weights={joint: {joint: 1.0} for joint in H36M_16.joints}
)
"""Human3.6M-17 without the thorax, for lifters of 16 joints."""
