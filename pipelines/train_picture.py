"""What a model makes of a few validation windows, as one picture: given, hidden, true and filled in."""

import dataclasses

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mpm_model.checkpoint import Network
from mpm_model.learning.batches import Batch, Corpus
from mpm_model.learning.masking import draw_hidden
from mpm_model.learning.objectives import hidden_in_3d
from mpm_model.learning.scoring import SCORING_EPOCH, scoring_batches
from mpm_model.pose.skeleton import Skeleton
from pipelines.pose_strips import Strip, draw_strips
from pipelines.run_config import FinetuneConfig, PretrainConfig

WINDOWS = 2
"""Windows that are shown, of as many data sets as can be."""


def draw_reconstruction(
    model: Network, corpus: Corpus, *, config: PretrainConfig | FinetuneConfig, title: str = ""
) -> bytes:
    """A PNG, 900 pixels wide, of what the model makes of a few windows of a corpus.

    Pre-training: 2D and 3D, some frames and joints hidden. Fine-tuning: the 2D that is lifted and what comes
    of it, or partial 3D and its completion. Windows, views and what is hidden are the same at every call with
    the same corpus and seed, so pictures of a run can be laid side by side; they are those of validation.
    ValueError if the corpus is empty.
    """
    strips = look(model, choose_windows(corpus, WINDOWS), config=config)
    return draw_strips(strips, skeleton=corpus.skeleton, title=title)


def choose_windows(corpus: Corpus, windows: int) -> Corpus:
    """A few windows of a corpus, from the middle of its data sets in turn."""
    if not len(corpus):
        raise ValueError("there are no windows to draw")
    of_dataset = [
        np.flatnonzero(corpus.dataset == number) for number in np.unique(corpus.dataset)[:windows].tolist()
    ]
    share = -(-windows // len(of_dataset))
    rows = np.concatenate([_spread(rows, share) for rows in of_dataset])[:windows]
    on_device = torch.from_numpy(rows).to(corpus.joints_world_m.device)
    return dataclasses.replace(
        corpus,
        joints_world_m=corpus.joints_world_m[on_device],
        is_valid=corpus.is_valid[on_device],
        sample_ids=corpus.sample_ids[rows],
        dataset=corpus.dataset[rows],
    )


def _spread(rows: Int[np.ndarray, "N"], count: int) -> Int[np.ndarray, "count"]:
    """Some of many, evenly spread and not at the ends; all if there are not as many."""
    if len(rows) <= count:
        return rows
    chosen: np.ndarray = rows[((np.arange(count) + 0.5) / count * len(rows)).astype(int)]
    return chosen


@torch.inference_mode()
def look(model: Network, corpus: Corpus, *, config: PretrainConfig | FinetuneConfig) -> list[Strip]:
    """Ask the model what its run asks of it, about all windows of a small corpus.

    The model is in evaluation mode meanwhile, and afterwards in the mode it was in.
    """
    (batch,) = scoring_batches(corpus, seed=config.seed, view=config.view, batch_windows=len(corpus))
    was_training = model.training
    model.eval()
    try:
        if isinstance(config, PretrainConfig):
            return _filled_in(model, batch, config=config)
        strips = []
        if config.task in ("lifting", "unified"):
            lifted = model.sequence(batch.keypoints, batch.is_hidden)  # type: ignore[operator]
            strips = [_in_2d(batch, "2D, given", ~batch.is_hidden, None), _lifted(batch, lifted)]
        if config.task in ("completion", "unified"):
            strips.append(_completed(model, batch, config=config, skeleton=corpus.skeleton))
        return strips
    finally:
        model.train(was_training)


def _filled_in(model: Network, batch: Batch, *, config: PretrainConfig) -> list[Strip]:
    """Both modalities, each from what is left of it."""
    frames, joints = batch.is_valid.shape[1:]
    is_given: dict[str, Tensor] = {}
    masks: dict[str, Tensor] = {}
    for stream, is_missing in (("2d", batch.is_hidden), ("3d", ~batch.is_valid)):
        hidden = draw_hidden(
            stream,
            seed=config.seed,
            epoch=SCORING_EPOCH,
            sample_ids=batch.sample_ids,
            frames=frames,
            joints=joints,
            config=config.mask,
        )
        device = batch.is_valid.device
        is_hidden_frame = torch.as_tensor(hidden.is_hidden_frame).to(device)
        is_hidden_joint = torch.as_tensor(hidden.is_hidden_joint).to(device) | is_missing
        masks |= {f"is_hidden_frame_{stream}": is_hidden_frame, f"is_hidden_joint_{stream}": is_hidden_joint}
        is_given[stream] = ~(is_hidden_joint | is_hidden_frame[..., None])
    answer = model(batch.keypoints, batch.joints_rel_m, **masks)
    return [
        _in_2d(batch, "2D", is_given["2d"], answer.keypoints),
        _in_3d(batch, "3D", is_given["3d"], answer.joints),
    ]


def _completed(model: Network, batch: Batch, *, config: FinetuneConfig, skeleton: Skeleton) -> Strip:
    is_hidden = hidden_in_3d(
        batch, config=config.completion, skeleton=skeleton, seed=config.seed, epoch=SCORING_EPOCH
    )
    completed = model.reconstruct_3d(batch.joints_rel_m, is_hidden_joint=is_hidden, is_hidden_frame=None)  # type: ignore[operator]
    return _in_3d(batch, "3D, completed", ~is_hidden, completed)


def _in_2d(batch: Batch, label: str, is_given: Tensor, answer: Tensor | None) -> Strip:
    return Strip(
        label=label,
        truth=_array(batch.true_keypoints),
        is_known=_array(batch.has_image),
        given=_array(batch.keypoints[..., :2]),
        is_given=_array(is_given),
        answer=None if answer is None else _array(answer),
    )


def _in_3d(batch: Batch, label: str, is_given: Tensor, answer: Tensor) -> Strip:
    truth = _array(batch.joints_rel_m)
    return Strip(
        label=label,
        truth=truth,
        is_known=_array(batch.is_valid),
        given=truth,
        is_given=_array(is_given),
        answer=_array(answer),
    )


def _lifted(batch: Batch, answer: Tensor) -> Strip:
    strip = _in_3d(batch, "3D, lifted", ~batch.is_hidden, answer)
    return dataclasses.replace(strip, given=None)


def _array(values: Tensor) -> np.ndarray:
    kept: np.ndarray = values.float().cpu().numpy() if values.is_floating_point() else values.cpu().numpy()
    return kept
