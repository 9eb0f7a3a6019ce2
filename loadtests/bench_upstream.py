"""What the upstream client costs: CPU microseconds per plain call and per streamed chunk, over loopback.

The server is a process of its own on another core and does as little as it can. Figures are CPU time of the
client's process (user and system), the median of the rounds; run it on an otherwise idle machine.

    python -m loadtests.bench_upstream [--calls 40000] [--rounds 5]
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import uvloop

from gateway.core.address import Origin
from gateway.upstream.client import Timing, Upstream

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer sk-bench\r\n"
BODY = b'{"model":"bench","messages":[{"role":"user","content":"' + b"x" * 960 + b'"}]}'
TIMING = Timing(connect=5.0, first_byte=60.0, idle=20.0)
AT_ONCE = 64
EVENTS = 200  # per stream, one each millisecond

_HEADERS = b"content-type: application/json\r\nx-request-id: req_0123456789\r\nserver: bench\r\n"
_PLAIN = b"HTTP/1.1 200 OK\r\n%bcontent-length: 1024\r\n\r\n%b" % (_HEADERS, b"y" * 1024)
_STREAM = b"HTTP/1.1 200 OK\r\n%btransfer-encoding: chunked\r\n\r\n" % _HEADERS
_EVENT = b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % (b"z" * 150)
_CHUNK = b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT)


class Echo(asyncio.Protocol):
    """Answers each request it has the length of; a stream where the path asks for one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport  # uvloop's is no subclass of asyncio.Transport
        self._seen = b""

    def data_received(self, data: bytes) -> None:
        self._seen += data
        if not self._seen.endswith(b"}"):
            return
        stream, self._seen = self._seen.startswith(b"POST /stream"), b""
        if stream:
            self._transport.write(_STREAM)
            self._event(EVENTS)
        else:
            self._transport.write(_PLAIN)

    def _event(self, left: int) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(_CHUNK if left else b"0\r\n\r\n")
        if left:
            asyncio.get_running_loop().call_later(0.001, self._event, left - 1)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def plain(upstream: Upstream, origin: Origin, calls: int) -> float:
    async def worker() -> None:
        for _ in range(calls // AT_ONCE):
            answer = await upstream.send(origin, HEAD, BODY, TIMING, whole=True)
            assert len(await answer.body(1 << 20)) == 1024

    before = time.process_time()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return (time.process_time() - before) / (calls // AT_ONCE * AT_ONCE) * 1e6


async def streamed(upstream: Upstream, origin: Origin) -> float:
    head = HEAD.replace(b"/v1/chat/completions", b"/stream")

    async def worker() -> int:
        answer = await upstream.send(origin, head, BODY, TIMING)
        chunks = 0
        while await answer.chunk():
            chunks += 1
        return chunks

    before = time.process_time()
    chunks = await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return (time.process_time() - before) / sum(chunks) * 1e6


async def measure(port: int, calls: int, rounds: int) -> None:
    upstream, origin = Upstream(), Origin("http", "127.0.0.1", port)
    await plain(upstream, origin, AT_ONCE * 20)
    costs: dict[str, list[float]] = {"plain call": [], "streamed chunk": []}
    for _ in range(rounds):
        costs["plain call"].append(await plain(upstream, origin, calls))
        costs["streamed chunk"].append(await streamed(upstream, origin))
    for name, seen in costs.items():
        print(f"{name:16} {statistics.median(seen):6.1f} us  ({min(seen):.1f} to {max(seen):.1f})")
    await upstream.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=40000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if args.serve:
        os.sched_setaffinity(0, {cores[-1]})
        with contextlib.suppress(KeyboardInterrupt):
            uvloop.run(serve())
        return
    os.sched_setaffinity(0, {cores[0]})
    server = subprocess.Popen(
        [sys.executable, "-m", "loadtests.bench_upstream", "--serve"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        uvloop.run(measure(int(server.stdout.readline()), args.calls, args.rounds))
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
