"""A training run on Ray's Prometheus endpoint, which puts `ray_` before its names: `ray_mpm_step`."""

import math
from collections.abc import Mapping

from ray.util.metrics import Counter, Gauge

from pipelines.train_rows import placed

_PLAIN = {
    "windows_per_s": ("mpm_windows_per_s", "Windows trained on in a second, all workers together."),
    "waiting_share": ("mpm_waiting_share", "Share of the time spent waiting for data, 0 to 1."),
    "gpu_use": ("mpm_gpu_use", "Share of the time in which the first worker's GPU was busy, 0 to 1."),
    "rate": ("mpm_learning_rate", "Learning rate."),
    "step": ("mpm_step", "Steps done."),
    "steps": ("mpm_steps", "Steps of the whole run."),
    "workers": ("mpm_workers", "Workers that train."),
}
_BY_NAME = {
    "loss": ("mpm_loss", "Training loss by modality; the name total is their weighted sum."),
    "validation": ("mpm_validation", "Validation figures, DATASET/LOSS, and limb/LIMB in millimetres."),
}


class TrainMetrics:
    """Gauges and counters of one run, tagged with its name.

    Setting them costs microseconds and asks nobody: each node's agent collects them, and where there is no
    Ray nobody does.
    """

    def __init__(self, run: str) -> None:
        self._plain = {
            name: Gauge(metric, about, tag_keys=("run",)).set_default_tags({"run": run})
            for name, (metric, about) in _PLAIN.items()
        }
        self._by_name = {
            group: Gauge(metric, about, tag_keys=("run", "name")).set_default_tags({"run": run})
            for group, (metric, about) in _BY_NAME.items()
        }
        self._saved = Counter("mpm_checkpoints_total", "Checkpoints saved.", tag_keys=("run",))
        self._failed = Counter(
            "mpm_checkpoint_failures_total", "Checkpoints that could not be saved.", tag_keys=("run",)
        )
        for counter in (self._saved, self._failed):
            counter.set_default_tags({"run": run})

    def report(self, row: Mapping[str, float]) -> None:
        """Show the figures of a row; one that is not finite stays as it was."""
        for name, gauge in self._plain.items():
            if math.isfinite(row.get(name, math.nan)):
                gauge.set(row[name])
        for place, value in placed(row).items():
            if place.group in self._by_name and math.isfinite(value):
                self._by_name[place.group].set(value, tags={"name": place.name})

    def checkpointed(self, *, is_saved: bool) -> None:
        """Count a checkpoint."""
        (self._saved if is_saved else self._failed).inc()
