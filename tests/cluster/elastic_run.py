"""A training on simulated machines of one core, two of which join, one of which is killed and comes back.

    python elastic_run.py DATA OUT [SETTING...]

Prints one line of JSON: when the machine was lost, and how long it took until the next step of the others.
"""

import json
import os
import sys
import threading
import time

import ray
from ray.cluster_utils import Cluster

from pipelines import pretrain

HEALTH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}
"""As ray_cluster.yaml and the others start their heads."""
LOST_AFTER_STEP = 10
LONGEST_S = 600


def main(data: str, out: str, *settings: str) -> None:
    """Run, lose a machine, get another one, finish."""
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": HEALTH})
    cluster.add_node(num_cpus=1)
    lost = cluster.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = cluster.address
    rows: list[dict[str, float]] = []
    failure: list[BaseException] = []

    def train() -> None:
        try:
            pretrain.run("pretrain_demo", data=[data], out=out, overrides=settings, progress=rows.append)
        except BaseException as error:  # noqa: BLE001 - told at the end
            failure.append(error)

    training = threading.Thread(target=train, daemon=True)
    training.start()

    def wait_for(what: str, workers: int, *, after_s: float = 0.0, step: int = 0) -> dict[str, float]:
        deadline_s = time.monotonic() + LONGEST_S
        while time.monotonic() < deadline_s and not failure:
            for row in list(rows):
                if row["workers"] == workers and row["at_s"] > after_s and row["step"] >= step:
                    return row
            if not training.is_alive():
                break
            time.sleep(0.1)
        raise SystemExit(f"{what} did not happen; {failure or rows[-3:]}")

    before = wait_for("the first steps on two machines", 2, step=LOST_AFTER_STEP)
    lost_s = time.time()
    cluster.remove_node(lost, allow_graceful=False)
    alone = wait_for("a step on the machine that was left", 1, after_s=lost_s)
    came_s = time.time()
    cluster.add_node(num_cpus=1)
    again = wait_for("a step on two machines again", 2, after_s=came_s)
    training.join(LONGEST_S)
    if failure or training.is_alive():
        raise SystemExit(f"the run did not end; {failure}")
    last = max(row["step"] for row in rows if row["at_s"] <= lost_s)
    found = {
        "lost_at_step": last,
        "went_on_at_step": alone["step"],
        "repeated_steps": last - alone["step"] + 1,
        "recovery_s": round(alone["at_s"] - lost_s, 1),
        "joined_again_s": round(again["at_s"] - came_s, 1),
        "first_step": before["step"],
    }
    print(json.dumps(found))
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
