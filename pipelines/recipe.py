"""What a run's configuration stands for: its data in memory, its network, what it is asked for. No Ray."""

import dataclasses

import numpy as np
import torch
from jaxtyping import Int

from mpm_model.checkpoint import Network
from mpm_model.errors import InputError
from mpm_model.learning.batches import Corpus
from mpm_model.learning.objectives import (
    Objective,
    completion,
    lifting,
    lifting_and_completion,
    masked_pose_modelling,
)
from mpm_model.network.lifting import LiftingModel
from mpm_model.network.masked import MaskedPoseModel, UnifiedPoseModel
from mpm_model.pose.skeleton import Skeleton
from pipelines.run_config import FinetuneConfig, PretrainConfig
from pipelines.windows_table import Windows


def to_corpus(windows: Windows, device: torch.device | str, *, frames: int | None = None) -> Corpus:
    """Windows as tensors; samples of `frames` are cut from them at random, by default they are whole."""
    names, numbers = np.unique(windows.dataset, return_inverse=True)
    return Corpus(
        joints_world_m=torch.from_numpy(windows.joints_world_m).to(device),
        is_valid=torch.from_numpy(windows.is_valid).to(device),
        sample_ids=windows.ids,
        skeleton=windows.skeleton,
        rate_hz=windows.rate_hz,
        dataset=numbers.astype(np.int64),
        dataset_names=tuple(names.tolist()),
        sample_frames=frames,
    )


def objective_of(
    config: PretrainConfig | FinetuneConfig,
    skeleton: Skeleton,
    *,
    labelled_ids: Int[np.ndarray, "L"] | None = None,
) -> Objective:
    """What the model is asked for; see `masked_pose_modelling` for `labelled_ids`."""
    if isinstance(config, PretrainConfig):
        return masked_pose_modelling(
            mask=config.mask, loss=config.loss, skeleton=skeleton, seed=config.seed, labelled_ids=labelled_ids
        )
    if config.task == "lifting":
        return lifting()
    learn = completion if config.task == "completion" else lifting_and_completion
    return learn(config=config.completion, skeleton=skeleton, seed=config.seed)


def fresh_model(config: PretrainConfig | FinetuneConfig, pretrained: MaskedPoseModel | None) -> Network:
    """The network of a configuration, drawn from its seed, with what pre-training gives it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if isinstance(config, PretrainConfig):
            return MaskedPoseModel(config.network)
        sizes = config.network if pretrained is None else pretrained.config
        if sizes is None:
            raise InputError("fine-tuning from scratch needs the setting network; or give --init CHECKPOINT")
        sizes = dataclasses.replace(sizes, frame_dropout=config.frame_dropout)
        if config.task == "lifting":
            model = LiftingModel(sizes)
            if pretrained is not None:
                model.start_from(pretrained)
            return model
        whole = (UnifiedPoseModel if config.task == "unified" else MaskedPoseModel)(sizes)
        if pretrained is not None:
            whole.load_state_dict(pretrained.state_dict())
        return whole
