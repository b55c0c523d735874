"""Masked pose modelling: the pre-training and completion network of the paper."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.transformer import Stack, TransformerLayer, norm_of
from mpm_model.network.trunk import PoseEmbedding, PoseHead, Trunk, check_window, hide, learnt, window_turns


class Reconstruction(NamedTuple):
    """What `MaskedPoseModel` makes of a window of 2D and a window of 3D poses, all frames and joints."""

    keypoints: Float[Tensor, "B T J 2"]
    """2D poses, in the space that went in."""
    joints: Float[Tensor, "B T J 3"]
    """3D poses, in the space that went in."""


class Lifted(NamedTuple):
    """3D poses made of a window of 2D poses."""

    center: Float[Tensor, "B 1 J 3"]
    """The frame in the middle; of the paper's lifting network, from its strided layers."""
    sequence: Float[Tensor, "B T J 3"]
    """All frames at once."""


class Decoder(nn.Module):
    """A modality's own transformer layers and its head."""

    def __init__(self, config: PoseTransformerConfig, *, coordinates: int) -> None:
        super().__init__()
        self.layers = Stack(*(TransformerLayer(config) for _ in range(config.decoder_layers)))
        self.head = PoseHead(config, coordinates=coordinates)
        self.head_width = config.width // config.heads if config.positions == "rotary" else 0

    def forward(self, features: Float[Tensor, "B T D"]) -> Float[Tensor, "B T J C"]:
        """Poses of all frames."""
        turns = window_turns(features, None, self.head_width) if self.head_width else None
        poses: Tensor = self.head(self.layers(features, turns))
        return poses


class MaskedPoseModel(nn.Module):
    """Fills in hidden frames and joints of 2D and of 3D poses (Zhang et al. 2023, arXiv 2306.17201).

    Hidden frames are taken away before anything is computed of them, as in a masked autoencoder (He et
    al. 2022); hidden joints are replaced in input space by a learnt token. Masks are each sample's own,
    but every sample of a batch hides the same number of frames. In training, batch norm of the per-frame
    layers sees the frames that are not hidden; in evaluation, hidden values have no way into the output.

    Completion of partial 3D poses is the same network with no frame hidden and `decoder_layers=2`.
    """

    def __init__(self, config: PoseTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.hidden_keypoint = learnt(config.keypoint_channels)
        self.hidden_joint = learnt(3)
        self.hidden_frame = learnt(config.width)
        self.embed_2d = PoseEmbedding(config, coordinates=config.keypoint_channels)
        self.embed_3d = PoseEmbedding(config, coordinates=3)
        self.trunk = Trunk(config)
        self.encoder_norm = norm_of(config.width, config)
        self.decoder_position = learnt(config.frames, config.width) if config.positions == "table" else None
        self.decode_2d = Decoder(config, coordinates=2)
        self.decode_3d = Decoder(config, coordinates=3)

    def forward(
        self,
        keypoints: Float[Tensor, "B T J C_in"],
        joints: Float[Tensor, "B T J 3"],
        *,
        is_hidden_joint_2d: Bool[Tensor, "B T J"],
        is_hidden_frame_2d: Bool[Tensor, "B T"],
        is_hidden_joint_3d: Bool[Tensor, "B T J"],
        is_hidden_frame_3d: Bool[Tensor, "B T"],
    ) -> Reconstruction:
        """Reconstruct both modalities, each from itself; the two windows need not show the same motion."""
        return Reconstruction(
            keypoints=self.reconstruct_2d(
                keypoints, is_hidden_joint=is_hidden_joint_2d, is_hidden_frame=is_hidden_frame_2d
            ),
            joints=self.reconstruct_3d(
                joints, is_hidden_joint=is_hidden_joint_3d, is_hidden_frame=is_hidden_frame_3d
            ),
        )

    def reconstruct_2d(
        self,
        keypoints: Float[Tensor, "B T J C_in"],
        *,
        is_hidden_joint: Bool[Tensor, "B T J"],
        is_hidden_frame: Bool[Tensor, "B T"] | None,
    ) -> Float[Tensor, "B T J 2"]:
        """2D poses from partly hidden 2D poses."""
        features = self.encode_2d(keypoints, is_hidden_joint=is_hidden_joint, is_hidden_frame=is_hidden_frame)
        poses: Tensor = self.decode_2d(features)
        return poses

    def reconstruct_3d(
        self,
        joints: Float[Tensor, "B T J 3"],
        *,
        is_hidden_joint: Bool[Tensor, "B T J"],
        is_hidden_frame: Bool[Tensor, "B T"] | None,
    ) -> Float[Tensor, "B T J 3"]:
        """3D poses from partly hidden 3D poses."""
        features = self.encode_3d(joints, is_hidden_joint=is_hidden_joint, is_hidden_frame=is_hidden_frame)
        poses: Tensor = self.decode_3d(features)
        return poses

    def lift(
        self,
        keypoints: Float[Tensor, "B T J C_in"],
        *,
        is_hidden_joint: Bool[Tensor, "B T J"],
        is_hidden_frame: Bool[Tensor, "B T"] | None,
    ) -> Float[Tensor, "B T J 3"]:
        """3D poses from partly hidden 2D poses: the way in of one modality, the way out of the other."""
        features = self.encode_2d(keypoints, is_hidden_joint=is_hidden_joint, is_hidden_frame=is_hidden_frame)
        poses: Tensor = self.decode_3d(features)
        return poses

    def encode_2d(
        self,
        keypoints: Float[Tensor, "B T J C_in"],
        *,
        is_hidden_joint: Bool[Tensor, "B T J"],
        is_hidden_frame: Bool[Tensor, "B T"] | None,
    ) -> Float[Tensor, "B T D"]:
        """Features of 2D poses for `decode_2d` and `decode_3d`, hidden frames filled with their token."""
        check_window("keypoints", keypoints, self.config, coordinates=self.config.keypoint_channels)
        poses = hide(keypoints, is_hidden_joint, self.hidden_keypoint)
        return self._encode(poses, embed=self.embed_2d, is_hidden_frame=is_hidden_frame)

    def encode_3d(
        self,
        joints: Float[Tensor, "B T J 3"],
        *,
        is_hidden_joint: Bool[Tensor, "B T J"],
        is_hidden_frame: Bool[Tensor, "B T"] | None,
    ) -> Float[Tensor, "B T D"]:
        """Features of 3D poses for `decode_3d`, hidden frames filled with their token."""
        check_window("joints", joints, self.config, coordinates=3)
        poses = hide(joints, is_hidden_joint, self.hidden_joint)
        return self._encode(poses, embed=self.embed_3d, is_hidden_frame=is_hidden_frame)

    def _encode(
        self,
        poses: Float[Tensor, "B T J C"],
        *,
        embed: nn.Module,
        is_hidden_frame: Bool[Tensor, "B T"] | None,
    ) -> Float[Tensor, "B T D"]:
        if is_hidden_frame is None:
            return self._placed(self.encoder_norm(self.trunk(embed(poses))))
        seen = seen_frames(is_hidden_frame)  # (B, T_seen)
        seen_poses = poses.take_along_dim(seen[:, :, None, None], dim=1)  # (B, T_seen, J, C)
        features = self.encoder_norm(self.trunk(embed(seen_poses), frame_index=seen))  # (B, T_seen, D)
        tokens = self.hidden_frame.expand(*is_hidden_frame.shape, -1)  # (B, T, D)
        in_order = tokens.scatter(1, seen[:, :, None].expand_as(features), features.to(tokens.dtype))
        return self._placed(in_order)

    def _placed(self, features: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        return features if self.decoder_position is None else features + self.decoder_position


class UnifiedPoseModel(MaskedPoseModel):
    """The pre-trained network fine-tuned as it is, for lifting and completion at once: one set of weights.

    Every frame is given, every joint of it may be hidden. The paper fine-tunes another network for each task
    and leaves the 3D decoder behind; here it goes on from what pre-training taught it. `frames` is the
    length of the windows it was trained on; with rotary positions any length goes in.
    """

    def forward(  # type: ignore[override]
        self, keypoints: Float[Tensor, "B T J C_in"], *, is_hidden: Bool[Tensor, "B T J"] | None = None
    ) -> Lifted:
        """Lift all frames; the frame in the middle is one of them."""
        sequence = self.sequence(keypoints, is_hidden)
        middle = keypoints.shape[1] // 2
        return Lifted(center=sequence[:, middle : middle + 1], sequence=sequence)

    def sequence(
        self, keypoints: Float[Tensor, "B T J C_in"], is_hidden: Bool[Tensor, "B T J"] | None = None
    ) -> Float[Tensor, "B T J 3"]:
        """3D poses of all frames from 2D poses."""
        if is_hidden is None:
            is_hidden = torch.zeros(keypoints.shape[:-1], dtype=torch.bool, device=keypoints.device)
        return self.lift(keypoints, is_hidden_joint=is_hidden, is_hidden_frame=None)

    def complete(
        self, joints: Float[Tensor, "B T J 3"], *, is_hidden: Bool[Tensor, "B T J"]
    ) -> Float[Tensor, "B T J 3"]:
        """3D poses of all frames from partly hidden 3D poses, relative to the root."""
        return self.reconstruct_3d(joints, is_hidden_joint=is_hidden, is_hidden_frame=None)


def seen_frames(is_hidden_frame: Bool[Tensor, "B T"]) -> Int[Tensor, "B T_seen"]:
    """Numbers of the frames that are not hidden, in order, for each sample.

    ValueError if samples hide different numbers of frames, or all.
    """
    counts = (~is_hidden_frame).sum(dim=1)
    fewest, most = torch.stack(torch.aminmax(counts)).tolist()
    if fewest != most or fewest == 0:
        raise ValueError(
            "every sample must hide the same number of frames, and not all of them; "
            f"of {is_hidden_frame.shape[1]} frames {fewest} to {most} are not hidden"
        )
    return is_hidden_frame.to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
