"""The 39 markers of Plug-in-Gait, and the joints of Human3.6M-17 that lie under them."""

import numpy as np
from jaxtyping import Float

from mpm_model.pose.skeletons import H36M_17
from pipelines.sources.head import HEAD_TOP_M, NOSE_M, level_turn_rad, place_on_head, turn_head

MARKERS = (
    "LFHD", "RFHD", "LBHD", "RBHD", "C7", "T10", "CLAV", "STRN", "RBAK",
    "LSHO", "LUPA", "LELB", "LFRM", "LWRA", "LWRB", "LFIN",
    "RSHO", "RUPA", "RELB", "RFRM", "RWRA", "RWRB", "RFIN",
    "LASI", "RASI", "LPSI", "RPSI",
    "LTHI", "LKNE", "LTIB", "LANK", "LHEE", "LTOE",
    "RTHI", "RKNE", "RTIB", "RANK", "RHEE", "RTOE",
)  # fmt: skip
"""Marker names in the order in which UI-PRMD stores them."""

KNEE_MARKER_M = 0.055
"""From the marker on the knee's outside to the middle of the knee: half its width and half a marker."""
ANKLE_MARKER_M = 0.045
"""The same for the ankle."""
ACROMION_SHARE = 0.17
"""Depth of the shoulder's centre below the acromion, as a share of the distance between both acromions: Rab,
Petuskey and Bagley 2002, Gait & Posture 15."""
WIDEST_PELVIS_M = 0.30
"""Two anterior iliac spines are 0.20-0.30 m apart; markers farther apart than that are not on them."""

_Points = Float[np.ndarray, "T 3"]


def joints_under_markers(
    markers_m: Float[np.ndarray, "T 39 3"],
) -> tuple[Float[np.ndarray, "T 17 3"], float, float]:
    """Joints of Human3.6M-17 in the markers' world (z up); NaN markers make the joints that need them NaN.

    - hips: `harrington_hip_m` from width and depth of the pelvis, here their medians over the take, so that
      the hips keep their distance; a width above `WIDEST_PELVIS_M` is cut to it. pelvis: their midpoint.
      Thighs come out at 0.37-0.46 m in the median of a person, but s08's left one at 0.35 m, 35 mm shorter
      than the right one.
    - knees, ankles: inwards of the marker by `KNEE_MARKER_M`, `ANKLE_MARKER_M`, along the pelvis's left-right
      axis made square to the thigh or shin.
    - shoulders: below the marker by `ACROMION_SHARE`, along the trunk. thorax: their midpoint.
    - elbows: the marker itself, 0.04 m outside of the joint. wrists: midpoint of the two wrist markers.
    - spine: midpoint of the centre of the pelvis markers and the middle between T10 and STRN.
    - nose, head_top: from the centre of the head band, see `head`.

    Returns:
        joints in metres; the width of the pelvis as measured, in metres; by how much the head was turned up,
        in radians (see `level_turn_rad`).
    """
    at = {marker: markers_m[:, index] for index, marker in enumerate(MARKERS)}
    joints: dict[str, np.ndarray] = {}

    front, back = _middle(at["LASI"], at["RASI"]), _middle(at["LPSI"], at["RPSI"])
    left = _unit(at["LASI"] - at["RASI"])
    ahead = _unit(_square_to(front - back, left))
    up = np.cross(ahead, left)
    width_m = _median_length(at["LASI"] - at["RASI"])
    depth_m = _median_length(front - back)
    behind_m, below_m, aside_m = harrington_hip_m(width_m=min(width_m, WIDEST_PELVIS_M), depth_m=depth_m)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        letter = side[0].upper()
        hip = front - behind_m * ahead - below_m * up + sign * aside_m * left
        knee = _inwards(at[f"{letter}KNE"], hip, sign * left, KNEE_MARKER_M)
        joints[f"{side}_hip"], joints[f"{side}_knee"] = hip, knee
        joints[f"{side}_ankle"] = _inwards(at[f"{letter}ANK"], knee, sign * left, ANKLE_MARKER_M)
    joints["pelvis"] = _middle(joints["left_hip"], joints["right_hip"])

    chest = _middle(at["T10"], at["STRN"])
    along = _unit(_middle(at["C7"], at["CLAV"]) - chest)
    drop_m = ACROMION_SHARE * _median_length(at["LSHO"] - at["RSHO"])
    for side in ("left", "right"):
        letter = side[0].upper()
        joints[f"{side}_shoulder"] = at[f"{letter}SHO"] - drop_m * along
        joints[f"{side}_elbow"] = at[f"{letter}ELB"]
        joints[f"{side}_wrist"] = _middle(at[f"{letter}WRA"], at[f"{letter}WRB"])
    joints["thorax"] = _middle(joints["left_shoulder"], joints["right_shoulder"])
    joints["spine"] = _middle(_middle(front, back), chest)

    brow, nape = _middle(at["LFHD"], at["RFHD"]), _middle(at["LBHD"], at["RBHD"])
    temple = _unit(_middle(at["LFHD"], at["LBHD"]) - _middle(at["RFHD"], at["RBHD"]))
    forward = _unit(_square_to(brow - nape, temple))
    turn_rad = level_turn_rad(forward, trunk=joints["thorax"] - joints["pelvis"])
    head_up, forward = turn_head(np.cross(forward, temple), forward, turn_rad=turn_rad)
    for joint, offset_m in (("nose", NOSE_M), ("head_top", HEAD_TOP_M)):
        joints[joint] = place_on_head(_middle(brow, nape), up=head_up, forward=forward, offset_m=offset_m)
    return np.stack([joints[joint] for joint in H36M_17.joints], axis=1), width_m, turn_rad


def harrington_hip_m(*, width_m: float, depth_m: float) -> tuple[float, float, float]:
    """Hip centre from the midpoint of the anterior iliac spines: behind, below, aside.

    Harrington, Zavatsky, Lawson, Yuan and Theologis 2007, J. Biomech. 40: 0.24 depth + 9.9 mm, 0.30 width +
    10.9 mm, 0.33 width + 7.3 mm.
    """
    return 0.24 * depth_m + 0.0099, 0.30 * width_m + 0.0109, 0.33 * width_m + 0.0073


def _inwards(marker: _Points, upper: _Points, outwards: _Points, distance_m: float) -> _Points:
    return np.asarray(marker - distance_m * _unit(_square_to(outwards, _unit(marker - upper))))


def _middle(first: _Points, second: _Points) -> _Points:
    return np.asarray((first + second) / 2)


def _unit(vectors: _Points) -> _Points:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def _square_to(vectors: _Points, axes: _Points) -> _Points:
    return np.asarray(vectors - (vectors * axes).sum(axis=-1, keepdims=True) * axes)


def _median_length(vectors: _Points) -> float:
    lengths = np.linalg.norm(vectors, axis=-1)
    is_seen = np.isfinite(lengths)
    return float(np.median(lengths[is_seen])) if is_seen.any() else float("nan")
