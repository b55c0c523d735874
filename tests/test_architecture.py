"""The rules of the house that a machine can hold."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FORBIDDEN = {
    "mpm_model": {
        "ray", "typer", "rich", "pydantic", "yaml", "pyarrow", "fsspec", "s3fs", "scipy", "pandas",
        "matplotlib", "pipelines", "infra", "tests",
    },
    "pipelines": {"infra", "tests"},
}  # fmt: skip
VERBS = {
    "prepare",
    "pretrain",
    "finetune",
    "evaluate",
    "table",
    "lift",
    "complete",
    "calibrate",
    "convert",
    "view",
    "inspect",
    "doctor",
    "fit_noise",
    "submit",
}
MAY_SAY = {"pipelines/cli.py", "pipelines/console.py"}
MOST_LINES = 300


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Full names of the modules a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_point_one_way(package):
    found = {
        str(path.relative_to(ROOT)): sorted(hit)
        for path in sources(package)
        if (hit := {name.split(".")[0] for name in imported(path)} & FORBIDDEN[package])
    }
    assert not found


def test_ray_is_imported_where_it_is_started_or_used_and_nowhere_else():
    allowed = {
        "ray_session",
        "ray_job",
        "train_metrics",
        "parts_on_ray",
        "lift_on_ray",
        "train",
        "train_board",
        "train_worker",
        "train_checks",
        "doctor",
    }
    found = {
        path.stem for path in sources("pipelines") if "ray" in {name.split(".")[0] for name in imported(path)}
    }
    assert found <= allowed


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_verbs_never_import_each_other(verb):
    others = {f"pipelines.{other}" for other in VERBS - {verb}}
    assert not imported(ROOT / "pipelines" / f"{verb}.py") & others


@pytest.mark.parametrize("folder", ["sources", "detections"])
def test_readers_know_no_verb(folder):
    verbs = {f"pipelines.{verb}" for verb in VERBS}
    for path in (ROOT / "pipelines" / folder).glob("*.py"):
        assert not imported(path) & verbs, path


def test_files_have_one_subject_and_stay_short():
    long = {
        str(path.relative_to(ROOT)): lines
        for package in ("mpm_model", "pipelines")
        for path in sources(package)
        if (lines := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert not long


def test_only_the_command_line_prints():
    for package in ("mpm_model", "pipelines"):
        for path in sources(package):
            if str(path.relative_to(ROOT)) in MAY_SAY:
                continue
            calls = {
                node.func.id
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            }
            assert "print" not in calls, path


def test_the_command_line_imports_nothing_heavy():
    import subprocess

    code = "import sys, pipelines.cli; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "numpy", "ray", "pyarrow", "pydantic", "scipy", "pandas", "fsspec", "rich"} & set(
        loaded
    )
