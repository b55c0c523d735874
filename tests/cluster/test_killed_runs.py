"""A training that is killed again and again ends as if nothing had happened."""

import json
import random
import time
from pathlib import Path

import pytest
from trainings import Training, prepare_sample

ROUNDS = 10
SETTINGS = (
    "scale.workers=2",
    "epochs=20",
    "scale.checkpoint_every_steps=5",
    "scale.max_failures=20",
    "network.dropout=0.1",
    "network.frame_dropout=0.1",
    "optimiser.average_decay=0.99",
)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_run_killed_at_ten_random_moments_ends_with_the_same_bits(tmp_path: Path):
    """Every other time all of its processes, else one worker; dropout on, two workers."""
    data = str(tmp_path / "windows")
    prepare_sample(data)
    whole = Training(data, str(tmp_path / "whole"), SETTINGS)
    assert whole.end() == 0, whole.said[-20:]

    rng = random.Random(0)
    killed_at = []
    training, seen = Training(data, str(tmp_path / "killed"), SETTINGS), 0
    for number in range(ROUNDS):
        seen = training.wait_for_step(seen + rng.randint(3, 16))
        assert training.process.poll() is None, training.said[-20:]
        time.sleep(rng.uniform(0, 1))
        killed_at.append(seen)
        if number % 2:
            training.kill_a_worker(rng.randrange(2))
        else:
            training.kill()
            training = Training(data, str(tmp_path / "killed"), SETTINGS)
    assert training.end() == 0, training.said[-20:]
    print(f"\nkilled after steps {killed_at} of 220")

    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    losses = [
        [(row["step"], row["loss"]) for row in json.loads((tmp_path / run / "metrics.json").read_text())]
        for run in ("whole", "killed")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 220
