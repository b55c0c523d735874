"""`mpm convert --to onnx`: what ONNX Runtime makes of the files, and what is refused."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from mpm_model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.masked import UnifiedPoseModel
from mpm_model.pose.skeletons import H36M_17
from tests.command import mpm
from tests.pipelines.reference_goldens import GOLDEN, TOLERANCE, assert_close, golden
from tests.pipelines.reference_goldens import convert as convert


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


def test_a_unified_network_lifts_and_completes_with_confidence_and_turned_positions(
    capsys, monkeypatch, tmp_path
):
    pytest.importorskip("onnxruntime")
    sizes = PoseTransformerConfig(
        frames=9, width=16, layers=1, heads=2, feed_forward=16, frame_hidden=16,
        positions="rotary", norms="standard", keypoint_channels=5,
    )  # fmt: skip
    model = UnifiedPoseModel(sizes).eval()
    made = Checkpoint(model=model, skeleton=H36M_17, normalisation="both", rate_hz=25.0, card={})
    save_checkpoint(tmp_path / "unified", made)
    command = ("convert", tmp_path / "unified", "--to", "onnx", "--out", tmp_path / "onnx")
    code, said, error = mpm(capsys, monkeypatch, *command)
    assert (code, error) == (0, "")
    assert "given_joints_rel_m, is_hidden -> joints_rel_m" in said
    rng = np.random.default_rng(0)
    keypoints = rng.normal(size=(5, 9, 17, 5)).astype(np.float32)
    is_hidden = rng.random((5, 9, 17)) < 0.3
    sequence, center = run_onnx(tmp_path / "onnx" / "lift.onnx", keypoints=keypoints, is_hidden=is_hidden)
    with torch.inference_mode():
        wanted = model(torch.from_numpy(keypoints), is_hidden=torch.from_numpy(is_hidden))
    assert_close(wanted.sequence, sequence)
    assert_close(wanted.center, center)


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
