"""uvicorn with what a public door needs: hang-ups told at once, heads and bodies bounded in size and time.

The application sees a client leave through `scope["gateway.hangup"]`, a callable it may set: no task has to
wait on `receive()` for it, for plain calls as for streams.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

MOST_HEAD = 64 << 10  # bytes of request line and headers, as OpenAI asks of its clients
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
SWEEP = 1.0  # seconds between looks at slow clients


class Cycle(RequestResponseCycle):
    """One request and its answer. uvicorn matches every name and value of a head against an expression first
    (12 us for 18 headers); ours come from httptools or from `edge.reply`, which let no control character
    through. A start that brings its `body` is a whole answer: one message, one write."""

    told = False  # a body that had come whole has been handed over

    async def send(self, message: Any) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if not self.response_started:
            if "body" in message:
                self._whole(message["status"], message["headers"], message["body"])
            else:
                self._start(message)
        elif self.response_complete:
            raise RuntimeError("the answer has ended already")
        else:
            self._body(message.get("body", b""), more=message.get("more_body", False))

    async def receive(self) -> Any:
        if self.told or self.more_body or self.response_complete or self.disconnected:
            return await super().receive()
        # All of it is here already: the next thing to be told is that the client has left.
        self.told = True
        self.message_event.clear()
        body, self.body = self.body, bytearray()
        return {"type": "http.request", "body": bytes(body), "more_body": False}

    def _whole(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        """`headers` say nothing of length and connection."""
        self.response_started = True
        self.waiting_for_100_continue = False
        parts = [STATUS_LINE[status]]
        parts += [b"%b: %b\r\n" % pair for pair in self.default_headers]
        parts += [b"%b: %b\r\n" % pair for pair in headers]
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"content-length: %d\r\n\r\n" % len(body))
        if self.scope["method"] != "HEAD":
            parts.append(body)
        self.transport.write(b"".join(parts))
        self._complete()

    def _start(self, message: Any) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        parts, headers = [STATUS_LINE[message["status"]]], [*self.default_headers, *message["headers"]]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        self._frame(dict(headers), message["status"], parts)
        parts.append(b"\r\n")
        self.transport.write(b"".join(parts))

    def _body(self, body: bytes, *, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            body, self.expected_content_length = b"", 0
        elif self.chunked_encoding:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if not more:
                body += b"0\r\n\r\n"
        else:
            self.expected_content_length -= len(body)
        left = self.expected_content_length
        if left < 0 or (left and not more):
            raise RuntimeError("the answer's body is not of the length announced")
        if body:
            self.transport.write(body)
        if not more:
            self._complete()

    def _complete(self) -> None:
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def _frame(self, headers: dict[bytes, bytes], status: int, parts: list[bytes]) -> None:
        """Decide how the body is framed and whether the connection stays."""
        if b"content-length" in headers:
            self.expected_content_length = int(headers[b"content-length"])
            self.chunked_encoding = False
        elif self.scope["method"] != "HEAD" and status not in (204, 304):
            self.chunked_encoding = True
            parts.append(b"transfer-encoding: chunked\r\n")
        if b"connection" in headers:
            self.keep_alive = self.keep_alive and headers[b"connection"].lower() != b"close"
        elif not self.keep_alive:
            parts.append(b"connection: close\r\n")


class Protocol(HttpToolsProtocol):
    """One client connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cycles: deque[RequestResponseCycle] = deque()  # requests not yet answered, pipelined ones too
        self._head_bytes = 0
        self._head_since = 0.0  # when an incomplete head began to arrive; 0: none is under way
        self._last_data = self.loop.time()
        self._idle_since = 0.0  # the end of the last answer

    def data_received(self, data: bytes) -> None:
        self._last_data = self.loop.time()
        if self._head_since or not self._cycles:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_since and self._head_bytes > MOST_HEAD:
            self._refuse(_TOO_LARGE)

    def on_message_begin(self) -> None:
        self._head_since = self._last_data
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_since, self._head_bytes = 0.0, 0
        if self.url[:1] != b"/" or b"#" in self.url:
            # Absolute-form targets name a host of their own: two truths about where the call goes.
            raise ValueError("the request target must begin with /")
        super().on_headers_complete()
        self.cycle.__class__ = Cycle  # uvicorn names the class it makes; the task has not run yet
        self._cycles.append(self.cycle)
        self.scope["gateway.abort"] = self.transport.abort  # type: ignore[typeddict-unknown-key]

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """uvicorn's, but that the application can see its task: `scope["gateway.task"]`."""
        task = self.loop.create_task(cycle.run_asgi(app))
        cycle.scope["gateway.task"] = task  # type: ignore[typeddict-unknown-key]
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def on_response_complete(self) -> None:
        """uvicorn's, but that the sweep closes idle connections: a timer for each answer would cost 3 us."""
        if self._cycles:
            self._cycles.popleft()
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for cycle in self._cycles:
            hang_up = cast("Callable[[], None] | None", cycle.scope.get("gateway.hangup"))
            if hang_up is not None:
                hang_up()
        self._cycles.clear()

    def shutdown(self) -> None:
        """Graceful end: idle connections close now, busy ones after their last answer."""
        if self._cycles:
            for cycle in self._cycles:
                cycle.keep_alive = False
        else:
            self.transport.close()

    def is_stalled(self, now: float, header_timeout: float, body_timeout: float) -> bool:
        """Whether a head has been under way, a body silent, or nothing asked, for too long."""
        if self._head_since:
            return now - self._head_since > header_timeout
        if not self._cycles:
            return now - max(self._last_data, self._idle_since) > self.timeout_keep_alive
        waiting = bool(self._cycles) and self._cycles[-1].more_body and not self.flow.read_paused
        return waiting and now - self._last_data > body_timeout

    def drop(self) -> None:
        self.transport.abort()

    def _refuse(self, answer: bytes) -> None:
        self.transport.write(answer)
        self.transport.close()


class Server(uvicorn.Server):
    """One listening port. Signals are the builder's business: two servers share a process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def sweep(self, header_timeout: float, body_timeout: float) -> None:
        """Drop clients that stall; runs until cancelled. One look at all of them a second costs less than
        a timer for each."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP)
            now = loop.time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Protocol) and connection.is_stalled(
                    now, header_timeout, body_timeout
                ):
                    connection.drop()


def server(app: Any, keep_alive: float, drain: float) -> Server:
    """A server for `app` on sockets that are bound already."""
    config = uvicorn.Config(
        app,
        http=Protocol,
        interface="asgi3",
        ws="none",
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(keep_alive),
        timeout_graceful_shutdown=int(drain) or 1,
        backlog=4096,
    )
    return Server(config)
