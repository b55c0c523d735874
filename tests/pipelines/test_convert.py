"""`mpm convert`: the paper's checkpoints become ours and give what the paper's gave, or are refused."""

import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mpm_model.checkpoint import Checkpoint, load_checkpoint
from mpm_model.errors import InputError
from mpm_model.network.lifting import LiftingModel
from mpm_model.network.masked import MaskedPoseModel
from mpm_model.network.refinement import RefinementModel
from mpm_model.pose.skeletons import H36M_16, H36M_17, SKELETONS
from pipelines import cli
from pipelines.poses_table import read_poses

GOLDEN = Path(__file__).parents[1] / "golden" / "reference_mpm"
LIFTING = ("lift_f27_l3_c64_j17", "lift_f81_l3_c32_j16", "lift_f243_l4_c32_j17")
TOLERANCE = 1e-5


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return dict(arrays)


def mpm(capsys, monkeypatch, *arguments: object) -> tuple[int, str, str]:
    """Exit code, output and error of a command in this process."""
    monkeypatch.setattr(sys, "argv", ["mpm", *map(str, arguments)])
    try:
        cli.main()
        code = 0
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.fixture
def convert(capsys, monkeypatch, tmp_path):
    """Converts a golden and reads what was written."""

    def converted(name: str, *options: object) -> Checkpoint:
        out = tmp_path / "models" / name
        code, _, error = mpm(capsys, monkeypatch, "convert", GOLDEN / f"{name}.pth", "--out", out, *options)
        assert code == 0, error
        return load_checkpoint(out)

    return converted


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


def assert_close(came: Tensor, wanted: np.ndarray) -> None:
    assert float((came - torch.from_numpy(wanted)).abs().max()) <= TOLERANCE


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


WIDTH_PX, HEIGHT_PX = 1024, 768


def write_tracks(folder: Path, wanted: dict[str, np.ndarray], skeleton: str) -> Path:
    """An npz file for each window of a golden: its 2D in pixels, by the inverse of `screen`."""
    folder.mkdir()
    half_px = np.array([WIDTH_PX, HEIGHT_PX]) / 2
    for window, keypoints_screen in enumerate(wanted["keypoints_2d"].astype(np.float64)):
        np.savez(
            folder / f"{window}.npz",
            keypoints_px=(keypoints_screen * half_px[0] + half_px).astype(np.float32),
            skeleton=skeleton,
            rate_hz=25.0,
            width_px=WIDTH_PX,
            height_px=HEIGHT_PX,
        )
    return folder


@pytest.mark.parametrize("name", LIFTING)
def test_lifting_through_the_command_gives_what_the_paper_gives(capsys, monkeypatch, tmp_path, convert, name):
    wanted, checkpoint = golden(name), convert(name)
    tracks = write_tracks(tmp_path / "tracks", wanted, checkpoint.skeleton.name)
    lift = ("lift", tracks, "--checkpoint", tmp_path / "models" / name)
    for mode in ("fast", "exact"):
        code, _, error = mpm(capsys, monkeypatch, *lift, "--out", tmp_path / mode, "--mode", mode)
        assert code == 0, error
        poses = {Path(track.source).stem: track for track in read_poses(str(tmp_path / mode), skeleton=None)}
        assert len(poses) == len(wanted["keypoints_2d"])
        for window, sequence_m in enumerate(wanted["joints_3d_sequence"]):
            track = poses[str(window)]
            assert track.skeleton == checkpoint.skeleton
            lifted_m, expected_m = track.joints_rel_m, sequence_m
            if mode == "exact":  # of one window only the frame in its middle sees no frame repeated
                middle = len(sequence_m) // 2
                lifted_m, expected_m = lifted_m[[middle]], wanted["joints_3d_center"][window]
            assert np.abs(lifted_m - expected_m).max() <= TOLERANCE


def test_poses_of_sixteen_joints_are_viewed_and_inspected(capsys, monkeypatch, tmp_path, convert):
    name = "lift_f81_l3_c32_j16"
    convert(name)
    tracks = write_tracks(tmp_path / "tracks", golden(name), "h36m_16")
    out = tmp_path / "poses"
    lift = ("lift", tracks, "--checkpoint", tmp_path / "models" / name, "--out", out)
    assert mpm(capsys, monkeypatch, *lift)[0] == 0
    code, said, error = mpm(capsys, monkeypatch, "inspect", out)
    assert (code, error) == (0, "")
    assert "skeleton: h36m_16" in said
    assert "left thigh" in said
    assert mpm(capsys, monkeypatch, "view", out, "--out", tmp_path / "page.html")[0] == 0
    page = (tmp_path / "page.html").read_text()
    assert "left_wrist" in page
    assert "thorax" not in page
    with pytest.raises(InputError, match="wanted skeleton 'h36m_17', got 'h36m_16'"):
        read_poses(str(out))


@pytest.mark.parametrize(("name", "joints"), [("lift_f27_l3_c64_j17", 17), ("lift_f81_l3_c32_j16", 16)])
def test_detections_of_any_skeleton_come_to_the_joints_of_the_checkpoint(
    capsys, monkeypatch, tmp_path, convert, name, joints
):
    convert(name)
    rng = np.random.default_rng(0)
    for skeleton in ("coco_17", "h36m_17", "h36m_16"):
        np.savez(
            tmp_path / f"{skeleton}.npz",
            keypoints_px=rng.uniform(100, 600, (30, len(SKELETONS[skeleton]), 2)),
            skeleton=skeleton,
            rate_hz=25.0,
            width_px=WIDTH_PX,
            height_px=HEIGHT_PX,
        )
        lift = ("lift", tmp_path / f"{skeleton}.npz", "--checkpoint", tmp_path / "models" / name)
        assert mpm(capsys, monkeypatch, *lift, "--out", tmp_path / skeleton)[0] == 0
        (track,) = read_poses(str(tmp_path / skeleton), skeleton=None)
        assert track.joints_rel_m.shape == (30, joints, 3)


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
    torch.save({"module.x": Mischief(tmp_path / "executed")}, tmp_path / "model.pth")
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


@pytest.fixture
def to_onnx(capsys, monkeypatch, tmp_path, convert):
    """Converts a golden to a folder of ours and that to ONNX; the command's code, output and error."""

    def converted(name: str, out: str) -> tuple[int, str, str]:
        pytest.importorskip("onnxruntime")
        folder = tmp_path / "models" / name
        if not folder.exists():
            convert(name)
        return mpm(capsys, monkeypatch, "convert", folder, "--to", "onnx", "--out", tmp_path / out)

    return converted


def run_onnx(file: Path, **inputs: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, inputs)
    return outputs


def test_an_onnx_lifter_gives_what_the_paper_gives_and_says_what_it_is(tmp_path, to_onnx):
    name, wanted = "lift_f81_l3_c32_j16", golden("lift_f81_l3_c32_j16")
    code, said, error = to_onnx(name, "lifter.onnx")
    assert (code, error) == (0, "")
    assert "keypoints, is_hidden -> joints_rel_m, center_rel_m" in said
    keypoints = wanted["keypoints_2d"]
    for windows in (slice(None), slice(1)):
        came = run_onnx(
            tmp_path / "lifter.onnx",
            keypoints=keypoints[windows],
            is_hidden=np.zeros(keypoints[windows].shape[:-1], bool),
        )
        for joints, key in zip(came, ("joints_3d_sequence", "joints_3d_center"), strict=True):
            assert joints.shape == wanted[key][windows].shape
            assert np.abs(joints - wanted[key][windows]).max() <= TOLERANCE
    import onnx

    model = onnx.load(tmp_path / "lifter.onnx")
    said_inside = {entry.key: entry.value for entry in model.metadata_props}
    assert said_inside["mpm.skeleton"] == "h36m_16"
    assert said_inside["mpm.normalisation"] == "screen"
    assert said_inside["mpm.rate_hz"] == "25"
    assert "metres" in said_inside["mpm.units"]
    assert "giver" in said_inside["mpm.card"]
    assert b"/pipelines/" not in (tmp_path / "lifter.onnx").read_bytes()
    assert "nothing to do" in to_onnx(name, "lifter.onnx")[1]
    (tmp_path / "lifter.onnx").write_bytes(b"\xffnot ONNX")
    code, _, error = to_onnx(name, "lifter.onnx")
    assert code == 2
    assert "something else stands there" in error


def test_a_pre_trained_network_gives_two_onnx_files(tmp_path, to_onnx):
    name = "pretrain_f27_l3_c64_j17"
    code, _, error = to_onnx(name, "one.onnx")
    assert code == 2
    assert "two files" in error
    assert to_onnx(name, "onnx")[0] == 0
    model, wanted = load_checkpoint(tmp_path / "models" / name).model, golden(name)
    is_hidden = np.broadcast_to(wanted["joint_mask_3d"], wanted["joints_3d"].shape[:-1])
    (completed,) = run_onnx(
        tmp_path / "onnx" / "complete.onnx", given_joints_rel_m=wanted["joints_3d"], is_hidden=is_hidden
    )
    (lifted,) = run_onnx(
        tmp_path / "onnx" / "lift.onnx", keypoints=wanted["keypoints_2d"], is_hidden=is_hidden
    )
    masks = {"is_hidden_joint": torch.from_numpy(is_hidden.copy()), "is_hidden_frame": None}
    with torch.inference_mode():
        assert_close(model.reconstruct_3d(torch.from_numpy(wanted["joints_3d"]), **masks), completed)
        assert_close(model.lift(torch.from_numpy(wanted["keypoints_2d"]), **masks), lifted)


def test_a_refinement_network_and_a_file_of_the_papers_code_are_no_onnx(
    capsys, monkeypatch, tmp_path, to_onnx
):
    code, _, error = to_onnx("refine_j17", "refine.onnx")
    assert code == 2
    assert "a refinement network is not exported" in error
    code, _, error = mpm(
        capsys, monkeypatch, "convert", GOLDEN / "refine_j17.pth", "--to", "onnx", "--out", tmp_path / "o"
    )
    assert code == 2
    assert "without --to onnx" in error
    assert not (tmp_path / "o").exists()


def test_without_the_packages_one_line_says_how_to_get_them(monkeypatch, tmp_path, to_onnx):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "onnxscript" else found(name, *rest)
    )
    code, said, error = to_onnx("lift_f81_l3_c32_j16", "lifter.onnx")
    assert (code, said) == (2, "")
    assert error == "mpm: --to onnx needs onnxscript: pip install 'mpm-on-ray[onnx]'\n"


def test_an_onnx_file_that_differs_from_torch_is_not_written(monkeypatch, tmp_path, to_onnx):
    from pipelines import onnx_file

    monkeypatch.setattr(onnx_file, "export", lambda *_, **__: b"")
    for difference in (2e-4, float("nan")):
        monkeypatch.setattr(onnx_file, "largest_difference", lambda *_, d=difference: d)
        with pytest.raises(RuntimeError, match="ONNX Runtime and torch differ"):
            to_onnx("lift_f81_l3_c32_j16", "lifter.onnx")
        assert not (tmp_path / "lifter.onnx").exists()
