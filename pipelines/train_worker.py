"""Body of one Ray Train worker: from the newest state to the finished checkpoint, in step with the others."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import ray.train
import torch
from ray.train.torch import get_device, prepare_model
from torch import nn

from mpm_model.errors import InputError
from mpm_model.learning.batches import Batch, draw_batch
from mpm_model.learning.objectives import Learner
from mpm_model.learning.scoring import score_by_dataset
from mpm_model.learning.training import Average, fit
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.workers import from_first
from pipelines.recipe import objective_of
from pipelines.storage import StorageError
from pipelines.train_board import BoardOnRay, ProgressBoard, Stop
from pipelines.train_feed import Feed
from pipelines.train_job import TrainJob, build_model, hardware_of, open_feed, publish
from pipelines.train_picture import draw_reconstruction
from pipelines.train_state import StateStore, load_latest
from pipelines.train_watch import TrainWatch, gpu_use


def train_worker(settings: dict[str, Any]) -> None:
    """Train one model to its end, going on from the newest state if there is one.

    Every worker runs this, each with its share of every batch; the first also writes and tells. What would
    only happen again is told to the board, which ends the run: a loss that is not finite, an input that is
    wrong.
    """
    board = settings["board"]
    try:
        with closing(Training(settings["job"], board)) as training:
            training.run()
    except FloatingPointError as error:  # which all workers raise together
        board.stop(Stop(str(error), is_of_input=True))
    except InputError as error:
        if not isinstance(error, StorageError):  # which may be over by the next try
            board.stop(Stop(str(error), is_of_input=True))
        raise


class Training:
    """One worker's part of a run."""

    def __init__(self, job: TrainJob, board: ProgressBoard | BoardOnRay) -> None:
        self.job, self.config, self.board = job, job.config, board
        context = ray.train.get_context()
        self.rank, self.workers = context.get_world_rank(), context.get_world_size()
        own_cores = len(os.sched_getaffinity(0)) // context.get_local_world_size()
        torch.set_num_threads(self.config.scale.cpus_per_worker or max(1, own_cores))
        device = get_device() if self.config.scale.is_on_gpu else torch.device("cpu")
        self.hardware = hardware_of(device, workers=self.workers)
        # Else gradients of gathers are summed in the order in which threads come; on a GPU some always are.
        torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")

        self.model = build_model(job)
        sizes = self.model.config
        assert isinstance(sizes, PoseTransformerConfig)  # of every network that training makes
        self.feed, self.validation = open_feed(
            job, device, frames=sizes.frames, rank=self.rank, workers=self.workers
        )
        self.objective = objective_of(self.config, self.feed.skeleton)
        learner: nn.Module = Learner(self.model, self.objective)
        if self.config.scale.is_compiled:
            learner = torch.compile(learner)  # type: ignore[assignment]
        # Parameters may be unused: completion leaves the 2D embedding alone. This also keeps the buckets in
        # which gradients are added up as they are; else a run that goes on would round otherwise than one
        # that is whole.
        self.learner = prepare_model(
            learner,
            move_to_device=device,
            parallel_strategy_kwargs={"find_unused_parameters": True},
        )
        self.optimiser = self.config.optimiser.build(self.learner)
        decay = self.config.optimiser.average_decay
        self.average = Average(self.model, decay) if decay else None
        self.kept = self.model if self.average is None else self.average.model
        self.store = StateStore(job.state_url)
        self.resumes = 0
        self.step, self.rows = self._take_up()
        self.steps = self.feed.steps_per_epoch * self.config.epochs
        self.watch = TrainWatch(job.out, run=job.out, rows=self.rows) if self.rank == 0 else None
        self.clock = Clock(self.step, self.feed)

    def run(self) -> None:
        """Train to the end; the first worker then publishes what came of it."""
        while self.step < self.steps:
            stop = self._next_stop()
            fit(
                self.learner,
                self._batch_at,
                optimiser=self.optimiser,
                rate_at=self._rate_at,
                steps=range(self.step, stop),
                max_grad_norm=self.config.optimiser.max_grad_norm,
                report=self._report,
                report_every=self.config.scale.report_every_steps,
                seed=self.config.seed,
                average=self.average,
                precision=self.config.precision,
                passes=self.job.passes(self.workers),
            )
            self.step = stop
            with self.clock.standing_still():
                if self._is_validated(stop):
                    self._validate()
                self._save()
        if self.watch is not None:
            self.watch.close()
            publish(self.job, self.kept, self.feed, rows=self.rows, hardware=self.hardware)

    def close(self) -> None:
        """Write what is still to be written, and end what goes on beside the training."""
        self.feed.close()
        self.store.close()
        if self.watch is not None:
            self.watch.close()

    def _take_up(self) -> tuple[int, list[dict[str, float]]]:
        """Go on from the newest state; (steps done, rows reported)."""
        # One worker looks for it, so that all take up the same.
        found = from_first(load_latest(self.job.state_url, map_location="cpu") if self.rank == 0 else None)
        if found is None:
            return 0, []
        step, state = found
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        rows: list[dict[str, float]] = json.loads(state["rows"])
        self.resumes = 1 + int(rows[-1]["resumes"])
        return step, rows

    def _next_stop(self) -> int:
        """The next step with a validation or a state."""
        scale = self.config.scale
        legs = (scale.checkpoint_every_steps, scale.validate_every_epochs * self.feed.steps_per_epoch)
        return min(self.steps, *((self.step // leg + 1) * leg for leg in legs))

    def _is_validated(self, step: int) -> bool:
        leg = self.config.scale.validate_every_epochs * self.feed.steps_per_epoch
        return len(self.validation) > 0 and (step % leg == 0 or step == self.steps)

    def _batch_at(self, step: int) -> tuple[int, Batch]:
        epoch, corpus, samples = self.feed.take(step)
        return epoch, draw_batch(corpus, samples, seed=self.config.seed, epoch=epoch, config=self.config.view)

    def _rate_at(self, step: int) -> float:
        return self.config.optimiser.rate_at(
            step, steps=self.steps, steps_per_epoch=self.feed.steps_per_epoch
        )

    def _report(self, step: int, metrics: dict[str, float]) -> None:
        row = {"step": step, "steps": self.steps, "epoch": step / self.feed.steps_per_epoch}
        row |= metrics | self.clock.speeds(step, self.config.batch_windows)
        row |= {"workers": self.workers, "resumes": self.resumes}
        self.rows.append(row)
        if not self._is_validated(step):  # that row waits for its validation
            self._tell(row)

    def _tell(self, row: dict[str, float]) -> None:
        if self.watch is not None:
            self.watch.report(row)
            self.board.post(row)

    def _validate(self) -> None:
        scores = score_by_dataset(
            self.kept, self.validation, self.objective, seed=self.config.seed, view=self.config.view
        )
        self.rows[-1] |= {f"validation_{name}": value for name, value in scores.items()}
        self._tell(self.rows[-1])
        if self.watch is not None:
            poses = draw_reconstruction(self.kept, self.validation, config=self.config)
            self.watch.validated(self.step, {"poses": poses})

    def _save(self) -> None:
        """Put aside what the run needs to go on from here; the upload goes on beside the training."""
        if self.watch is None:
            return
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "rows": json.dumps(self.rows),
        }
        before = len(self.store.faults)
        self.store.save(state, step=self.step)
        self.watch.checkpointed(is_saved=len(self.store.faults) == before)
        self.watch.flush()


class Clock:
    """Speed of training between reports, without what lies between the legs."""

    def __init__(self, step: int, feed: Feed) -> None:
        self._step, self._feed = step, feed
        self._begun_s, self._waited_s = time.monotonic(), feed.waited_s

    def speeds(self, step: int, batch_windows: int) -> dict[str, float]:
        """Windows in a second since the last call, the share of time spent waiting for them, use of the
        GPU."""
        now_s, waited_s = time.monotonic(), self._feed.waited_s
        seconds = max(now_s - self._begun_s, 1e-9)
        speeds = {
            "windows_per_s": batch_windows * (step - self._step) / seconds,
            "waiting_share": (waited_s - self._waited_s) / seconds,
            "at_s": time.time(),
        }
        self._step, self._begun_s, self._waited_s = step, now_s, waited_s
        used = gpu_use()
        return speeds if used is None else speeds | {"gpu_use": used}

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Time in the body does not count."""
        begun_s = time.monotonic()
        yield
        self._begun_s += time.monotonic() - begun_s
