"""The path of the demo in miniature, on a disk and on a real S3 server: both give the same."""

import json
import re
from importlib import resources
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from command import mpm

from pipelines import storage, storage_folders
from pipelines.poses_table import read_poses
from pipelines.windows_table import read_windows

pytestmark = pytest.mark.ray

SAMPLE = Path(str(resources.files("pipelines") / "sample"))
SMALL = ["--set", "epochs=2", "--set", "batch_windows=32", "--set", "scale.validate_every_epochs=1"]
TINY = ["--set", "network.width=32", "--set", "network.layers=1", "--set", "network.frame_hidden=32"]


@pytest.fixture
def run(ray_session, capsys, monkeypatch):
    def typed(*arguments: object) -> str:
        code, out, err = mpm(capsys, monkeypatch, *arguments)
        assert code == 0, err
        return out

    return typed


CUT = ["--window-frames", 27, "--hop-frames", 9, "--rate-hz", 25]
DETECTIONS = SAMPLE / "detections" / "pose2sim"


def walk_to_pretrained(run, root: str) -> dict[str, str]:
    """Prepare and pre-train below a folder or URL; what each printed."""
    windows = f"{root}/windows"
    source = SAMPLE / "mocap" / "ui_prmd"
    return {
        "prepare": run("prepare", source, "--reader", "ui_prmd", "--out", windows, *CUT),
        "pretrain": run(
            "pretrain", "pretrain_demo", "--data", windows, "--out", f"{root}/pretrained", *SMALL, *TINY
        ),
    }


def walk_on(run, root: str) -> dict[str, str]:
    """Fine-tune and evaluate; what each printed."""
    data = ["--data", f"{root}/windows"]
    pretrained, lifter = f"{root}/pretrained", f"{root}/lifter"
    return {
        "finetune": run("finetune", "finetune_demo", "--init", pretrained, *data, "--out", lifter, *SMALL),
        "evaluate": run("evaluate", "--checkpoint", lifter, *data, "--protocol", "lifting"),
    }


def walk_to_page(run, root: str) -> dict[str, str]:
    """Lift, view and inspect; what each printed."""
    lifter, poses = f"{root}/lifter", f"{root}/poses"
    return {
        "lift": run("lift", DETECTIONS, "--checkpoint", lifter, "--out", poses, "--rate-hz", 60),
        "view": run("view", poses, "--out", f"{root}/page.html"),
        "inspect": run("inspect", poses),
    }


def test_the_path_gives_the_same_on_a_disk_and_on_a_bucket(run, s3_bucket, tmp_path):
    disk, bucket = str(tmp_path / "disk"), f"{s3_bucket}/run"
    said = walk_to_pretrained(run, disk) | walk_on(run, disk) | walk_to_page(run, disk)
    walk_to_pretrained(run, bucket)
    storage_folders.publish_folder(Path(disk) / "lifter", f"{bucket}/lifter", last="card.json")
    walk_to_page(run, bucket)

    ours, theirs = read_windows(f"{disk}/windows"), read_windows(f"{bucket}/windows")
    np.testing.assert_array_equal(ours.ids, theirs.ids)
    np.testing.assert_array_equal(ours.joints_world_m, theirs.joints_world_m)
    weights = [storage.read_bytes(f"{root}/pretrained/model.safetensors") for root in (disk, bucket)]
    assert weights[0] == weights[1]
    poses = [read_poses(f"{root}/poses") for root in (disk, bucket)]
    assert len(poses[0]) == len(poses[1]) == 6
    for ours, theirs in zip(*poses, strict=True):
        assert (ours.source, ours.person) == (theirs.source, theirs.person)
        np.testing.assert_array_equal(ours.joints_rel_m, theirs.joints_rel_m)
    assert storage.exists(f"{bucket}/page.html")

    check_what_was_said(said)
    check_the_folders(Path(disk))
    check_a_second_run(run, Path(disk))


def check_what_was_said(said: dict[str, str]) -> None:
    assert re.search(r"150 windows of 10 people from 34 recordings", said["prepare"])
    assert re.search(r"pretrained: trained; epoch 2, loss \d", said["pretrain"])
    for row in ("mean training pose", "untrained network", "lifted"):
        assert row in said["evaluate"]
    assert "600 poses of 6 people in 4 of 4 videos" in said["lift"]


def check_the_folders(disk: Path) -> None:
    manifest = json.loads((disk / "poses" / "_manifest.json").read_text())
    rows = sum(pq.read_metadata(disk / "poses" / part["name"]).num_rows for part in manifest["parts"])
    assert rows == manifest["totals"]["rows"] == 600
    for name in ("pretrained", "lifter"):
        assert {path.name for path in (disk / name).iterdir() if path.is_file()} == {
            "model.safetensors", "config.json", "card.json", "metrics.json", "curves.png", "run.json",
            "report.html",
        }  # fmt: skip
    card = json.loads((disk / "lifter" / "card.json").read_text())
    assert np.shape(card["mean_training_pose_rel_m"]) == (17, 3)
    assert card["run"]["config"]["epochs"] == 2


def check_a_second_run(run, disk: Path) -> None:
    before = {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()}
    data = ["--data", disk / "windows"]
    again = run("pretrain", "pretrain_demo", *data, "--out", disk / "pretrained", *SMALL, *TINY)
    assert "trained already, nothing to do" in again
    source = SAMPLE / "mocap" / "ui_prmd"
    again = run("prepare", source, "--reader", "ui_prmd", "--out", disk / "windows", *CUT)
    assert "nothing to do" in again
    assert before == {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()}


def test_three_lines_of_the_readme_lift(run, tmp_path):
    """The README's block runs as it stands, on a checkpoint in the place that it names."""
    import torch

    from mpm_model.checkpoint import Checkpoint, save_checkpoint
    from mpm_model.network.config import PoseTransformerConfig
    from mpm_model.network.lifting import LiftingModel
    from mpm_model.pose.skeletons import H36M_17

    readme = (Path(__file__).resolve().parent.parent / "README.md").read_text()
    block = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert block is not None
    torch.manual_seed(0)
    model = LiftingModel(PoseTransformerConfig(frames=27, width=32, layers=1, frame_hidden=32))
    checkpoint = Checkpoint(
        model=model, skeleton=H36M_17, normalisation="person", rate_hz=25.0, card={"made_by": "x"}
    )
    save_checkpoint(tmp_path / "lifter", checkpoint)
    names = {
        "keypoints_px": np.random.default_rng(0).normal(500, 80, (50, 17, 2)),
        "confidence": np.ones((50, 17)),
    }
    exec(block.group(1).replace("demo_out", str(tmp_path)), names)
    assert names["joints_rel_m"].shape == (50, 17, 3)
