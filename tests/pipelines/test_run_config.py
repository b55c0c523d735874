import pytest

from mpm_model.errors import InputError
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
