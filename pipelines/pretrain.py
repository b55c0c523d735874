"""`mpm pretrain`: hide most of a pose sequence and learn to ask for it back."""

from collections.abc import Sequence

from pipelines.run_config import PretrainConfig, load
from pipelines.train import Progress, TrainSummary, run_training


def run(
    config: str, *, data: Sequence[str], out: str, overrides: Sequence[str] = (), progress: Progress
) -> TrainSummary:
    """Pre-train the shared transformer on windows of world joints by masked pose modelling."""
    return run_training(
        load(PretrainConfig, config, overrides), data=data, out=out, init=None, progress=progress
    )
