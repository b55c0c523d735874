"""Mixing a lifted pose with the back-projection of its input."""

import pytest
import torch

from mpm_model.errors import InputError
from mpm_model.network.refinement import RefinementConfig, RefinementModel


@pytest.mark.parametrize(("logit", "takes"), [(50.0, "lifted"), (-50.0, "back_projected")])
def test_full_trust_takes_x_and_y_of_one_side_and_always_the_lifted_depth(logit, takes):
    model = RefinementModel(RefinementConfig(joints=4)).eval()
    torch.nn.init.zeros_(model.weigh.weight)
    torch.nn.init.constant_(model.weigh.bias, logit)
    sides = {"lifted": torch.randn(2, 3, 4, 3), "back_projected": torch.randn(2, 3, 4, 3)}
    refined = model(**sides)
    torch.testing.assert_close(refined[..., :2], sides[takes][..., :2])
    assert torch.equal(refined[..., 2], sides["lifted"][..., 2])


def test_sizes_that_cannot_be_are_all_named():
    with pytest.raises(
        InputError, match=r"joints must .* got 0; hidden must .* got -1; dropout must .* got 1"
    ):
        RefinementConfig(joints=0, hidden=-1, dropout=1)
