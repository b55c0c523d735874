import importlib.metadata
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from seaweedfs import S3Server, use_environment

from pipelines import doctor, doctor_machine, storage
from pipelines.doctor import DoctorReport
from pipelines.doctor_machine import Check


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def check_of(report: DoctorReport, name: str) -> Check:
    """The one check of a name."""
    (check,) = [check for check in report.checks if check.name == name]
    return check


def test_the_machine_of_the_tests_is_able() -> None:
    report = doctor.run()
    assert report.is_able, report.lines()
    assert {check.name for check in report.checks} >= {"python", "packages", "torch", "gpu", "ray", "memory"}
    assert check_of(report, "torch").found == torch.__version__
    assert report.lines()[-1] == "able to do the work"
    assert len(report.lines()) == len(report.checks) + 1


def test_one_failure_makes_the_verdict_and_warnings_do_not() -> None:
    narrow = Check(name="memory", status="warn", found="2.0 GB", advice="add some")
    broken = Check(name="storage", status="fail", found="s3://a: no answer")
    assert DoctorReport((narrow,)).is_able
    report = DoctorReport((narrow, broken))
    assert not report.is_able
    assert report.lines() == [
        "warn  memory   2.0 GB; add some",
        "fail  storage  s3://a: no answer",
        "cannot do the work as it is: see storage",
    ]


def test_packages_that_are_missing_or_of_another_version_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["numpy", "torch<1", "no-such-package>=2", 'also-not-there; extra == "dev"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: wanted)
    check = check_of(doctor.run(), "packages")
    assert check.status == "fail"
    assert check.found == f"torch is {torch.__version__}, wanted <1, no-such-package is missing"


def test_a_python_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.python_version", lambda: "3.9.1")
    check = check_of(doctor.run(), "python")
    assert (check.status, check.advice) == ("fail", "install Python >=3.11")


def test_the_limits_of_a_container_count(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"/sys/fs/cgroup/cpu.max": ["50000", "100000"], "/sys/fs/cgroup/memory.max": ["2000000000"]}
    monkeypatch.setattr(doctor_machine, "_read_words", limits.__getitem__)
    report = doctor.run()
    assert check_of(report, "processors").found == "0.5"
    assert check_of(report, "memory").found == "2.0 GB"
    assert {check_of(report, name).status for name in ("processors", "memory")} == {"warn"}
    assert report.is_able


class TestGpu:
    @pytest.fixture(autouse=True)
    def one_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A GPU that computes as the processors do."""
        ones = torch.ones
        monkeypatch.setattr(torch, "ones", lambda *shape, device: ones(*shape))
        properties = SimpleNamespace(name="Pretend 100", total_memory=80e9)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))

    def test_a_gpu_is_described(self) -> None:
        check = check_of(doctor.run(), "gpu")
        assert (check.status, check.found) == ("ok", "Pretend 100, 80.0 GB, bfloat16")

    def test_a_gpu_without_bfloat16_is_a_warning(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (7, 5))
        check = check_of(doctor.run(), "gpu")
        assert (check.status, check.found) == ("warn", "Pretend 100, 80.0 GB, no bfloat16")

    def test_a_gpu_that_does_not_compute_is_a_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*shape: int, device: str) -> None:
            raise RuntimeError("no kernel image is available\nmore words")

        monkeypatch.setattr(torch, "ones", fail)
        check = check_of(doctor.run(), "gpu")
        assert (check.status, check.found) == (
            "fail",
            "Pretend 100, 80.0 GB, does not compute: no kernel image is available",
        )


def test_a_cluster_that_does_not_answer_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as head:
        head.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{head.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", f"http://{address}")
        check = check_of(doctor.run(), "cluster")
        assert check.status == "fail"
        assert check.found.startswith(f"http://{address} does not answer: ")
        head.listen()
        for spelt in (address, f"ray://{address}"):
            monkeypatch.setenv("RAY_ADDRESS", spelt)
            assert check_of(doctor.run(), "cluster").status == "ok"
    monkeypatch.setenv("RAY_ADDRESS", "head:no-port")
    assert check_of(doctor.run(), "cluster").status == "fail"


class TestStorage:
    def test_a_folder_is_tried_and_left_as_it_was(self, tmp_path: Path) -> None:
        check = check_of(doctor.run(storage_url=str(tmp_path / "not" / "there")), "storage")
        assert check.status == "ok"
        assert "MB/s" in check.found
        assert not list(tmp_path.iterdir())

    def test_a_bucket_is_tried_and_left_as_it_was(self, s3_bucket: str) -> None:
        check = check_of(doctor.run(storage_url=f"{s3_bucket}/runs"), "storage")
        assert check.status == "ok", check.found
        assert storage.open_filesystem(s3_bucket)[0].find(s3_bucket) == []

    def test_a_file_is_no_place_to_write(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        check = check_of(doctor.run(storage_url=str(tmp_path / "file")), "storage")
        assert check.status == "fail"
        assert "wanted a folder" in check.found

    def test_a_fault_of_the_bucket_is_told_in_its_words(
        self, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use_environment(monkeypatch, s3_server.env)
        report = doctor.run(storage_url="s3://never-made/runs")
        assert not report.is_able
        assert "has no bucket 'never-made'" in check_of(report, "storage").found

    def test_a_storage_that_gives_back_other_bytes_is_a_failure(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(storage, "read_bytes", lambda url: b"other")
        check = check_of(doctor.run(storage_url=str(tmp_path)), "storage")
        assert (check.status, check.advice) == ("fail", "do not use it")
        assert not list(tmp_path.iterdir())


@pytest.mark.ray
def test_a_running_ray_tries_the_storage_too_and_is_left_running(ray_session: None, s3_bucket: str) -> None:
    import ray

    report = doctor.run(start_ray=True, storage_url=s3_bucket)
    assert check_of(report, "running ray").found.startswith("1 node, 4 CPUs, 0 GPUs, ")
    assert check_of(report, "storage from a worker").status == "ok"
    assert report.is_able
    assert ray.is_initialized()
