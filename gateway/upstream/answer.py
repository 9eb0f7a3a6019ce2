"""What a provider says, as the caller reads it: head, chunks, end; waits with deadlines, and back-pressure.

Parsing lies with `connection`, which fills an answer; an answer knows of it only what `Line` says.
"""

import asyncio
from typing import Protocol

from gateway.upstream.failures import BodyTooLarge, TimedOut, UpstreamError

HIGH_WATER = 256 << 10  # bytes buffered for a slow reader before the socket is no longer read


class Line(Protocol):
    """The connection an answer comes from."""

    name: str

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def abort(self) -> None: ...


class Answer:
    """Whoever gets one must close it, whatever happens; closing one that is not done aborts its connection.

    The body of a refusal (status 400 and above) that breaks off is what came of it: many refuse before they have read a
    request, and reset the connection behind that."""

    __slots__ = (
        "_chunks", "_deadline", "_error", "_idle", "_line", "_loop", "_size", "_timer", "_waiter",
        "bytes_received", "done", "headers", "last_data", "paused", "status", "whole",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, line: Line, idle: float | None, whole: bool) -> None:
        """`idle`: the longest silence in seconds once the head is there."""
        self.status = 0  # 0 until the head is there
        self.headers: dict[bytes, bytes] = {}  # names in lower case; of several values the first
        self.bytes_received = 0
        self.done = False  # complete, failed or closed
        self.whole = whole
        self.paused = False
        self.last_data = 0.0
        self._loop, self._line, self._idle = loop, line, idle
        self._chunks: list[bytes] = []
        self._size = 0
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def header(self, name: bytes) -> bytes:
        """The value of a header (lower-case name), b"" if there is none."""
        return self.headers.get(name, b"")

    async def head(self, seconds: float | None) -> None:
        """Wait for status and headers (for everything, if `whole`). Raises UpstreamError."""
        try:
            while not self.done and (self.whole or not self.status):
                await self._news(seconds)
        except BaseException:
            self.close()
            raise
        if self._error is not None:
            raise self._error

    async def chunk(self, seconds: float | None = None) -> bytes:
        """All bytes that came since the last call, b"" at the end. Raises UpstreamError.

        `seconds` bounds this one wait; without it the answer's idle timeout does."""
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self.done:
                return b""
            if self.paused:
                self.paused = False
                self._line.resume()
            try:
                await self._news(self._idle if seconds is None else seconds)
            except BaseException:
                self.close()
                raise
        chunks, self._chunks, self._size = self._chunks, [], 0
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def at_hand(self) -> bytes:
        """The whole body where it has come in one piece already, as small answers do; else b"", and `body` is
        to be awaited."""
        if not self.done or self._error is not None or len(self._chunks) != 1:
            return b""
        chunks, self._chunks, self._size = self._chunks, [], 0
        return chunks[0]

    async def body(self, limit: int) -> bytes:
        """The whole body. Raises BodyTooLarge past `limit` bytes, UpstreamError if it breaks."""
        parts, size = [], 0
        while part := await self.chunk():
            size += len(part)
            if size > limit:
                self.close()
                raise BodyTooLarge(self._line.name, f"an answer above {limit} bytes")
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Idempotent. The connection of a complete answer is back in the pool already."""
        if not self.done:
            self._line.abort()
            self._end()

    # the connection's side

    def take(self, body: bytes) -> None:
        self._chunks.append(body)
        self._size += len(body)
        if self._size > HIGH_WATER and not self.paused:
            self.whole = False  # too much to hold back: the caller reads the rest with back-pressure
            self.paused = True
            self._line.pause()
        if not self.whole:
            self.wake()

    def await_rest(self) -> None:
        """The head is here and the body is not, though the caller waits for both: from now on `idle` counts."""
        if self._idle is None:
            return
        deadline = self.last_data + self._idle
        if self._timer is None or self._timer.when() > deadline:
            self._arm(deadline)

    def complete(self) -> None:
        self._end()
        self.wake()

    def fail(self, error: UpstreamError) -> None:
        if self.status < 400:  # a refusal is one whatever becomes of its text: that ends where it broke off
            self._error = error
        self.complete()

    def wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _end(self) -> None:
        self.done = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _news(self, seconds: float | None) -> "asyncio.Future[None]":
        """Done once something happens, or the answer has failed `seconds` from now."""
        waiter = self._waiter = self._loop.create_future()
        if seconds is None:
            self._deadline = None
        else:
            self._deadline = deadline = self._loop.time() + seconds
            # One timer serves many waits: it looks again when it fires early (2 us once, not per chunk).
            if self._timer is None or self._timer.when() > deadline:
                self._arm(deadline)
        return waiter

    def _arm(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return  # nobody waits: the reader is busy elsewhere, and its silence is not the provider's
        deadline = self._deadline
        if self.whole and self.status:
            deadline = None if self._idle is None else self.last_data + self._idle
        if deadline is None:
            return
        if deadline - self._loop.time() > 0.001:
            self._arm(deadline)
            return
        phase = "idle" if self.status else "first byte"
        self._line.abort()
        self.fail(TimedOut(self._line.name, f"silent for too long ({phase})", phase=phase))
