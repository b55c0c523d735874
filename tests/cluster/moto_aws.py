"""A stand-in for AWS: moto behind a port of this machine. It writes down calls and can run out of spot."""

import contextlib
import io
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

ACCOUNT = "123456789012"
MACHINE_IMAGE = "ami-12c6146b"
"""One that moto knows."""
OWNER = "203.0.113.7/32"
STACK = Path(__file__).resolve().parents[2] / "infra/aws/stack.yaml"

REFUSAL = """<?xml version="1.0" encoding="UTF-8"?>
<Response><Errors><Error><Code>{code}</Code><Message>No.</Message></Error></Errors>
<RequestID>refused</RequestID></Response>"""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request of the program under test to the query API of a service, EC2 for example."""

    right: str
    """What a policy must allow for it: `ec2:RunInstances`."""
    parameters: dict[str, str]


@dataclass
class FakeAws:
    """A running stand-in."""

    endpoint: str
    region: str
    calls: list[Call] = field(default_factory=list)
    spot_machines: int = 1000
    """How many spot machines EC2 has left."""
    refusal: str = "InsufficientInstanceCapacity"
    """What it says when there is none."""

    @property
    def env(self) -> dict[str, str]:
        """The variables by which a process finds it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str) -> Any:
        """A boto3 client of it, for tests; its calls are not written down."""
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.client(service, endpoint_url=self.endpoint, region_name=self.region, **keys)

    def launches(self) -> list[dict[str, str]]:
        """What was asked of EC2 in each attempt to launch machines."""
        return [call.parameters for call in self.calls if call.right == "ec2:RunInstances"]

    def machines(self) -> list[dict[str, Any]]:
        """EC2's description of the machines that are not ended, oldest first."""
        wanted = [{"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}]
        answer = self.client("ec2").describe_instances(Filters=wanted)
        found = [machine for group in answer["Reservations"] for machine in group["Instances"]]
        return sorted(found, key=lambda machine: machine["LaunchTime"])

    def create_stack(self, name: str) -> dict[str, str]:
        """What infra/aws/stack.yaml makes, under a name; its outputs."""
        body = STACK.read_text()
        published = next(line.split()[-1] for line in body.splitlines() if "/aws/service/" in line)
        self.client("ssm").put_parameter(Name="/machine-image", Value=MACHINE_IMAGE, Type="String")
        stacks = self.client("cloudformation")
        given = {"Name": name, "Bucket": "a-bucket", "SshFrom": OWNER}
        stacks.create_stack(
            StackName=name,
            TemplateBody=body.replace(published, "/machine-image"),  # moto has no images of AWS
            Parameters=[{"ParameterKey": key, "ParameterValue": given[key]} for key in given],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        (stack,) = stacks.describe_stacks(StackName=name)["Stacks"]
        assert stack["StackStatus"] == "CREATE_COMPLETE", stack
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    def respond(
        self, app: Callable[..., Iterable[bytes]], environ: dict[str, Any], start: Any
    ) -> Iterable[bytes]:
        """Answer one HTTP request: write it down, then refuse it or hand it to moto."""
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        form = dict(parse_qsl(body.decode(errors="replace")))
        credential = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].split("/")
        if "Action" in form and credential[0] != "test":
            self.calls.append(Call(right=f"{credential[3]}:{form['Action']}", parameters=form))
        if form.get("Action") == "RunInstances":
            count = int(form["MaxCount"])
            if form.get("InstanceMarketOptions.MarketType") == "spot":
                count = min(count, self.spot_machines)
                self.spot_machines -= count
            if not count:
                start("500 Internal Server Error", [("Content-Type", "text/xml")])
                return [REFUSAL.format(code=self.refusal).encode()]
            # EC2 launches as many as it has, from MinCount to MaxCount; moto launches MinCount.
            body = urlencode(form | {"MinCount": count, "MaxCount": count}).encode()
            environ["CONTENT_LENGTH"] = str(len(body))
        environ["wsgi.input"] = io.BytesIO(body)
        return app(environ, start)


@contextlib.contextmanager
def run_fake_aws(region: str) -> Iterator[FakeAws]:
    """Run it while the block lasts. What moto keeps it keeps in this process: one at a time."""
    app = DomainDispatcherApplication(create_backend_app)
    aws = FakeAws(endpoint="", region=region)
    server = make_server(
        "127.0.0.1",
        0,
        lambda environ, start: aws.respond(app, environ, start),
        threaded=True,
        request_handler=_Quiet,
    )
    aws.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield aws
    finally:
        urllib.request.urlopen(f"{aws.endpoint}/moto-api/reset", data=b"").close()
        server.shutdown()
        thread.join()


class _Quiet(MotoRequestHandler):
    def log_request(self, *_: object) -> None:
        pass
