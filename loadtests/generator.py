"""Load at a constant rate, or as much as goes, and streams held open: own callbacks on uvloop and httptools.

At a constant rate each request has a time at which it is due, and its latency counts from there: a server that
stalls is charged for the requests that had to wait (no coordinated omission).
"""

import asyncio
import os
import random
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import httptools


@dataclass
class Result:
    """Latencies in milliseconds; `kinds` counts statuses and errors."""

    requests: int
    seconds: float
    rate: float
    p50: float
    p90: float
    p99: float
    worst: float
    kinds: dict[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        return sum(count for kind, count in self.kinds.items() if kind != "200")


def summary(latencies: list[float], seconds: float, kinds: Counter[str]) -> Result:
    ordered = sorted(latencies) or [0.0]

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 3)

    rate = round(len(latencies) / seconds, 1)
    return Result(len(latencies), round(seconds, 2), rate, at(0.5), at(0.9), at(0.99), at(1), dict(kinds))


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.transport: Any = None
        self._parser: Any = None
        self._done: asyncio.Future[int] | None = None
        self.chunks = 0
        self.stays = True  # the last answer left it open
        self.head: dict[bytes, bytes] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError("closed"))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.chunks += body.count(b"data: ")

    def on_message_complete(self) -> None:
        self.stays = self._parser.should_keep_alive()
        if self._done is not None and not self._done.done():
            self._done.set_result(self._parser.get_status_code())

    def ask(self) -> "asyncio.Future[int]":
        self._parser = httptools.HttpResponseParser(self)
        self._done = asyncio.get_running_loop().create_future()
        self.transport.write(self._request)
        return self._done


Head = tuple[int, dict[bytes, bytes]]  # status and headers of an answer


class Reading(Connection):
    """One that keeps the headers of its last answer; the others save the time."""

    def on_message_begin(self) -> None:
        self.head = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        self.head[name] = value


# What OpenAI's Python SDK 3.54 says of itself with each call, beside its key.
SDK = {
    "accept-encoding": "gzip, deflate",
    "accept": "application/json",
    "content-type": "application/json",
    "user-agent": "OpenAI/Python 3.54.0",
    "x-stainless-lang": "python",
    "x-stainless-package-version": "3.54.0",
    "x-stainless-os": "Linux",
    "x-stainless-arch": "x64",
    "x-stainless-runtime": "CPython",
    "x-stainless-runtime-version": "3.11.7",
    "x-stainless-async": "async:asyncio",
    "x-stainless-retry-count": "0",
    "x-stainless-read-timeout": "600",
}


def request_bytes(port: int, path: str, body: bytes, key: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"host: 127.0.0.1:{port}", f"authorization: Bearer {key}"]
    lines += [f"{name}: {value}" for name, value in SDK.items()]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "\r\n"]).encode() + body


async def _connect(port: int, request: bytes, kind: type[Connection] = Connection) -> Connection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: kind(request), "127.0.0.1", port)
    return connection


async def constant_rate(
    port: int, request: bytes, rate: int, seconds: float, connections: int = 64
) -> Result:
    """`rate` requests a second, sent when due or as soon after as a connection is free."""
    free = deque([await _connect(port, request) for _ in range(connections)])
    latencies: list[float] = []
    kinds: Counter[str] = Counter()
    waiting: deque[float] = deque()
    running: set[asyncio.Future[None]] = set()
    clock = time.perf_counter

    async def one(due: float, connection: Connection) -> None:
        while True:
            try:
                kinds[str(await connection.ask())] += 1
                latencies.append(clock() - due)
            except ConnectionError:
                kinds["closed"] += 1
                connection = await _connect(port, request)
            if not waiting:
                free.append(connection)
                return
            due = waiting.popleft()

    start = clock()
    for number in range(int(rate * seconds)):
        due = start + number / rate
        while (left := due - clock()) > 0:
            await asyncio.sleep(left if left > 0.002 else 0)
            os.sched_yield()  # who looks at the clock must not keep the provider beside it from this core, for 4 ms
        if free:
            task = asyncio.ensure_future(one(due, free.popleft()))
            running.add(task)
            task.add_done_callback(running.discard)
        else:
            waiting.append(due)
    if running:
        await asyncio.wait(set(running), timeout=30)
    took = clock() - start
    for connection in free:
        connection.transport.close()
    return summary(latencies, took, kinds)


async def saturate(port: int, request: bytes, connections: int, seconds: float) -> Result:
    """Each connection asks again as soon as it has its answer."""
    latencies: list[float] = []
    kinds: Counter[str] = Counter()
    end = time.perf_counter() + seconds

    async def one() -> None:
        connection = await _connect(port, request)
        while (before := time.perf_counter()) < end:
            kinds[str(await connection.ask())] += 1
            latencies.append(time.perf_counter() - before)
        connection.transport.close()

    start = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    return summary(latencies, time.perf_counter() - start, kinds)


@dataclass
class Streamed:
    """`whole` streams came to their end; `events` counts data events. `rate` is events/s over the best
    `WINDOW` seconds in which all streams were open at once, 0 where there was no such time."""

    streams: int
    whole: int
    events: int
    seconds: float
    rate: float


WINDOW, LOOK = 5.0, 0.25  # seconds


async def streams(port: int, request: bytes, count: int, opening: float = 1.0) -> Streamed:
    """`count` streams at once, opened one after the other within `opening` seconds."""
    clock = time.perf_counter
    start = clock()
    connections: list[Connection] = []

    async def one(number: int) -> int:
        await asyncio.sleep(opening * number / count)
        connection = await _connect(port, request)
        connections.append(connection)
        try:
            status = await connection.ask()
        except ConnectionError:
            status = 0
        connection.transport.close()
        return status

    asked = asyncio.gather(*(one(number) for number in range(count)))
    seen: list[tuple[float, int]] = []  # while all are open: when, and how many events there were
    while not asked.done():
        await asyncio.wait([asked], timeout=LOOK)
        if len(connections) == count and all(one.chunks for one in connections) and not asked.done():
            seen.append((clock(), sum(one.chunks for one in connections)))
    seconds, ends = clock() - start, asked.result()
    events = sum(connection.chunks for connection in connections)
    whole = sum(status == 200 for status in ends)
    return Streamed(count, whole, events, round(seconds, 2), round(_best(seen), 1))


def _best(seen: list[tuple[float, int]]) -> float:
    steps = int(WINDOW / LOOK)
    pairs = zip(seen, seen[steps:], strict=False)
    return max(((later - before) / (end - start) for (start, before), (end, later) in pairs), default=0.0)


async def until_closed(port: int, request: bytes, connections: int) -> Counter[str]:
    """Each connection asks again as soon as it has its answer, until one of them says that it was the last; the
    answers by status, and "cut" for each connection that was closed with a call unanswered."""
    kinds: Counter[str] = Counter()

    async def one() -> None:
        connection = await _connect(port, request)
        while connection.stays:
            try:
                kinds[str(await connection.ask())] += 1
            except ConnectionError:
                kinds["cut"] += 1
                return

    await asyncio.gather(*(one() for _ in range(connections)))
    return kinds


async def heads(port: int, request: bytes, connections: int, seconds: float) -> list[Head]:
    """Status and headers of every answer of as many calls as go."""
    found: list[Head] = []
    end = time.perf_counter() + seconds

    async def one() -> None:
        connection = await _connect(port, request, Reading)
        while time.perf_counter() < end:
            found.append((await connection.ask(), connection.head))
        connection.transport.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return found


async def hang_ups(port: int, requests: list[bytes], count: int, at_once: int = 50, seed: int = 1) -> int:
    """`count` clients that leave at a random moment within 60 ms of asking; the number that did."""
    dice = random.Random(seed)
    gate = asyncio.Semaphore(at_once)

    async def one(request: bytes, patience: float) -> int:
        async with gate:
            connection = await _connect(port, request)
            answer = connection.ask()
            await asyncio.wait([answer], timeout=patience)
            left = not answer.done()
            connection.transport.abort()
            answer.cancel()
            return left

    asked = [one(dice.choice(requests), dice.uniform(0, 0.06)) for _ in range(count)]
    return sum(await asyncio.gather(*asked))
