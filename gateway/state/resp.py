"""One pipelined connection to Redis: what is asked in one turn of the loop travels in one write.

An own protocol with hiredis's parser costs 4 us per call where a client library costs 52 (docs/limits.md).
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis

Argument = bytes | str | int


class RedisAway(Exception):
    """Redis did not answer, or not in time."""


class Place(NamedTuple):
    """Where Redis is; secrets never show in its `repr`."""

    host: str
    port: int
    path: str
    tls: bool
    database: int
    credentials: tuple[str, ...]

    def __repr__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


def parse_url(url: str) -> Place:
    """`redis://`, `rediss://` or `unix://`. Raises ValueError."""
    parts = urlsplit(url)
    try:
        pair = tuple(unquote(one) for one in (parts.username, parts.password) if one)
        if parts.scheme == "unix":
            return Place("", 0, parts.path, False, int(parse_qs(parts.query).get("db", ["0"])[0]), pair)
        if parts.scheme in ("redis", "rediss") and parts.hostname:
            database = int(parts.path.strip("/") or 0)
            return Place(parts.hostname, parts.port or 6379, "", parts.scheme == "rediss", database, pair)
    except ValueError:
        pass
    raise ValueError("GATEWAY_REDIS_URL: must look like redis://host:6379/0, rediss://... or unix:///path")


class Connection(asyncio.Protocol):
    """Answers come in the order of the questions. The first that is late ends the connection: those behind it
    would only be later."""

    def __init__(self, loop: asyncio.AbstractEventLoop, lost: Callable[[], None]) -> None:
        self._loop, self._lost = loop, lost
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._out: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's share no base class with asyncio's

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while self._waiting and (reply := self._reader.gets()) is not False:
            waiter, _ = self._waiting.popleft()
            if waiter.done():
                continue
            if isinstance(reply, Exception):
                waiter.set_exception(reply)
            else:
                waiter.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self.close()

    def ask(self, arguments: Sequence[Argument], seconds: float) -> "asyncio.Future[Any]":
        """The reply; RedisAway where none comes in time."""
        waiter: asyncio.Future[Any] = self._loop.create_future()
        if self.closed:
            waiter.set_exception(RedisAway("not connected"))
            return waiter
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(pack(arguments))
        due = self._loop.time() + seconds
        self._waiting.append((waiter, due))
        if self._timer is None or due < self._timer.when():
            self._look_at(due)
        return waiter

    def tell(self, arguments: Sequence[Argument], seconds: float) -> None:
        """`ask` without interest in the reply."""
        self.ask(arguments, seconds).add_done_callback(lambda done: done.cancelled() or done.exception())

    def close(self) -> None:
        """Everyone who waits is told."""
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        for waiter, _ in self._waiting:
            if not waiter.done():
                waiter.set_exception(RedisAway("connection lost"))
        self._waiting.clear()
        self._lost()

    def _flush(self) -> None:
        data, self._out = b"".join(self._out), []
        if self._transport is not None and not self.closed:
            self._transport.write(data)

    def _check(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        due = min(deadline for _, deadline in self._waiting)
        if due <= self._loop.time() + 0.001:
            self.close()
        else:
            self._look_at(due)

    def _look_at(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._check)


async def connect(place: Place, lost: Callable[[], None], seconds: float) -> Connection:
    """A connection that has logged in. Raises RedisAway."""
    loop = asyncio.get_running_loop()

    def make() -> Connection:
        return Connection(loop, lost)

    try:
        async with asyncio.timeout(seconds):
            if place.path:
                _, connection = await loop.create_unix_connection(make, place.path)
            else:
                context = ssl.create_default_context() if place.tls else None
                _, connection = await loop.create_connection(make, place.host, place.port, ssl=context)
    except (OSError, TimeoutError) as error:
        raise RedisAway(f"{place}: {type(error).__name__}") from None
    try:
        if place.credentials:
            await connection.ask(["AUTH", *place.credentials], seconds)
        if place.database:
            await connection.ask(["SELECT", place.database], seconds)
        await connection.ask(["PING"], seconds)
    except (RedisAway, hiredis.ReplyError) as error:
        connection.close()
        raise RedisAway(f"{place}: {error}") from None
    return connection


def pack(arguments: Sequence[Argument]) -> bytes:
    """One command in RESP."""
    parts = [b"*%d\r\n" % len(arguments)]
    for one in arguments:
        raw = one if isinstance(one, bytes) else str(one).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(parts)
