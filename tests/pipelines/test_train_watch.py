import logging
import re
import struct
import time
import types
import urllib.request
import zlib
from itertools import pairwise

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipelines import storage, train_files, train_watch
from pipelines.storage import StorageError
from pipelines.train_events import attempt_of
from pipelines.train_files import MOST_PICTURES, picture_name, picture_of, read_pictures, spread
from pipelines.train_metrics import TrainMetrics
from pipelines.train_rows import place_of
from pipelines.train_watch import TrainWatch, gpu_use


def row(step, **more):
    return {"step": step, "steps": 100, "loss": 10 / step, "loss_2d": 1 / step, "rate": 1e-3} | more


def png(shade=0):
    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", 2, 3, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes([0, shade, shade]) * 3)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def watch(out, *, rows=(), flush_every_s=0.0):
    return TrainWatch(out, run="test", rows=rows, flush_every_s=flush_every_s)


def flush(shown):
    shown._writing.result(timeout=60)
    shown.flush()
    shown._writing.result(timeout=60)


def tensorboard(out):
    reader = EventAccumulator(storage.join(out, "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    reader.Reload()
    return reader


def curve(reader, tag):
    return [(point.step, pytest.approx(point.value)) for point in reader.Scalars(tag)]


def test_figures_are_grouped_by_what_they_are_of():
    assert {name: place_of(name) for name in ("loss", "loss_3d", "rate", "waiting_share", "sparkle")} == {
        "loss": ("loss", "total"),
        "loss_3d": ("loss", "3d"),
        "rate": ("schedule", "learning_rate"),
        "waiting_share": ("speed", "waiting_share"),
        "sparkle": ("other", "sparkle"),
    }
    assert place_of("validation_loss") == ("validation", "total")
    assert place_of("validation_cmu/loss_2d") == ("validation", "cmu/2d")
    assert place_of("validation_limb/left_arm") == ("validation", "limb/left_arm")
    assert place_of("validation_ui_prmd/loss") == ("validation", "ui_prmd/total")
    assert [place_of(name) for name in ("step", "steps", "at_s")] == [None] * 3


def test_tensorboard_reads_every_figure_once_and_the_pictures(tmp_path):
    shown = watch(str(tmp_path))
    for step in (10, 20, 30):
        shown.report(row(step, windows_per_s=100.0))
    shown.report(row(30, **{"validation_cmu/loss": 0.5}))  # again, with its validation
    shown.validated(30, {"poses": png(7)})
    flush(shown)
    shown.report(row(40))
    shown.close()
    reader = tensorboard(str(tmp_path))
    assert curve(reader, "loss/total") == [(10, 1.0), (20, 0.5), (30, 1 / 3), (40, 0.25)]
    assert curve(reader, "validation/cmu/total") == [(30, 0.5)]
    assert curve(reader, "speed/windows_per_s") == [(10, 100), (20, 100), (30, 100)]
    assert "schedule/learning_rate" in reader.Tags()["scalars"]
    (image,) = reader.Images("pictures/poses")
    assert (image.step, image.width, image.height, image.encoded_image_string) == (30, 2, 3, png(7))
    assert (tmp_path / "pictures" / "poses_000000030.png").read_bytes() == png(7)


def test_after_a_resume_tensorboard_shows_each_step_once(tmp_path):
    first = watch(str(tmp_path))
    for step in (10, 20, 30, 40):
        first.report(row(step))
        first.validated(step, {"poses": png(step)})
    first.close()
    live = tensorboard(str(tmp_path))
    assert [point.step for point in live.Scalars("loss/2d")] == [10, 20, 30, 40]

    # The worker died after step 40, its last checkpoint was that of step 20.
    second = watch(str(tmp_path), rows=[row(10, at_s=1e9), row(20, at_s=1e9 + 60)])
    second.report(row(30, loss=9.0))
    second.validated(30, {"poses": png(99)})
    flush(second)
    for reader in (live.Reload(), tensorboard(str(tmp_path))):
        assert curve(reader, "loss/total") == [(10, 1.0), (20, 0.5), (30, 9.0)]
        pictures = {image.step: image.encoded_image_string for image in reader.Images("pictures/poses")}
        assert pictures == {10: png(10), 20: png(20), 30: png(99)}
    assert [point.wall_time for point in live.Scalars("loss/total")[:2]] == [1e9, 1e9 + 60]
    second.report(row(40))
    second.close()
    assert [point.step for point in live.Reload().Scalars("loss/2d")] == [10, 20, 30, 40]
    attempts = {attempt_of(path.name) for path in (tmp_path / "tensorboard").iterdir()}
    assert len(attempts) == 1, "the first attempt's files are gone"
    assert [point.step for point in tensorboard(str(tmp_path)).Scalars("loss/2d")] == [10, 20, 30, 40]


def test_what_another_wrote_into_the_folder_is_left_alone(tmp_path):
    theirs = tmp_path / "tensorboard" / "events.out.tfevents.1700000000.host.1.0"
    theirs.parent.mkdir()
    theirs.write_bytes(b"")
    watch(str(tmp_path)).close()
    assert theirs.exists()


def test_a_resume_comes_after_earlier_attempts_whatever_the_clock_says(tmp_path, monkeypatch):
    watch(str(tmp_path)).close()
    (earlier,) = (tmp_path / "tensorboard").iterdir()
    monkeypatch.setattr(train_watch.time, "time", lambda: 1000.0)
    watch(str(tmp_path)).close()
    (later,) = (tmp_path / "tensorboard").iterdir()
    assert later.name > earlier.name


def test_a_storage_that_fails_is_a_warning_and_nothing_is_lost(tmp_path, monkeypatch, caplog):
    shown = watch(str(tmp_path))
    whole = storage.write_once

    def refuse(url, content):
        raise StorageError(f"{url}: the server keeps failing")

    monkeypatch.setattr(storage, "write_once", refuse)
    shown.validated(10, {"poses": png()})
    with caplog.at_level(logging.WARNING):
        shown.report(row(10))
        flush(shown)
        shown.report(row(20))
        flush(shown)
    assert len(caplog.records) >= 2
    assert "the server keeps failing" in caplog.text
    monkeypatch.setattr(storage, "write_once", whole)
    shown.report(row(30))
    shown.close()
    reader = tensorboard(str(tmp_path))
    assert [point.step for point in reader.Scalars("loss/total")] == [10, 20, 30]
    assert (tmp_path / "pictures" / "poses_000000010.png").exists()


def test_a_storage_that_cannot_be_listed_at_first_is_asked_again(tmp_path, monkeypatch):
    shown = watch(str(tmp_path), rows=[row(10)])
    known = storage.exists

    def refuse(url):
        raise StorageError(f"{url}: no answer")

    monkeypatch.setattr(storage, "exists", refuse)
    shown.report(row(20))
    flush(shown)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(storage, "exists", known)
    shown.close()
    assert [point.step for point in tensorboard(str(tmp_path)).Scalars("loss/total")] == [10, 20]


def test_a_bug_of_the_writing_thread_is_not_swallowed(tmp_path, monkeypatch):
    shown = watch(str(tmp_path))
    monkeypatch.setattr(train_files.EventLog, "take", lambda self: 1 / 0)
    shown.report(row(10))
    with pytest.raises(ZeroDivisionError):
        shown.close()


def test_files_are_written_at_once_then_now_and_then_and_at_the_end(tmp_path):
    shown = watch(str(tmp_path), flush_every_s=1000.0)
    shown.report(row(10))
    shown._writing.result(timeout=60)
    assert [point.step for point in tensorboard(str(tmp_path)).Scalars("loss/total")] == [10]
    for step in (20, 30):
        shown.report(row(step))
        shown.flush()
    shown.validated(30, {"poses": png()})  # rare, and gone if the worker is lost now
    flush(shown)
    assert [point.step for point in tensorboard(str(tmp_path)).Scalars("loss/total")] == [10, 20, 30]
    assert (tmp_path / "pictures" / "poses_000000030.png").exists()
    shown.report(row(40))
    shown.close()
    assert len(list((tmp_path / "tensorboard").iterdir())) == 3
    assert [point.step for point in tensorboard(str(tmp_path)).Scalars("loss/total")] == [10, 20, 30, 40]


def test_a_slow_storage_does_not_hold_the_training_up(tmp_path, monkeypatch):
    import threading

    may_go_on = threading.Event()
    whole = storage.write_once
    monkeypatch.setattr(
        storage, "write_once", lambda url, content: may_go_on.wait(60) and whole(url, content)
    )
    shown = watch(str(tmp_path))
    for step in (10, 20, 30):
        shown.report(row(step))  # would never come back if it waited
        shown.flush()
    assert not (tmp_path / "tensorboard").exists()
    may_go_on.set()
    shown.close()
    assert [point.step for point in tensorboard(str(tmp_path)).Scalars("loss/total")] == [10, 20, 30]


def test_in_a_bucket_too(s3_bucket):
    out = f"{s3_bucket}/runs/a"
    first = watch(out)
    first.report(row(10))
    first.report(row(20))
    first.validated(20, {"poses": png()})
    first.close()
    second = watch(out, rows=[row(10), row(20)])
    second.report(row(30))
    second.close()
    reader = tensorboard(out)  # TensorBoard itself reads the bucket
    assert [point.step for point in reader.Scalars("loss/total")] == [10, 20, 30]
    assert [image.step for image in reader.Images("pictures/poses")] == [20]
    assert read_pictures(out) == {"poses_000000020.png": png()}


def test_many_pictures_are_thinned_out_but_for_the_first_and_last(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for step in range(0, 1000, 10):
        (folder / picture_name("poses", step)).write_bytes(png())
    (folder / "notes.txt").write_text("not ours")
    (folder / picture_name("left_over", 500)).write_bytes(png())
    steps = [picture_of(name).step for name in read_pictures(str(tmp_path), to_step=985) if "poses" in name]
    assert len(steps) == MOST_PICTURES
    assert (steps[0], steps[-1]) == (0, 980)
    assert {later - step for step, later in pairwise(steps)} <= {80, 90, 100}
    assert "left_over_000000500.png" in read_pictures(str(tmp_path), to_step=985)
    assert read_pictures(str(tmp_path / "nowhere"), to_step=9) == {}
    assert spread(["a", "b"]) == ["a", "b"]


def test_where_there_is_no_gpu_its_use_is_not_known(monkeypatch):
    monkeypatch.setattr(train_watch.torch.cuda, "is_available", lambda: False)
    assert gpu_use() is None


def test_gpu_use_is_a_share_and_unknown_where_the_gpu_does_not_say(monkeypatch):
    class NVMLError(Exception):
        pass

    def silent():
        raise NVMLError("Not Supported")

    monkeypatch.setitem(train_watch.__dict__, "torch", types.SimpleNamespace(cuda=types.SimpleNamespace()))
    monkeypatch.setitem(__import__("sys").modules, "pynvml", types.SimpleNamespace(NVMLError=NVMLError))
    cuda = train_watch.torch.cuda
    cuda.is_available, cuda.utilization = lambda: True, lambda: 87
    assert gpu_use() == pytest.approx(0.87)
    cuda.utilization = silent
    assert gpu_use() is None
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    assert gpu_use() is None


@pytest.mark.ray
def test_prometheus_finds_the_run_on_rays_endpoint(ray_session):
    import ray

    told = ray.remote(num_cpus=0)(TrainMetrics).remote("models/a")
    figures = {"windows_per_s": 512.0, "waiting_share": 0.02, "workers": 2, "gpu_use": float("nan")}
    ray.get(told.report.remote(row(10, **figures, **{"validation_cmu/loss_2d": 0.75})))
    ray.get([told.checkpointed.remote(is_saved=is_saved) for is_saved in (True, True, False)])
    node = ray.nodes()[0]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    wanted = {
        "ray_mpm_step": 10,
        "ray_mpm_steps": 100,
        "ray_mpm_windows_per_s": 512,
        "ray_mpm_waiting_share": 0.02,
        "ray_mpm_workers": 2,
        "ray_mpm_learning_rate": 1e-3,
        'ray_mpm_loss{name="total"}': 1.0,
        'ray_mpm_loss{name="2d"}': 0.1,
        'ray_mpm_validation{name="cmu/2d"}': 0.75,
        "ray_mpm_checkpoints_total": 2,
        "ray_mpm_checkpoint_failures_total": 1,
    }
    end_s = time.monotonic() + 60  # the agent collects every ten seconds
    while (found := exported(url)).keys() != wanted.keys() and time.monotonic() < end_s:
        time.sleep(0.5)
    assert found == {name: pytest.approx(value) for name, value in wanted.items()}


def exported(url):
    """Values of our metrics that carry our run's name."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:  # the agent is not there yet
        return {}
    found = {}
    for line in lines:
        if line.startswith("ray_mpm_") and 'run="models/a"' in line:
            name = re.search(r'[{,](name="[^"]+")', line)
            key = line.partition("{")[0] + (f"{{{name[1]}}}" if name else "")
            found[key] = float(line.rpartition(" ")[2])
    return found
