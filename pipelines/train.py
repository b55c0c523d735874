"""Ray Train wiring shared by `pretrain` and `finetune`: checked input in, a finished checkpoint out."""

import dataclasses
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpm_model.errors import InputError
from pipelines import storage
from pipelines.run_config import FinetuneConfig, PretrainConfig, ScaleConfig
from pipelines.train_checks import (
    RUN_FILE,
    check_cluster,
    check_inputs,
    check_same_windows,
    describe_run,
    is_finished,
)
from pipelines.train_job import CARD_FILE, TrainJob

if TYPE_CHECKING:
    from pipelines.train_board import BoardOnRay, Stop  # Ray is slow to import

Progress = Callable[[dict[str, float]], None]
"""Called with every reported row: step, steps, epoch, losses, rate."""

RAY_NAME = "mpm"
"""Name of the run within Ray Train, which keeps nothing of it: states and checkpoint are our own."""
RESIZE_EVERY_S = 15.0
"""How soon an elastic run takes up a machine that has come."""
ELASTIC = {
    # Ray Train decides on resources it does not yet know to be lost, and waits a minute for them by default.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "4",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
}
"""Settings by which Ray Train goes on within seconds of a loss."""


@dataclass(frozen=True)
class TrainSummary:
    """What a run gave."""

    out: str
    """The checkpoint folder."""
    is_new: bool
    """False if the folder was finished already and nothing was done."""
    last: dict[str, float]
    """The last row of metrics."""

    def lines(self) -> list[str]:
        """For the command line."""
        done = "trained" if self.is_new else "was trained already, nothing to do"
        metrics = ", ".join(
            f"{name} {value:.4g}" for name, value in self.last.items() if "loss" in name or name == "epoch"
        )
        return [f"{self.out}: {done}; {metrics}"]


def run_training(
    config: PretrainConfig | FinetuneConfig,
    *,
    data: Sequence[str],
    out: str,
    init: str | None,
    progress: Progress,
) -> TrainSummary:
    """Train, or go on where a killed run of the same configuration stopped.

    Raises:
        InputError: data, checkpoint, configuration or output folder do not fit; nothing was written.
    """
    data = tuple(storage.absolute(url) for url in data)
    out = storage.absolute(out)
    init = None if init is None else storage.absolute(init)
    description = describe_run(config, data=data, init=init)
    if is_finished(out, description):
        return TrainSummary(out, False, storage.read_json(storage.join(out, CARD_FILE))["last"])
    index = check_inputs(config, data, init)
    check_same_windows(out, index.train)
    storage.check_writable(out)
    is_here = _is_for_this_process(config.scale)
    if not is_here:
        _start_ray(config.scale)
    storage.write_json(storage.join(out, RUN_FILE), description | {"windows": index.train.fingerprint})
    job = TrainJob(
        config=config,
        data=data,
        out=out,
        init=init,
        card=_card_of(config, description),
        index=index if config.lanes else None,
    )
    (_fit_here if is_here else _fit_on_ray)(job, progress)
    return TrainSummary(out, True, storage.read_json(storage.join(out, CARD_FILE))["last"])


def _is_for_this_process(scale: ScaleConfig) -> bool:
    """Whether one worker on this machine's processors is all there is: it then needs no Ray cluster."""
    is_joined = "ray" in sys.modules and sys.modules["ray"].is_initialized()
    return scale.workers == 1 and not (scale.is_on_gpu or os.environ.get("RAY_ADDRESS") or is_joined)


def _start_ray(scale: ScaleConfig) -> None:
    from pipelines.ray_session import ensure_ray

    ensure_ray(cpus=max(os.cpu_count() or 1, scale.workers))
    check_cluster(scale)


def _card_of(config: PretrainConfig | FinetuneConfig, description: dict[str, Any]) -> dict[str, Any]:
    from pipelines.schema import made_by

    verb = "pretrain" if isinstance(config, PretrainConfig) else "finetune"
    run = description | {"scale": dataclasses.asdict(config.scale)}
    return {"made_by": made_by(f"mpm {verb}"), "run": run}


def _fit_here(job: TrainJob, progress: Progress) -> None:
    """Ray Train's local mode: this process is the worker.

    It begins at once, and shares the processors with none of Ray's own processes, which take a tenth of a
    small machine. A failure that may be over by the next try is tried again as on a cluster.
    """
    import ray.train
    from ray.train.torch import TorchTrainer

    from pipelines.train_board import ProgressBoard
    from pipelines.train_worker import train_worker

    class Told(ProgressBoard):
        def post(self, row: dict[str, float]) -> None:
            super().post(row)
            progress(row)

    logging.getLogger("ray.train").setLevel(logging.WARNING)
    board = Told(max_failures=job.config.scale.max_failures)
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"job": job, "board": board},
        scaling_config=ray.train.ScalingConfig(num_workers=0),
    )
    failure = None
    with _torch_as_before():
        while not board.stopped():
            try:
                trainer.fit()
                break
            except Exception as error:  # noqa: BLE001 - whatever it is, the board counts it and says it
                failure = error
                board.lost({0: str(error).strip()})
    _raise_if_stopped(board.stopped(), failure)


@contextmanager
def _torch_as_before() -> Iterator[None]:
    """Undo what a training sets for its whole process."""
    import torch

    threads, is_deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(is_deterministic)


def _fit_on_ray(job: TrainJob, progress: Progress) -> None:
    import ray
    import ray.train
    from ray.train.torch import TorchTrainer

    from pipelines.train_board import BoardOnRay, GiveUp, ProgressBoard
    from pipelines.train_worker import train_worker

    scale = job.config.scale
    here = {ray._raylet.RAY_NODE_ID_KEY: ray.get_runtime_context().get_node_id()}
    actor = ray.remote(num_cpus=0, label_selector=here)(ProgressBoard).remote(max_failures=scale.max_failures)
    board = BoardOnRay(actor)
    if scale.is_elastic:
        os.environ.update({name: os.environ.get(name, value) for name, value in ELASTIC.items()})
    with tempfile.TemporaryDirectory(prefix="mpm-ray-") as scratch:
        trainer = TorchTrainer(
            train_worker,
            train_loop_config={"job": job, "board": board},
            scaling_config=ray.train.ScalingConfig(
                num_workers=(scale.min_workers, scale.workers) if scale.is_elastic else scale.workers,
                use_gpu=scale.is_on_gpu,
                # One logical core: a small machine also holds Ray's own actors. The worker sets its threads.
                resources_per_worker={"CPU": 1} | ({"GPU": 1} if scale.is_on_gpu else {}),
                elastic_resize_monitor_interval_s=RESIZE_EVERY_S,
            ),
            run_config=ray.train.RunConfig(
                name=RAY_NAME,
                storage_path=scratch,
                # The board counts failures, and forgives them when the run gets on.
                failure_config=ray.train.FailureConfig(max_failures=-1),
                callbacks=[GiveUp(board)],
                worker_runtime_env={"env_vars": storage.storage_environment()},
            ),
        )
        _fit_watched(trainer, board, progress)


def _fit_watched(trainer: Any, board: "BoardOnRay", progress: Progress) -> None:
    """Run `fit` in a thread and hand on the rows that the first worker posts meanwhile."""
    failure: list[BaseException] = []

    def fit() -> None:
        try:
            trainer.fit()
        except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread, whatever it is
            failure.append(error)

    thread = threading.Thread(target=fit, name="ray-train", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(timeout=0.5)
        for row in board.take():
            progress(row)
    _raise_if_stopped(board.stopped(), failure[0] if failure else None)
    if failure:
        raise failure[0]


def _raise_if_stopped(stop: "Stop | None", failure: BaseException | None) -> None:
    if stop:
        # A storage that does not answer is an InputError as well: one line says it all.
        kind = InputError if stop.is_of_input or isinstance(failure, InputError) else RuntimeError
        raise kind(f"training stopped: {stop.reason}") from failure
