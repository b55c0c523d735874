import socket
import sys

import pytest

from mpm_model.errors import InputError
from pipelines.ray_session import ensure_ray


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_cluster_that_does_not_answer_is_refused_within_seconds(monkeypatch, free_port):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("Ray would ask for minutes"))
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port}")
    with pytest.raises(
        InputError, match=rf"RAY_ADDRESS=127\.0\.0\.1:{free_port}: no Ray cluster answers there"
    ):
        ensure_ray()


def test_a_connected_process_is_left_as_it_is(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", type("Ray", (), {"is_initialized": staticmethod(lambda: True)}))
    monkeypatch.setenv("RAY_ADDRESS", "nowhere:1")
    ensure_ray()
