"""The connections of one origin: the warmest idle one first, new ones up to a bound, then wait in turn."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from gateway.upstream.connection import Connection
from gateway.upstream.failures import ConnectFailed, ConnectionCut, ConnectTimedOut

Dial = Callable[["Pool", float], Awaitable[Connection]]


class Pool:
    """`dial` opens one connection of this pool within so many seconds; `most` bounds them."""

    def __init__(self, name: str, dial: Dial, most: int) -> None:
        self.name = name
        self.idle: list[Connection] = []  # the warmest last; some may have closed meanwhile
        self.dialing: set[asyncio.Future[Connection]] = set()
        self._dial, self._most = dial, most
        self._open: set[Connection] = set()
        self._opening = 0  # places taken by connections that are being made
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._shut = False

    @property
    def open(self) -> int:
        return len(self._open) + self._opening

    def take(self) -> Connection | None:
        """An idle connection, if there is one."""
        while self.idle:
            connection = self.idle.pop()
            if not connection.closed:
                return connection
        return None

    async def make(self, seconds: float) -> Connection:
        """A new connection; where all places are taken, the next that is free. Raises ConnectFailed, and
        ConnectTimedOut after `seconds`."""
        while self.open >= self._most and self.idle:
            self.idle.pop(0).abort()  # a new one was asked for: the coldest makes room
        if self.open < self._most:
            self._opening += 1
            return await self._new(seconds)
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        try:
            async with asyncio.timeout_at(until):
                granted = await self._turn()
        except TimeoutError:
            why = f"no connection within {seconds:g} s: all {self._most} were in use"
            raise ConnectTimedOut(self.name, why) from None
        return granted or await self._new(until - loop.time())

    def release(self, connection: Connection) -> None:
        """It has served its call: hand it to who has waited longest, or keep it."""
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.set_result(connection)
        else:
            connection.idle_since = connection.loop.time()
            self.idle.append(connection)

    def lost(self, connection: Connection) -> None:
        if connection in self._open:
            self._open.remove(connection)
            self._free_place()

    def sweep(self, idle_before: float, born_before: float) -> None:
        """Close what has been idle or has lived for too long; of what is in use, with its call. Calls that nobody hears
        fail."""
        for connection in list(self._open):
            connection.last = connection.born < born_before
            connection.look()
        for connection in self.idle:
            if connection.last or connection.idle_since < idle_before:
                connection.abort()
        self.idle = [connection for connection in self.idle if not connection.closed]

    def close(self) -> None:
        """Close all, also those that are being made; calls in flight and those who wait fail."""
        self._shut = True
        while (waiter := self._next_waiter()) is not None:
            waiter.set_exception(ConnectFailed(self.name, "the client was closed"))
        for connection in list(self._open):
            connection.fail(ConnectionCut(self.name, "the client was closed", response_started=True))
        for dialing in self.dialing:
            dialing.cancel()
        self.idle.clear()

    async def _new(self, seconds: float) -> Connection:
        """A new connection, in a place that is counted already."""
        dialing = asyncio.ensure_future(self._opened(seconds))
        self.dialing.add(dialing)
        dialing.add_done_callback(self.dialing.discard)
        try:
            return await asyncio.shield(dialing)
        except asyncio.CancelledError:
            if dialing.cancelled():
                raise ConnectFailed(self.name, "the client was closed") from None
            # Its call has left, and the next one is on its way: where every client is impatient, no connection
            # would ever come about.
            dialing.add_done_callback(self._keep)
            raise

    async def _opened(self, seconds: float) -> Connection:
        try:
            connection = await self._dial(self, seconds)
        except BaseException:
            self._opening -= 1
            self._free_place()
            raise
        self._opening -= 1
        if self._shut:
            connection.abort()
        if connection.closed:
            self._free_place()
        else:
            self._open.add(connection)
        return connection

    def _keep(self, dialing: "asyncio.Future[Connection]") -> None:
        if not dialing.cancelled() and dialing.exception() is None and not dialing.result().closed:
            self.release(dialing.result())

    async def _turn(self) -> Connection | None:
        """A used connection, or None for a place to make one in (already counted)."""
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._give_back(waiter.result())
            raise

    def _give_back(self, granted: Connection | None) -> None:
        """Who had waited was cancelled at the very moment of getting it."""
        if granted is None:
            self._opening -= 1
            self._free_place()
        elif not granted.closed:
            self.release(granted)

    def _free_place(self) -> None:
        if self.open < self._most and (waiter := self._next_waiter()) is not None:
            self._opening += 1
            waiter.set_result(None)

    def _next_waiter(self) -> "asyncio.Future[Connection | None] | None":
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                return waiter
        return None
