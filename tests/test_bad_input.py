"""What the user gave is wrong: one clear line, exit code 2, nothing left behind."""

import dataclasses
import gzip
import shutil
from importlib import resources
from pathlib import Path

import pytest
import torch
from command import mpm

from mpm_model.checkpoint import Checkpoint, save_checkpoint
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.lifting import LiftingModel
from mpm_model.network.masked import MaskedPoseModel
from mpm_model.pose.skeletons import COCO_17, H36M_17

SAMPLE = Path(str(resources.files("pipelines") / "sample"))
CMU = SAMPLE / "mocap" / "cmu"
TINY = PoseTransformerConfig(frames=27, width=32, layers=1, heads=4, feed_forward=32, frame_hidden=32)


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def refused(capsys, monkeypatch, tmp_path):
    """Run a command that must be refused; its one line. Nothing may be written below `tmp_path`."""

    def run(*arguments: object) -> str:
        before = files_below(tmp_path)
        code, out, err = mpm(capsys, monkeypatch, *arguments)
        assert code == 2, (code, out, err)
        assert err.startswith("mpm: ")
        assert err.count("\n") == 1
        assert "Traceback" not in err
        assert files_below(tmp_path) == before
        return err

    return run


@pytest.fixture
def lone_take(tmp_path) -> Path:
    """One AMC beside its ASF, unpacked."""
    folder = tmp_path / "take"
    folder.mkdir()
    for name in ("02.asf", "02_01.amc"):
        (folder / name).write_bytes(gzip.decompress((CMU / "02" / f"{name}.gz").read_bytes()))
    return folder


@pytest.fixture(scope="session")
def sample_windows(tmp_path_factory) -> Path:
    """Windows of the UI-PRMD sample."""
    from pipelines.prepare import PrepareConfig, run

    out = tmp_path_factory.mktemp("windows") / "ui_prmd"
    config = PrepareConfig(window_frames=27, hop_frames=27, rate_hz=25.0)
    run(
        [str(SAMPLE / "mocap" / "ui_prmd")], reader="ui_prmd", out=str(out), config=config, max_bad_fraction=0
    )
    return out


def make_lifter(folder: Path, *, skeleton=H36M_17, kind=LiftingModel) -> Path:
    torch.manual_seed(0)
    network = dataclasses.replace(TINY, joints=len(skeleton))
    save_checkpoint(
        folder,
        Checkpoint(
            model=kind(network),
            skeleton=skeleton,
            normalisation="person",
            rate_hz=25.0,
            card={"made_by": "a test"},
        ),
    )
    return folder


def test_a_truncated_amc_names_its_line(refused, lone_take, tmp_path):
    amc = lone_take / "02_01.amc"
    lines = amc.read_text().splitlines()
    amc.write_text("\n".join(lines[: len(lines) - 10]))
    message = refused("prepare", amc, "--reader", "asf_amc", "--out", tmp_path / "out")
    assert "02_01.amc" in message
    assert "frame 343" in message


def test_an_amc_without_its_asf_names_the_file_that_is_missing(refused, lone_take, tmp_path):
    (lone_take / "02.asf").unlink()
    message = refused("prepare", lone_take, "--reader", "asf_amc", "--out", tmp_path / "out")
    assert "02.asf" in message


@pytest.mark.parametrize(("change", "said"), [("frames", "frames"), ("nan", "nan")])
def test_a_bvh_with_a_wrong_frame_count_or_nan_names_the_place(refused, tmp_path, change, said):
    lines = (
        gzip.decompress((SAMPLE / "mocap" / "cmu_bvh" / "02_01.bvh.gz").read_bytes()).decode().splitlines()
    )
    if change == "frames":
        lines = lines[:-20]
    else:
        lines[-5] = lines[-5].replace(lines[-5].split()[3], "nan", 1)
    bvh = tmp_path / "02_01.bvh"
    bvh.write_text("\n".join(lines))
    message = refused("prepare", bvh, "--reader", "bvh", "--out", tmp_path / "out")
    assert "02_01.bvh" in message
    assert said in message.lower()


def test_an_empty_folder_says_what_was_wanted(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    assert ".amc" in refused("prepare", tmp_path / "empty", "--reader", "asf_amc", "--out", tmp_path / "out")
    lifter = make_lifter(tmp_path / "lifter")
    message = refused("lift", tmp_path / "empty", "--checkpoint", lifter, "--out", tmp_path / "out")
    assert "OpenPose" in message
    assert "empty folder" in message


def test_a_file_of_another_format_says_what_it_is(refused, lone_take, tmp_path):
    lifter = make_lifter(tmp_path / "lifter")
    message = refused("lift", lone_take / "02_01.amc", "--checkpoint", lifter, "--out", tmp_path / "out")
    assert "2D detections" in message
    assert "AMC" in message
    (tmp_path / "photo.amc").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    shutil.copyfile(lone_take / "02.asf", tmp_path / "photo.asf")
    assert "photo.amc" in refused(
        "prepare", tmp_path / "photo.amc", "--reader", "asf_amc", "--out", tmp_path / "out"
    )


def test_an_unknown_reader_names_those_there_are(refused, lone_take, tmp_path):
    message = refused("prepare", lone_take, "--reader", "fbx", "--out", tmp_path / "out")
    assert "asf_amc, bvh, ui_prmd" in message


def test_json_cut_in_half_names_the_byte(refused, tmp_path):
    folder = tmp_path / "openpose"
    folder.mkdir()
    frame = next((SAMPLE / "detections" / "pose2sim").rglob("*0000.json.gz"))
    content = gzip.decompress(frame.read_bytes())
    (folder / "video_000000000000_keypoints.json").write_bytes(content[: len(content) // 2])
    lifter = make_lifter(tmp_path / "lifter")
    message = refused("lift", folder, "--checkpoint", lifter, "--out", tmp_path / "out")
    assert "video_000000000000_keypoints.json" in message
    assert "byte" in message


def test_a_misspelt_nested_setting_is_named_with_the_likely_one(refused, sample_windows, tmp_path):
    message = refused(
        "pretrain",
        "pretrain_demo",
        "--data",
        sample_windows,
        "--out",
        tmp_path / "out",
        "--set",
        "mask.frame_ratoi=0.5",
    )
    assert "mask.frame_ratoi: no such setting; did you mean frame_ratio?" in message


@pytest.mark.parametrize("verb", ["prepare", "pretrain", "lift"])
def test_an_output_folder_that_holds_something_else_is_left_alone(refused, sample_windows, tmp_path, verb):
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter1.tex").write_text("do not touch")
    arguments = {
        "prepare": [CMU / "02", "--reader", "asf_amc"],
        "pretrain": ["pretrain_demo", "--data", sample_windows],
        "lift": [SAMPLE / "detections" / "pose2sim", "--checkpoint", make_lifter(tmp_path / "lifter")],
    }
    message = refused(verb, *arguments[verb], "--out", out)
    assert "chapter1.tex" in message
    assert "give another --out" in message


def test_a_checkpoint_of_another_skeleton_is_refused(refused, sample_windows, tmp_path):
    lifter = make_lifter(tmp_path / "coco_lifter", skeleton=COCO_17)
    for arguments in (
        ["lift", SAMPLE / "detections" / "pose2sim", "--checkpoint", lifter, "--out", tmp_path / "out"],
        ["evaluate", "--checkpoint", lifter, "--data", sample_windows, "--protocol", "lifting"],
    ):
        message = refused(*arguments)
        assert "coco_17" in message
        assert "h36m_17" in message
    masked = make_lifter(tmp_path / "coco_masked", skeleton=COCO_17, kind=MaskedPoseModel)
    message = refused(
        "finetune", "finetune_demo", "--init", masked, "--data", sample_windows, "--out", tmp_path / "out"
    )
    assert "coco_17" in message


def test_a_checkpoint_of_another_task_says_which_is_wanted(refused, sample_windows, tmp_path):
    masked = make_lifter(tmp_path / "masked", kind=MaskedPoseModel)
    message = refused(
        "lift", SAMPLE / "detections" / "pose2sim", "--checkpoint", masked, "--out", tmp_path / "out"
    )
    assert "lifting" in message


def test_windows_of_another_length_or_rate_are_refused_before_any_work(refused, sample_windows, tmp_path):
    message = refused(
        "pretrain",
        "pretrain_base",
        "--data",
        sample_windows,
        "--out",
        tmp_path / "out",
        "--set",
        "lanes=3",
    )
    assert "network.frames is 81 but the windows have 27" in message
    assert "no multiple of lanes (3)" in message


@pytest.mark.ray
def test_gpus_that_are_not_there_are_refused_instead_of_waited_for(
    refused, ray_session, sample_windows, tmp_path
):
    message = refused(
        "pretrain", "pretrain_demo", "--data", sample_windows, "--out", tmp_path / "out",
        "--set", "scale.is_on_gpu=true", "--set", "batch_windows=32",
    )  # fmt: skip
    assert "1 GPUs are asked for but there are 0" in message


def test_an_unreachable_bucket_says_which_server_does_not_answer(refused, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    message = refused("prepare", CMU / "02", "--reader", "asf_amc", "--out", "s3://bucket/windows")
    assert "http://127.0.0.1:9" in message
    assert "s3://bucket/windows" in message


def test_wrong_credentials_are_called_that(refused, s3_bucket, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not the secret")
    message = refused("prepare", CMU / "02", "--reader", "asf_amc", "--out", f"{s3_bucket}/windows")
    assert "AWS_SECRET_ACCESS_KEY" in message


def test_in_a_batch_the_bad_file_is_set_aside_and_the_rest_goes_on(capsys, monkeypatch, lone_take, tmp_path):
    shutil.copyfile(lone_take / "02_01.amc", lone_take / "02_02.amc")
    (lone_take / "02_03.amc").write_text(":FULLY-SPECIFIED\n:DEGREES\n1\nroot 1 2\n")
    arguments = ["prepare", lone_take, "--reader", "asf_amc", "--window-frames", 27, "--hop-frames", 9]
    code, out, _ = mpm(capsys, monkeypatch, *arguments, "--out", tmp_path / "out", "--max-bad-fraction", 0.5)
    assert code == 0
    assert "02_03.amc" in out
    manifest = (tmp_path / "out" / "_manifest.json").read_text()
    assert '"bad": 1' in manifest
    code, _, _ = mpm(capsys, monkeypatch, *arguments, "--out", tmp_path / "strict", "--max-bad-fraction", 0.1)
    assert code == 3
