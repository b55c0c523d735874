"""Occlusion and completion of `make bench-accuracy`: each limb hidden, beside interpolation."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from pipelines.open_data import OpenData

EVERY_VIEWS = 40
"""Every so many views of the protocol are measured on: an estimate, in a minute."""


def measure_hidden(folder: str, data: OpenData, device: str) -> None:
    """Write `hidden_occlusion.json` and `hidden_completion.json` beside a job's runs, once."""
    if device == "cpu":
        torch.set_num_threads(1)
    runs = Path(folder)
    lifter = "occluded" if (runs / "occluded").exists() else "lift_from_pretrained_1"
    for name, run, measure in (
        ("occlusion", lifter, _occlusion),
        ("completion", "completion", _completion),
    ):
        file = runs / f"hidden_{name}.json"
        if not file.exists():
            file.write_text(
                json.dumps({"name": f"hidden_{name}", name: measure(runs / run, data, device)}, indent=1)
            )


def _occlusion(folder: Path, data: OpenData, device: str) -> dict[str, dict[str, float]]:
    from mpm_model.lifter import Lifter
    from pipelines.protocols.occlusion import score_occlusion

    windows, body = _held_out_and_body(data)
    rows = score_occlusion(Lifter.load(folder, device=device), windows, body=body, every_views=EVERY_VIEWS)
    return {
        row.condition: {
            "model": row.model_on_hidden.mpjpe_mm,
            "interpolated": row.filled_on_hidden.mpjpe_mm,
        }
        for row in rows
        if row.model_on_hidden.joints
    }


def _completion(folder: Path, data: OpenData, device: str) -> dict[str, dict[str, float]]:
    from mpm_model.completer import Completer
    from pipelines.protocols.completion import score_completion

    windows, body = _held_out_and_body(data)
    rows = score_completion(
        Completer.load(folder, device=device, hidden_root="interpolate"),
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
