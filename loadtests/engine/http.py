"""The engine over HTTP: a server process of its own, and clients that all ask at once."""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from loadtests.children import Process, free_port, wait_for
from loadtests.engine.subjects import Tokens
from loadtests.generator import Connection, request_bytes


class Client(Connection):
    """Keeps what it is told."""

    def __init__(self, request: bytes) -> None:
        super().__init__(request)
        self.body = bytearray()

    def on_body(self, body: bytes) -> None:
        self.body += body


@contextmanager
def server(model: Path, *options: str) -> Iterator[int]:
    """The port at which it is ready."""
    port = free_port()
    command = [sys.executable, "-m", "local_backend", "--model", str(model), "--listen", f"127.0.0.1:{port}"]
    with Process([*command, *options]):
        wait_for(f"http://127.0.0.1:{port}/health", 120)
        yield port


def rate(port: int, asked: Tokens, new: int, *, stream: bool) -> float:
    """Tokens per second over all connections, from the first request to the last answer."""
    return uvloop.run(_rate(port, asked, new, stream=stream))


async def _rate(port: int, asked: Tokens, new: int, *, stream: bool) -> float:
    loop = asyncio.get_running_loop()
    clients = []
    for prompt in asked:
        request = request_bytes(port, "/v1/completions", _body(prompt, new, stream=stream), "none")
        _, client = await loop.create_connection(lambda request=request: Client(request), "127.0.0.1", port)  # type: ignore[misc]
        clients.append(client)
    began = time.perf_counter()
    statuses = await asyncio.gather(*(client.ask() for client in clients))
    seconds = time.perf_counter() - began
    for status, client in zip(statuses, clients, strict=True):
        if status != 200 or b'"completion_tokens":%d' % new not in client.body:
            raise RuntimeError(f"the server answered {status}: {bytes(client.body[:300])!r}")
        client.transport.close()
    return len(asked) * new / seconds


def _body(prompt: list[int], new: int, *, stream: bool) -> bytes:
    asked = {"model": "m", "prompt": prompt, "max_tokens": new, "temperature": 0, "ignore_eos": True}
    if stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(asked).encode()
