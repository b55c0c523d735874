import struct

import pytest

from mpm_model.errors import InputError
from pipelines.curves import draw_curves

PNG = b"\x89PNG\r\n\x1a\n"


def png_size(content):
    assert content.startswith(PNG)
    return struct.unpack(">II", content[16:24])


def test_a_full_run_gives_a_picture_with_four_panels():
    rows = [
        {"step": step, "epoch": step / 10, "loss": 5 / step, "loss_2d": 1 / step, "rate": 1e-3}
        for step in range(1, 101)
    ]
    few = draw_curves(rows)
    rows += [{"step": 100, "validation_loss": 0.06, "validation_mpjpe_mm": 61.0, "validation_pck": 0.9}]
    full = draw_curves(rows)
    assert png_size(full)[0] == png_size(few)[0] == 900
    assert png_size(full)[1] > png_size(few)[1]


def test_data_sets_and_limbs_have_a_panel_each_whatever_else_is_known_of_them():
    row = {"step": 1, "loss": 3.0, "validation_loss": 3.0}
    sets = {f"validation_{name}/loss": 3.0 for name in ("cmu", "ui_prmd")}
    limbs = {f"validation_limb/{side}_{limb}": 90.0 for side in ("left", "right") for limb in ("arm", "leg")}
    heights = [png_size(draw_curves([row | more]))[1] for more in ({}, sets, sets | limbs)]
    assert heights[2] - heights[1] == heights[1] - heights[0] > 0
    detail = {f"validation_{name}/loss_2d": 1.0 for name in ("cmu", "ui_prmd")}
    assert draw_curves([row | sets | detail]) == draw_curves([row | sets])


@pytest.mark.parametrize(
    "row",
    [
        {"step": 1, "loss": 3.0},
        {"step": 1, "rate": 1e-3},
        {"step": 1, "validation_mpjpe_mm": 80.0},
        {"step": 1, "loss": float("nan"), "loss_3d": 0.0},
    ],
)
def test_one_row_is_enough(row):
    assert draw_curves([row]).startswith(PNG)


def test_rows_without_anything_to_draw_are_refused_by_name():
    with pytest.raises(InputError, match=r"loss_\*.*got 1 rows with epoch, step"):
        draw_curves([{"step": 1, "epoch": 0.1}])
    with pytest.raises(InputError, match="got 0 rows with nothing"):
        draw_curves([])


def test_drawing_leaves_no_figure_behind():
    import matplotlib.pyplot as plt

    draw_curves([{"step": 1, "loss": 1.0}])
    assert plt.get_fignums() == []


def test_the_same_rows_give_the_same_picture():
    rows = [{"step": step, "loss": 1 / step} for step in range(1, 5)]
    assert draw_curves(rows) == draw_curves(rows)
