"""The devices there are, for tests of what must be the same on all of them."""

import pytest
import torch

NEEDS_GPU = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"))
DEVICES = ["cpu", pytest.param("cuda", marks=NEEDS_GPU)]
