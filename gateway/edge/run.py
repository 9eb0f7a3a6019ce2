"""One response that is made in the background: what it has told so far, and how it ended."""

import asyncio
from collections.abc import AsyncIterator

import orjson

from gateway.core.exchange import Exchange, Reply
from gateway.core.failure import GatewayError
from gateway.edge.asgi import Scope
from gateway.wire import sse
from gateway.wire.envelope import render
from gateway.wire.fields import loaded
from gateway.wire.responses.dialect import last_response
from gateway.wire.responses.events import tell
from gateway.wire.responses.resource import failed, resource
from gateway.wire.responses.words import OURS, PENDING
from gateway.wire.sides import Json


class Run:
    """`response` is the last that is known of it. `refusal` is what the provider or the gateway said instead of
    beginning. Events are kept where its client asked for a stream."""

    def __init__(self, exchange: Exchange, *, streams: bool) -> None:
        self.exchange, self.streams = exchange, streams
        self.response: Json = {"id": OURS + exchange.id, "status": "queued"}
        self.refusal: Reply | GatewayError | None = None
        self.scope: Scope = {}  # of the call that it is
        self.turned = asyncio.Event()  # it has begun, or was refused
        self.decided = asyncio.Event()  # its call has been answered
        self.over = asyncio.Event()  # nothing more will be told
        self.is_cancelled = False
        self.events: list[bytes] = []
        self.noted, self.shown = 0, ""  # the events, and the state, that every worker can read
        self._news = asyncio.Event()

    @property
    def id(self) -> str:
        return OURS + self.exchange.id

    @property
    def team(self) -> str:
        return self.exchange.caller.team

    def describe(self) -> None:
        """All that is told of a response, once the call is known to be a good one."""
        whole = resource(self.exchange.call.payload, int(self.exchange.wall_time), self.exchange.id)
        self.response = {**whole, **self.response}

    async def take(self, reply: Reply) -> None:
        """The answer of a provider. Raises what its stream raises."""
        if reply.status >= 300:
            self.refuse(reply)
            return
        self.response = {**self.response, "status": "in_progress"}
        self.turned.set()
        assert not isinstance(reply.body, bytes), "a crossing streams where it was asked to"
        async for block in reply.body:
            self.response = last_response(block) or self.response
            if self.streams:
                self.events += sse.events(block)
                self._tell()

    def refuse(self, why: Reply | GatewayError) -> None:
        if not self.turned.is_set():
            self.refusal = why
            self.turned.set()
        if isinstance(why, Reply):
            error = loaded(why.body if isinstance(why.body, bytes) else b"").get("error")
            status = why.status
        else:
            error, status = orjson.loads(render(why))["error"], why.status
        said = error.get("message") if isinstance(error, dict) else error
        self.fail(str(said or "the provider gave no reason"), throttled=status == 429)

    def fail(self, message: str, *, throttled: bool = False) -> None:
        """What has ended stays as it is."""
        if self.is_going:
            self._end_as(failed(self.response, message, throttled=throttled))

    def cancel(self) -> None:
        self._end_as({**self.response, "status": "cancelled"})

    @property
    def is_going(self) -> bool:
        return self.response["status"] in PENDING

    def end(self) -> None:
        self.over.set()
        self._tell()

    async def told(self, since: int) -> AsyncIterator[bytes]:
        """Its events from number `since` on, as they come; the last one once all can read how it ended."""
        while True:
            news, going = self._news, not self.over.is_set()
            held = len(self.events) - (going and not self.is_going)
            for event in self.events[since:held]:
                since += 1
                yield event
            if not going:
                return
            await news.wait()

    def _end_as(self, response: Json) -> None:
        self.response = response
        if self.streams:
            self.events.append(ending(response, len(self.events)))
            self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


def ending(response: Json, number: int) -> bytes:
    """The last event of a response that was not told to its end."""
    status = response["status"]
    return tell(f"response.{'failed' if status == 'cancelled' else status}", number, response=response)
