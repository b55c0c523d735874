"""What a step costs beyond its arithmetic on 1, 2 and 4 simulated machines: Ray Train, and adding up
gradients.

python -m tests.benchmarks.nodes WINDOWS OUT NODES     (the body of one measurement)
"""

import json
import os
import statistics
import subprocess
import sys

import ray
import torch
from ray.cluster_utils import Cluster

from mpm_model.learning.batches import draw_batch
from mpm_model.learning.objectives import Learner
from mpm_model.learning.order import samples_at
from mpm_model.learning.training import fit
from pipelines import pretrain
from pipelines.recipe import fresh_model, objective_of, to_corpus
from pipelines.run_config import PretrainConfig, load
from pipelines.windows_table import read_all_windows
from tests.benchmarks.stopwatch import Stopwatch

NODES = (1, 2, 4)
WINDOWS_PER_WORKER = 2
STEPS = 60
WARM_STEPS = 10
SETTINGS = (
    "network.width=256",
    "network.layers=4",
    "network.feed_forward=512",
    "network.frame_hidden=512",
    "scale.report_every_steps=1",
    "scale.checkpoint_every_steps=100000",
    "scale.cpus_per_worker=1",
)
"""The paper's network, whose 4.6 million gradients travel, and next to nothing to compute with it."""


def describe(folder: str, windows: str) -> str:
    """Milliseconds of a step, of a bare loop and of each number of machines."""
    bare_ms = 1000 * _bare(windows)
    lines = [f"a step of {WINDOWS_PER_WORKER} windows a worker, one core each; bare loop {bare_ms:.0f} ms"]
    cores = len(os.sched_getaffinity(0))
    for nodes in NODES:
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.nodes", windows, f"{folder}/nodes_{nodes}", str(nodes)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"},
        )
        step_ms = 1000 * float(json.loads(done.stdout.splitlines()[-1]))
        crowded = f" ({nodes} machines share {cores} cores here)" if nodes > cores else ""
        lines.append(f"  {nodes} machines: {step_ms:.0f} ms, {step_ms - bare_ms:+.0f} ms{crowded}")
    return "\n".join(lines)


def _config(nodes: int) -> PretrainConfig:
    batch = WINDOWS_PER_WORKER * nodes
    return load(
        PretrainConfig,
        "pretrain_demo",
        [*SETTINGS, f"batch_windows={batch}", "epochs=1", f"scale.workers={nodes}"],
    )


def _bare(windows: str) -> float:
    """Median seconds of a step of the repository's own loop, without Ray."""
    torch.set_num_threads(1)
    config = _config(1)
    corpus = to_corpus(read_all_windows([windows], splits=("train",)), "cpu")
    model = fresh_model(config, None)
    learner = Learner(model, objective_of(config, corpus.skeleton))

    def batch_at(step: int):  # type: ignore[no-untyped-def]
        epoch, samples = samples_at(
            step, dataset=corpus.dataset, mix=config.mix, batch_windows=config.batch_windows, seed=0
        )
        return epoch, draw_batch(corpus, samples, seed=0, epoch=epoch, config=config.view)

    watch = Stopwatch()
    fit(
        learner,
        batch_at,
        optimiser=config.optimiser.build(model),
        rate_at=lambda step: 1e-3,
        steps=range(STEPS),
        max_grad_norm=1.0,
        report=lambda step, metrics: watch.lap(),
        report_every=1,
        seed=0,
    )
    return statistics.median(watch.laps_s[WARM_STEPS:])


def main(windows: str, out: str, nodes: int) -> None:
    """Train on so many machines for some steps and print the median seconds of one."""
    config = _config(nodes)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(nodes):
        cluster.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = cluster.address
    rows: list[dict[str, float]] = []
    pretrain.run(
        "pretrain_demo",
        data=[windows],
        out=out,
        overrides=[
            *SETTINGS,
            f"batch_windows={config.batch_windows}",
            "epochs=1",
            f"scale.workers={nodes}",
        ],
        progress=rows.append,
    )
    seconds = [config.batch_windows / row["windows_per_s"] for row in rows[WARM_STEPS:]]
    print(statistics.median(seconds))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
