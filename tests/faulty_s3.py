"""An S3 server on a bad day: a proxy before the tests' own server that refuses, cuts and delays.

Requests pass unchanged, the Host header included, so signatures still verify:

    with run_faulty_proxy(server, faults=Faults.evenly(0.3)) as proxy:
        use_environment(monkeypatch, proxy.server.env)
"""

import asyncio
import contextlib
import dataclasses
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from seaweedfs import S3Server

REFUSALS = {
    "error_500": ("500 Internal Server Error", "InternalError"),
    "slow_down": ("503 Slow Down", "SlowDown"),
}
NOT_DONE = (*REFUSALS, "lost_request", "cut_upload")
"""The server did nothing: it refused, never heard, or heard half of the body."""
DONE_UNHEARD = ("lost_answer", "truncated", "stalled")
"""The server did what was asked. The client hears nothing, or half a body before the end or the silence."""
KINDS = (*NOT_DONE, *DONE_UNHEARD, "slow")


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Which requests go wrong, counted from a seed: the n-th of a method meets the same fate every time."""

    shares: Mapping[str, Mapping[str, float]]
    """By HTTP method, `*` for all not named: the share of requests that meets each kind of fault."""
    seed: int = 0
    """What the fates are counted from."""
    delay_s: float = 0.05
    """How long a slow answer and a stalled body wait."""

    @classmethod
    def evenly(cls, share: float, *, seed: int = 0, kinds: tuple[str, ...] = KINDS) -> "Faults":
        """The same share of every method's requests goes wrong, in each way as often."""
        return cls(shares={"*": dict.fromkeys(kinds, share / len(kinds))}, seed=seed)

    def __post_init__(self) -> None:
        for method, shares in self.shares.items():
            assert set(shares) <= set(KINDS), f"{method}: no such kinds as {set(shares) - set(KINDS)}"
            assert sum(shares.values()) <= 1 + 1e-9, f"{method}: more than all"

    def fate(self, method: str, number: int) -> str | None:
        """What happens to the request of this number; None: nothing."""
        left = random.Random(f"{self.seed}/{method}/{number}").random()
        for kind, share in self.shares.get(method, self.shares.get("*", {})).items():
            left -= share
            if left < 0:
                return kind
        return None


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request that the server answered, whatever the client heard of it."""

    method: str
    path: str
    """`bucket/key`, without what is asked about it."""
    begun_s: float
    """When it came, of `time.monotonic`."""
    ended_s: float
    """When the server had answered."""
    status: int
    """What the server said."""


@dataclass(kw_only=True)
class FaultyProxy:
    """A running proxy. Its faults may be exchanged, switched off and on while it runs."""

    server: S3Server
    """As clients see it: the endpoint is the proxy's, the keys are those of the server behind."""
    faults: Faults
    """What goes wrong from here on."""
    is_faulty: bool = True
    """Whether anything does; if not, all requests pass, and are not counted."""
    done: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often what was done: by method and kind of fault, `passed` for none."""
    requests: list[Request] = field(default_factory=list)
    """Those that reached the server, in the order of its answers."""
    bugs: list[Exception] = field(default_factory=list)
    """What went wrong in the proxy itself; raised at the end."""
    _numbers: Counter[str] = field(default_factory=Counter)

    def count(self, *kinds: str) -> int:
        """How many faults there were, of these kinds or of all."""
        return sum(number for (_, kind), number in self.done.items() if kind in (kinds or KINDS))

    def next_fate(self, method: str) -> str | None:
        """What happens to the next request."""
        if not self.is_faulty:
            return None
        self._numbers[method] += 1
        return self.faults.fate(method, self._numbers[method])


@contextlib.contextmanager
def run_faulty_proxy(server: S3Server, *, faults: Faults) -> Iterator[FaultyProxy]:
    """Run a proxy before the server, in a thread of its own, while the block lasts."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="faulty-s3", daemon=True)
    thread.start()
    proxy = FaultyProxy(server=server, faults=faults)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _serve(proxy, server, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or the test is over
        except Exception as bug:  # noqa: BLE001 - else the client would take it for a fault
            proxy.bugs.append(bug)
        finally:
            writer.close()

    async def end() -> None:
        listener.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    listener = asyncio.run_coroutine_threadsafe(
        asyncio.start_server(serve, "127.0.0.1", 0, limit=2**20), loop
    ).result()
    port = listener.sockets[0].getsockname()[1]
    proxy.server = dataclasses.replace(server, endpoint=f"http://127.0.0.1:{port}")
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    if proxy.bugs:
        raise ExceptionGroup("the proxy itself failed", proxy.bugs)


async def _serve(
    proxy: FaultyProxy, behind: S3Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Take the one request of a connection, so that each meets its own fate."""
    head = await reader.readuntil(b"\r\n\r\n")
    begun_s = time.monotonic()
    method, path, headers = _parse(head)
    fate = proxy.next_fate(method)
    body = b""
    if "expect" not in headers or fate not in REFUSALS:  # S3 refuses without asking for the body
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" if "expect" in headers else b"")
        body = await _read_body(reader, headers)
    if fate == "cut_upload" and not body:
        fate = "lost_request"

    if fate in REFUSALS:
        answer = _refusal(method, *REFUSALS[fate])
    elif fate == "lost_request":
        answer = b""
    else:
        answer = await _ask(behind, head, body, is_cut=fate == "cut_upload")
        if answer:
            status, ended_s = int(answer.split(maxsplit=2)[1]), time.monotonic()
            proxy.requests.append(
                Request(method=method, path=path, begun_s=begun_s, ended_s=ended_s, status=status)
            )
    if fate in ("truncated", "stalled"):
        top, end, content = answer.partition(b"\r\n\r\n")
        answer = top + end + content[: len(content) // 2] if content else b""
        fate = fate if content else "lost_answer"
    if fate == "lost_answer":
        answer = b""

    if proxy.is_faulty:
        proxy.done[method, fate or "passed"] += 1
    if fate == "slow":
        await asyncio.sleep(proxy.faults.delay_s)
    writer.write(answer)
    await writer.drain()
    if fate == "stalled":
        await asyncio.sleep(proxy.faults.delay_s)


async def _ask(behind: S3Server, head: bytes, body: bytes, *, is_cut: bool) -> bytes:
    """The server's answer to the end of its connection; none if it gets only half of the body."""
    address = urlsplit(behind.endpoint)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    lines = head.rstrip().split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith((b"expect:", b"connection:"))]
    try:
        writer.write(b"\r\n".join([*kept, b"Connection: close", b"", b""]))
        writer.write(body[: len(body) // 2] if is_cut else body)
        await writer.drain()
        return b"" if is_cut else await reader.read()
    finally:
        writer.close()


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    """The body as it came, chunks with their frames."""
    if "transfer-encoding" not in headers:
        return await reader.readexactly(int(headers.get("content-length", 0)))
    frames = []
    while True:
        frames.append(await reader.readuntil(b"\r\n"))
        size = int(frames[-1].split(b";")[0], 16)
        if size == 0:
            break
        frames.append(await reader.readexactly(size + 2))
    while frames[-1] != b"\r\n":  # trailers, then an empty line
        frames.append(await reader.readuntil(b"\r\n"))
    return b"".join(frames)


def _parse(head: bytes) -> tuple[str, str, dict[str, str]]:
    """The method, the path without its query, and the headers with their names in lower case."""
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    pairs = (line.partition(":") for line in lines)
    method, target, _ = first.split(maxsplit=2)
    path = unquote(urlsplit(target).path).strip("/")
    return method, path, {name.lower(): value.strip() for name, _, value in pairs}


def _refusal(method: str, status: str, code: str) -> bytes:
    content = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>on purpose</Message></Error>".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(content)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + (b"" if method == "HEAD" else content)
