"""Several workers, each a process of a torch process group: together they are one."""

import dataclasses
import socket
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from mpm_model.learning.masking import MaskConfig
from mpm_model.learning.objectives import Learner, MaskedLossConfig, masked_pose_modelling
from mpm_model.learning.training import OptimiserConfig, fit, parts_of
from mpm_model.network.batch_norm import SharedBatchNorm
from mpm_model.network.config import PoseTransformerConfig
from mpm_model.network.masked import MaskedPoseModel
from mpm_model.pose.skeletons import H36M_17
from mpm_model.workers import from_first, of_all, total, worker_count, worker_rank
from tests.mpm_model.learning.test_training import make_batch

SIZES = PoseTransformerConfig(
    frames=9, width=32, layers=1, heads=4, feed_forward=32, frame_hidden=32, dropout=0.0, frame_dropout=0.0
)
STEPS = 12


def batch_of(step: int):
    """A batch whose valid joints lie unevenly, so that a mean of workers' means would be another."""
    batch = make_batch(step)
    is_valid = batch.is_valid.clone()
    is_valid[: 3 + step % 7, :, 4:] = False
    return dataclasses.replace(batch, is_valid=is_valid)


def train(norms: str, passes: int) -> dict:
    torch.manual_seed(0)
    model = MaskedPoseModel(dataclasses.replace(SIZES, norms=norms))
    objective = masked_pose_modelling(
        mask=MaskConfig(), loss=MaskedLossConfig(weight_lift=1.0), skeleton=H36M_17, seed=0
    )
    learner: nn.Module = Learner(model, objective)
    if worker_count() > 1:
        learner = DistributedDataParallel(learner, find_unused_parameters=True)
    rows = []
    optimiser = OptimiserConfig(learning_rate=1e-3)
    fit(
        learner,
        lambda step: (0, parts_of(batch_of(step), worker_count())[worker_rank()]),
        optimiser=optimiser.build(learner),
        rate_at=lambda step: 1e-3,
        steps=range(STEPS),
        max_grad_norm=1.0,
        report=lambda step, metrics: rows.append(metrics),
        report_every=1,
        seed=0,
        passes=passes,
    )
    return {"rows": rows, "model": model.state_dict()}


def all_there_is_to_do() -> dict:
    found = {
        f"{norms}/{passes}": train(norms, passes)
        for norms, passes in (("standard", 1), ("standard", 2), ("paper", 1))
    }
    torch.manual_seed(0)
    frames = torch.randn(30, 5, dtype=torch.float32) * 3 + 100
    ends = [30 * rank // worker_count() for rank in range(worker_count() + 1)]
    mine = frames[ends[worker_rank()] : ends[worker_rank() + 1]].clone().requires_grad_()
    norm = SharedBatchNorm(5).train()
    weights = torch.randn(30, 5)[ends[worker_rank()] : ends[worker_rank() + 1]]
    out = norm(mine)
    (out * weights).sum().backward()
    found["norm"] = of_all((out.detach(), mine.grad)), norm.running_mean, norm.running_var
    return found


def work(rank: int, workers: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=workers)
    assert (worker_rank(), worker_count()) == (rank, workers)
    assert total(torch.tensor([1.0, rank])).tolist() == [workers, sum(range(workers))]
    assert from_first({"rank": rank}) == {"rank": 0}
    assert of_all(rank) == list(range(workers))
    try:
        fit_spoiled()
    except FloatingPointError as error:
        (Path(folder) / f"spoiled_{rank}").write_text(str(error))
    torch.save(all_there_is_to_do(), Path(folder) / f"found_{rank}")
    dist.destroy_process_group()


def fit_spoiled() -> None:
    """One window of the last worker's share has no finite pose."""
    batch = batch_of(0)
    batch.joints_rel_m[15, 3, 2] = float("nan")
    model = MaskedPoseModel(SIZES)
    objective = masked_pose_modelling(mask=MaskConfig(), loss=MaskedLossConfig(), skeleton=H36M_17, seed=0)
    learner = DistributedDataParallel(Learner(model, objective), find_unused_parameters=True)
    fit(
        learner,
        lambda step: (0, parts_of(batch, worker_count())[worker_rank()]),
        optimiser=torch.optim.SGD(model.parameters()),
        rate_at=lambda step: 0.0,
        steps=range(1),
        max_grad_norm=1.0,
        report=lambda step, metrics: None,
        report_every=1,
        seed=0,
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What 1, 2 and 3 workers found, and what the three said of a loss that was not finite."""
    by_workers = {1: all_there_is_to_do()}
    for workers in (2, 3):
        folder = tmp_path_factory.mktemp(f"workers_{workers}")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        multiprocessing.spawn(work, (workers, port, str(folder)), nprocs=workers)
        each = [torch.load(folder / f"found_{rank}") for rank in range(workers)]
        for name in ("standard/1", "paper/1"):
            for one in each[1:]:
                assert one[name]["rows"] == each[0][name]["rows"]
        by_workers[workers] = each[0]
        said = {(folder / f"spoiled_{rank}").read_text() for rank in range(workers)}
        assert said == {"the loss is nan at step 0, of samples 15"}
    return by_workers


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("run", ["standard/1", "standard/2", "paper/1"])
def test_losses_do_not_depend_on_the_number_of_workers(found, workers, run):
    alone, together = found[1][run]["rows"], found[workers][run]["rows"]
    for before, after in zip(alone, together, strict=True):
        assert after == pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize("workers", [2, 3])
def test_batch_norm_over_workers_is_batch_norm_over_the_batch(found, workers):
    (alone,), *running_alone = found[1]["norm"]
    shares, *running = found[workers]["norm"]
    for at in (0, 1):  # what comes out; the gradient of what goes in
        torch.testing.assert_close(
            torch.cat([share[at] for share in shares]), alone[at], rtol=1e-4, atol=1e-5
        )
    for before, after in zip(running_alone, running, strict=True):
        torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)
