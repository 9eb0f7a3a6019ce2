"""HTTP/1.1 over one socket: one request at a time, strict framing, back-pressure both ways.

The pool and what belongs to a provider (TLS, proxies, credentials) lie with the client.
"""

import asyncio
from collections.abc import AsyncIterable, Callable
from typing import Any

import httptools

from gateway.upstream.failures import BadAnswer, ConnectionCut, TimedOut, UpstreamError

MOST_HEAD = 64 << 10  # bytes of status line and headers
HIGH_WATER = 256 << 10  # bytes buffered for a slow reader before the socket is no longer read

_NO_BODY = frozenset({204, 304})


class Connection(asyncio.Protocol):
    """Owned by one `Answer` at a time, else idle in the pool (`answer` is None)."""

    __slots__ = (
        "_can_write", "_head_bytes", "_parser", "_released", "_sent_head_only", "answer", "born", "closed",
        "idle_since", "loop", "name", "reused", "transport",
    )  # fmt: skip

    def __init__(
        self, loop: asyncio.AbstractEventLoop, name: str, released: Callable[["Connection"], None]
    ) -> None:
        self.loop, self.name = loop, name
        self.transport: Any = None
        self.answer: Answer | None = None
        self.closed = False
        self.reused = False
        self.born = self.idle_since = loop.time()
        self._released = released
        self._parser: Any = None
        self._head_bytes = 0
        self._sent_head_only = False
        self._can_write: asyncio.Future[None] | None = None

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        answer = self.answer
        if answer is None:
            # Nobody asked: whatever it is, the next request must not take it for its answer.
            self.abort()
            return
        answer.last_data = self.loop.time()
        answer.bytes_received += len(data)
        if not answer.status:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._fail(cause if isinstance(cause, BadAnswer) else self._bad(f"broken framing ({error})"))
            return
        except httptools.HttpParserUpgrade:
            self._fail(self._bad("it switches protocols"))
            return
        if self.answer is answer and not answer.status and self._head_bytes > MOST_HEAD:
            self._fail(self._bad(f"headers above {MOST_HEAD} bytes"))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._can_write is not None and not self._can_write.done():
            self._can_write.set_result(None)
        answer = self.answer
        if answer is None:
            return
        if exc is None and answer.until_eof:
            answer.ended_by_eof = True
            self.answer = None
            answer.complete()
            return
        started = answer.bytes_received > 0
        self._fail(ConnectionCut(f"{self.name}: connection closed in mid-call", response_started=started))

    def pause_writing(self) -> None:
        self._can_write = self.loop.create_future()

    def resume_writing(self) -> None:
        waiter, self._can_write = self._can_write, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # httptools' side

    def on_header(self, name: bytes, value: bytes) -> None:
        answer = self.answer
        if answer is not None:
            answer.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        answer, parser = self.answer, self._parser
        assert answer is not None
        status = parser.get_status_code()
        if 100 <= status < 200:
            answer.headers.clear()  # informational: the answer proper follows
            return
        framing = [value.strip().lower() for name, value in answer.headers if name == b"transfer-encoding"]
        lengths = {value.strip() for name, value in answer.headers if name == b"content-length"}
        if framing not in ([], [b"chunked"]) or len(lengths) > 1 or (framing and lengths):
            raise self._bad("ambiguous framing")
        bodiless = status in _NO_BODY or self._sent_head_only
        answer.until_eof = not framing and not lengths and not bodiless
        answer.status = status
        if bodiless:
            self._finish(answer, keep=not lengths or lengths == {b"0"})
        elif not answer.whole:
            answer.wake()

    def on_body(self, body: bytes) -> None:
        answer = self.answer
        if answer is not None:
            answer.take(body)

    def on_message_complete(self) -> None:
        answer = self.answer
        if answer is not None and answer.status:
            self._finish(answer, keep=not answer.until_eof and self._parser.should_keep_alive())

    # the client's side

    def ask(self, answer: "Answer", head: bytes, body: bytes) -> None:
        """Send a request whose body is at hand, in one write."""
        self._begin(answer, head)
        self.transport.write(head + body if body else head)

    async def ask_streaming(
        self, answer: "Answer", head: bytes, body: AsyncIterable[bytes], chunked: bool
    ) -> None:
        """Send a request whose body is made as it goes; waits while the provider does not read."""
        self._begin(answer, head)
        self.transport.write(head)
        async for part in body:
            if self.closed or answer.done:
                return  # the provider has answered or gone: the rest of the body interests nobody
            if part:
                self.transport.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
            if self._can_write is not None:
                await self._can_write
        if chunked and not self.closed:
            self.transport.write(b"0\r\n\r\n")

    def pause(self) -> None:
        if not self.closed:
            self.transport.pause_reading()

    def resume(self) -> None:
        if not self.closed:
            self.transport.resume_reading()

    def abort(self) -> None:
        """Close at once: the provider sees it within a round trip."""
        self.closed = True
        self.answer = None
        if self.transport is not None:
            self.transport.abort()

    def _begin(self, answer: "Answer", head: bytes) -> None:
        self.answer = answer
        self._sent_head_only = head.startswith(b"HEAD ")
        self._head_bytes = 0
        self._parser = httptools.HttpResponseParser(self)
        answer.connection = self
        answer.last_data = self.loop.time()

    def _finish(self, answer: "Answer", *, keep: bool) -> None:
        self.answer = None
        answer.complete()
        if keep and not self.closed and not answer.uploading:
            self.reused = True
            self._released(self)
        else:
            self.abort()

    def _bad(self, why: str) -> BadAnswer:
        return BadAnswer(f"{self.name}: not an answer we accept: {why}")

    def _fail(self, error: UpstreamError) -> None:
        answer = self.answer
        self.abort()
        if answer is not None:
            answer.fail(error)


class Answer:
    """What a provider says. Whoever gets one must close it, whatever happens; closing an answer that is
    not finished aborts its connection."""

    __slots__ = (
        "_chunks", "_error", "_loop", "_paused", "_size", "_timer", "_waiter", "bytes_received", "connection",
        "done", "ended_by_eof", "headers", "idle", "last_data", "phase", "status", "until_eof", "uploading",
        "whole",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, whole: bool, idle: float | None) -> None:
        self._loop = loop
        self.whole = whole
        self.idle = idle
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.connection: Connection | None = None
        self.bytes_received = 0
        self.done = self.ended_by_eof = self.until_eof = self.uploading = False
        self.last_data = 0.0
        self._chunks: list[bytes] = []
        self._size = 0
        self._paused = False
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.phase = "first byte"

    def header(self, name: bytes) -> bytes:
        """The first value of a header (lower-case name), b"" if there is none."""
        for known, value in self.headers:
            if known == name:
                return value
        return b""

    async def head(self, seconds: float | None) -> None:
        """Wait for status and headers (for everything, if `whole`). Raises UpstreamError."""
        self.phase = "first byte"
        while not self.done and (self.whole or not self.status):
            await self._wait(seconds)
        if self._error is not None:
            raise self._error
        self.phase = "idle"

    async def chunk(self, seconds: float | None = None) -> bytes:
        """All bytes that came since the last call, b"" at the end. Raises UpstreamError."""
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self.done:
                return b""
            if self._paused:
                self._paused = False
                if self.connection is not None:
                    self.connection.resume()
            await self._wait(self.idle if seconds is None else seconds)
        chunks, self._chunks, self._size = self._chunks, [], 0
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def body(self, limit: int) -> bytes:
        """The whole body. Raises BadAnswer past `limit` bytes, UpstreamError if it breaks."""
        parts, size = [], 0
        while part := await self.chunk():
            size += len(part)
            if size > limit:
                self.close()
                raise BadAnswer(f"an answer above {limit} bytes")
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Idempotent. The connection of a finished answer is back in the pool already."""
        if not self.done:
            self.done = True
            connection, self.connection = self.connection, None
            if connection is not None:
                connection.abort()
        self._stop_timer()

    # the connection's side

    def take(self, body: bytes) -> None:
        self._chunks.append(body)
        self._size += len(body)
        if not self.whole:
            self.wake()
        if self._size > HIGH_WATER and not self._paused and not self.whole and self.connection is not None:
            self._paused = True
            self.connection.pause()

    def complete(self) -> None:
        self.done = True
        self.wake()

    def fail(self, error: UpstreamError) -> None:
        self._error = error
        self.complete()

    def wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _wait(self, seconds: float | None) -> None:
        """Until something happens, at most `seconds` after the last byte."""
        self._waiter = self._loop.create_future()
        if seconds is not None:
            # One timer serves many waits: it looks again when it fires early (2 us once, not per chunk).
            if self._timer is None or self._timer.when() > self._loop.time() + seconds:
                self._stop_timer()
                self._timer = self._loop.call_later(seconds, self._late, seconds)
        else:
            self._stop_timer()
        try:
            await self._waiter
        except BaseException:
            self.close()
            raise
        finally:
            self._waiter = None
        if self.done:
            self._stop_timer()

    def _late(self, seconds: float) -> None:
        self._timer = None
        left = self.last_data + seconds - self._loop.time()
        if self._waiter is None:
            return  # the reader is busy elsewhere: its silence is not the provider's
        if left > 0.001:
            self._timer = self._loop.call_later(left, self._late, seconds)
            return
        name = self.connection.name if self.connection is not None else "provider"
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abort()
        self.fail(TimedOut(f"{name}: silent for {seconds:g} s ({self.phase})", phase=self.phase))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
