"""The engine over HTTP: processes of their own, and clients that all ask at once."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from loadtests.children import KEY, Process, Stage, free_port, wait_for
from loadtests.engine.bench import Absent, OutOfTime, percentile
from loadtests.engine.sizes import Load
from loadtests.engine.subjects import Tokens
from loadtests.generator import Connection, request_bytes

_END = 400  # bytes of an answer in which its usage stands


class Client(Connection):
    """Keeps the end of what it is told, and when the first and the last of it came."""

    def __init__(self, request: bytes) -> None:
        super().__init__(request)
        self.end = b""
        self.first = self.last = 0.0

    def on_body(self, body: bytes) -> None:
        self.last = time.perf_counter()
        self.first = self.first or self.last
        self.end = (self.end + body)[-_END:]


@dataclass(slots=True)
class Answered:
    """Of all clients together: seconds from the first request to the last answer; of each, seconds to its first event,
    and from that to its end."""

    seconds: float
    first: list[float]
    rest: list[float]


@contextmanager
def server(model: Path, *options: str, module: str = "local_backend") -> Iterator[int]:
    """The port at which it is ready. Raises Absent where a package that it needs is not installed, and TimeoutError."""
    check_imports(f"{module}.__main__" if module == "local_backend" else module)
    port = free_port()
    command = [sys.executable, "-m", module, "--model", str(model), "--listen", f"127.0.0.1:{port}"]
    with Process([*command, *options]) as process:
        wait_for(f"http://127.0.0.1:{port}/health", 180, process)
        yield port


@contextmanager
def gateway(port: int) -> Iterator[int]:
    """The port of a gateway in front of a server. Raises Absent where a package that it needs is not installed."""
    check_imports("gateway.__main__", "gateway.app.run")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        stage = Stage(Path(folder), stack)
        stage.upstream_port = port
        yield stage.gateway(stage.policies()).port


def check_imports(*modules: str) -> None:
    """In a process of its own, as they will be. Raises Absent."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {', '.join(modules)}"], capture_output=True, text=True
    )
    if done.returncode:
        raise Absent(f"{modules[0].partition('.')[0]} does not start: {done.stderr.strip().splitlines()[-1]}")


def rate(port: int, asked: Tokens, new: int, *, stream: bool) -> float:
    """Tokens per second over all connections, from the first request to the last answer."""
    answered = uvloop.run(_ask(port, asked, new, stream=stream))
    return len(asked) * new / answered.seconds


def answers(port: int, asked: Tokens, new: int, seconds: float) -> Answered:
    """Streams. Raises OutOfTime where they take longer."""

    async def within() -> Answered:
        async with asyncio.timeout(max(seconds, 0.0)):
            return await _ask(port, asked, new, stream=True)

    try:
        return uvloop.run(within())
    except TimeoutError:
        raise OutOfTime("time") from None


async def _ask(port: int, asked: Tokens, new: int, *, stream: bool) -> Answered:
    loop = asyncio.get_running_loop()
    clients: list[Client] = []
    try:
        for prompt in asked:
            client = Client(request_bytes(port, "/v1/completions", _body(prompt, new, stream=stream), KEY))
            await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]
            clients.append(client)
        began = time.perf_counter()
        statuses = await asyncio.gather(*(client.ask() for client in clients))
        seconds = time.perf_counter() - began
    finally:
        for client in clients:
            client.transport.close()
    for status, client in zip(statuses, clients, strict=True):
        if status != 200 or b'"completion_tokens":%d' % new not in client.end:
            raise RuntimeError(f"the server answered {status}: {client.end!r}")
    first, rest = ([one.first - began for one in clients], [one.last - one.first for one in clients])
    return Answered(seconds, first, rest)


def _body(prompt: list[int], new: int, *, stream: bool) -> bytes:
    asked = {"model": "m", "prompt": prompt, "max_tokens": new, "temperature": 0, "ignore_eos": True}
    if stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(asked).encode()


def latencies(answered: Answered, load: Load) -> dict[str, float]:
    """Milliseconds to the first token and between tokens: median and 99th percentile over clients."""
    between = [one / (load.new - 1) for one in answered.rest]
    return {
        f"{name}_{place}_ms": round(percentile(values, share) * 1e3, 3)
        for name, values in (("first", answered.first), ("between", between))
        for place, share in (("p50", 0.5), ("p99", 0.99))
    }
