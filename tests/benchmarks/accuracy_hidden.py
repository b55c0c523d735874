"""Occlusion and completion of `make bench-accuracy`: each limb hidden, beside interpolation."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from pipelines.open_data import OpenData

EVERY_VIEWS = 41
"""Every so many views of the protocol are measured on: an estimate, in a minute. Odd, to meet all cameras."""


def measure_hidden(folder: str, data: OpenData, device: str) -> None:
    """Write `hidden_occlusion.json` and `hidden_completion.json` beside a job's runs, once."""
    if device == "cpu":
        torch.set_num_threads(1)
    runs = Path(folder)
    for name, measure in (("occlusion", _occlusion), ("completion", _completion)):
        file = runs / f"hidden_{name}.json"
        if not file.exists():
            file.write_text(
                json.dumps({"name": f"hidden_{name}", name: measure(runs, data, device)}, indent=1)
            )


def _occlusion(runs: Path, data: OpenData, device: str) -> dict[str, dict[str, float]]:
    """The network that knows occlusion given 2D with gaps; beside it the lifter given 2D filled in.

    Of our configuration the two are one network. The paper's for occlusion never saw whole 2D, so filled-in
    2D goes to its plain lifter.
    """
    from mpm_model.lifter import Lifter
    from pipelines.protocols.occlusion import score_occlusion

    windows, body = _held_out_and_body(data)
    plain = runs / "lift_from_pretrained_1"
    knowing = runs / "occluded" if (runs / "occluded").exists() else plain
    tables = {
        folder: {
            row.condition: row
            for row in score_occlusion(
                Lifter.load(folder, device=device), windows, body=body, every_views=EVERY_VIEWS
            )
        }
        for folder in {plain, knowing}
    }
    return {
        condition: {
            "model": row.model_on_hidden.mpjpe_mm,
            "interpolated": tables[plain][condition].filled_on_hidden.mpjpe_mm,
        }
        for condition, row in tables[knowing].items()
        if row.model_on_hidden.joints
    }


def _completion(runs: Path, data: OpenData, device: str) -> dict[str, dict[str, float]]:
    from mpm_model.completer import Completer
    from pipelines.protocols.completion import score_completion

    windows, body = _held_out_and_body(data)
    rows = score_completion(
        Completer.load(runs / "completion", device=device, hidden_root="interpolate"),
        windows,
        body=body,
        every_views=EVERY_VIEWS,
    )
    return {row.condition: {"model": row.model_mm, "interpolated": row.interpolated_mm} for row in rows}


@lru_cache
def _held_out_and_body(data: OpenData) -> tuple[Any, Any]:
    from pipelines.protocols.interpolation import mean_body
    from pipelines.windows_table import read_all_windows

    return read_all_windows(data.test, splits=("test",)), mean_body(
        read_all_windows(data.train, splits=("train",))
    )
