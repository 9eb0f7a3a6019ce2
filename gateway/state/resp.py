"""One pipelined connection to Redis: what is asked in one turn of the loop travels in one write.

An own protocol around hiredis's packer and parser costs a tenth of a client library's call (docs/limits.md).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis

from gateway.state.place import Place

PATIENCE = 0.04  # seconds a call waits for Redis

Argument = bytes | str | int
Unheard = Callable[[Any], None]


class RedisAway(Exception):
    """There is no connection, or it was lost before the reply: what was asked may have happened or not."""


class RedisLate(Exception):
    """The reply did not come in time; it may still come."""


class Asked:
    """One command on its way. `unheard` is called with a reply that nobody waits for any more, or with None
    where the connection went before it came."""

    __slots__ = ("reply", "unheard")

    def __init__(self, reply: "asyncio.Future[Any]", unheard: Unheard | None) -> None:
        self.reply, self.unheard = reply, unheard


class Connection(asyncio.Protocol):
    """Answers come in the order of the questions. `lost` is called once, when the connection is no more."""

    def __init__(self, loop: asyncio.AbstractEventLoop, lost: Callable[[], None]) -> None:
        self._loop, self._lost = loop, lost
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[Asked] = deque()
        self._timed: deque[tuple[float, Asked]] = deque()  # by when they are late; at times already answered
        self._timer: asyncio.TimerHandle | None = None
        self._out: list[bytes] = []
        self.heard_at = loop.time()
        self.closed = False
        self.why = "there is no connection"  # once it is closed

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's share no base class with asyncio's

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        self.heard_at = self._loop.time()
        try:
            while self._waiting and (reply := self._reader.gets()) is not False:
                self._answer(self._waiting.popleft(), reply)
        except hiredis.ProtocolError:
            self.close("what speaks there is no Redis")

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(f"the connection was lost: {exc}" if exc else "the connection was closed at the other end")

    def ask(self, *command: Argument) -> "asyncio.Future[Any]":
        """The reply, without a bound of time. Raises RedisAway, hiredis.ReplyError."""
        return self._ask(command, None).reply

    def ask_soon(self, command: Sequence[Argument], unheard: Unheard) -> "asyncio.Future[Any]":
        """The reply within PATIENCE. Raises RedisLate, RedisAway, hiredis.ReplyError."""
        asked = self._ask(command, unheard)
        due = self._loop.time() + PATIENCE
        self._timed.append((due, asked))
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._look)
        return asked.reply

    def close(self, why: str = "the connection was closed") -> None:
        """Everyone who waits is told."""
        if self.closed:
            return
        self.closed, self.why = True, why
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        for asked in self._waiting:
            if not asked.reply.done():
                asked.reply.set_exception(RedisAway(why))
            elif asked.unheard is not None:
                asked.unheard(None)
        self._waiting.clear()
        self._timed.clear()
        self._lost()

    def _ask(self, command: Sequence[Argument], unheard: Unheard | None) -> Asked:
        asked = Asked(self._loop.create_future(), unheard)
        if self.closed:
            asked.reply.set_exception(RedisAway(self.why))
            return asked
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(hiredis.pack_command(tuple(command)))  # type: ignore[arg-type]  # stub: one-tuples only
        self._waiting.append(asked)
        return asked

    def _flush(self) -> None:
        data, self._out = b"".join(self._out), []
        if self._transport is not None and not self.closed:
            self._transport.write(data)

    def _answer(self, asked: Asked, reply: Any) -> None:
        if asked.reply.done():
            if asked.unheard is not None:
                asked.unheard(reply)
        elif isinstance(reply, hiredis.ReplyError):
            asked.reply.set_exception(reply)
        else:
            asked.reply.set_result(reply)

    def _look(self) -> None:
        """Tell those whose reply is late, and wait for the next."""
        now = self._loop.time()
        timed = self._timed
        while timed and (timed[0][0] <= now or timed[0][1].reply.done()):
            _, asked = timed.popleft()
            if not asked.reply.done():
                asked.reply.set_exception(RedisLate(f"no reply within {PATIENCE * 1000:.0f} ms"))
        self._timer = self._loop.call_at(timed[0][0], self._look) if timed else None


async def connect(place: Place, lost: Callable[[], None]) -> Connection:
    """A connection that has logged in. Raises OSError, RedisAway, hiredis.ReplyError."""
    loop = asyncio.get_running_loop()

    def make() -> Connection:
        return Connection(loop, lost)

    if place.path:
        _, connection = await loop.create_unix_connection(make, place.path)
    else:
        _, connection = await loop.create_connection(make, place.host, place.port, ssl=place.context())
    try:
        if place.credentials:
            await connection.ask("AUTH", *place.credentials)
        if place.database:
            await connection.ask("SELECT", place.database)
        await connection.ask("PING")
    except BaseException:
        connection.close()
        raise
    return connection
