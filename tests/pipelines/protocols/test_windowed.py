"""The protocols on prepared windows, as `mpm evaluate` calls them, with models that know nothing."""

import dataclasses

import numpy as np
import pytest
import torch
from made_up_windows import make_windows

from mpm_model.checkpoint import Checkpoint, save_checkpoint
from mpm_model.errors import InputError
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.lifting import LiftingModel
from mpm_model.network.masked import MaskedPoseModel, UnifiedPoseModel
from mpm_model.pose.skeletons import H36M_17
from pipelines import evaluate
from pipelines.protocols import windowed

KINDS = {"lifting": LiftingModel, "masked": MaskedPoseModel, "unified": UnifiedPoseModel}
TAKES = {
    "lifting": {"lifting", "unified"},
    "reconstruction": {"masked", "unified"},
    "open": {"lifting", "unified"},
    "occlusion": {"lifting", "unified"},
    "completion": {"masked", "unified"},
}
CARD = {"mean_training_pose_rel_m": np.random.default_rng(0).normal(size=(17, 3)).tolist()}


@pytest.fixture
def data(monkeypatch):
    """Windows by split, which the protocols read: one recording of a held-out person, one of another."""
    test = dataclasses.replace(make_windows(27), dataset=np.array(["ui_prmd"]), subject=np.array(["s03"]))
    found = {"test": test, "train": dataclasses.replace(test, subject=np.array(["s01"]))}

    def read(_urls, *, splits):
        return found[splits[0]]

    monkeypatch.setattr(windowed, "read_all_windows", read)
    return found


@pytest.fixture
def make(tmp_path):
    def checkpoint(kind: str, rate_hz: float = 50.0) -> str:
        torch.manual_seed(0)
        config = PoseTransformerConfig(
            frames=27, width=32, layers=1, heads=4, feed_forward=32, frame_hidden=32
        )
        folder = tmp_path / f"{kind}_{rate_hz:g}"
        save_checkpoint(
            folder,
            Checkpoint(
                model=KINDS[kind](config),
                skeleton=H36M_17,
                normalisation="person",
                rate_hz=rate_hz,
                card=CARD,
            ),
        )
        return str(folder)

    return checkpoint


@pytest.mark.parametrize("protocol", TAKES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_protocol_takes_the_checkpoints_that_can_do_it(data, make, protocol, kind):
    checkpoint = make(kind)
    if kind not in TAKES[protocol]:
        with pytest.raises(InputError, match="its network is"):
            evaluate.run(checkpoint=checkpoint, data=["windows"], protocol=protocol)
        return
    result = evaluate.run(checkpoint=checkpoint, data=["windows"], protocol=protocol)
    assert result.people == ("ui_prmd/s03",)
    assert result.rows
    assert all(np.isfinite(score) for row in result.rows for score in row.scores.values())


def test_the_open_protocol_takes_models_of_another_rate(data, make):
    result = evaluate.run(checkpoint=make("unified", 25.0), data=["windows"], protocol="open")
    assert [row.name for row in result.rows] == ["ui_prmd, clean 2D", "ui_prmd, noisy 2D"]
    assert result.frames == 4 * 27
    with pytest.raises(InputError, match="25 Hz but the windows have 50 Hz"):
        evaluate.run(checkpoint=make("lifting", 25.0), data=["windows"], protocol="lifting")


@pytest.mark.parametrize("protocol", ["occlusion", "completion"])
def test_where_interpolation_is_from_is_said(data, make, protocol):
    checkpoint = make("unified")
    (note,) = evaluate.run(checkpoint=checkpoint, data=["windows"], protocol=protocol).notes
    assert "training windows" in note
    train = data["train"]
    columns = {
        field.name: value[:0]
        for field in dataclasses.fields(train)
        if isinstance(value := getattr(train, field.name), np.ndarray)
    }
    data["train"] = dataclasses.replace(train, **columns)
    (note,) = evaluate.run(checkpoint=checkpoint, data=["windows"], protocol=protocol).notes
    assert "checkpoint's card" in note


def test_an_unknown_protocol_and_a_flip_it_has_not_are_refused(make):
    with pytest.raises(InputError, match="lifting, reconstruction, open, occlusion, completion, h36m, 3dhp"):
        evaluate.run(checkpoint="x", data=["windows"], protocol="openn")
    with pytest.raises(InputError, match="--flip: protocol open has no test-time flip"):
        evaluate.run(checkpoint="x", data=["windows"], protocol="open", flip=True)
