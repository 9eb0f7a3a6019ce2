"""Processes of a gateway that share a Redis, as far as their limits go, and a line between both that may fail."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Self

from gateway.core.claim import Claim, Grant, Limit
from gateway.core.failure import LimitReached
from gateway.core.meters import Meters
from gateway.state.place import Place, parse_url
from gateway.state.redis import RedisAllowance


class Process:
    """One gateway process, as far as its allowance goes."""

    def __init__(self, place: Place, processes: int) -> None:
        self.meters = Meters()
        self.said: list[str] = []
        self.allowance = RedisAllowance(
            place, self.meters, lambda level, text: self.said.append(text), processes
        )

    @property
    def store_errors(self) -> dict[tuple[str, ...], float]:
        return {mode: count for mode, count in self.meters.store_errors.values.items() if count}

    async def reserve(self, *claims: Claim, hold: float = 600) -> Grant:
        return await self.allowance.reserve(claims, hold)

    async def refuses(self, claim: Claim) -> bool:
        try:
            await self.reserve(claim)
        except LimitReached:
            return True
        return False

    async def back(self) -> None:
        await until(lambda: not self.allowance.degraded)

    async def away(self) -> None:
        await until(lambda: bool(self.allowance.degraded))


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)  # what Redis and the loop do, they do untold


@asynccontextmanager
async def process(url: str | Place, *, connected: bool = True, processes: int = 1) -> AsyncIterator[Process]:
    one = Process(parse_url(url) if isinstance(url, str) else url, processes)
    running = asyncio.ensure_future(one.allowance.run())
    try:
        if connected:
            await one.back()
        yield one
    finally:
        await one.allowance.aclose()
        running.cancel()
        await asyncio.wait([running])


def claim(limit: Limit, amount: int = 1, bucket: str = "") -> Claim:
    return Claim(limit, bucket, amount)


class Line:
    """A socket before Redis. `delay` of None: nothing comes through any more."""

    def __init__(self, behind: Path, front: Path) -> None:
        self._behind, self._front = behind, front
        self.delay: float | None = 0.0
        self.taken = 0  # connections
        self.url = f"unix://{front}"
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Future[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(self, *gone: object) -> None:
        await self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def mend(self) -> None:
        self.delay = 0.0
        if self._server is None:
            self._server = await asyncio.start_unix_server(self._accept, self._front)

    async def cut(self) -> None:
        """Nobody listens any more, and what was open is closed."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self._front.unlink(missing_ok=True)  # Python 3.13 has done it by then
        self.hang_up()

    def hang_up(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.taken += 1
        answers, asks = await asyncio.open_unix_connection(self._behind)
        self._open |= {writer, asks}
        pumps = [self._pump(reader, asks), self._pump(answers, writer)]
        self._tasks |= {asyncio.ensure_future(pump) for pump in pumps}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                if self.delay is not None and not writer.is_closing():
                    loop.call_later(self.delay, writer.write, data)
        self._open.discard(writer)
        writer.transport.abort()
