"""`make bench`: what our wrapping costs, as ratios to bare loops measured in the same run."""

import platform
import tempfile

import torch

from pipelines.schema import made_by
from tests.benchmarks import lifting, training


def main() -> None:
    print(made_by("make bench"))
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(lifting.describe())
    with tempfile.TemporaryDirectory() as folder:
        print(training.describe(folder))


main()
