"""One client connection: strict HTTP/1.1 by httptools, requests answered one at a time and in their order.

The application sees a client leave through `scope["gateway.hangup"]`, a callable it may set: no task has to
wait on `receive()` for it, for plain calls as for streams. `scope["gateway.task"]` is the task that serves the
request, `scope["gateway.abort"]` cuts the connection. Where the client asks for another protocol,
`scope["gateway.upgrade"]` hands the connection over. `scope["gateway.body"]` is the body of a request that came in
one piece, where that is known: it need not be awaited.

It is what uvicorn's server asks of a protocol, and not uvicorn's own: that one cannot tell of hang-ups, bounds
neither the size nor the time of a head, and costs twice as much per call.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.edge.asgi import address, http_scope
from gateway.edge.common import common
from gateway.edge.cycle import LINGER, Cycle, Header, Unheard, status_line
from gateway.edge.inflow import Inflow
from gateway.edge.repeats import Known, known
from gateway.edge.unread import Unread
from gateway.edge.upgrade import asks_for_websocket, head_of_body

MOST_HEAD = 64 << 10  # bytes of request line and headers, as OpenAI asks of its clients
LEARNS = 4  # heads of a connection that are remembered until one comes again
MOST_PIPELINED = 16  # requests that may wait for the answers before them
READ_AHEAD = 4  # requests that are read before the first is answered: who is not read is not seen to leave
LAST_CALL = 0.05  # seconds that an idle connection stays when the server ends: a request may be on its way

_END = b"content-length: 0\r\nconnection: close\r\n\r\n"
_MALFORMED, _TOO_LARGE = status_line(400) + _END, status_line(431) + _END
Successor = TypeVar("Successor", bound=asyncio.Protocol)
_NOWHERE: deque[Header] = deque(maxlen=0)


class Connection(asyncio.Protocol):
    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """As uvicorn calls it."""
        self.transport: Any = None
        self.writable: asyncio.Future[None] | None = None
        self._app, self._state = config.loaded_app, server_state
        self._keep_alive = config.timeout_keep_alive
        self._loop = _loop or asyncio.get_running_loop()
        self.common = common(self._loop, server_state, app_state)
        self._parser: Any = httptools.HttpRequestParser(self)
        # What follows a request that asks for a close is left unread, not refused.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._peers: dict[str, Any] = {}  # what a scope says of both ends
        self._cycles: deque[Cycle] = deque()  # requests not yet answered, pipelined ones too
        self._cycle: Cycle | None = None  # whose body is being read
        self._reads = True
        self._ends = False  # the next answer is the last
        self._head_bytes = 0
        self._head_since = 0.0  # when an incomplete head began to arrive; 0: none is under way
        self._last_data = self._loop.time()
        self._idle_since = 0.0  # the end of the last answer
        self._known: Known | None = None  # the last head
        self._learns = LEARNS
        # of the head that is being read
        self._url = b""
        self._headers: list[Header] | deque[Header] = []
        self._is_primed = False  # the parser is told of a head that it has not seen
        self._inflow, self._unread = Inflow(), Unread()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.set_write_buffer_limits(high=0)  # what a client does not take yet is waited for
        self._state.connections.add(self)  # type: ignore[arg-type]  # uvicorn lists its own classes
        self._peers = {
            "server": address(transport.get_extra_info("sockname")),
            "client": address(transport.get_extra_info("peername")),
            "scheme": "https" if transport.get_extra_info("sslcontext") else "http",
        }

    def data_received(self, data: bytes) -> None:
        self._last_data = self._loop.time()
        # Of a request that was answered before its end, what follows is still the body.
        is_fresh = not (self._cycles or self._head_since) and (not self._cycle or not self._cycle.more_body)
        if is_fresh and self._known is not None and (again := self._known.again(data)) and not self._ends:
            self._repeat(*again)
            return
        if is_fresh or self._head_since:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(_MALFORMED)
            return
        if self._head_since and self._head_bytes > MOST_HEAD:
            self._refuse(_TOO_LARGE)
        elif is_fresh and self._learns and len(self._cycles) == 1 and self._cycles[0].keep_alive:
            self._learns -= 1
            self._known = known(data, self._cycles[0].scope) or self._known

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        self.resume_writing()
        for cycle in self._cycles:
            cycle.leave()
            hang_up: Callable[[], None] | None = cycle.scope.get("gateway.hangup")
            if hang_up is not None:
                hang_up()
        self._cycles.clear()

    def pause_writing(self) -> None:
        if self.writable is None:
            self.writable = self._loop.create_future()

    def resume_writing(self) -> None:
        writable, self.writable = self.writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    # httptools' side; an exception raised here makes the request a malformed one

    def on_message_begin(self) -> None:
        self._head_since = self._last_data
        self._url, self._headers = b"", []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._head_since, self._head_bytes = 0.0, 0
        if self._is_primed:
            self._is_primed, self._headers = False, _NOWHERE
            return
        parser = self._parser
        version = parser.get_http_version()
        scope = http_scope(parser.get_method(), self._url, version, self._headers)
        scope |= {"gateway.abort": self.transport.abort, **self._peers}
        self._inflow.begin(self._last_data)
        self._headers = _NOWHERE  # a trailer is no header: it came after who asks was decided
        stays = version == "1.1" and parser.should_keep_alive() and not self._ends
        cycle = self._cycle = Cycle(self._loop, self, scope, keep_alive=stays)
        self._cycles.append(cycle)
        if len(self._cycles) == 1:
            self._serve(cycle)
        elif len(self._cycles) > MOST_PIPELINED:
            raise ValueError("too many requests wait for the answer before them")
        elif len(self._cycles) > READ_AHEAD:
            self.read_no_more()

    def on_body(self, body: bytes) -> None:
        assert self._cycle is not None
        self._inflow.take(len(body))
        self._cycle.take(body)

    def on_message_complete(self) -> None:
        assert self._cycle is not None
        self._cycle.end_body()
        if not self._reads and len(self._cycles) == 1:
            self.read_on()  # nothing is left to hold back, and who does not read sees no hang-up

    def _repeat(self, scope: dict[str, Any], body: bytes) -> None:
        """A request whose head is the last one's."""
        self._learns = LEARNS
        scope["gateway.body"] = body
        cycle = self._cycle = Cycle(self._loop, self, scope, keep_alive=True, body=body)
        self._cycles.append(cycle)
        self._serve(cycle)

    def _go_on(self, rest: bytes) -> None:
        """A request that asks for another protocol is served as the HTTP/1.1 that it is, unless it asks for a
        WebSocket, alone, and the application takes the connection over. The parser has stopped before its body."""
        assert self._cycle is not None
        scope = self._cycle.scope
        if not rest and len(self._cycles) == 1 and asks_for_websocket(scope):
            scope["gateway.upgrade"] = self.hand_over
            return
        self._cycle.more_body = True
        self._parser, self._is_primed = httptools.HttpRequestParser(self), True
        self.data_received(head_of_body(scope) + rest)

    # the cycles' side

    def read_on(self) -> None:
        if not self._reads:
            self._reads, self._last_data = True, self._loop.time()
            self._inflow.go_on(self._last_data)
            self.transport.resume_reading()

    def read_no_more(self) -> None:
        if self._reads:
            self._reads = False
            self._inflow.hold(self._loop.time())
            self.transport.pause_reading()

    def close(self) -> None:
        """Once what was written has left."""
        self.common.outbox.flush()
        self.transport.close()

    def linger(self) -> None:
        """Let a client that still sends read its answer: a close with bytes unread would reset it away."""
        self._parser = Unheard()
        self._loop.call_later(LINGER, self.close)

    def answered(self, cycle: Cycle) -> None:
        """The next request may be served. The sweep closes idle connections: a timer for each answer would
        cost 3 us."""
        self._state.total_requests += 1
        self._idle_since = self._loop.time()
        if self._cycles:
            self._cycles.popleft()
        if self.transport.is_closing():
            return
        self.read_on()
        if self._cycles:
            self._last_data = self._idle_since
            self._inflow.begin(self._idle_since)
            self._serve(self._cycles[0])

    def hand_over(self, head: bytes, make: Callable[[ServerState], Successor]) -> Successor | None:
        """Answer with this head and leave all that follows to another protocol; None where the client is gone."""
        if self.transport.is_closing():
            return None
        self._cycles.popleft().complete = True
        self.read_on()
        self._state.connections.discard(self)
        self.common.outbox.flush()
        self.transport.write(head)
        successor = make(self._state)
        self.transport.set_protocol(successor)
        successor.connection_made(self.transport)
        if self.writable is not None:
            successor.pause_writing()
        return successor

    def _serve(self, cycle: Cycle) -> None:
        task = self._loop.create_task(cycle.run(self._app))
        cycle.scope["gateway.task"] = task
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    # the server's side

    def shutdown(self) -> None:
        """Graceful end: busy connections close after their last answer, idle ones in a moment."""
        self._ends = True
        if self._cycles:
            self._cycles[-1].keep_alive = False
        else:
            self._loop.call_later(LAST_CALL, self._close_idle)

    def _close_idle(self) -> None:
        if not (self._cycles or self._head_since):
            self.close()

    def is_stalled(self, now: float, header_timeout: float, body_timeout: float) -> bool:
        """Whether a head has been under way, a body silent or in drips, an answer not taken, or nothing asked, for
        too long."""
        if self._head_since:
            return now - self._head_since > header_timeout
        if not self._cycles:
            return now - max(self._last_data, self._idle_since) > self._keep_alive
        if self._unread.lasts(self.transport.get_write_buffer_size(), now, body_timeout):
            return True
        # A body is not missed before it is its turn: its client may wait to be invited.
        if len(self._cycles) > 1 or not (self._cycles[0].more_body and self._reads):
            return False
        return now - self._last_data > body_timeout or self._inflow.drips(now, body_timeout)

    def drop(self) -> None:
        self.transport.abort()

    def _refuse(self, answer: bytes) -> None:
        """For the request that is being read; where an earlier one waits for its answer it would be taken
        for that."""
        if not self._cycles or (len(self._cycles) == 1 and self._cycles[0].is_alone()):
            self.common.outbox.write(self.transport, answer)
            self.close()
        else:
            self.transport.abort()
