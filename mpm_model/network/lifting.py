"""Lifting: 3D poses from 2D poses, the fine-tuning network of the paper."""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from mpm_model.errors import refuse
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.masked import Lifted, MaskedPoseModel
from mpm_model.network.transformer import StridedLayer
from mpm_model.network.trunk import PoseEmbedding, PoseHead, Trunk, check_window, hide, learnt

LAYERS_WITH_POSITIONS = 3
"""Strided layers, from the first on, that have a table of positions."""
SHARED_SIZES = (
    "frames", "joints", "width", "layers", "heads", "feed_forward", "frame_hidden",
    "positions", "norms", "keypoint_channels", "spatial_layers", "spatial_width",
)  # fmt: skip
"""Sizes in which a lifting network and the pre-trained network it starts from must agree."""


class StridedReduction(nn.Module):
    """Takes the features of T frames to those of one, a strided layer for each factor of T."""

    def __init__(self, config: PoseTransformerConfig) -> None:
        super().__init__()
        steps = config.steps
        self.layers = nn.ModuleList(StridedLayer(config, stride=step) for step in steps)
        # The paper's tables all have T rows, of which later layers use the first few.
        self.positions = nn.ParameterList(
            learnt(config.frames, config.width) for _ in steps[:LAYERS_WITH_POSITIONS]
        )

    def forward(self, features: Float[Tensor, "B T D"]) -> Float[Tensor, "B 1 D"]:
        """Features of the frame in the middle."""
        for number, layer in enumerate(self.layers):
            if number < len(self.positions):
                features = features + self.positions[number][: features.shape[1]]
            features = layer(features)
        return features


class LiftingModel(nn.Module):
    """3D poses from 2D poses (Zhang et al. 2023, arXiv 2306.17201).

    Hidden joints enter as the learnt token that pre-training hid joints with; the paper lifts without one.
    """

    def __init__(self, config: PoseTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.hidden_keypoint = learnt(config.keypoint_channels)
        self.embed_2d = PoseEmbedding(config, coordinates=config.keypoint_channels)
        self.trunk = Trunk(config)
        self.reduction = StridedReduction(config)
        self.center_head = PoseHead(config, coordinates=3)
        self.sequence_head = PoseHead(config, coordinates=3)

    def forward(
        self, keypoints: Float[Tensor, "B T J C_in"], *, is_hidden: Bool[Tensor, "B T J"] | None = None
    ) -> Lifted:
        """Lift the frame in the middle and all frames.

        `is_hidden=None` means that every joint was seen; the token then takes no part, and no gradient.
        """
        features = self._features(keypoints, is_hidden)
        return Lifted(
            center=self.center_head(self.reduction(features)), sequence=self.sequence_head(features)
        )

    def sequence(
        self, keypoints: Float[Tensor, "B T J C_in"], is_hidden: Bool[Tensor, "B T J"] | None = None
    ) -> Float[Tensor, "B T J 3"]:
        """Lift all frames at once, without the strided layers: what archives want."""
        poses: Tensor = self.sequence_head(self._features(keypoints, is_hidden))
        return poses

    def start_from(self, pretrained: MaskedPoseModel) -> None:
        """Copy the 2D embedding, the shared parts and the token for hidden joints from pre-training.

        InputError names the sizes in which the two networks differ. The reduction and both heads stay
        as they are: pre-training has none.
        """
        ours, theirs = self.config, pretrained.config
        refuse(
            "a lifting network must have the sizes of the pre-trained network it starts from; set them alike",
            [
                f"{name} is {getattr(ours, name)} here and {getattr(theirs, name)} there"
                for name in SHARED_SIZES
                if getattr(ours, name) != getattr(theirs, name)
            ],
        )
        self.hidden_keypoint.data.copy_(pretrained.hidden_keypoint.data)
        self.embed_2d.load_state_dict(pretrained.embed_2d.state_dict())
        self.trunk.load_state_dict(pretrained.trunk.state_dict())

    def _features(
        self, keypoints: Float[Tensor, "B T J C_in"], is_hidden: Bool[Tensor, "B T J"] | None
    ) -> Float[Tensor, "B T D"]:
        check_window("keypoints", keypoints, self.config, coordinates=self.config.keypoint_channels)
        if is_hidden is not None:
            keypoints = hide(keypoints, is_hidden, self.hidden_keypoint)
        features: Tensor = self.trunk(self.embed_2d(keypoints))
        return features
