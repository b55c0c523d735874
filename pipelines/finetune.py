"""`mpm finetune`: from a pre-trained model, or from nothing, to one that lifts 2D to 3D."""

from collections.abc import Sequence

from pipelines.run_config import FinetuneConfig, load
from pipelines.train import Progress, TrainSummary, run_training


def run(
    config: str,
    *,
    init: str | None,
    data: Sequence[str],
    out: str,
    overrides: Sequence[str] = (),
    progress: Progress,
) -> TrainSummary:
    """Fine-tune to lift on windows of world joints seen through drawn cameras."""
    return run_training(
        load(FinetuneConfig, config, overrides), data=data, out=out, init=init, progress=progress
    )
