"""One request of a connection and its answer, as ASGI has them: `receive` and `send`.

Two keys beyond ASGI: a start that brings its `body` is a whole answer, one message and one write; its `lines`
are header lines that are rendered already. How long a client kept us waiting stands in the scope once it has: seconds
until its body was here (`gateway.awaited`), and in which it did not take its answer (`gateway.unread`). Header names
and values are trusted: they come from the parser or from `edge.reply`, which let no control character through.
"""

import asyncio
import http
import logging
from collections.abc import Awaitable, Iterable
from time import perf_counter
from typing import Any, Protocol

from gateway.edge.asgi import App, Message, Scope
from gateway.edge.common import Common

LINGER = 1.0  # seconds that a client whose last answer is there may go on sending
MOST_UNREAD = 64 << 10  # bytes of a body that wait for the application before the socket is no longer read

Header = tuple[bytes, bytes]

_LOG = logging.getLogger("gateway.edge")
_FAULT = b"Internal Server Error"
_BODILESS = frozenset({204, 304})


def status_line(status: int) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


_STATUS_LINES = {status: status_line(status) for status in range(100, 600)}


class Line(Protocol):
    """The connection a request came over."""

    transport: Any  # uvloop's transports are no subclass of asyncio.Transport
    common: Common
    writable: "asyncio.Future[None] | None"  # set while the client does not read

    def read_on(self) -> None: ...

    def read_no_more(self) -> None: ...

    def linger(self) -> None:
        """Close, but not at once."""
        ...

    def close(self) -> None: ...

    def answered(self, cycle: "Cycle") -> None: ...


class Unheard:
    """A parser for what a client still says after its last answer."""

    def feed_data(self, data: bytes) -> None: ...


class Cycle:
    __slots__ = (
        "_body", "_chunked", "_invited", "_left", "_line", "_loop", "_told", "_until_close", "_waiter",
        "complete", "gone", "keep_alive", "more_body", "scope", "started",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        line: Line,
        scope: Scope,
        *,
        keep_alive: bool,
        body: bytes | None = None,
    ) -> None:
        """`body` is the whole one, where it is here already."""
        self.scope = scope
        self.keep_alive = keep_alive
        self.more_body = body is None
        self.started = self.complete = False  # of the answer
        self.gone = False  # the client
        self._loop, self._line = loop, line
        self._invited = False  # a client that waits for our word has had it
        self._body = body or b""
        self._told = False  # the end of the body has been handed over
        self._waiter: asyncio.Future[None] | None = None
        self._chunked = self._until_close = False
        self._left = 0  # bytes of the announced length that are still to come

    async def run(self, app: App) -> None:
        """Whatever the application does, its client is not left waiting."""
        try:
            await app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            self._fail()
        except Exception as error:
            _LOG.error("the application failed", exc_info=error)
            self._fail()
        else:
            # What the application itself has cut off is finished: there is no more to be said.
            if not (self.complete or self.gone or self._line.transport.is_closing()):
                _LOG.error("the application left its answer unfinished")
                self._fail()

    # the application's side

    async def receive(self) -> Message:
        """The body as far as it has come; then the news that the client has left or been answered."""
        while not (self.gone or self.complete):
            if self._body or not (self.more_body or self._told):
                body, self._body = self._body, b""
                self._told = not self.more_body
                return {"type": "http.request", "body": body, "more_body": self.more_body}
            if not self._invited:
                self._invite()
            self._line.read_on()
            self._waiter = self._loop.create_future()
            await self._timed("gateway.awaited", self._waiter)
        return {"type": "http.disconnect"}

    async def _timed(self, name: str, client: Awaitable[None]) -> None:
        before = perf_counter()
        try:
            await client
        finally:
            self.scope[name] = self.scope.get(name, 0.0) + perf_counter() - before

    def _invite(self) -> None:
        self._invited = True
        expected = [value.lower() for name, value in self.scope["headers"] if name == b"expect"]
        if b"100-continue" in expected and self.more_body and not self.started:
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def send(self, message: Message) -> None:
        while (writable := self._line.writable) is not None and not self.gone:
            await self._timed("gateway.unread", asyncio.shield(writable))
        if self.gone:
            return
        if not self.started:
            status, headers = message["status"], message.get("headers", ())
            lines = message.get("lines", b"")
            if "body" in message:
                self.whole(status, headers, message["body"], lines)
            else:
                self._start(status, headers, lines)
        elif self.complete:
            raise RuntimeError("the answer has ended already")
        else:
            self._send_body(message.get("body", b""), more=message.get("more_body", False))

    def whole(self, status: int, headers: Iterable[Header], body: bytes, lines: bytes = b"") -> None:
        """`headers` say nothing of length and connection."""
        self.started = True
        parts = [_STATUS_LINES[status], self._line.common.default_lines()]
        parts += [b"%b: %b\r\n" % pair for pair in headers]
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"%bcontent-length: %d\r\n\r\n" % (lines, len(body)))
        if self.scope["method"] != "HEAD":
            parts.append(body)
        self._write(b"".join(parts))
        self._complete()

    def _start(self, status: int, headers: Iterable[Header], lines: bytes) -> None:
        self.started = True
        parts = [_STATUS_LINES[status], self._line.common.default_lines()]
        sized = False
        for name, value in headers:
            if name == b"connection" and value.lower() == b"close":
                self.keep_alive = False  # which is said below
                continue
            parts.append(b"%b: %b\r\n" % (name, value))
            if name == b"content-length":
                sized, self._left = True, int(value)
        if not sized and self.scope["method"] != "HEAD" and status not in _BODILESS:
            # HTTP/1.0 knows no chunks: the end of the connection is the end of the answer.
            self._until_close = self.scope["http_version"] == "1.0"
            self._chunked = not self._until_close
            if self._chunked:
                parts.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(lines + b"\r\n")
        self._write(b"".join(parts))

    def _send_body(self, body: bytes, *, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            body, self._left = b"", 0
        elif self._chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if not more:
                body += b"0\r\n\r\n"
        elif not self._until_close:
            self._left -= len(body)
        if self._left < 0 or (self._left and not more):
            raise RuntimeError("the answer's body is not of the length announced")
        if body:
            self._write(body)
        if not more:
            self._complete()

    def _write(self, data: bytes) -> None:
        self._line.common.outbox.write(self._line.transport, data)

    def _complete(self) -> None:
        self.complete = True
        self._wake()
        if not self.keep_alive:
            self._line.linger() if self.more_body else self._line.close()
        self._line.answered(self)

    def _fail(self) -> None:
        if self.complete or self.gone:
            return
        self.keep_alive = False
        if self.started:
            self._line.transport.abort()  # the framing says that it is cut
        else:
            self.whole(500, [(b"content-type", b"text/plain; charset=utf-8")], _FAULT)

    # the connection's side

    def take(self, body: bytes) -> None:
        """One more piece of the body; nobody wants it once the answer is complete."""
        if self.complete:
            return
        self._body = self._body + body if self._body else body
        if len(self._body) > MOST_UNREAD:
            self._line.read_no_more()
        self._wake()

    def end_body(self) -> None:
        self.more_body = False
        self._wake()

    def is_alone(self) -> bool:
        """Whether what comes over the connection is still this request, and nothing has been said to it."""
        return self.more_body and not self.started

    def leave(self) -> None:
        """The client is gone."""
        self.gone = True
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
