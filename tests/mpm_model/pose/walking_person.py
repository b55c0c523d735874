"""A made-up person who walks before a camera: closed forms for what is to be found."""

import numpy as np

from mpm_model.pose.intrinsics import Intrinsics
from mpm_model.pose.skeletons import H36M_17

INTRINSICS = Intrinsics(focal_px=(1100.0, 1080.0), center_px=(950.0, 560.0))
STANDING_M = {
    "pelvis": (0.0, 0.0, 0.0), "spine": (0.0, -0.25, 0.0), "thorax": (0.0, -0.5, 0.0),
    "nose": (0.0, -0.6, -0.08), "head_top": (0.0, -0.8, 0.0),
    "right_hip": (-0.12, 0.0, 0.0), "right_knee": (-0.12, 0.42, 0.0), "right_ankle": (-0.12, 0.83, 0.0),
    "left_hip": (0.12, 0.0, 0.0), "left_knee": (0.12, 0.42, 0.0), "left_ankle": (0.12, 0.83, 0.0),
    "left_shoulder": (0.18, -0.48, 0.0), "left_elbow": (0.2, -0.2, 0.0), "left_wrist": (0.2, 0.05, 0.0),
    "right_shoulder": (-0.18, -0.48, 0.0), "right_elbow": (-0.2, -0.2, 0.0), "right_wrist": (-0.2, 0.05, 0.0),
}  # fmt: skip
"""Relative to the pelvis, y down, facing a camera that is held level."""
STATURE_M = (0.83 + 0.5 + 0.3) / (1 - 0.039)
_SWUNG = (
    ("left_shoulder", ("left_elbow", "left_wrist"), 0.6),
    ("right_shoulder", ("right_elbow", "right_wrist"), -0.6),
    ("left_hip", ("left_knee", "left_ankle"), -0.5),
    ("right_hip", ("right_knee", "right_ankle"), 0.5),
)


def standing(frames):
    pose_m = np.array([STANDING_M[joint] for joint in H36M_17.joints])
    return np.repeat(pose_m[None], frames, axis=0)


def swinging(time_s):
    """Arms and legs swing once a second, straight, along the line of sight."""
    joints_m = standing(len(time_s))
    for pivot, moved, reach_rad in _SWUNG:
        angle_rad = reach_rad * np.sin(2 * np.pi * time_s)
        start_m = STANDING_M[pivot]
        for joint in moved:
            drop_m = STANDING_M[joint][1] - start_m[1]
            joints_m[:, H36M_17.index(joint), 1] = start_m[1] + drop_m * np.cos(angle_rad)
            joints_m[:, H36M_17.index(joint), 2] = start_m[2] + drop_m * np.sin(angle_rad)
    return joints_m


def seen_px(joints_m, root_m, intrinsics=INTRINSICS):
    joints_cam_m = joints_m + root_m[:, None]
    return intrinsics.to_px(joints_cam_m[..., :2] / joints_cam_m[..., 2:])


def straight_path(time_s, *, start_m=(-1.0, 0.2, 7.0), speed_m_per_s=(0.3, 0.05, -1.0)):
    return np.array(start_m) + time_s[:, None] * np.array(speed_m_per_s)
