"""Send one wire request to its origin, over pooled connections; answer with bytes or a stream of them."""

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterable
from typing import NamedTuple

from gateway.core.address import Origin
from gateway.upstream.connection import Answer, Connection
from gateway.upstream.failures import ConnectFailed, ConnectionCut, ConnectTimedOut
from gateway.upstream.proxy import Proxies, tunnel

__all__ = ["Answer", "Timing", "Upstream"]

SWEEP = 5.0  # seconds between looks for idle connections that are too old


class Timing(NamedTuple):
    """Seconds. `first_byte` runs from the request sent to the answer's head (to its end, if read whole);
    `idle` is the longest silence after that."""

    connect: float
    first_byte: float | None
    idle: float | None


class Upstream:
    """Keep-alive pools per origin, last in first out. Made inside a running loop."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        proxies: Proxies | None = None,
        keep_alive: float = 55.0,
        oldest: float = 300.0,
        most: int = 4096,
    ) -> None:
        """Idle connections close after `keep_alive` seconds, and are not used past `oldest`, so that a new
        address of a host is seen; `most` bounds the connections per origin."""
        self._loop = asyncio.get_running_loop()
        self._tls = tls or ssl.create_default_context()
        self._proxies = proxies or Proxies.none()
        self._keep_alive, self._oldest, self._most = keep_alive, oldest, most
        self._pools: dict[Origin, Pool] = {}
        self._sweeper = self._loop.call_later(SWEEP, self._sweep)
        self._closed = False

    async def send(
        self,
        origin: Origin,
        head: bytes,
        body: bytes | AsyncIterable[bytes],
        timing: Timing,
        *,
        whole: bool = False,
        length: int | None = None,
    ) -> Answer:
        """`head` is the request line and headers, each with CRLF; framing is added here. Returns at the
        answer's head, or at its end if `whole`. Raises UpstreamError. Cancelling aborts the connection."""
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = Pool(self, origin, self._most)
        if not isinstance(body, bytes):
            return await self._send_streaming(pool, head, body, timing, length)
        head = (
            b"%bcontent-length: %d\r\n\r\n" % (head, len(body))
            if body or _takes_body(head)
            else head + b"\r\n"
        )
        while True:
            connection = await pool.acquire(timing.connect)
            answer = Answer(self._loop, whole, timing.idle)
            reused = connection.reused
            connection.ask(answer, head, body)
            try:
                await answer.head(timing.first_byte)
            except ConnectionCut as error:
                pool.gone()
                if reused and not error.response_started:
                    continue  # a keep-alive connection the provider had closed meanwhile: replaced unseen
                raise
            except BaseException:
                answer.close()
                raise
            return answer

    async def _send_streaming(
        self, pool: "Pool", head: bytes, body: AsyncIterable[bytes], timing: Timing, length: int | None
    ) -> Answer:
        """A streamed body cannot be sent twice, so it goes over a fresh connection."""
        connection = await pool.acquire(timing.connect, fresh=True)
        answer = Answer(self._loop, False, timing.idle)
        answer.uploading = True
        framing = (
            b"transfer-encoding: chunked\r\n\r\n"
            if length is None
            else b"content-length: %d\r\n\r\n" % length
        )
        try:
            await connection.ask_streaming(answer, head + framing, body, chunked=length is None)
            answer.uploading = False
            await answer.head(timing.first_byte)
        except BaseException:
            answer.close()
            raise
        return answer

    async def connect(self, origin: Origin, pool: "Pool") -> Connection:
        """A new connection. Raises ConnectFailed."""
        name = origin.path or f"{origin.host}:{origin.port}"
        loop = self._loop
        try:
            if origin.scheme == "unix":
                _, connection = await loop.create_unix_connection(
                    lambda: Connection(loop, name, pool.release), origin.path
                )
                return connection
            tls = self._tls if origin.scheme == "https" else None
            proxy = self._proxies.for_origin(origin)
            if proxy is not None:
                sock = await tunnel(loop, proxy, origin)
                _, connection = await loop.create_connection(
                    lambda: Connection(loop, name, pool.release),
                    sock=sock,
                    ssl=tls,
                    server_hostname=origin.host if tls else None,
                )
            else:
                _, connection = await loop.create_connection(
                    lambda: Connection(loop, name, pool.release), origin.host, origin.port, ssl=tls
                )
        except (OSError, ssl.SSLError) as error:
            raise ConnectFailed(f"{name}: {_reason(error)}") from error
        raw = connection.transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def stats(self) -> dict[str, tuple[int, int]]:
        """(open, idle) connections by origin."""
        return {
            origin.path or f"{origin.host}:{origin.port}": (pool.open, len(pool.idle))
            for origin, pool in self._pools.items()
        }

    async def aclose(self) -> None:
        self._closed = True
        self._sweeper.cancel()
        for pool in self._pools.values():
            pool.close()
        await asyncio.sleep(0)

    def _sweep(self) -> None:
        now = self._loop.time()
        for pool in self._pools.values():
            pool.sweep(now - self._keep_alive, now - self._oldest)
        if not self._closed:
            self._sweeper = self._loop.call_later(SWEEP, self._sweep)


class Pool:
    """The connections of one origin."""

    def __init__(self, upstream: Upstream, origin: Origin, most: int) -> None:
        self._upstream, self._origin, self._most = upstream, origin, most
        self.idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._opening = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def open(self) -> int:
        return len(self._all)

    async def acquire(self, seconds: float, *, fresh: bool = False) -> Connection:
        """An idle connection, the warmest first, else a new one. Raises ConnectFailed, ConnectTimedOut."""
        while self.idle and not fresh:
            connection = self.idle.pop()
            if not connection.closed:
                return connection
        try:
            async with asyncio.timeout(seconds):
                return await self._new()
        except TimeoutError:
            place = self._origin.path or f"{self._origin.host}:{self._origin.port}"
            raise ConnectTimedOut(f"{place}: no connection within {seconds:g} s") from None

    async def _new(self) -> Connection:
        while True:
            self.gone()
            if len(self._all) + self._opening < self._most:
                break
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
            while self.idle:
                connection = self.idle.pop()
                if not connection.closed:
                    return connection
        self._opening += 1
        try:
            connection = await self._upstream.connect(self._origin, self)
        finally:
            self._opening -= 1
        self._all.add(connection)
        return connection

    def release(self, connection: Connection) -> None:
        """A finished answer's connection comes back."""
        connection.idle_since = connection.loop.time()
        self.idle.append(connection)
        self._admit()

    def gone(self) -> None:
        """Forget connections that have closed; lets those who wait try again."""
        if len(self._all) > len(self.idle):
            closed = [connection for connection in self._all if connection.closed]
            self._all.difference_update(closed)
        self._admit()

    def sweep(self, idle_before: float, born_before: float) -> None:
        for connection in self.idle:
            if connection.idle_since < idle_before or connection.born < born_before:
                connection.abort()
        self.idle = [connection for connection in self.idle if not connection.closed]
        self.gone()

    def close(self) -> None:
        for connection in list(self._all):
            connection.abort()
        self.idle.clear()
        self._all.clear()

    def _admit(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


def _takes_body(head: bytes) -> bool:
    return head.startswith((b"POST ", b"PUT ", b"PATCH "))


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate was not accepted: {error.verify_message}"
    return (
        f"no connection ({type(error).__name__}: {error.strerror if isinstance(error, OSError) else error})"
    )
