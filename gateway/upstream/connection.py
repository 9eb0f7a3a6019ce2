"""HTTP/1.1 over one socket: one request at a time, strict framing, back-pressure both ways.

Where connections come from and who may use them next is the pool's; reading an answer is the answer's.
"""

import asyncio
from collections.abc import AsyncIterable
from typing import Any, Protocol

import httptools

from gateway.core.outbox import Outbox
from gateway.upstream.answer import Answer
from gateway.upstream.failures import BadAnswer, ConnectionCut, TimedOut, UpstreamError, reason
from gateway.upstream.liveness import is_gone

MOST_HEAD = 64 << 10  # bytes of status line and headers; of trailers, too
ONE_WRITE = 64 << 10  # bodies up to this many bytes are copied behind their head

_LARGE_HEAD = f"headers above {MOST_HEAD} bytes"
_NO_BODY = frozenset({204, 304})


class Owner(Protocol):
    """Told what becomes of its connections; each is lost once."""

    def release(self, connection: "Connection") -> None: ...

    def lost(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """Serves one `Answer` at a time; idle in between (`answer` is None)."""

    __slots__ = (
        "_bodiless", "_can_write", "_chunked", "_doubled", "_head_bytes", "_headers", "_keep", "_outbox",
        "_over", "_owner", "_parser", "_sized", "_surplus", "_transport", "_uploading", "answer", "born",
        "closed", "idle_since", "last", "loop", "name", "reused",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, owner: Owner, outbox: Outbox) -> None:
        self.loop, self.name = loop, name
        self.answer: Answer | None = None
        self.closed = False
        self.reused = False
        self.last = False  # it serves no other call
        self.born = self.idle_since = loop.time()
        self._owner, self._outbox = owner, outbox
        self._transport: Any = None  # uvloop's transports are no subclass of asyncio.Transport
        self._can_write: asyncio.Future[None] | None = None
        self._uploading = False
        # It reads all answers of the connection: only one that has ended well is followed by another.
        self._parser: Any = httptools.HttpResponseParser(self)
        # of the answer that is being read
        self._bodiless = False  # it answers a HEAD
        self._head_bytes = 0
        self._doubled = 0  # bytes of headers that came again, which are not kept
        self._headers: dict[bytes, bytes] | None = None  # where its headers go; None once the head is over
        self._chunked = self._sized = False  # how its head says that it is framed
        self._over = False  # it has ended
        self._keep = False  # the connection may stay
        self._surplus = False  # more bytes came than it has

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

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
        except httptools.HttpParserUpgrade:
            self.fail(self._bad("it switches protocols"))
            return
        except httptools.HttpParserError as error:
            if not self._over:
                cause = error.__context__
                self.fail(cause if isinstance(cause, BadAnswer) else self._bad(f"broken framing ({error})"))
                return
            self._surplus = True
        if self._over:
            self._finish(answer)
        elif answer.status:
            if answer.whole:
                answer.await_rest()
        elif self._head_bytes > MOST_HEAD:
            self.fail(self._bad(_LARGE_HEAD))

    def connection_lost(self, exc: Exception | None) -> None:
        answer, self.answer = self.answer, None
        self._close()
        if answer is None:
            return
        if exc is None and answer.status and not self._chunked and not self._sized:
            answer.complete()  # without a length: it ends with its connection
            return
        started = answer.bytes_received > 0
        why = "connection closed in mid-call" + (f": {reason(exc)}" if exc is not None else "")
        answer.fail(ConnectionCut(self.name, why, response_started=started))

    def pause_writing(self) -> None:
        self._can_write = self.loop.create_future()

    def resume_writing(self) -> None:
        self._wake_writer()
        self._can_write = None

    # httptools' side; an exception raised here stops the parser

    def on_message_begin(self) -> None:
        if self._over:
            raise self._bad("bytes after its end")

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self._headers
        if headers is not None:
            name = name.lower()
            if name not in headers:
                headers[name] = value
            elif name == b"transfer-encoding":
                raise self._bad("transfer-encoding twice")
            else:
                self._doubled += len(name) + len(value) + 4
            return
        self._head_bytes += len(name) + len(value) + 4  # a trailer: counted, and left out
        if self._head_bytes > MOST_HEAD:
            raise self._bad(f"trailers above {MOST_HEAD} bytes")

    def on_headers_complete(self) -> None:
        answer = self.answer
        assert answer is not None
        status = self._parser.get_status_code()
        if status < 200 or status > 599:
            if not 100 <= status < 200:
                raise self._bad(f"status {status}")
            answer.headers.clear()  # informational: the answer proper follows
            return
        if self._head_bytes > MOST_HEAD:  # of it, or of what came with it
            kept = sum(len(name) + len(value) + 4 for name, value in answer.headers.items())
            if self._doubled + kept > MOST_HEAD:
                raise self._bad(_LARGE_HEAD)
        self._note_framing(answer.headers)
        self._head_bytes, self._headers = 0, None
        answer.status = status
        if self._bodiless:
            # The parser does not know what was asked, and would wait for a body.
            self._over = True
            raise self._bad("the answer to HEAD ends here")
        if status >= 400:
            self._wake_writer()  # refused: an upload need not go on
        if not answer.whole:
            answer.wake()

    def on_body(self, body: bytes) -> None:
        answer = self.answer
        if answer is not None:
            answer.take(body)

    def on_message_complete(self) -> None:
        answer = self.answer
        if answer is not None and answer.status:
            self._over = True
            self._keep = self._parser.should_keep_alive()  # forgotten once the parser goes on

    # the client's side

    def ask(self, answer: Answer, head: bytes, body: bytes) -> None:
        """Send a request whose body is at hand."""
        if not self._begin(answer, head):
            return
        if len(body) <= ONE_WRITE:
            self._outbox.write(self._transport, head + body)
        else:
            self._transport.writelines((head, body))

    async def ask_streaming(
        self, answer: Answer, head: bytes, body: AsyncIterable[bytes], length: int | None, idle: float | None
    ) -> None:
        """Send a request whose body is made as it goes, chunked where `length` is None.

        Waits while the provider does not read, at most `idle` seconds at a time: raises TimedOut. Ends
        early once the provider has refused or left. Raises ValueError for a body of another length."""
        if not self._begin(answer, head):
            return
        self._uploading = True
        self._transport.write(head)
        sent = 0
        async for part in body:
            sent += len(part)
            if length is not None and sent > length:
                break
            if part and not self.closed:
                self._transport.write(part if length is not None else b"%x\r\n%b\r\n" % (len(part), part))
            if self._can_write is not None:
                await self._drain(idle)
            if self.closed or answer.done or answer.status >= 400:
                return  # the rest of the body interests nobody; the connection ends with this answer
        if length is not None and sent != length:
            raise ValueError(f"the request's body is not of the {length} bytes announced")
        if length is None and not self.closed:
            self._transport.write(b"0\r\n\r\n")
        self._uploading = False

    def pause(self) -> None:
        if not self.closed:
            self._transport.pause_reading()

    def resume(self) -> None:
        if not self.closed:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once: the provider sees it within a round trip. The answer is left as it is."""
        self.answer = None
        if not self.closed:
            self._transport.abort()
            self._close()

    def fail(self, error: UpstreamError) -> None:
        """Close at once, and fail the call that is on it."""
        answer = self.answer
        self.abort()
        if answer is not None:
            answer.fail(error)

    def look(self) -> None:
        """Fail the call that is on it where nobody hears that, though nothing says so."""
        answer = self.answer
        if answer is not None and is_gone(self._transport.get_extra_info("socket")):
            started = answer.bytes_received > 0
            self.fail(ConnectionCut(self.name, "nobody is there any more", response_started=started))

    def _begin(self, answer: Answer, head: bytes) -> bool:
        """False where the connection was lost between its opening and its use; the answer has failed then."""
        if self.closed:
            cut = ConnectionCut(self.name, "connection closed before the call", response_started=False)
            answer.fail(cut)
            return False
        self.answer = answer
        self._bodiless = head.startswith(b"HEAD ")
        self._head_bytes, self._doubled, self._headers = 0, 0, answer.headers
        self._over = self._surplus = self._keep = False
        return True

    def _note_framing(self, headers: dict[bytes, bytes]) -> None:
        """Raises BadAnswer for an answer that different readers would cut differently."""
        self._sized = b"content-length" in headers
        self._chunked = b"transfer-encoding" in headers
        if self._chunked:
            if headers[b"transfer-encoding"].strip().lower() != b"chunked":
                raise self._bad("a transfer-encoding other than chunked")
            if self._sized:
                raise self._bad("content-length beside transfer-encoding")

    def _wake_writer(self) -> None:
        waiter = self._can_write
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _drain(self, idle: float | None) -> None:
        try:
            async with asyncio.timeout(idle):
                while self._can_write is not None and not self._can_write.done():
                    await self._can_write
        except TimeoutError:
            raise TimedOut(self.name, "reads no more of the request", phase="upload") from None

    def _finish(self, answer: Answer) -> None:
        """The message has ended. Only a connection that holds no byte too many, either way, serves another."""
        self.answer = None
        framed = self._chunked or self._sized or answer.status in _NO_BODY
        sent = self._can_write is None and not self._uploading
        if self._keep and framed and sent and not self._surplus and not self.last:
            if answer.paused:
                answer.paused = False
                self._transport.resume_reading()
            self.reused = True
            self._owner.release(self)
        else:
            self.abort()
        answer.complete()

    def _close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._wake_writer()
        self._owner.lost(self)

    def _bad(self, why: str) -> BadAnswer:
        return BadAnswer(self.name, f"not an answer we accept: {why}")
