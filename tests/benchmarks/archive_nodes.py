"""What Ray Data costs a lifting job on 1, 2 and 4 simulated machines, by shards as long as real ones.

The work of a shard is a sleep, which takes no core: what is measured is everything else, and two cores can
stand for four machines.

python -m tests.benchmarks.archive_nodes FOLDER NODES     (the body of one measurement)
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import ray
from ray.cluster_utils import Cluster

from pipelines.lift_config import LiftConfig
from pipelines.lift_on_ray import make_parts_on_ray
from pipelines.lift_plan import group_inputs
from pipelines.lift_shard import ReadInput
from pipelines.lift_steps import Steps
from pipelines.manifest import Input, Job, Receipt
from pipelines.parts import PartResult
from pipelines.poses_table import poses_to_table
from pipelines.schema import TableMetadata

NODES = (1, 2, 4)
ACTORS = 3
"""On each machine of four cores."""
SHARDS = 96
SHARD_S = 4.0
"""About what 16 MiB of keypoints, 100,000 frames, take a core."""


class SleepingSteps(Steps):
    """Reads as always, and sleeps in place of lifting."""

    def lift(self, read: Sequence[ReadInput]) -> PartResult:
        time.sleep(SHARD_S)
        receipts = tuple(
            Receipt(url=each.item.url, size_bytes=each.item.size_bytes, status="done") for each in read
        )
        return PartResult(table=poses_to_table([], metadata=self.metadata), receipts=receipts)


def describe() -> str:
    """Seconds for all shards on each number of machines, beside the sleep alone."""
    lines = [f"Ray Data on simulated machines, {SHARDS} shards of {SHARD_S:g} s, three actors a machine:"]
    with tempfile.TemporaryDirectory() as folder:
        for number in range(SHARDS):
            keypoints_px = np.full((50, 17, 2), number, np.float32)
            np.savez(Path(folder, f"{number:03d}.npz"), keypoints_px=keypoints_px, skeleton="h36m_17")
        for nodes in NODES:
            done = subprocess.run(
                [sys.executable, "-m", "tests.benchmarks.archive_nodes", folder, str(nodes)],
                capture_output=True,
                text=True,
                check=True,
                env=os.environ | {"RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"},
            )
            first_s, all_s = json.loads(done.stdout.splitlines()[-1])
            ideal_s = SHARDS * SHARD_S / (nodes * ACTORS)
            lines.append(
                f"  {nodes} machines: {all_s:.0f} s in all, {first_s - SHARD_S:.0f} s of it to start; "
                f"ideal {ideal_s:.0f} s, ratio {ideal_s / all_s:.2f}, "
                f"once started {ideal_s / (all_s - first_s + SHARD_S):.2f}"
            )
    return "\n".join(lines)


def main(folder: str, nodes: int) -> None:
    """Make the parts on so many machines; print the seconds to the first part and to the last."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(nodes):
        cluster.add_node(num_cpus=ACTORS + 1)  # the rest is for reading
    os.environ["RAY_ADDRESS"] = cluster.address
    job = Job(kind="poses", config={}, inputs=(), made_by="bench")
    urls = sorted(map(str, Path(folder).glob("*.npz")))
    shards = group_inputs(job, [Input(url=url, size_bytes=1, stamp="") for url in urls], shard_bytes=1)
    steps = SleepingSteps(
        checkpoint=None, config=LiftConfig(), metadata=TableMetadata(config="{}", made_by="bench")
    )
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory() as out:
        ends_s = [time.monotonic() - begun_s for _ in make_parts_on_ray(iter(shards), out=out, steps=steps)]
    assert len(ends_s) == SHARDS
    print(json.dumps([ends_s[0], ends_s[-1]]))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
