"""The bundled sample of motion capture."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def sample_mocap() -> Path:
    return Path(__file__).parents[3] / "pipelines" / "sample" / "mocap"
