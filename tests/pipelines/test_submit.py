import asyncio
import http.server
import json
import re
import shlex
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import aiohttp
import pytest
from command import mpm
from seaweedfs import use_environment

from pipelines import ray_job
from pipelines.ray_job import JobEnd

HEAD = "http://head.example:8265"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "no one may see this"}
BUCKET = {"AWS_ENDPOINT_URL": "http://s3.example:8333", "AWS_DEFAULT_REGION": "eu-central-1"}
PRETRAIN = ("pretrain", "pretrain_demo", "--data", "s3://bucket/windows", "--out", "s3://bucket/out")


@dataclass
class Sent:
    """What reached the cluster."""

    address: str = ""
    entrypoint: str = ""
    runtime_env: dict[str, Any] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    """Files of the working directory; it is gone once the job is sent."""
    end: JobEnd = field(default_factory=lambda: JobEnd(0, "succeeded"))

    @property
    def environment(self) -> dict[str, str]:
        return {
            name: value for name, value in self.runtime_env["env_vars"].items() if name.startswith("AWS_")
        }


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """A cluster that takes every job and finishes it at once."""
    record = Sent()

    def send(address: str, entrypoint: str, runtime_env: dict[str, Any]) -> str:
        record.address, record.entrypoint, record.runtime_env = address, entrypoint, runtime_env
        if "working_dir" in runtime_env:
            folder = Path(runtime_env["working_dir"])
            record.files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
            assert sum((folder / file).stat().st_size for file in record.files) < 10_000_000
        return "job-1"

    def follow(address: str, job: str, *, write: Callable[[str], None]) -> JobEnd:
        write("step 1\n")
        return record.end

    monkeypatch.setattr(ray_job, "send", send)
    monkeypatch.setattr(ray_job, "follow", follow)
    return record


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    use_environment(monkeypatch, {})
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def submit(capsys, monkeypatch):
    """Type `mpm submit`; (exit code, what it printed, what it said of errors)."""
    return lambda *arguments: mpm(capsys, monkeypatch, "submit", *arguments)


def test_a_job_gets_the_code_the_arguments_and_the_way_to_the_bucket(submit, sent, monkeypatch):
    use_environment(monkeypatch, KEYS | BUCKET | {"AWS_PROFILE": "mine"})
    code, printed, _ = submit("--address", HEAD, *PRETRAIN, "--set", "scale.workers=2")
    assert code == 0
    assert sent.address == HEAD
    assert shlex.split(sent.entrypoint) == [
        "python",
        "-m",
        "pipelines",
        *PRETRAIN,
        "--set",
        "scale.workers=2",
    ]
    assert sent.environment == KEYS | BUCKET
    assert {
        "pipelines/__main__.py",
        "pipelines/configs/pretrain_demo.yaml",
        "mpm_model/errors.py",
    } <= sent.files
    assert {file.split("/")[0] for file in sent.files} == {"mpm_model", "pipelines"}
    assert not [file for file in sent.files if "/sample/" in file or "__pycache__" in file]
    assert "step 1\njob job-1: succeeded\n" in printed


def test_no_secret_is_printed(submit, sent, monkeypatch):
    use_environment(monkeypatch, KEYS | BUCKET | {"AWS_SESSION_TOKEN": "nor this"})
    _, printed, said = submit("--address", "http://me:word@head.example:8265", *PRETRAIN)
    for secret in (*KEYS.values(), "nor this", "word"):
        assert secret not in printed + said
    assert BUCKET["AWS_ENDPOINT_URL"] in printed
    assert "AWS_SECRET_ACCESS_KEY" in printed
    assert sent.address == "http://me:word@head.example:8265"


def test_without_keys_in_the_environment_none_are_sent(submit, sent, monkeypatch):
    use_environment(monkeypatch, BUCKET)
    submit("--address", HEAD, *PRETRAIN)
    assert sent.environment == BUCKET


def test_keys_stay_here_if_told_so(submit, sent, monkeypatch):
    use_environment(monkeypatch, KEYS | BUCKET)
    submit("--address", HEAD, "--no-send-keys", *PRETRAIN)
    assert sent.environment == BUCKET


def test_the_printed_command_asks_ray_for_the_same_job(submit, sent, monkeypatch):
    from click.testing import CliRunner
    from ray.dashboard.modules.job import cli

    use_environment(monkeypatch, BUCKET)
    awkward = ("--set", "view={normalisation: person}")
    _, printed, _ = submit("--address", HEAD, *PRETRAIN, *awkward)
    asked: dict[str, Any] = {}

    class Client:
        def submit_job(self, **request: Any) -> str:
            asked.update(request)
            return "job-2"

        def get_version(self) -> str:
            return "4"

    def client(address: str, **_options: Any) -> Client:
        asked["address"] = address
        return Client()

    monkeypatch.setattr(cli, "_get_sdk_client", client)
    ray_, job, verb, *arguments = shlex.split(printed.splitlines()[0])
    assert [ray_, job, verb] == ["ray", "job", "submit"]
    CliRunner().invoke(cli.submit, ["--no-wait", *arguments], catch_exceptions=False)
    assert asked["address"] == sent.address
    assert asked["entrypoint"] == sent.entrypoint
    assert asked["runtime_env"] == sent.runtime_env


def test_a_configuration_of_yours_travels_along(submit, sent, tmp_path):
    shipped = Path("pipelines/configs/pretrain_demo.yaml").resolve()
    mine = tmp_path / "pretrain_demo"  # the name of one that ships, where the other would be found first
    mine.write_text(shipped.read_text())
    _, verb, *rest = "", *PRETRAIN
    code, _, _ = submit("--address", HEAD, "--no-send-code", verb, mine, *rest[1:])
    assert code == 0
    assert sent.files == {"config/pretrain_demo"}
    assert shlex.split(sent.entrypoint)[3:5] == ["pretrain", "config/pretrain_demo"]


def test_what_the_cluster_has_needs_nothing_from_here(submit, sent):
    submit("--address", HEAD, "--no-send-code", *PRETRAIN)
    assert "working_dir" not in sent.runtime_env


def test_all_that_the_cluster_cannot_see_is_said_at_once_and_nothing_is_sent(submit, sent):
    code, _, said = submit(
        *(
            "--address",
            HEAD,
            "pretrain",
            "pretrain_dmo",
            "--data",
            "windows/cmu",
            "--data",
            "s3://bucket/windows",
        ),
        *("--out", "out"),
    )
    assert code == 2
    assert "data windows/cmu, out out: a path of this machine" in said
    assert "pretrain_dmo: no such configuration" in said
    assert "s3://bucket/windows" not in said
    assert len(said.splitlines()) == 1
    assert not sent.address


@pytest.mark.parametrize(
    ("verb", "arguments", "named"),
    [
        ("evaluate", ("--data", "s3://b/w", "--protocol", "open", "--json", "r.json"), "json r.json"),
        ("evaluate", ("--data", "s3://b/w", "--protocol", "open", "--checkpoint", "models/x"), "checkpoint"),
        ("prepare", ("mocap", "--reader", "bvh", "--out", "s3://b/w"), "source mocap"),
        ("finetune", ("finetune_demo", "--init", "m", "--data", "s3://b/w", "--out", "s3://b/o"), "init m"),
        ("view", ("s3://b/poses", "--out", "page.html"), "out page.html"),
        ("inspect", ("windows",), "url windows"),
        ("doctor", ("--storage", "scratch"), "storage scratch"),
        ("demo", (), "the machine it is typed on"),
    ],
)
def test_every_verb_is_asked_where_its_files_are(submit, sent, verb, arguments, named):
    code, _, said = submit("--address", HEAD, verb, *arguments)
    assert code == 2
    assert named in said
    assert not sent.address


def test_every_argument_that_names_a_place_is_known():
    """A new argument with a file in it must be added to PLACES, or named here as something else."""
    from typer.main import get_command

    from pipelines.cli import app
    from pipelines.submit import PLACES, STAYS_HERE

    others = {
        *("reader", "dataset", "config", "override", "protocol", "keypoints_source", "format", "mode"),
        *("image_size", "space", "hidden_root", "to"),
    }
    texts = {
        name
        for verb, command in get_command(app).commands.items()
        if verb not in STAYS_HERE
        for name, kind in get_type_hints(command.callback).items()
        if "str" in str(kind)
    }
    assert texts - others == set(PLACES)


def test_a_file_system_that_all_hosts_share_is_named_by_its_url(submit, sent):
    code, _, said = submit(
        "--address",
        HEAD,
        "pretrain",
        "pretrain_demo",
        "--data",
        "file:///shared/w",
        "--out",
        "file:///shared/o",
    )
    assert (code, said) == (0, "")


def test_a_bucket_on_this_machine_alone_is_refused_unless_the_cluster_is_here(submit, sent, monkeypatch):
    use_environment(monkeypatch, {"AWS_ENDPOINT_URL": "http://localhost:8333"})
    code, _, said = submit("--address", HEAD, *PRETRAIN)
    assert code == 2
    assert "AWS_ENDPOINT_URL=http://localhost:8333" in said
    assert submit("--address", "http://127.0.0.1:8265", *PRETRAIN)[0] == 0


def test_what_the_verbs_own_parser_refuses_is_refused_here(submit, sent):
    code, _, said = submit("--address", HEAD, *PRETRAIN, "--sett", "x=1")
    assert code == 2
    assert "--sett" in said
    code, _, said = submit("--address", HEAD, *PRETRAIN, "--set", "scale.worker=2")
    assert code == 2
    assert "did you mean workers?" in said
    code, _, said = submit("--address", HEAD, "pretain")
    assert code == 2
    assert "pretrain" in said
    assert not sent.address


def test_a_dry_run_prints_and_sends_nothing(submit, sent):
    code, printed, _ = submit("--address", HEAD, "--dry-run", *PRETRAIN)
    assert code == 0
    assert printed.startswith(f"ray job submit --address {HEAD} --working-dir ")
    assert not sent.address


def test_a_token_at_hand_is_shown_to_the_cluster(submit, sent, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_MODE")
    assert submit("--address", HEAD, *PRETRAIN)[1].startswith("ray job submit ")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("who has this may come in")
    printed = submit("--address", HEAD, *PRETRAIN)[1]
    assert printed.startswith("RAY_AUTH_MODE=token ray job submit ")
    assert "who has this may come in" not in printed


@pytest.mark.parametrize(
    ("option", "variables", "expected"),
    [
        (HEAD, {"RAY_API_SERVER_ADDRESS": "http://b:1"}, HEAD),
        (None, {"RAY_API_SERVER_ADDRESS": "http://b:1", "RAY_ADDRESS": "http://c:1"}, "http://b:1"),
        (None, {"RAY_ADDRESS": "https://c/"}, "https://c"),
    ],
)
def test_the_cluster_is_the_one_named_last(submit, sent, monkeypatch, option, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    submit(*(("--address", option) if option else ()), *PRETRAIN)
    assert sent.address == expected


@pytest.mark.parametrize("address", [None, "head:6379", "ray://head:10001"])
def test_an_address_that_is_no_job_servers_is_refused(submit, sent, monkeypatch, address):
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    code, _, said = submit(*PRETRAIN)
    assert code == 2
    assert "http://HOST:8265" in said


@pytest.mark.parametrize("exit_code", [1, 2, 3])
def test_the_exit_code_is_the_jobs(submit, sent, exit_code):
    sent.end = JobEnd(exit_code, f"failed with exit code {exit_code}")
    code, printed, _ = submit("--address", HEAD, *PRETRAIN)
    assert code == exit_code
    assert printed.endswith(f"job job-1: failed with exit code {exit_code}\n")


def test_a_job_may_be_left_alone(submit, sent):
    code, printed, _ = submit("--address", HEAD, "--no-wait", *PRETRAIN)
    assert code == 0
    assert "step 1" not in printed
    assert f"ray job logs --follow --address {HEAD} job-1" in printed


@pytest.fixture
def stranger():
    """Address of an HTTP server that is no job server."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_words: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_where_no_job_server_answers_one_line_says_so(submit, monkeypatch, stranger):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")  # restores what `send` sets
    for address in (stranger, "http://127.0.0.1:1"):
        code, _, said = submit("--address", address, *PRETRAIN)
        assert code == 2
        assert f"{address.removeprefix('http://')}: no Ray job server answers there" in said
        assert len(said.splitlines()) == 1


class Job:
    """A job server's side of one job: how often its log breaks off, and how it ends."""

    def __init__(
        self, log: list[str], *, breaks_after: list[int], breaks_with: Exception | None = None, **info: Any
    ) -> None:
        self._breaks_with = breaks_with or RuntimeError("WebSocket connection closed unexpectedly")
        self.is_away = False
        self._log, self._breaks_after = log, breaks_after
        self._info = SimpleNamespace(**{"driver_exit_code": None, "message": None} | info)

    async def tail_job_logs(self, job: str):
        breaks_after = self._breaks_after.pop(0) if self._breaks_after else None
        for piece in self._log[:breaks_after]:
            await asyncio.sleep(0)
            yield piece
        if breaks_after is not None:
            raise self._breaks_with

    def get_job_logs(self, job: str) -> str:
        return "".join(self._log)

    def get_job_info(self, job: str) -> Any:
        if self.is_away:
            raise ConnectionError("refused")
        is_over = not self._breaks_after
        status = self._info.status if is_over else "RUNNING"
        ends = SimpleNamespace(value=status, is_terminal=lambda: is_over)
        return SimpleNamespace(**{**vars(self._info), "status": ends})


@pytest.fixture
def follow(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray_job, "PAUSE_S", 0)

    def run(job: Job) -> tuple[JobEnd, str]:
        monkeypatch.setattr(ray_job, "_client", lambda _address: job)
        written: list[str] = []
        return ray_job.follow(HEAD, "job-1", write=written.append), "".join(written)

    return run


@pytest.mark.parametrize(
    "fault", [RuntimeError("closed"), aiohttp.ServerDisconnectedError(), ConnectionResetError()]
)
def test_a_log_that_breaks_off_is_taken_up_where_it_was(follow, fault):
    log = ["step 1\nst", "ep 2\n", "step 3\n"]
    job = Job(log, breaks_after=[1, 0, 2], breaks_with=fault, status="SUCCEEDED", driver_exit_code=0)
    assert follow(job) == (JobEnd(0, "succeeded"), "".join(log))


@pytest.mark.parametrize(
    ("info", "end"),
    [
        ({"status": "FAILED", "driver_exit_code": 2}, JobEnd(2, "failed with exit code 2")),
        ({"status": "FAILED", "driver_exit_code": -9}, JobEnd(1, "failed with exit code -9")),
        (
            {"status": "FAILED", "message": "runtime_env setup failed\nmore"},
            JobEnd(1, "failed; runtime_env setup failed"),
        ),
        ({"status": "STOPPED", "message": None}, JobEnd(1, "stopped")),
    ],
)
def test_the_end_of_a_job_says_its_exit_code_or_why_it_has_none(follow, info, end):
    assert follow(Job([], breaks_after=[], **info))[0] == end


def test_a_server_that_stays_away_is_not_waited_for_for_ever(follow, monkeypatch):
    monkeypatch.setattr(ray_job, "PATIENCE_S", 0)
    job = Job([], breaks_after=[0, 0], status="SUCCEEDED")
    job.is_away = True
    with pytest.raises(ConnectionError, match=re.escape(HEAD)):
        follow(job)


def test_json_of_the_environment_is_what_ray_reads(submit, sent):
    _, printed, _ = submit("--address", HEAD, *PRETRAIN)
    words = shlex.split(printed.splitlines()[0])
    shown = json.loads(words[words.index("--runtime-env-json") + 1])
    assert shown == {"env_vars": sent.runtime_env["env_vars"]}
