"""The skeletons that the readers need, and how each becomes the common one, Human3.6M-17.

Joint orders are those of the formats' own documentation; left and right are the subject's own.
"""

from mpm_model.pose.skeleton import Skeleton

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
