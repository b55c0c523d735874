"""Settings of a run: shipped, changed, refused, and the network that they stand for."""

from dataclasses import replace

import pytest
import torch

from mpm_model.errors import InputError
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.lifting import LiftingModel
from mpm_model.network.masked import MaskedPoseModel, UnifiedPoseModel
from pipelines.recipe import fresh_model
from pipelines.run_config import FinetuneConfig, PretrainConfig, load, shipped


@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_shipped_config_loads_and_opens_with_its_command(name):
    kind = PretrainConfig if name.startswith("pretrain") else FinetuneConfig
    assert load(kind, name).seed == 0
    text = shipped()[name].read_text()
    assert text.startswith("# ")
    assert f"# Run:    mpm {'pretrain' if kind is PretrainConfig else 'finetune'} {name} " in text


def test_overrides_reach_nested_settings():
    config = load(
        PretrainConfig,
        "pretrain_demo",
        ["mask.frame_ratio=0.5", "scale.workers=2", "view.mirror_probability=0"],
    )
    assert config.mask.frame_ratio == 0.5
    assert config.scale.workers == 2
    assert config.view.mirror_probability == 0


def test_all_faults_are_named_at_once_with_their_place_and_the_likely_name():
    with pytest.raises(InputError) as caught:
        load(
            PretrainConfig,
            "pretrain_demo",
            [
                "mask.frame_ration=0.5",
                "view.camera.fil=[0.2, 0.3]",
                "epochs=0",
                "optimiser.learning_rate=fast",
            ],
        )
    message = str(caught.value)
    assert "mask.frame_ration: no such setting; did you mean frame_ratio?" in message
    assert "view.camera.fil: no such setting; did you mean fill?" in message
    assert "epochs: " in message
    assert "optimiser.learning_rate: " in message
    assert "'fast'" in message
    assert "\n" not in message


def test_a_value_out_of_range_says_what_came():
    with pytest.raises(InputError, match=r"frame_ratio must be in \[0, 1\), got 1.5"):
        load(PretrainConfig, "pretrain_demo", ["mask.frame_ratio=1.5"])


@pytest.mark.parametrize("override", ["epochs", "=3", "mask..x=1", "seed.deep=1", "seed=[1"])
def test_a_malformed_override_is_refused(override):
    with pytest.raises(InputError, match="--set"):
        load(PretrainConfig, "pretrain_demo", [override])


def test_a_file_of_one_s_own_may_lie_anywhere(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(shipped()["pretrain_demo"].read_text().replace("epochs: ", "epochs: 1"))
    assert load(PretrainConfig, str(path)).epochs > 100


@pytest.mark.parametrize(("text", "wanted"), [("a: [1", "wanted YAML"), ("- 1\n- 2", "wanted a mapping")])
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text, wanted):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=wanted):
        load(PretrainConfig, str(path))


def test_a_missing_file_names_what_ships():
    with pytest.raises(InputError, match="pretrain_base"):
        load(PretrainConfig, "pretrain_bsae")


def test_lifting_needs_no_network_where_it_starts_from_a_checkpoint():
    assert load(FinetuneConfig, "finetune_demo").network is None


def test_every_shipped_network_takes_what_its_view_makes():
    for name in shipped():
        if name.startswith("pretrain"):
            config = load(PretrainConfig, name)
            assert config.network.keypoint_channels == config.view.keypoint_channels, name


@pytest.mark.parametrize(
    ("pretrain", "finetune"),
    [
        ("pretrain_unified", "finetune_unified"),
        ("pretrain_unified", "completion_unified"),
        ("pretrain_paper", "finetune_paper"),
        ("pretrain_paper", "occluded_paper"),
        ("pretrain_paper", "completion_paper"),
        ("pretrain_base", "finetune_base"),
        ("pretrain_demo", "finetune_demo"),
    ],
)
def test_what_is_pretrained_and_what_goes_on_from_it_see_the_same_input(pretrain, finetune):
    first, second = load(PretrainConfig, pretrain).view, load(FinetuneConfig, finetune).view
    assert (first.normalisation, first.keypoint_channels) == (second.normalisation, second.keypoint_channels)


def test_lists_of_kinds_and_groups_of_groups_are_read():
    config = load(FinetuneConfig, "finetune_unified", ["view.detector.scale=0.5", "mix.temperature=2"])
    assert config.task == "unified"
    assert config.view.tube_kinds == ("limb", "legs", "arms", "side", "random_6")
    assert config.completion.tube_kinds == ("limb", "random_3")
    assert config.view.detector.scale == 0.5
    assert config.mix.temperature == 2


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("task=guessing", "task: .*'guessing'"),
        ("view.tube_kinds=[tail]", "tube_kinds must be of limb, .* got tail"),
        ("mix.temperature=0.5", "temperature must be at least 1, got 0.5"),
        ("mix.temprature=2", "mix.temprature: no such setting; did you mean temperature"),
    ],
)
def test_faults_of_the_tasks_settings_are_named(override, words):
    with pytest.raises(InputError, match=words):
        load(FinetuneConfig, "finetune_unified", [override])


SIZES = PoseTransformerConfig(
    frames=9, width=16, layers=1, heads=2, feed_forward=16, frame_hidden=16, frame_dropout=0.1
)
ROTARY = replace(SIZES, positions="rotary", norms="standard", keypoint_channels=5)
NEW_IN_LIFTING = ("reduction", "center_head", "sequence_head")


def finetune(task: str, **settings: object) -> FinetuneConfig:
    return FinetuneConfig(seed=0, epochs=1, batch_windows=2, task=task, **settings)


@pytest.mark.parametrize("sizes", [SIZES, ROTARY], ids=["paper", "rotary"])
@pytest.mark.parametrize(
    ("task", "kind"),
    [("lifting", LiftingModel), ("completion", MaskedPoseModel), ("unified", UnifiedPoseModel)],
)
def test_every_task_goes_on_from_the_pretrained_weights(task, kind, sizes):
    torch.manual_seed(7)
    pretrained = MaskedPoseModel(sizes)
    model = fresh_model(finetune(task, frame_dropout=0.3), pretrained)
    assert type(model) is kind
    assert model.config == replace(sizes, frame_dropout=0.3)
    theirs = pretrained.state_dict()
    for name, tensor in model.state_dict().items():
        if kind is not LiftingModel or not name.startswith(NEW_IN_LIFTING):
            assert torch.equal(tensor, theirs[name]), name
    before = {name: tensor.clone() for name, tensor in theirs.items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in pretrained.state_dict().items())


@pytest.mark.parametrize("task", ["lifting", "completion", "unified"])
def test_a_network_from_scratch_is_its_seed_and_leaves_the_callers_random_numbers_alone(task):
    torch.manual_seed(5)
    first = fresh_model(finetune(task, network=SIZES), None)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))
    second = fresh_model(finetune(task, network=SIZES), None)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_network_from_scratch_needs_its_size():
    with pytest.raises(InputError, match="needs the setting network; or give --init"):
        fresh_model(finetune("unified"), None)
