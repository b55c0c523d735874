"""Ray Train wiring shared by `pretrain` and `finetune`: checked input in, a finished checkpoint out."""

import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpm_model.checkpoint import load_checkpoint
from mpm_model.errors import InputError, refuse
from mpm_model.network.config import PoseTransformerConfig, strides
from pipelines import storage
from pipelines.run_config import FinetuneConfig, PretrainConfig, ScaleConfig

Progress = Callable[[dict[str, float]], None]
"""Called with every reported row: step, steps, epoch, losses, rate."""

RUN_FILE = "run.json"
"""Configuration and data of the run, written before any work: it makes the folder ours."""
CARD_FILE = "card.json"
"""Written last: a folder that has it is finished."""
STATE_FOLDER = "_train"
"""Ray Train's own folder, with the latest checkpoint and the optimiser's state."""


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
    description = {"config": config.model_dump(mode="json"), "data": list(data), "init": init}
    if _is_finished(out, description):
        return TrainSummary(out, False, storage.read_json(storage.join(out, CARD_FILE))["last"])
    _check_inputs(config, data, init)
    storage.check_writable(out)
    _fit_on_ray(config, data=data, out=out, init=init, description=description, progress=progress)
    return TrainSummary(out, True, storage.read_json(storage.join(out, CARD_FILE))["last"])


def _is_finished(out: str, description: dict[str, Any]) -> bool:
    """Whether the same run has finished here; InputError if the folder holds anything else."""
    if not storage.exists(out) or storage.is_empty(out):
        return False
    run_file = storage.join(out, RUN_FILE)
    if not storage.exists(run_file):
        raise InputError(
            f"{out}: wanted an empty folder or one of an earlier run, it holds something else "
            f"({', '.join(storage.list_names(out)[:5])}); give another --out"
        )
    before = storage.read_json(run_file)
    if before != description:
        raise InputError(
            f"{out}: holds another run ({'; '.join(_differences(before, description))}); "
            "give another --out, or the same configuration to go on"
        )
    return storage.exists(storage.join(out, CARD_FILE))


def _differences(before: Any, now: Any, path: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        return [
            line
            for key in keys
            for line in _differences(before.get(key), now.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if before == now else [f"{path} was {before}, now {now}"]


def _check_inputs(config: PretrainConfig | FinetuneConfig, data: Sequence[str], init: str | None) -> None:
    from pipelines.windows_table import read_all_windows

    if not data:
        raise InputError("no windows to train on: give --data with a folder that mpm prepare made")
    windows = read_all_windows(data, splits=("train",))
    window_frames = windows.joints_world_m.shape[1]
    network = _network(config, init)
    faults = []
    if network.frames != window_frames:
        faults.append(f"network.frames is {network.frames} but the windows have {window_frames}")
    if network.joints != len(windows.skeleton):
        faults.append(
            f"network.joints is {network.joints} but {windows.skeleton.name} has {len(windows.skeleton)}"
        )
    if network.keypoint_channels != config.view.keypoint_channels:
        faults.append(
            f"network.keypoint_channels is {network.keypoint_channels} but the view gives "
            f"{config.view.keypoint_channels} (normalisation {config.view.normalisation}, "
            f"{'with' if config.view.has_confidence else 'without'} confidence)"
        )
    if len(windows) < config.batch_windows:
        faults.append(
            f"batch_windows is {config.batch_windows} but there are {len(windows)} training windows"
        )
    if config.batch_windows % config.scale.workers:
        faults.append(
            f"batch_windows {config.batch_windows} is no multiple of {config.scale.workers} scale.workers"
        )
    if init is not None:
        with storage.fetch_folder(init) as folder:
            checkpoint = load_checkpoint(
                folder, expect_architecture="masked", expect_skeleton=windows.skeleton
            )
        if checkpoint.normalisation != config.view.normalisation:
            faults.append(
                f"view.normalisation is {config.view.normalisation} but {init} was trained with "
                f"{checkpoint.normalisation}"
            )
        if checkpoint.rate_hz != windows.rate_hz:
            faults.append(
                f"{init} was trained at {checkpoint.rate_hz} Hz but the windows have {windows.rate_hz} Hz"
            )
    refuse(f"configuration and data ({', '.join(data)})", faults)
    if isinstance(config, FinetuneConfig) and config.task == "lifting":
        strides(network.frames)  # not every length can be lifted: say so before Ray starts


def _network(config: PretrainConfig | FinetuneConfig, init: str | None) -> PoseTransformerConfig:
    if init is not None:
        with storage.fetch_folder(init) as folder:
            network = load_checkpoint(folder, expect_architecture="masked").model.config
        assert isinstance(network, PoseTransformerConfig)  # of every masked model
        if isinstance(config, FinetuneConfig) and config.network is not None:
            raise InputError("give either --init or the setting network, not both")
        return network
    if config.network is None:
        raise InputError("fine-tuning from scratch needs the setting network; or give --init CHECKPOINT")
    return config.network


def _fit_on_ray(
    config: PretrainConfig | FinetuneConfig,
    *,
    data: tuple[str, ...],
    out: str,
    init: str | None,
    description: dict[str, Any],
    progress: Progress,
) -> None:
    import ray
    import ray.train
    from ray.train.torch import TorchTrainer

    from pipelines.ray_session import ensure_ray
    from pipelines.schema import made_by
    from pipelines.train_worker import TrainJob, train_worker

    ensure_ray(cpus=max(os.cpu_count() or 1, config.scale.workers))
    _check_cluster(config.scale)
    storage.write_json(storage.join(out, RUN_FILE), description)
    threads = config.scale.cpus_per_worker or _cores_for(config.scale.workers)
    board = ray.remote(num_cpus=0)(ProgressBoard).remote()
    verb = "pretrain" if isinstance(config, PretrainConfig) else "finetune"
    job = TrainJob(
        config=config,
        data=data,
        out=out,
        init=init,
        threads=threads,
        card={"made_by": made_by(f"mpm {verb}"), "run": description},
    )
    filesystem, path = storage.arrow_filesystem(out)
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"job": job, "board": board},
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.scale.workers,
            use_gpu=config.scale.is_on_gpu,
            # One logical core: a small machine also holds Ray's own actors. The worker sets its threads.
            resources_per_worker={"CPU": 1} | ({"GPU": 1} if config.scale.is_on_gpu else {}),
        ),
        run_config=ray.train.RunConfig(
            name=STATE_FOLDER,
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=ray.train.FailureConfig(max_failures=config.scale.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
            worker_runtime_env={"env_vars": storage.storage_environment()},
        ),
    )
    result = _fit_watched(trainer, board, progress)
    with result.checkpoint.as_directory() as folder:
        _publish(Path(folder), out)


def _check_cluster(scale: ScaleConfig) -> None:
    """Refuse what an embedded Ray would wait for without end; a cluster may yet grow."""
    import ray

    if "RAY_ADDRESS" in os.environ:
        return
    resources = ray.cluster_resources()
    faults = []
    if scale.workers > resources.get("CPU", 0):
        faults.append(
            f"scale.workers is {scale.workers} but Ray has {resources.get('CPU', 0):.0f} processors"
        )
    if scale.is_on_gpu and scale.workers > resources.get("GPU", 0):
        faults.append(f"{scale.workers} GPUs are asked for but there are {resources.get('GPU', 0):.0f}")
    refuse("this machine", faults)


def _fit_watched(trainer: Any, board: Any, progress: Progress) -> Any:
    """Run `fit` in a thread and hand on the rows that the first worker posts meanwhile."""
    import ray

    outcome: dict[str, Any] = {}

    def fit() -> None:
        try:
            outcome["result"] = trainer.fit()
        except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread, whatever it is
            outcome["error"] = error

    thread = threading.Thread(target=fit, name="ray-train", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(timeout=0.5)
        for row in ray.get(board.take.remote()):
            progress(row)
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]


class ProgressBoard:
    """Actor that carries rows of metrics from the first worker to whoever watches."""

    def __init__(self) -> None:
        self._rows: list[dict[str, float]] = []

    def post(self, row: dict[str, float]) -> None:
        """Put up a row."""
        self._rows.append(row)

    def take(self) -> list[dict[str, float]]:
        """Take down the rows put up since the last call."""
        rows, self._rows = self._rows, []
        return rows


def _cores_for(workers: int) -> int:
    """Cores of one worker when all share this machine's."""
    return max(1, len(os.sched_getaffinity(0)) // workers)


def _publish(folder: Path, out: str) -> None:
    """Copy a finished checkpoint into its place, with its curves, the card last."""
    import json
    import shutil

    from pipelines.curves import draw_curves
    from pipelines.train_worker import METRICS_FILE, STATE_FILE

    with tempfile.TemporaryDirectory() as name:
        finished = Path(name)
        for file in folder.iterdir():
            if file.name != STATE_FILE:
                shutil.copyfile(file, finished / file.name)
        (finished / "curves.png").write_bytes(draw_curves(json.loads((folder / METRICS_FILE).read_text())))
        storage.publish_folder(finished, out, last=CARD_FILE)
