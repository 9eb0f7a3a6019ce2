"""What every data route shares: who asks, the record of the call, the way in and every way out."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

from gateway.config.policies import Policies
from gateway.config.snapshot import Lane, Snapshot
from gateway.core.exchange import Call, Caller, Exchange, Reply, Trace, new_id
from gateway.core.failure import BadRequest, GatewayError, Overloaded
from gateway.core.head import Head
from gateway.core.meters import Meters
from gateway.edge.asgi import App, Receive, Scope, Send
from gateway.edge.bodies import Bodies
from gateway.edge.body import ClientLeft, check_head, read_body
from gateway.edge.reply import Writer, request_id_of
from gateway.pipeline.identify import Identify
from gateway.pipeline.relay import KEEP_ALIVE
from gateway.pipeline.serve import Deliver, Pipeline
from gateway.pipeline.watch import Watch

NUDGE_AFTER = 15.0  # seconds of silence after which a stream gets a comment: proxies cut at 60 and less
LAST_WORD = 2.0  # seconds that a client has to take it
LONGEST = 86400.0  # seconds that a client may ask us to wait


class Telemetry(Protocol):
    def sample(self, traceparent: bytes | None, tracestate: bytes | None) -> Trace | None: ...

    def refused(self, route: str, error: GatewayError, request_id: str, caller: Caller | None) -> None: ...


@dataclass(slots=True, frozen=True)
class Bounds:
    """Sizes in bytes, counts of calls."""

    body: int
    file: int
    bodies: int
    in_flight: int


class Dependencies(NamedTuple):
    """What the reception needs from below, joined by the builder."""

    policies: Policies
    identify: Identify
    pipeline: Pipeline
    telemetry: Telemetry
    meters: Meters
    wall_clock: Callable[[], float]
    log: Callable[..., None]


@dataclass(slots=True)
class Visit:
    """One request, before and while it is a call."""

    scope: Scope
    receive: Receive
    head: Head
    writer: Writer
    id: str
    arrived: float
    snapshot: Snapshot
    caller: Caller
    held: int = 0  # bytes of its body for which room was taken


Handle = Callable[[Visit], Awaitable[None]]


class Reception:
    """Counts who is inside, refuses when full, and turns whatever goes wrong into an answer."""

    def __init__(self, below: Dependencies, bounds: Bounds) -> None:
        self.policies, self.pipeline, self.bounds = below.policies, below.pipeline, bounds
        self._identify, self._telemetry, self._meters = below.identify, below.telemetry, below.meters
        self._clock, self.now, self.log = below.pipeline.clock, below.wall_clock, below.log
        self._bodies = Bodies(bounds.bodies, bounds.body)
        self._streams: set[Writer] = set()
        self.in_flight = 0
        below.meters.in_flight.source = lambda: [((), float(self.in_flight))]

    def route(self, name: str, handle: Handle) -> App:
        """An ASGI application for one labelled route; `handle` gets callers that are known."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            head: Head = scope["gateway.head"]
            ours = new_id(self.now())
            request_id = request_id_of(head, ours) if b"x-request-id" in head else ours
            writer = Writer(send, scope, request_id, self._clock)
            self.in_flight += 1
            visit = None  # while it is not known who asks
            try:
                arrived = self._clock()
                snapshot, caller = self._who(head)
                visit = Visit(scope, receive, head, writer, ours, arrived, snapshot, caller)
                await handle(visit)
            except GatewayError as error:
                self._count(name, error, writer, visit)
                await self._last_word(writer, error, scope, visit)
            except ClientLeft:
                return
            except asyncio.CancelledError:
                if not _client_left(scope):
                    ending = Overloaded("the gateway is shutting down; try again")
                    await self._last_word(writer, ending, scope, visit)
            except Exception as error:  # the border of the call: a fault of ours must not take more than it
                self.log("error", f"a call failed inside the gateway: {error!r}", request_id=request_id)
                fault = GatewayError("the gateway failed; its operator has been told")
                self._count(name, fault, writer, visit)
                await self._last_word(writer, fault, scope, visit)
            finally:
                self.in_flight -= 1
                self._streams.discard(writer)
                if visit is not None and visit.held:
                    self.keep(visit, 0)

        return app

    async def read(self, visit: Visit) -> bytes:
        """The whole body of a call. Raises BodyTooLarge, UnsupportedEncoding, Overloaded, ClientLeft."""
        check_head(visit.head, self.bounds.body)
        return await read_body(visit.receive, self.bounds.body, partial(self.hold, visit))

    def hold(self, visit: Visit, size: int) -> None:
        """Take room for so many bytes more of its body, until it ends. Raises Overloaded."""
        try:
            self._bodies.hold(visit.caller.team, size)
        except Overloaded:
            self._meters.admission.add(("bodies",))
            raise
        visit.held += size

    def keep(self, visit: Visit, size: int) -> None:
        """Have room for so many bytes in all. Raises Overloaded for more than it has where there is none."""
        more = size - visit.held
        if more > 0:
            self.hold(visit, more)
        elif more < 0:
            self._bodies.let_go(visit.caller.team, -more)
            visit.held = size

    def _count(self, name: str, error: GatewayError, writer: Writer, visit: Visit | None) -> None:
        """A call that never reached the corridor, which records all others."""
        if writer.exchange is None or not writer.exchange.ended:
            self._telemetry.refused(name, error, writer.request_id, visit.caller if visit else None)

    def _who(self, head: Head) -> tuple[Snapshot, Caller]:
        if self.in_flight > self.bounds.in_flight:
            self._meters.admission.add(("in_flight",))
            raise Overloaded("the gateway serves as many calls as it may; try again in a second")
        snapshot = self.policies.snapshot  # read once: a reload never splits a call
        return snapshot, self._identify.caller(snapshot, head)

    def exchange(self, visit: Visit, call: Call) -> Exchange:
        """The record of a call whose caller is known."""
        trace = self._telemetry.sample(visit.head.get(b"traceparent"), visit.head.get(b"tracestate"))
        exchange = Exchange(
            visit.id, call, visit.caller, visit.writer.request_id, visit.arrived, self.now(), trace=trace
        )
        exchange.policies = visit.snapshot.version
        exchange.idled = visit.scope.get("gateway.awaited", 0.0)
        visit.writer.exchange = exchange
        return exchange

    def serve(
        self, visit: Visit, exchange: Exchange, lane: Lane, deliver: Deliver | None = None
    ) -> Awaitable[None]:
        """Walk the corridor, watched: a client that hangs up ends the call at once."""
        scope, head = visit.scope, visit.head
        watch = Watch(scope["gateway.task"], time_limit(head) if b"x-gateway-timeout" in head else None)
        scope["gateway.watch"] = watch
        scope["gateway.hangup"] = watch.hang_up
        if exchange.call.stream:
            self._streams.add(visit.writer)
        return self.pipeline.serve(exchange, lane, watch, deliver or visit.writer.deliver)

    async def answer(self, visit: Visit, call: Call, reply: Reply) -> None:
        """Say what the house itself knows: no provider is asked."""
        exchange = self.exchange(visit, call)
        exchange.status = reply.status
        if reply.keep_alive:
            self._streams.add(visit.writer)
        try:
            await visit.writer.deliver(reply)
        finally:
            exchange.ended = self._clock()
            self.pipeline.recorder.record(exchange, b"")

    async def keep_streams_alive(self) -> None:
        """Write a comment to streams that have been silent for a while; runs until cancelled."""
        while True:
            await asyncio.sleep(NUDGE_AFTER / 3)
            now = self._clock()
            silent = [one for one in self._streams if one.last and now - one.last > NUDGE_AFTER]
            await asyncio.gather(*(self._nudge(writer) for writer in silent))

    async def _nudge(self, writer: Writer) -> None:
        """All that are silent have their turn at once: none waits for one that does not read, and none is told
        anything when its turn finds it ended, or at a word."""
        if writer not in self._streams or not writer.last:
            return
        writer.last = self._clock()
        try:
            async with asyncio.timeout(0.05):  # a client that does not read is not worth waiting for
                await writer.nudge(KEEP_ALIVE)
        except TimeoutError:
            return
        except Exception as error:  # the border of a client
            message = f"a silent stream could not be kept open: {error!r}"
            self.log("error", message, request_id=writer.request_id)

    async def _last_word(
        self, writer: Writer, error: GatewayError, scope: Scope, visit: Visit | None
    ) -> None:
        """Tell the client what went wrong; one that does not read, or has had half an answer, is cut off."""
        told = False
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORD):
                told = await writer.fail(error, visit.snapshot.version if visit else "")
        if not told and (abort := scope.get("gateway.abort")) is not None:
            abort()


def _client_left(scope: Scope) -> bool:
    """Whether a call was cancelled because nobody is there to be told."""
    watch = scope.get("gateway.watch")
    return isinstance(watch, Watch) and watch.reason == "client"


def time_limit(head: Mapping[bytes, bytes]) -> float | None:
    """`x-gateway-timeout` in seconds; None where the client sets none. It only shortens, so that none is too long.
    Raises BadRequest."""
    raw = head.get(b"x-gateway-timeout")
    if raw is None:
        return None
    try:
        seconds = float(raw)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise BadRequest(
            "x-gateway-timeout must be a number of seconds above 0",
            code="invalid_header",
            param="x-gateway-timeout",
        )
    return min(seconds, LONGEST)
