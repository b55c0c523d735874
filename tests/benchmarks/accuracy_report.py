"""The tables of `make bench-accuracy`, from the files of its runs."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

SHARES = ("1", "0.1", "0.01")
STARTS = ("scratch", "from_pretrained")
DATASETS = ("cmu", "ui_prmd", "hdm05")
Runs = dict[str, dict[str, list[dict[str, Any]]]]
"""configuration -> run -> one row a seed."""


def read_runs(folder: Path) -> Runs:
    """All finished runs below a folder."""
    runs: Runs = {}
    for file in sorted(folder.glob("*/seed_*/*.json")):
        row = json.loads(file.read_text())
        runs.setdefault(file.parents[1].name, {}).setdefault(row["name"], []).append(row)
    return runs


def spread(values: Sequence[float]) -> str:
    """Mean, and the standard deviation over seeds."""
    if not values:
        return "-"
    return f"{mean(values):.1f} ± {stdev(values):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


def print_report(folder: Path) -> None:
    """Everything that was asked, in order."""
    runs = read_runs(folder)
    for table in (cost_table, lifting_table, pretraining_table, comparison_table):
        print()
        for line in table(runs):
            print(line)
    for name in ("occlusion", "completion"):
        print()
        for line in hidden_table(runs, name):
            print(line)


def figures(rows: Sequence[dict[str, Any]], keypoints: str, dataset: str, metric: str) -> list[float]:
    """One figure a seed; `held out` is the mean of CMU and UI-PRMD."""
    sets = ("cmu", "ui_prmd") if dataset == "held out" else (dataset,)
    return [mean(row["open"][keypoints][each][metric] for each in sets) for row in rows]


def cost_table(runs: Runs) -> list[str]:
    """What each configuration costs."""
    lines = [
        f"{'configuration':<16}{'MMAC/frame, all':>18}{'with centre':>14}{'s lifting':>13}{'s before':>11}"
    ]
    for name, of in runs.items():
        lift = of.get("lift_scratch_1", [])
        before = of.get("pretrained", of.get("pretrained_1", []))
        if not lift:
            continue
        macs = lift[0]["macs_per_frame"]
        lines.append(
            f"{name:<16}{macs['sequence'] / 1e6:>18.3f}{macs['forward'] / 1e6:>14.3f}"
            f"{mean(row['seconds'] for row in lift):>13.0f}{mean(row['seconds'] for row in before):>11.0f}"
        )
    return lines


def lifting_table(runs: Runs) -> list[str]:
    """MPJPE / P-MPJPE in mm, mean and spread over seeds, by data set."""
    lines = ["MPJPE / P-MPJPE mm on the open protocol, mean ± standard deviation over seeds"]
    for keypoints in ("clean", "noisy"):
        lines.append(f"{keypoints + ' 2D':<44}" + "".join(f"{dataset:>28}" for dataset in DATASETS))
        for name, of in runs.items():
            for share, start in [*((s, each) for s in SHARES for each in STARTS), ("1", "scratch_as_long")]:
                if rows := of.get(f"lift_{start}_{share}", []):
                    label = f"{name}, {float(share):.0%} labels, {start.replace('_', ' ')}"
                    cells = [
                        " / ".join(
                            spread(figures(rows, keypoints, dataset, metric))
                            for metric in ("mpjpe_mm", "p_mpjpe_mm")
                        )
                        for dataset in DATASETS
                    ]
                    lines.append(f"{label:<44}" + "".join(f"{cell:>28}" for cell in cells))
    return lines


def pretraining_table(runs: Runs) -> list[str]:
    """What pre-training takes off the error, seed by seed, beside the spread over seeds."""
    lines = ["what pre-training takes off the MPJPE (clean): mean of seeds, spread of both together"]
    for name, of in runs.items():
        for share in SHARES:
            for dataset in ("held out", "hdm05"):
                scratch, after = (
                    figures(of.get(f"lift_{start}_{share}", []), "clean", dataset, "mpjpe_mm")
                    for start in STARTS
                )
                if len(scratch) < 2 or len(after) < 2:
                    continue
                gain = mean(scratch) - mean(after)
                noise = (stdev(scratch) ** 2 + stdev(after) ** 2) ** 0.5
                verdict = "beyond" if gain > noise else "within"
                lines.append(
                    f"{name:<10}{float(share):>5.0%} {dataset:<9} {gain:>6.1f} mm "
                    f"({gain / mean(scratch):>6.1%}), spread {noise:.1f}: {verdict}"
                )
    return lines


def comparison_table(runs: Runs) -> list[str]:
    """How much less our configuration errs than the paper's, both pre-trained, equal frames seen."""
    lines = ["ours against the paper's, pre-trained, all labels (MPJPE; P-MPJPE)"]
    rows = {name: of.get("lift_from_pretrained_1", []) for name, of in runs.items()}
    if not (rows.get("paper") and rows.get("unified")):
        return [*lines, "not both measured"]
    for keypoints in ("clean", "noisy"):
        for dataset in (*DATASETS, "held out"):
            gains = [
                1
                - mean(figures(rows["unified"], keypoints, dataset, metric))
                / mean(figures(rows["paper"], keypoints, dataset, metric))
                for metric in ("mpjpe_mm", "p_mpjpe_mm")
            ]
            lines.append(f"{keypoints:<7}{dataset:<10}" + "; ".join(f"{gain:>7.1%} less" for gain in gains))
    return lines


def hidden_table(runs: Runs, name: str) -> list[str]:
    """Error of the hidden joints in mm, by what was hidden, beside interpolation."""
    lines = [f"{name}: MPJPE of the hidden joints, mm"]
    take: Callable[[dict[str, Any]], dict[str, dict[str, float]]] = lambda row: row[name]  # noqa: E731
    measured = {
        configuration: [take(row) for row in of.get(f"hidden_{name}", [])]
        for configuration, of in runs.items()
    }
    conditions = sorted({key for tables in measured.values() for table in tables for key in table})
    predictors = sorted(
        {who for tables in measured.values() for table in tables for row in table.values() for who in row}
    )
    lines.append(
        f"{'':<42}"
        + "".join(f"{f'{configuration}: {who}':>28}" for configuration in measured for who in predictors)
    )
    for condition in conditions:
        cells = [
            spread([table[condition][who] for table in tables if who in table.get(condition, {})])
            for tables in measured.values()
            for who in predictors
        ]
        lines.append(f"{condition:<42}" + "".join(f"{cell:>28}" for cell in cells))
    return lines
