"""`mpm lift` without --checkpoint takes the weights that ship, or says in one line that there are none."""

import numpy as np
import pytest

from mpm_model.checkpoint import Checkpoint, save_checkpoint
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.masked import MaskedPoseModel, UnifiedPoseModel
from mpm_model.pose.skeletons import H36M_17
from pipelines import lift, lift_config, lift_steps
from pipelines.poses_table import read_poses
from tests.command import mpm

SIZES = PoseTransformerConfig(
    frames=9, width=16, layers=1, heads=2, feed_forward=16, frame_hidden=16, keypoint_channels=2
)


@pytest.fixture
def ship(tmp_path, monkeypatch):
    """Puts an untrained network where the weights that ship are looked for."""
    folder = tmp_path / "package" / "weights"
    for module in (lift, lift_config, lift_steps):
        monkeypatch.setattr(module, "shipped_weights", lambda: folder)
    lift_steps._load.cache_clear()

    def shipped(kind: type) -> str:
        checkpoint = Checkpoint(
            model=kind(SIZES), skeleton=H36M_17, normalisation="person", rate_hz=25.0, card={}
        )
        save_checkpoint(folder, checkpoint, is_half=True)
        return str(folder)

    yield shipped
    lift_steps._load.cache_clear()


@pytest.fixture
def lifted(tmp_path, monkeypatch, capsys):
    """Lifts a drawn track; the exit code and what was said on stderr."""
    np.savez(
        tmp_path / "track.npz",
        keypoints_px=np.random.default_rng(0).uniform(100, 600, (20, 17, 2)),
        skeleton="h36m_17",
        rate_hz=25.0,
    )

    def run(out: str, *options: str) -> tuple[int, str]:
        command = ("lift", tmp_path / "track.npz", "--out", tmp_path / out, *options)
        code, _, error = mpm(capsys, monkeypatch, *command)
        return code, error

    return run


def test_without_a_checkpoint_the_weights_that_ship_lift(ship, lifted, tmp_path):
    folder = ship(UnifiedPoseModel)
    assert lifted("shipped") == (0, "")
    assert lifted("named", "--checkpoint", folder) == (0, "")
    (shipped,), (named,) = (read_poses(str(tmp_path / out)) for out in ("shipped", "named"))
    np.testing.assert_array_equal(shipped.joints_rel_m, named.joints_rel_m)


def test_where_none_ship_one_line_asks_for_a_checkpoint(ship, lifted, tmp_path):
    code, error = lifted("out")
    assert code == 2
    assert error == (
        "mpm: lift: no weights ship with this version: give --checkpoint with a folder that finetune made\n"
    )
    assert not (tmp_path / "out").exists()


def test_weights_that_do_not_lift_are_refused_with_their_folder(ship, lifted, tmp_path):
    folder = ship(MaskedPoseModel)
    code, error = lifted("out")
    assert code == 2
    assert folder in error
    assert not (tmp_path / "out").exists()
