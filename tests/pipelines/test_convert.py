"""`mpm convert`: the paper's checkpoints become ours and give what the paper's gave, or are refused."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mpm_model.checkpoint import load_checkpoint
from mpm_model.network.lifting import LiftingModel
from mpm_model.network.masked import MaskedPoseModel
from mpm_model.network.refinement import RefinementModel
from mpm_model.pose.skeletons import H36M_16, H36M_17
from tests.command import mpm
from tests.pipelines.reference_goldens import GOLDEN, LIFTING, assert_close, golden
from tests.pipelines.reference_goldens import convert as convert


@pytest.mark.parametrize(
    ("name", "kind", "skeleton", "what"),
    [
        ("pretrain_f27_l3_c64_j17", MaskedPoseModel, H36M_17, "pre-training network"),
        ("completion_f27_l3_c64_j17", MaskedPoseModel, H36M_17, "completion network"),
        ("lift_f27_l3_c64_j17", LiftingModel, H36M_17, "lifting network"),
        ("lift_f81_l3_c32_j16", LiftingModel, H36M_16, "lifting network"),
        ("refine_j17", RefinementModel, H36M_17, "refinement network"),
    ],
)
def test_the_network_is_named_from_the_file_alone(convert, name, kind, skeleton, what):
    checkpoint = convert(name)
    assert type(checkpoint.model) is kind
    assert checkpoint.skeleton == skeleton
    assert (checkpoint.normalisation, checkpoint.rate_hz) == ("screen", 25.0)
    assert checkpoint.card["what"].startswith(what)
    assert checkpoint.card["converted_from"]["file"] == f"{name}.pth"
    sha256 = hashlib.sha256((GOLDEN / f"{name}.pth").read_bytes()).hexdigest()
    assert checkpoint.card["converted_from"]["sha256"] == sha256
    assert "giver" in checkpoint.card["licence"]


def test_another_rate_may_be_said(convert):
    assert convert("lift_f81_l3_c32_j16", "--rate-hz", 50).rate_hz == 50.0


@pytest.mark.parametrize("name", ["pretrain_f27_l3_c64_j17", "completion_f27_l3_c64_j17"])
def test_masked_networks_give_what_the_paper_gives(convert, name):
    wanted, model = golden(name), convert(name).model
    poses = {key: torch.from_numpy(wanted[key]) for key in ("keypoints_2d", "joints_3d")}
    cells = poses["joints_3d"].shape[:-1]
    frame_2d = frame_3d = None
    if "joint_mask" in wanted:
        joint_2d = joint_3d = torch.from_numpy(wanted["joint_mask"])[:, None].expand(cells)
    else:
        joint_2d, joint_3d = (torch.from_numpy(wanted[f"joint_mask_{s}"]).expand(cells) for s in ("2d", "3d"))
        frame_2d, frame_3d = (
            torch.from_numpy(wanted[f"frame_mask_{s}"]).expand(cells[:2]) for s in ("2d", "3d")
        )
    keypoints = {"is_hidden_joint": joint_2d, "is_hidden_frame": frame_2d}
    with torch.inference_mode():
        assert_close(model.reconstruct_2d(poses["keypoints_2d"], **keypoints), wanted["reconstructed_2d"])
        assert_close(model.lift(poses["keypoints_2d"], **keypoints), wanted["lifted_3d"])
        joints = model.reconstruct_3d(poses["joints_3d"], is_hidden_joint=joint_3d, is_hidden_frame=frame_3d)
        assert_close(joints, wanted["reconstructed_3d"])


def test_refinement_gives_what_the_paper_gives(convert):
    wanted = golden("refine_j17")
    both = [torch.from_numpy(wanted[key]) for key in ("joints_3d", "joints_3d_from_camera")]
    with torch.inference_mode():
        assert_close(convert("refine_j17").model(*both), wanted["refined"])


def test_a_conversion_that_is_there_is_left_alone_and_another_is_refused(capsys, monkeypatch, tmp_path):
    out = tmp_path / "out"
    convert = ("convert", GOLDEN / "refine_j17.pth", "--out", out)
    assert mpm(capsys, monkeypatch, *convert)[0] == 0
    before = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    code, said, _ = mpm(capsys, monkeypatch, *convert)
    assert code == 0
    assert "nothing to do" in said
    code, _, error = mpm(capsys, monkeypatch, *convert, "--rate-hz", 50)
    assert code == 2
    assert "holds something else" in error
    assert before == {file.name: file.stat().st_mtime_ns for file in out.iterdir()}


def test_a_conversion_that_was_killed_goes_on(capsys, monkeypatch, tmp_path):
    out = tmp_path / "out"
    convert = ("convert", GOLDEN / "refine_j17.pth", "--out", out)
    assert mpm(capsys, monkeypatch, *convert)[0] == 0
    (out / "card.json").unlink()
    assert mpm(capsys, monkeypatch, *convert)[0] == 0
    assert load_checkpoint(out).architecture == "refinement"


class Mischief:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return os.mkdir, (str(self.victim),)


def sixteen_and_a_half() -> dict[str, Tensor]:
    state = torch.load(GOLDEN / "refine_j17.pth", weights_only=True)
    return {key.replace("post_refine.3", "post_refine.4"): tensor for key, tensor in state.items()}


def of_five_joints() -> dict[str, Tensor]:
    shapes = {"0.weight": (8, 30), "0.bias": (8,), "3.weight": (10, 8), "3.bias": (10,)}
    return {f"module.post_refine.{name}": torch.zeros(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_bytes((GOLDEN / f"{LIFTING[0]}.pth").read_bytes()[:70_000]), "cut short"),
        (lambda path: path.write_text("not a checkpoint"), "another format"),
        (lambda path: torch.save({"conv1.weight": torch.zeros(2)}, path), "something else: conv1.weight"),
        (
            lambda path: torch.save({"module.x": Mischief(path.parent / "executed")}, path),
            "other than tensors",
        ),
        (lambda path: torch.save(Mischief(path.parent / "executed"), path), "other than tensors"),
        (lambda path: torch.save(sixteen_and_a_half(), path), "missing post_refine.3.bias"),
        (lambda path: torch.save(of_five_joints(), path), "network of 5 joints"),
        (lambda path: path.mkdir(), "got a folder"),
        (lambda path: None, "no such file"),
    ],
    ids=["cut", "text", "foreign", "code", "bare code", "renamed", "joints", "folder", "absent"],
)
def test_what_does_not_fit_is_one_line_and_leaves_nothing(capsys, monkeypatch, tmp_path, make, words):
    make(tmp_path / "model.pth")
    before = sorted(tmp_path.iterdir())
    code, said, error = mpm(capsys, monkeypatch, "convert", tmp_path / "model.pth", "--out", tmp_path / "out")
    assert (code, said) == (2, "")
    assert words in error
    assert error.count("\n") == 1
    assert str(tmp_path / "model.pth") in error
    assert sorted(tmp_path.iterdir()) == before


def test_code_in_a_file_is_not_executed_by_the_installed_command(tmp_path):
    content = {"module.x": Mischief(tmp_path / "executed")}
    torch.save(content, tmp_path / "model.pth", pickle_protocol=4)  # of which torch would warn
    command = [sys.executable, "-c", "from pipelines.cli import main; main()"]
    done = subprocess.run(
        [*command, "convert", "model.pth", "--out", "out"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["model.pth"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--to", "caffe"), "--to must be checkpoint or onnx, got 'caffe'"),
        (("--rate-hz", "0"), "--rate-hz must be positive"),
        (("--to", "onnx", "--rate-hz", "50"), "leave it out"),
    ],
)
def test_settings_that_make_no_sense_are_refused(capsys, monkeypatch, tmp_path, options, words):
    code, _, error = mpm(
        capsys, monkeypatch, "convert", GOLDEN / "refine_j17.pth", "--out", tmp_path / "out", *options
    )
    assert code == 2
    assert words in error
    assert not (tmp_path / "out").exists()


def test_both_ends_may_be_urls(capsys, monkeypatch, tmp_path, s3_bucket):
    from pipelines import storage, storage_folders

    storage.write_once(f"{s3_bucket}/model.pth", (GOLDEN / "refine_j17.pth").read_bytes())
    convert = ("convert", f"{s3_bucket}/model.pth", "--out", f"{s3_bucket}/converted")
    code, _, error = mpm(capsys, monkeypatch, *convert)
    assert code == 0, error
    with storage_folders.fetch_folder(f"{s3_bucket}/converted") as folder:
        assert load_checkpoint(folder).card["converted_from"]["file"] == "model.pth"
    assert "nothing to do" in mpm(capsys, monkeypatch, *convert)[1]
