"""The checkpoints of the paper's format among the goldens, and their conversion by the command."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mpm_model.checkpoint import Checkpoint, load_checkpoint
from tests.command import mpm

GOLDEN = Path(__file__).parents[1] / "golden" / "reference_mpm"
LIFTING = ("lift_f27_l3_c64_j17", "lift_f81_l3_c32_j16", "lift_f243_l4_c32_j17")
TOLERANCE = 1e-5


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return dict(arrays)


def assert_close(came: Tensor, wanted: np.ndarray) -> None:
    assert float((came - torch.from_numpy(wanted)).abs().max()) <= TOLERANCE


@pytest.fixture
def convert(capsys, monkeypatch, tmp_path) -> Callable[..., Checkpoint]:
    """Converts a golden and reads what was written."""

    def converted(name: str, *options: object) -> Checkpoint:
        out = tmp_path / "models" / name
        code, _, error = mpm(capsys, monkeypatch, "convert", GOLDEN / f"{name}.pth", "--out", out, *options)
        assert code == 0, error
        return load_checkpoint(out)

    return converted
