"""Our networks against the outputs of the paper's own, and the refusal of files that do not fit."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mpm_model.errors import InputError
from mpm_model.network.lifting import LiftingModel
from mpm_model.network.masked import MaskedPoseModel
from mpm_model.network.reference import load_reference
from mpm_model.network.refinement import RefinementModel

GOLDEN = Path(__file__).parents[2] / "golden" / "reference_mpm"
LIFTING = GOLDEN / "lift_f27_l3_c64_j17.pth"
TOLERANCE = 1e-5


def golden(name: str) -> dict[str, Tensor]:
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(array) for key, array in arrays.items()}


def assert_close(came: Tensor, wanted: Tensor) -> None:
    assert came.shape == wanted.shape
    difference = float((came - wanted).abs().max())
    print(f"largest absolute difference {difference:.1e}")
    assert difference <= TOLERANCE


@pytest.mark.parametrize("name", ["lift_f27_l3_c64_j17", "lift_f81_l3_c32_j16", "lift_f243_l4_c32_j17"])
def test_lifting_gives_what_the_paper_gives(name):
    model, wanted = load_reference(GOLDEN / f"{name}.pth"), golden(name)
    assert isinstance(model, LiftingModel)
    with torch.inference_mode():
        lifted = model(wanted["keypoints_2d"])
        sequence = model.sequence(wanted["keypoints_2d"])
    assert_close(lifted.center, wanted["joints_3d_center"])
    assert_close(lifted.sequence, wanted["joints_3d_sequence"])
    assert_close(sequence, wanted["joints_3d_sequence"])


def check_masked(name: str, wanted: dict[str, Tensor], masks: dict[str, Tensor]) -> None:
    model = load_reference(GOLDEN / f"{name}.pth")
    assert isinstance(model, MaskedPoseModel)
    with torch.inference_mode():
        reconstruction = model(wanted["keypoints_2d"], wanted["joints_3d"], **masks)
        lifted = model.lift(
            wanted["keypoints_2d"],
            is_hidden_joint=masks["is_hidden_joint_2d"],
            is_hidden_frame=masks["is_hidden_frame_2d"],
        )
    assert_close(reconstruction.keypoints, wanted["reconstructed_2d"])
    assert_close(reconstruction.joints, wanted["reconstructed_3d"])
    assert_close(lifted, wanted["lifted_3d"])


def test_pre_training_gives_what_the_paper_gives():
    wanted = golden("pretrain_f27_l3_c64_j17")
    windows = len(wanted["keypoints_2d"])
    masks = {
        f"is_hidden_{what}_{space}": wanted[f"{what}_mask_{space}"].repeat(
            windows, *[1] * wanted[f"{what}_mask_{space}"].ndim
        )
        for what in ("joint", "frame")
        for space in ("2d", "3d")
    }
    check_masked("pretrain_f27_l3_c64_j17", wanted, masks)


def test_completion_gives_what_the_paper_gives():
    wanted = golden("completion_f27_l3_c64_j17")
    windows, frames, joints, _ = wanted["joints_3d"].shape
    tube = wanted["joint_mask"][:, None].expand(windows, frames, joints)
    none = torch.zeros(windows, frames, dtype=torch.bool)
    masks = {
        "is_hidden_joint_2d": tube,
        "is_hidden_joint_3d": tube,
        "is_hidden_frame_2d": none,
        "is_hidden_frame_3d": none,
    }
    check_masked("completion_f27_l3_c64_j17", wanted, masks)


def test_refinement_gives_what_the_paper_gives():
    model, wanted = load_reference(GOLDEN / "refine_j17.pth"), golden("refine_j17")
    assert isinstance(model, RefinementModel)
    with torch.inference_mode():
        assert_close(model(wanted["joints_3d"], wanted["joints_3d_from_camera"]), wanted["refined"])


def test_sizes_are_read_off_the_shapes():
    config = load_reference(GOLDEN / "completion_f27_l3_c64_j17.pth").config
    assert (config.frames, config.joints, config.width, config.layers) == (27, 17, 64, 3)
    assert (config.feed_forward, config.frame_hidden, config.decoder_layers) == (128, 128, 2)


def test_the_token_that_the_papers_lifting_lacks_is_zero():
    assert torch.equal(load_reference(LIFTING).hidden_keypoint.detach(), torch.zeros(2))


def test_loading_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(5)
    load_reference(LIFTING)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))


def state_of(path: Path) -> dict[str, Tensor]:
    return torch.load(path, weights_only=True)


def saved(folder: Path, content: object) -> Path:
    path = folder / "altered.pth"
    torch.save(content, path)
    return path


def test_keys_without_the_prefix_are_read_as_well(tmp_path):
    state = {key.removeprefix("module."): tensor for key, tensor in state_of(LIFTING).items()}
    plain, wanted = load_reference(saved(tmp_path, state)), load_reference(LIFTING)
    assert all(torch.equal(plain.state_dict()[key], tensor) for key, tensor in wanted.state_dict().items())


def test_every_difference_is_named_at_once(tmp_path):
    state = state_of(LIFTING)
    del state["module.fcn.1.bias"]
    state["module.fcn_9.weight"] = torch.zeros(3)
    state["module.shared_layers_spatial.fc_2.bias"] = torch.zeros(65)
    with pytest.raises(InputError) as error:
        load_reference(saved(tmp_path, state))
    for words in (
        "altered.pth",
        "missing fcn.1.bias",
        "not known fcn_9.weight",
        "fc_2.bias has shape (65,), wanted (64,)",
    ):
        assert words in str(error.value)


@pytest.mark.parametrize(
    ("key", "tensor", "words"),
    [
        ("encoder2d.fc_1.weight", torch.zeros(128, 34), "must have 3 dimensions"),
        ("shared_layers_temporal.pos_embedding", torch.zeros(1, 40, 64), "power of 3"),
        ("shared_layers_temporal.pos_embedding", torch.zeros(1, 0, 64), "frames must be a whole number"),
        ("shared_layers_temporal.pos_embedding", torch.zeros(1, 81, 64), "missing Transformer_reduce"),
        ("fcn.1.bias", torch.full((51,), torch.nan), "NaN"),
        (
            "fcn.1.bias",
            torch.full((51,), 1e300, dtype=torch.float64),
            "infinity in float32: module.fcn.1.bias",
        ),
        ("fcn.1.bias", torch.zeros(51, dtype=torch.complex64), "complex or empty shells: module.fcn.1.bias"),
        ("fcn.1.bias", torch.zeros(51, device="meta"), "complex or empty shells: module.fcn.1.bias"),
    ],
)
def test_a_tensor_that_cannot_be_is_named(tmp_path, key, tensor, words):
    path = saved(tmp_path, {**state_of(LIFTING), f"module.{key}": tensor})
    with pytest.raises(InputError, match=words) as error:
        load_reference(path)
    assert str(path) in str(error.value)


def test_pre_training_without_a_token_is_refused(tmp_path):
    state = state_of(GOLDEN / "pretrain_f27_l3_c64_j17.pth")
    del state["module.spatial_mask_token2d"]
    with pytest.raises(InputError, match="missing spatial_mask_token2d"):
        load_reference(saved(tmp_path, state))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "holds a list"),
        ({}, "holds a dict"),
        ({"epoch": 3}, "not tensors by name: epoch"),
        ({"conv1.weight": torch.zeros(2)}, "keys of something else: conv1.weight"),
    ],
)
def test_another_thing_saved_by_torch_is_refused(tmp_path, content, words):
    with pytest.raises(InputError, match=words):
        load_reference(saved(tmp_path, content))


class Mischief:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return os.mkdir, (str(self.victim),)


def test_code_in_a_file_is_not_executed(tmp_path):
    path = saved(tmp_path, {"module.fcn.1.bias": Mischief(tmp_path / "executed")})
    with pytest.raises(InputError, match="other than tensors") as error:
        load_reference(path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "executed").exists()


def foreign_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("letter.txt", "Dear Sir")
    return buffer.getvalue()


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cut short, damaged or of another format"),
        (b"ASF file", "cut short, damaged or of another format"),
        (LIFTING.read_bytes()[:60_000], "cut short, damaged or of another format"),
        (flipped(LIFTING.read_bytes()), "is damaged"),
        (foreign_zip(), "zip file of another kind"),
    ],
    ids=["empty", "text", "cut", "flipped", "zip"],
)
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(tmp_path, content, words):
    path = tmp_path / "bad.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as error:
        load_reference(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_reference(tmp_path / "absent.pth")
