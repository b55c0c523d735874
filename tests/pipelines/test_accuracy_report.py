"""The tables of `make bench-accuracy`, from made-up runs with known answers."""

import json

import pytest

from tests.benchmarks.accuracy_report import comparison_table, hidden_table, pretraining_table, read_runs

ERRORS_MM = {
    ("paper", "scratch"): 200.0,
    ("paper", "from_pretrained"): 100.0,
    ("unified", "scratch"): 60.0,
    ("unified", "from_pretrained"): 50.0,
}


@pytest.fixture
def runs(tmp_path):
    for (configuration, start), error_mm in ERRORS_MM.items():
        for seed in (0, 1):
            folder = tmp_path / configuration / f"seed_{seed}"
            folder.mkdir(parents=True, exist_ok=True)
            figures = {"mpjpe_mm": error_mm + 2 * seed, "p_mpjpe_mm": error_mm / 2, "frames": 1}
            sets = dict.fromkeys(("cmu", "ui_prmd", "hdm05"), figures)
            row = {"name": f"lift_{start}_1", "open": {"clean": sets, "noisy": sets}}
            (folder / f"{row['name']}.json").write_text(json.dumps(row))
            limbs = {"without left arm": {"model": error_mm, "interpolated": 2 * error_mm}}
            hidden = {"name": "hidden_occlusion", "occlusion": limbs}
            (folder / "hidden_occlusion.json").write_text(json.dumps(hidden))
    return read_runs(tmp_path)


def test_ours_is_set_against_the_papers(runs):
    lines = comparison_table(runs)
    assert len(lines) == 9
    assert all("49.5% less;   50.0% less" in line for line in lines[1:])


def test_what_pretraining_takes_off_is_judged_by_the_spread(runs):
    paper, *_, unified = [line for line in pretraining_table(runs)[1:] if "held out" in line]
    assert "100.0 mm ( 49.8%), spread 2.0: beyond" in paper
    assert "10.0 mm ( 16.4%), spread 2.0: beyond" in unified


def test_hidden_joints_stand_beside_interpolation(runs):
    _, header, row = hidden_table(runs, "occlusion")
    assert header.split()[:4] == ["paper:", "interpolated", "paper:", "model"]
    assert row.split()[:3] == ["without", "left", "arm"]
    assert "50.0 ± 0.0" in row
