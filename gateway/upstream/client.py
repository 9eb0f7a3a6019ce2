"""Send one wire request to its origin, over pooled connections; answer with bytes or a stream of them."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterable
from typing import Protocol

from gateway.core.address import Origin
from gateway.core.fact import fact
from gateway.core.failure import Overloaded
from gateway.core.outbox import Outbox
from gateway.upstream.answer import Answer
from gateway.upstream.connection import Connection
from gateway.upstream.dial import dial, name_of, way
from gateway.upstream.failures import ConnectFailed, ConnectionCut
from gateway.upstream.forwarded import Forwarded
from gateway.upstream.names import Names
from gateway.upstream.pool import Pool
from gateway.upstream.proxy import Proxies

__all__ = ["Answer", "Timing", "Upstream", "header"]

SWEEP = 5.0  # seconds between looks for connections that are too old
STALE = 1.0  # seconds in which a connection tells that it had been closed; later, it was open
SAID_AGAIN = 60.0  # seconds after which the log is told once more what lasts

_LOG = logging.getLogger("gateway.upstream")
_WITH_BODY = (b"POST ", b"PUT ", b"PATCH ")
_BREAKS = frozenset(b"\r\n\0")


@fact
class Timing:
    """Seconds. `first_byte` runs from the request written to the answer's head; `idle` is the longest silence
    after that, and the longest time a provider may leave a streamed request unread."""

    connect: float  # resolving, proxy and TLS included, and the wait for a place where all are taken
    first_byte: float | None
    idle: float | None


def header(name: bytes, value: bytes) -> bytes:
    """One line of a request's head. Raises ValueError for what would break out of it."""
    if not _BREAKS.isdisjoint(name) or not _BREAKS.isdisjoint(value):
        raise ValueError("a header may hold no CR, LF or NUL")
    return b"%b: %b\r\n" % (name, value)


class Progress(Protocol):
    """Told when a request has gone out (what ends before that cost nothing), and while its body is still made."""

    sent: bool
    uploading: bool


class Upstream:
    """Keep-alive pools per origin. Made inside a running loop."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        proxies: Proxies | None = None,
        keep_alive: float = 55.0,
        oldest: float = 300.0,
        most: int = 4096,
    ) -> None:
        """Idle connections close after `keep_alive` seconds, and are not kept past `oldest`, so that a new
        address of a host is seen; `most` bounds the connections per origin."""
        self._loop = asyncio.get_running_loop()
        self._tls = tls or trusting()
        self._tls.set_alpn_protocols(["http/1.1"])
        self._proxies = proxies or Proxies.none()
        self._names = Names()
        self._keep_alive, self._oldest, self._most = keep_alive, oldest, most
        self._pools: dict[Origin, Pool] = {}
        self._outbox = Outbox(self._loop.call_soon)
        self._sweeper = self._loop.call_later(SWEEP, self._sweep)
        self._closed = False
        self._told = -SAID_AGAIN  # when the log was told that there are no file descriptors

    async def send(  # noqa: PLR0913 - what a request is, and how it is to be answered
        self,
        origin: Origin,
        head: bytes,
        body: bytes | AsyncIterable[bytes],
        timing: Timing,
        *,
        whole: bool = False,
        length: int | None = None,
        progress: Progress | None = None,
    ) -> Answer:
        """`head` is the request line and headers, each with CRLF; framing is added here. Returns at the
        answer's head, or if `whole` at its end where it is a small one. `length` is that of a streamed body,
        which is sent chunked without. Raises UpstreamError, Overloaded where we can open no connection ourselves.
        Cancelling aborts the connection."""
        pool = self._pools.get(origin) or self._pool(origin)
        if not isinstance(body, bytes):
            return await self._send_streaming(pool, head, body, timing, length, progress)
        if body or head.startswith(_WITH_BODY):
            head = b"%bcontent-length: %d\r\n\r\n" % (head, len(body))
        else:
            head += b"\r\n"
        connection = pool.take() or await pool.make(timing.connect)
        while True:
            reused = connection.reused
            answer = Answer(self._loop, connection, timing.idle, whole)
            if progress is not None:
                progress.sent = True
            asked = self._loop.time()
            connection.ask(answer, head, body)
            try:
                await answer.head(timing.first_byte)
            except ConnectionCut as error:
                if not reused or error.response_started or self._loop.time() - asked > STALE:
                    raise
            else:
                return answer
            # Kept alive too long: the provider had closed it meanwhile. It is replaced unseen.
            connection = await pool.make(timing.connect)

    async def _send_streaming(
        self,
        pool: Pool,
        head: bytes,
        body: AsyncIterable[bytes],
        timing: Timing,
        length: int | None,
        progress: Progress | None,
    ) -> Answer:
        """A streamed body cannot be sent twice, so it goes over a fresh connection."""
        connection = await pool.make(timing.connect)
        answer = Answer(self._loop, connection, timing.idle, whole=False)
        if progress is not None:
            progress.sent = progress.uploading = True
        framing = b"transfer-encoding: chunked" if length is None else b"content-length: %d" % length
        try:
            await connection.ask_streaming(answer, head + framing + b"\r\n\r\n", body, length, timing.idle)
            if progress is not None:
                progress.uploading = False
            await answer.head(timing.first_byte)
        except BaseException:
            answer.close()
            raise
        return answer

    def stats(self) -> dict[str, tuple[int, int]]:
        """(open, idle) connections by origin."""
        return {name_of(origin): (pool.open, len(pool.idle)) for origin, pool in self._pools.items()}

    async def aclose(self) -> None:
        """Close every connection; calls in flight fail with ConnectionCut."""
        self._closed = True
        self._sweeper.cancel()
        dialing = [one for pool in self._pools.values() for one in pool.dialing]
        for pool in self._pools.values():
            pool.close()
        await asyncio.gather(*dialing, return_exceptions=True)
        await asyncio.sleep(0)  # transports close their sockets in the loop's next round

    def _pool(self, origin: Origin) -> Pool:
        if self._closed:
            raise ConnectFailed(name_of(origin), "the client was closed")
        proxy = self._proxies.for_origin(origin)
        name = way(origin, proxy)

        async def open_one(pool: Pool, seconds: float) -> Connection:
            def made() -> Connection:
                if proxy is not None and origin.scheme == "http":
                    return Forwarded(self._loop, name, pool, self._outbox, proxy, origin)
                return Connection(self._loop, name, pool, self._outbox)

            try:
                return await dial(origin, self._tls, proxy, self._names, made, seconds)
            except Overloaded:
                self._tell()
                raise

        pool = self._pools[origin] = Pool(name, open_one, self._most)
        return pool

    def _tell(self) -> None:
        if self._loop.time() - self._told > SAID_AGAIN:
            self._told = self._loop.time()
            _LOG.error(
                "no connections can be opened, for no file descriptor is left: calls that need one are a 503. Raise "
                "the limit of open files (ulimit -n; LimitNOFILE= of systemd): each call takes two"
            )

    def _sweep(self) -> None:
        now = self._loop.time()
        for origin, pool in list(self._pools.items()):
            pool.sweep(now - self._keep_alive, now - self._oldest)
            if not pool.open:
                del self._pools[origin]  # origins come and go with the policies
        self._sweeper = self._loop.call_later(SWEEP, self._sweep)


def trusting(authorities: str | None = None, named_by: str = "SSL_CERT_FILE") -> ssl.SSLContext:
    """Verifying, by the system's authorities and those of a PEM file. Raises ValueError where it cannot be read, naming
    what named it."""
    context = ssl.create_default_context()
    # Python 3.13 began to ask authorities for extensions that many of companies' own do not have.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if authorities:
        try:
            context.load_verify_locations(cafile=authorities)
        except OSError as error:
            reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
            raise ValueError(
                f"{named_by}: {authorities} cannot be used ({reason}); name a PEM file"
            ) from None
    return context
