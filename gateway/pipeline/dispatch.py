"""One request to one target, and what its answer is taken for: one that goes to the client, or a setback.

status >= 400                  -> a setback, in the provider's own words where it has some that can be shown
a stream                       -> answered once its first event is here; a setback where that is an error
whole, with an answer in it    -> answered
whole, with an error in it     -> a setback, whatever its status
of the other kind than asked   -> told as the client waits for it, where its format can be; else no answer
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil

from gateway.config.course import Prepared
from gateway.config.snapshot import Timeouts
from gateway.core.exchange import Attempt, Exchange, Headers
from gateway.core.failure import Failure
from gateway.pipeline.head import (
    crossed,
    elsewhere,
    is_other,
    misread,
    packing,
    request_id,
    reset_seconds,
    streams,
)
from gateway.pipeline.relay import Answered, shown
from gateway.pipeline.setback import (
    JSON,
    Setback,
    in_our_words,
    is_sensible,
    of_body,
    of_events,
    of_said,
    retry_after_seconds,
    retry_delay,
)
from gateway.providers.registry import PROVIDERS
from gateway.upstream.client import Answer, Timing, Upstream
from gateway.upstream.credentials import Credentials
from gateway.upstream.failures import BadAnswer, TimedOut
from gateway.wire.base import Asked, Tap, Way
from gateway.wire.crossing import Crossing, CrossingTap
from gateway.wire.raw import Raw
from gateway.wire.reason import is_framed, title, unframed
from gateway.wire.registry import retold

ERROR_BODY = 1 << 20  # bytes of a provider's error that are read
WHOLE_BODY = 64 << 20  # bytes of an answer that is not streamed

_MOVED = "it answered {}, a redirect; these are not followed: set its address to where that leads"
_NO_EVENT = "the stream ended before its first event"


Tracing = Callable[[Exchange, Attempt], Headers]  # the headers that carry a trace on


@dataclass(slots=True, frozen=True)
class Dispatch:
    """The rooms that a request passes, joined by the builder."""

    upstream: Upstream
    credentials: Credentials
    tracing: Tracing
    clock: Callable[[], float]

    async def ask(
        self, exchange: Exchange, timeouts: Timeouts, attempt: Attempt, prepared: Prepared, key: int
    ) -> Answered | Setback:
        """`key` is the place of the provider's key that is shown. Raises UpstreamError, BadStream, and Overloaded where
        we can open no connection ourselves."""
        call, target, way = exchange.call, attempt.target, prepared.way
        provider = PROVIDERS[target.kind]
        tracing = self.tracing(exchange, attempt)
        wire = provider.request(target, call, way.name, prepared.body, tracing, key)
        if (source := provider.source(target.facts)) is not None:
            credentials = self.credentials
            wire = credentials.current(source, wire) or await credentials.wait(source, wire)
            attempt.shown = credentials.number(source)
        asked = Asked(
            call.payload,
            exchange.usage,
            prepared.asks_usage,
            exchange.shape.choices,
            int(exchange.wall_time),
            exchange.id,
            exchange.request_id,
            call.model if target.model not in ("", call.model) else "",
        )
        held = call.dialect != Raw.name
        # What is not streamed has the clock of the whole call alone, which `Watch` keeps already.
        first_byte = timeouts.first_token if call.stream else None
        timing = Timing(timeouts.connect, first_byte, timeouts.idle if call.stream or not held else None)
        answer = await self.upstream.send(
            wire.origin,
            wire.head,
            wire.body,
            timing,
            whole=held and not call.stream,
            length=wire.length,
            progress=attempt,
        )
        attempt.first_byte = self.clock()
        attempt.status = answer.status
        attempt.request_id = request_id(answer.headers)
        try:
            return await self._take(exchange, timeouts, attempt, answer, way, asked)
        except BaseException:
            answer.close()
            raise

    async def renew(self, exchange: Exchange, attempt: Attempt) -> bool:
        """Whether the provider that has just refused a credential that can be renewed can be shown another one."""
        source = PROVIDERS[attempt.target.kind].source(attempt.target.facts)
        if source is None:
            return False
        before = self.clock()
        renewed = await self.credentials.renew(source, attempt.shown)
        exchange.waited += self.clock() - before
        return renewed

    async def _take(
        self, exchange: Exchange, timeouts: Timeouts, attempt: Attempt, answer: Answer, way: Way, asked: Asked
    ) -> Answered | Setback:
        """What the answer's head says is to be done with its body."""
        call, target = exchange.call, attempt.target
        headers = crossed(call, answer, way) if way.crosses else answer.headers
        if answer.status >= 400:
            return await self._refused(exchange, attempt, answer, way, headers)
        if answer.status >= 300 and (place := elsewhere(answer.headers)):
            raise BadAnswer(f"{target.name} (redirected to {place})", _MOVED.format(answer.status))
        streamed = streams(call, answer, way)
        other = is_other(call, streamed)
        if other and not isinstance(way, Crossing) and (retelling := retold(call.dialect)):
            tap, headers = retelling.tap(asked), crossed(call, answer, retelling)
        else:
            tap = way.tap(asked)
        answered = Answered(target, attempt, answer.status, headers)
        if streamed:
            if other:
                return await _as_a_whole(exchange, answered, answer, tap)
            answered.answer, answered.tap, answered.is_watched = answer, tap, True
            return await self._first_event(answered, timeouts.first_token)
        if call.dialect != Raw.name:
            answered.body = answer.at_hand() or await answer.body(WHOLE_BODY)
            if other:
                return _as_a_stream(answered, answer, tap, way)
            answered.body = shown(target, tap, tap.whole(answered.body) or answered.body)
            exchange.finish_reason = tap.finish_reason
            return _error_of_body(answered, answer, way) if tap.failed else answered
        answered.answer, answered.tap = answer, tap
        return answered

    async def _refused(
        self, exchange: Exchange, attempt: Attempt, answer: Answer, way: Way, headers: Mapping[bytes, bytes]
    ) -> Setback:
        """The provider's own error without our credentials, with when to come back wherever it says so."""
        provider, facts = PROVIDERS[attempt.target.kind], attempt.target.facts
        body = provider.mask(facts, await answer.body(ERROR_BODY))
        if is_framed(body):
            body, headers = unframed(body), {**headers, **JSON}
        status = provider.status(answer.status, body)
        failure = provider.classify(status, body)
        message = in_our_words(answer, status, body)
        if message:
            attempt.why = title(body)
        told = b"" if message else way.refusal(status, body)
        headers = {name: value for name, value in headers.items() if is_sensible(name, value)}
        wait = retry_after_seconds(answer, exchange.wall_time + self.clock() - exchange.arrived)
        if wait is None:
            wait = retry_delay(body)
            if wait is None and failure is Failure.THROTTLED:
                wait = reset_seconds(answer.headers)
            if wait is not None:  # clients look for it in the head
                headers[b"retry-after"] = b"%d" % ceil(wait)
        return Setback(failure, message, status, headers, told, wait)

    async def _first_event(self, answered: Answered, seconds: float) -> Answered | Setback:
        """Nothing is owed to the client until a stream has spoken: wait for its first event, `seconds` from when the
        attempt began."""
        answer, tap, clock = answered.answer, answered.tap, self.clock
        assert answer is not None
        assert tap is not None
        deadline = answered.attempt.started + seconds
        while not tap.begun:
            left = deadline - clock()
            if left <= 0:
                why = f"no first event within {seconds:g} s"
                raise TimedOut(answered.target.name, why, phase="first event")
            chunk = await answer.chunk(left)
            answered.over = not chunk
            block = tap.feed(chunk) if chunk else tap.rest()
            if block:
                answered.first.append(block)
            if tap.failed:
                answer.close()
                return _error_of_stream(answered, tap)
            if (tap.finished or not chunk) and not tap.begun:
                why = misread(answer.status, answer.headers) if packing(answer.headers) else _NO_EVENT
                raise BadAnswer(answered.target.name, why)
        return answered


async def _as_a_whole(exchange: Exchange, answered: Answered, answer: Answer, tap: Tap) -> Answered | Setback:
    """Of a stream that answers a call for none: its client waits for one body. Raises BadAnswer where there is no
    telling it so."""
    if not isinstance(tap, CrossingTap):
        raise BadAnswer(answered.target.name, "it answered a call for no stream with one")
    answered.body = tap.whole_of(answer.at_hand() or await answer.body(WHOLE_BODY))
    exchange.finish_reason = tap.finish_reason
    return _error_of_stream(answered, tap) if tap.failed else answered


def _as_a_stream(answered: Answered, answer: Answer, tap: Tap, way: Way) -> Answered | Setback:
    """Of a whole answer to a call for a stream: its client waits for events, and would read nothing else. Raises
    BadAnswer likewise."""
    told = tap.streamed(answered.body) if isinstance(tap, CrossingTap) else None
    if told is None:
        return _error_of_body(answered, answer, way)
    answered.answer, answered.tap, answered.body = answer, tap, b""
    answered.first, answered.is_watched, answered.over = [told], True, True
    return answered


def _error_of_stream(answered: Answered, tap: Tap) -> Setback:
    """Of a stream that begins with one: nothing has gone to the client yet."""
    provider, facts = PROVIDERS[answered.target.kind], answered.target.facts
    if isinstance(tap, CrossingTap):
        return of_said(tap.error, provider.classify, lambda status: provider.mask(facts, tap.refusal(status)))
    return of_events(provider.mask(facts, b"".join(answered.first)), provider.classify)


def _error_of_body(answered: Answered, answer: Answer, way: Way) -> Setback:
    """Of a whole answer that is none. Raises BadAnswer where it does not say why."""
    target = answered.target
    provider = PROVIDERS[target.kind]
    body = provider.mask(target.facts, unframed(answered.body))
    if came := of_body(body, provider.classify, lambda status: way.refusal(status, body)):
        return came
    raise BadAnswer(target.name, misread(answer.status, answer.headers))
