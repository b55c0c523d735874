"""What is refused before a run begins: another run's folder, data that does not fit, a machine too small."""

import os
from collections.abc import Sequence
from typing import Any

from mpm_model.checkpoint import load_checkpoint
from mpm_model.errors import InputError, refuse
from mpm_model.learning.lanes import lane_faults
from mpm_model.network.config import PoseTransformerConfig, strides
from pipelines import storage, storage_folders
from pipelines.run_config import FinetuneConfig, PretrainConfig, ScaleConfig
from pipelines.train_job import CARD_FILE, WindowIndex
from pipelines.window_index import ChunkIndex, index_chunks
from pipelines.window_stream import SHUFFLE_WINDOWS

RUN_FILE = "run.json"
"""Configuration and data of the run, written before any work: it makes the folder ours."""


def describe_run(
    config: PretrainConfig | FinetuneConfig, *, data: Sequence[str], init: str | None
) -> dict[str, Any]:
    """What a run is: all that its result depends on. Its scale may change from one start to the next."""
    return {"config": config.model_dump(mode="json", exclude={"scale"}), "data": list(data), "init": init}


def is_finished(out: str, description: dict[str, Any]) -> bool:
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
    before.pop("windows", None)  # which are only looked at for a run that is still to be done
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


def check_inputs(
    config: PretrainConfig | FinetuneConfig, data: Sequence[str], init: str | None
) -> WindowIndex:
    """Refuse a configuration that does not go with its data or its checkpoint, every fault at once.

    What is found of the data on the way: where its windows lie.
    """
    if not data:
        raise InputError("no windows to train on: give --data with a folder that mpm prepare made")
    index = WindowIndex(*(index_chunks(data, splits=(split,)) for split in ("train", "validation")))
    windows, window_frames = index.train, index.train.kind.frames
    network = _network(config, init)
    faults = []
    if network.frames > window_frames:
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
    if config.batch_windows < config.scale.workers:
        faults.append(
            f"batch_windows is {config.batch_windows}, fewer than scale.workers, {config.scale.workers}"
        )
    if init is not None:
        with storage_folders.fetch_folder(init) as folder:
            checkpoint = load_checkpoint(
                folder, expect_architecture="masked", expect_skeleton=windows.skeleton
            )
        if checkpoint.normalisation != config.view.normalisation:
            faults.append(
                f"view.normalisation is {config.view.normalisation} but {init} was trained with "
                f"{checkpoint.normalisation}"
            )
        if checkpoint.rate_hz != windows.kind.rate_hz:
            faults.append(
                f"{init} was trained at {checkpoint.rate_hz} Hz, the windows have {windows.kind.rate_hz} Hz"
            )
    if config.lanes:
        faults += lane_faults(
            len(windows),
            lanes=config.lanes,
            batch_windows=config.batch_windows,
            shuffle_windows=SHUFFLE_WINDOWS,
            workers=config.scale.workers,
        )
    refuse(f"configuration and data ({', '.join(data)})", faults)
    if isinstance(config, FinetuneConfig) and config.task == "lifting":
        strides(network.frames)  # not every length can be lifted: say so before Ray starts
    return index


def check_same_windows(out: str, windows: ChunkIndex) -> None:
    """Refuse to go on with a run whose data is not what it was when the run began."""
    run_file = storage.join(out, RUN_FILE)
    if storage.exists(run_file) and storage.read_json(run_file)["windows"] != windows.fingerprint:
        raise InputError(
            f"{out}: holds a run on windows that have changed since it began; give another --out"
        )


def _network(config: PretrainConfig | FinetuneConfig, init: str | None) -> PoseTransformerConfig:
    if init is not None:
        with storage_folders.fetch_folder(init) as folder:
            network = load_checkpoint(folder, expect_architecture="masked").model.config
        assert isinstance(network, PoseTransformerConfig)  # of every masked model
        if isinstance(config, FinetuneConfig) and config.network is not None:
            raise InputError("give either --init or the setting network, not both")
        return network
    if config.network is None:
        raise InputError("fine-tuning from scratch needs the setting network; or give --init CHECKPOINT")
    return config.network


def check_cluster(scale: ScaleConfig) -> None:
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
