"""Tracks of any detector as tracks of the common skeleton."""

from dataclasses import replace

import numpy as np

from mpm_model.errors import InputError
from mpm_model.pose.skeleton import Skeleton
from mpm_model.pose.skeletons import H36M_16, H36M_17, H36M_17_TO_16, TO_H36M_17
from pipelines.detections.track import Track


def to_skeleton(track: Track, skeleton: Skeleton) -> Track:
    """The track with the keypoints that a lifter wants: Human3.6M's 17, or 16 without the thorax.

    What is approximated is added to its notes. InputError if there is no conversion.
    """
    if skeleton == H36M_17:
        return to_h36m_17(track)
    if skeleton != H36M_16:
        raise InputError(
            f"no conversion of detections to {skeleton.name}; there is one to h36m_17 and h36m_16"
        )
    if track.skeleton == H36M_16:
        return track
    common = to_h36m_17(track)
    return replace(
        common,
        keypoints_px=H36M_17_TO_16.points(common.keypoints_px),
        confidence=H36M_17_TO_16.confidence(common.confidence),
        skeleton=H36M_16,
    )


def to_h36m_17(track: Track) -> Track:
    """The track with Human3.6M-17 keypoints; what was approximated is added to its notes.

    A keypoint made of one that nobody saw comes out unseen: confidence 0, at (0, 0). InputError if the
    skeleton has no conversion.
    """
    conversion = TO_H36M_17.get(track.skeleton.name)
    if conversion is None:
        raise InputError(
            f"{track.source}, person {track.person}: "
            f"no conversion from {track.skeleton.name} to {H36M_17.name}; "
            f"there is one from {', '.join(TO_H36M_17)}"
        )
    if track.skeleton == H36M_17:
        keypoints_px = np.where(track.confidence[..., None] > 0, track.keypoints_px, np.float32(0))
        return replace(track, keypoints_px=keypoints_px)
    confidence = conversion.confidence(track.confidence)
    keypoints_px = np.where(confidence[..., None] > 0, conversion.points(track.keypoints_px), np.float32(0))
    notes = track.notes
    if conversion.approximations:
        stated = "; ".join(f"{joint}: {text}" for joint, text in conversion.approximations.items())
        notes += (f"{H36M_17.name} made from {track.skeleton.name}: {stated}.",)
    return replace(track, keypoints_px=keypoints_px, confidence=confidence, skeleton=H36M_17, notes=notes)
