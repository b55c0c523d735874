"""The checkpoint folder: whole or not at all, strict when read."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from mpm_model.checkpoint import Checkpoint, Network, load_checkpoint, save_checkpoint
from mpm_model.errors import InputError
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.lifting import LiftingModel
from mpm_model.network.masked import MaskedPoseModel, UnifiedPoseModel
from mpm_model.network.refinement import RefinementConfig, RefinementModel
from mpm_model.pose.skeleton import Skeleton
from mpm_model.pose.skeletons import H36M_17

CONFIG = PoseTransformerConfig(
    frames=9, width=16, layers=1, heads=2, feed_forward=16, frame_hidden=16, frame_dropout=0.2
)
ROTARY = replace(CONFIG, positions="rotary", norms="standard", spatial_layers=1)
CARD = {"data": ["cmu"], "scores": {"mpjpe_mm": 61.5}, "note": "größer"}


def checkpoint(model: Network | None = None) -> Checkpoint:
    return Checkpoint(
        model=model or LiftingModel(CONFIG),
        skeleton=H36M_17,
        normalisation="person",
        rate_hz=25.0,
        card=CARD,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "checkpoint", checkpoint())
    return tmp_path / "checkpoint"


def alter(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    ("architecture", "model"),
    [
        ("masked", MaskedPoseModel(CONFIG)),
        ("lifting", LiftingModel(CONFIG)),
        ("unified", UnifiedPoseModel(CONFIG)),
        ("unified", UnifiedPoseModel(replace(ROTARY, keypoint_channels=3))),
        ("refinement", RefinementModel(RefinementConfig(hidden=8))),
    ],
)
def test_a_checkpoint_comes_back_as_it_was(tmp_path, architecture, model):
    save_checkpoint(tmp_path / "deep" / "checkpoint", checkpoint(model))
    loaded = load_checkpoint(
        tmp_path / "deep" / "checkpoint", expect_architecture=architecture, expect_skeleton=H36M_17
    )
    assert (loaded.architecture, loaded.skeleton) == (architecture, H36M_17)
    assert (loaded.normalisation, loaded.rate_hz, loaded.card) == ("person", 25.0, CARD)
    assert loaded.model.config == model.config
    assert not loaded.model.training
    ours, theirs = model.state_dict(), loaded.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    assert [p.requires_grad for p in loaded.model.parameters()] == [True] * len(list(model.parameters()))


@pytest.mark.parametrize("kind", [MaskedPoseModel, UnifiedPoseModel])
def test_a_pretrained_network_and_the_unified_one_are_told_apart(tmp_path, kind):
    save_checkpoint(tmp_path, checkpoint(kind(ROTARY)))
    assert type(load_checkpoint(tmp_path).model) is kind


def test_the_config_file_says_what_the_network_is(folder):
    config = json.loads((folder / "config.json").read_text())
    assert config["format"] == "mpm-checkpoint/1"
    assert config["architecture"] == "lifting"
    assert config["network"]["frames"] == 9
    assert config["skeleton"] == "h36m_17"
    assert config["joints"] == list(H36M_17.joints)


def test_other_files_may_stand_beside(folder):
    (folder / "training_state.pt").write_bytes(b"state")
    load_checkpoint(folder)


def test_loading_leaves_the_callers_random_numbers_alone(folder):
    torch.manual_seed(5)
    load_checkpoint(folder)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))


def test_an_empty_folder_may_be_taken(tmp_path):
    save_checkpoint(tmp_path, checkpoint())
    load_checkpoint(tmp_path)


def test_nothing_that_stands_there_is_touched(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match="something stands there already"):
        save_checkpoint(folder, checkpoint())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["checkpoint"]


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(InputError, match="something stands there already"):
        save_checkpoint(tmp_path / "taken", checkpoint())
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(self: Path, content: bytes) -> int:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(tmp_path / "checkpoint", checkpoint())
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_checked_at_birth():
    with pytest.raises(
        InputError, match=r"normalisation must .* got 'window'; rate_hz must .* 0; .* 16 joints"
    ):
        Checkpoint(
            model=LiftingModel(replace(CONFIG, joints=16)),
            skeleton=H36M_17,
            normalisation="window",
            rate_hz=0,
            card={},
        )


def refusal(folder: Path, **expect: object) -> str:
    with pytest.raises(InputError) as error:
        load_checkpoint(folder, **expect)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_missing_folder_is_named(tmp_path):
    assert "found nothing" in refusal(tmp_path / "absent")


def test_a_file_in_place_of_a_folder_is_named(folder):
    assert "found a file" in refusal(folder / "config.json")


def test_missing_files_are_all_named(folder):
    (folder / "config.json").unlink()
    (folder / "card.json").unlink()
    assert "lacks config.json, card.json" in refusal(folder)


@pytest.mark.parametrize("content", [b'{"format": "mpm', b"\xff\xfe\x00", b""])
@pytest.mark.parametrize("name", ["config.json", "card.json"])
def test_a_file_that_is_not_json_is_named(folder, name, content):
    (folder / name).write_bytes(content)
    assert f"{name}: wanted JSON" in refusal(folder)


def test_json_of_another_kind_is_named(folder):
    (folder / "config.json").write_text("[1]")
    assert "wanted a JSON object, got a list" in refusal(folder)


def test_an_unknown_format_is_named_on_both_sides(folder):
    alter(folder, format="mpm-checkpoint/9")
    assert "wanted format 'mpm-checkpoint/1', got 'mpm-checkpoint/9'" in refusal(folder)


def test_every_fault_of_a_config_is_named(folder):
    alter(folder, architecture="diffusion", rate_hz="fast", colour="blue")
    message = refusal(folder)
    for words in (
        "unknown colour",
        "rate_hz must be",
        "'fast'",
        "architecture must be one of",
        "'diffusion'",
    ):
        assert words in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"network": {"frames": 9}}, "missing decoder_layers"),
        ({"rate_hz": float("nan")}, "rate_hz must be positive"),
        ({"normalisation": "window"}, "normalisation must be one of screen, person, both, got 'window'"),
        ({"normalisation": "both"}, "keypoint_channels 2 does not go with normalisation both"),
        ({"joints": [1, 2]}, "joints must be names"),
        ({"parents": [1, 2]}, "parents must be names"),
        ({"joints": ["pelvis", "pelvis"], "parents": [None, None]}, "joint names repeat"),
        ({"joints": ["pelvis"], "parents": [None]}, "the network has 17 joints"),
    ],
)
def test_a_fault_of_a_field_is_named(folder, change, words):
    alter(folder, **change)
    assert words in refusal(folder)


def test_sizes_that_cannot_be_built_are_named(folder):
    alter(folder, network=json.loads((folder / "config.json").read_text())["network"] | {"frames": 64})
    assert "frames of a lifting network must be a power of 3" in refusal(folder)


def test_another_architecture_is_named_on_both_sides(folder):
    assert "its network is 'lifting', wanted 'masked'" in refusal(folder, expect_architecture="masked")
    wanted = ("unified", "masked")
    assert "its network is 'lifting', wanted 'unified' or 'masked'" in refusal(
        folder, expect_architecture=wanted
    )
    assert load_checkpoint(folder, expect_architecture=("lifting", "unified")).architecture == "lifting"


OTHER = Skeleton(name="other_17", joints=("neck", *H36M_17.joints[1:]), parents=(None,) * 17)
TURNED = Skeleton(name="turned_17", joints=H36M_17.joints[::-1], parents=(None,) * 17)
LOOSE = Skeleton(name="loose_17", joints=H36M_17.joints, parents=(None,) * 17)


@pytest.mark.parametrize(
    ("skeleton", "words"),
    [
        (OTHER, "only in the checkpoint pelvis, only in what is wanted neck"),
        (TURNED, "the same joints in another order, at pelvis, right_hip"),
        (LOOSE, "other parents of right_hip"),
        (replace(H36M_17, name="alias"), "the same joints under another name"),
    ],
)
def test_another_skeleton_is_named_on_both_sides_and_by_its_joints(folder, skeleton, words):
    message = refusal(folder, expect_skeleton=skeleton)
    assert f"its skeleton is h36m_17, wanted {skeleton.name}" in message
    assert words in message


def test_tensors_that_do_not_fit_are_all_named(folder):
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    del tensors["hidden_keypoint"]
    tensors["extra.weight"] = torch.zeros(1)
    tensors["trunk.position"] = torch.zeros(8, 16)
    tensors["trunk.narrow.bias"] = tensors["trunk.narrow.bias"].double()
    tensors["center_head.linear.bias"] = torch.full((51,), torch.inf)
    safetensors.torch.save_file(tensors, path)
    message = refusal(folder)
    for words in (
        "missing hidden_keypoint",
        "unknown extra.weight",
        "trunk.position must be (9, 16) torch.float32, got (8, 16) torch.float32",
        "trunk.narrow.bias must be (16,) torch.float32, got (16,) torch.float64",
        "NaN or infinity in center_head.linear.bias",
    ):
        assert words in message


@pytest.mark.parametrize("keep", [0, 5, 2000])
def test_a_tensor_file_cut_short_is_named(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert "model.safetensors: wanted a safetensors file" in refusal(folder)
