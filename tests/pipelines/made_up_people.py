"""A made-up person for tests: stands, swings arms and legs, and is filmed from the front."""

import numpy as np

from mpm_model.pose.skeletons import H36M_17
from pipelines.poses_table import PoseTrack

STANDING_M = {
    "pelvis": (0.0, 0.0, 0.0), "spine": (0.0, -0.25, 0.0), "thorax": (0.0, -0.5, 0.0),
    "nose": (0.0, -0.6, -0.08), "head_top": (0.0, -0.72, 0.0),
    "right_hip": (-0.13, 0.0, 0.0), "right_knee": (-0.14, 0.42, 0.0), "right_ankle": (-0.14, 0.84, 0.02),
    "left_hip": (0.13, 0.0, 0.0), "left_knee": (0.14, 0.42, 0.0), "left_ankle": (0.14, 0.84, 0.02),
    "left_shoulder": (0.18, -0.48, 0.0), "right_shoulder": (-0.18, -0.48, 0.0),
    "left_elbow": (0.25, -0.2, 0.0), "left_wrist": (0.27, 0.05, 0.0),
    "right_elbow": (-0.25, -0.2, 0.0), "right_wrist": (-0.27, 0.05, 0.0),
}  # fmt: skip
"""Relative to the pelvis, camera axes (x right, y down, z forward), facing the camera."""


def make_track(*, frames=60, rate_hz=50.0, source="videos/cam1", person="0", jitter_px=0.0, **replaced):
    """A swinging person of constant bone lengths, seen without perspective at 400 px per metre."""
    standing_m = np.array([STANDING_M[joint] for joint in H36M_17.joints])
    time_s = np.arange(frames) / rate_hz
    joints_m = np.repeat(standing_m[None], frames, axis=0)
    for root, moved, sign in (
        ("left_shoulder", ("left_elbow", "left_wrist"), 1),
        ("right_shoulder", ("right_elbow", "right_wrist"), -1),
        ("left_hip", ("left_knee", "left_ankle"), -1),
        ("right_hip", ("right_knee", "right_ankle"), 1),
    ):
        angle = sign * 0.9 * np.sin(2 * np.pi * time_s)  # about the x axis: towards the camera and away
        pivot_m = standing_m[H36M_17.index(root)]
        for joint in moved:
            x, y, z = standing_m[H36M_17.index(joint)] - pivot_m
            turned = [
                np.full(frames, x),
                np.cos(angle) * y - np.sin(angle) * z,
                np.sin(angle) * y + np.cos(angle) * z,
            ]
            joints_m[:, H36M_17.index(joint)] = pivot_m + np.stack(turned, axis=-1)
    rng = np.random.default_rng(0)
    keypoints_px = 400 * joints_m[..., :2] + [320, 400] + jitter_px * rng.normal(size=(frames, 17, 2))
    track = {
        "source": source,
        "person": person,
        "frames": np.arange(frames),
        "time_s": time_s,
        "joints_rel_m": joints_m.astype(np.float32),
        "is_observed": np.ones((frames, 17), dtype=bool),
        "keypoints_px": keypoints_px.astype(np.float32),
        "confidence": np.full((frames, 17), 0.8, dtype=np.float32),
        "width_px": 640,
        "height_px": 800,
    }
    return PoseTrack(**(track | replaced))
