"""Try the targets of a lane in order until one answers; decide what leads on, what ends, and when to wait.

not to be put in its words -> the next target; 400 if no other can take the call. Once one has failed, the fields that
                     are in the way are left out and named
answered          -> the reply
rejected (400 ..) -> the reply: the provider's own words; no other target would like the call better
timed out         -> the next target (a silent target is not asked twice)
refused our key   -> once more with a new one, where it can be renewed; then the next target; 502 if there is none
refused or throttled where the provider has several keys -> each of the others first
throttled, broken, unreachable -> the same target again (jitter, retry budget), then the next
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Protocol

from gateway.config.course import Course, Put, usable
from gateway.config.snapshot import Lane
from gateway.core.exchange import Attempt, Call, Exchange, Headers, Target
from gateway.core.failure import (
    Failure,
    GatewayError,
    NoTarget,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
)
from gateway.core.meters import Meters
from gateway.core.usage import Usage
from gateway.pipeline.head import KEPT, crossed, is_other, request_id, reset_seconds, streams
from gateway.pipeline.relay import Answered, shown
from gateway.pipeline.setback import (
    JSON,
    Setback,
    in_our_words,
    is_back_sooner,
    is_of_key,
    is_sensible,
    leads_on,
    of_body,
    of_error,
    of_events,
    of_said,
    pause,
    retry_after_seconds,
    retry_delay,
)
from gateway.pipeline.watch import overran
from gateway.policy.base import Dice
from gateway.providers.registry import PROVIDERS
from gateway.upstream.breaker import LONGEST_REST, Breaker
from gateway.upstream.budgets import RetryBudgets
from gateway.upstream.client import Answer, Timing, Upstream
from gateway.upstream.credentials import Credentials
from gateway.upstream.failures import BadAnswer, TimedOut, UpstreamError
from gateway.upstream.keyring import REFUSED, Keyring
from gateway.wire.base import Asked, Tap, Way
from gateway.wire.crossing import Crossing, CrossingTap
from gateway.wire.reason import is_framed, unframed
from gateway.wire.registry import retold
from gateway.wire.sse import BadStream

_AWAY = (503, 529)  # what a target says that is down or has too much to do
ERROR_BODY = 1 << 20  # bytes of a provider's error that are read
WHOLE_BODY = 64 << 20  # bytes of an answer that is not streamed

Clock = Callable[[], float]
Tracing = Callable[[Exchange, Attempt], Headers]  # the headers that carry a trace on


@dataclass(slots=True, frozen=True)
class Tools:
    """What attempts need from below, joined by the builder."""

    upstream: Upstream
    breaker: Breaker
    budgets: RetryBudgets
    keyring: Keyring
    meters: Meters
    clock: Clock
    dice: Dice
    tracing: Tracing
    credentials: Credentials


class Spool(Protocol):
    def begin(self, exchange: Exchange) -> None: ...


class Attempts:
    def __init__(self, tools: Tools, spool: Spool) -> None:
        self._tools = tools
        self._spool = spool

    async def run(self, exchange: Exchange, lane: Lane) -> Answered:
        """Raises NoTarget, UpstreamFailed or UpstreamTimeout when nothing answered, BadRequest where the call can be
        put to no target."""
        setback: Setback | None = None
        before: Target | None = None
        targets = usable(exchange, lane, self._tools.breaker, self._tools.dice)
        course = Course(exchange, lane, targets)
        for target, asked, last in course:
            if before is not None and setback is not None:
                self._tools.meters.fallbacks.add((before.name, target.name, setback.failure.value))
            # What has just recovered is spared for the sake of others, where there are some.
            alone = last or not self._others(exchange, targets, target)
            came = await self._at(exchange, lane, target, asked, last=alone)
            if isinstance(came, Answered):
                return came
            course.failed = True
            if came is not None:
                setback, before = came, target
                if not leads_on(lane.retry, came) or _is_spent(exchange.call):
                    break
        if setback is not None:
            return _last_word(setback, exchange.attempts[-1])
        if refused := course.refused():
            raise refused
        raise self._nobody(exchange, lane, targets)

    def _others(self, exchange: Exchange, targets: Sequence[Target], but: Target) -> bool:
        """Whether another target takes calls now, a probe included."""
        breaker, model = self._tools.breaker, exchange.call.model
        return any(breaker.usable(one.asked_name(model), one.name) for one in targets if one is not but)

    def _nobody(self, exchange: Exchange, lane: Lane, targets: Sequence[Target]) -> NoTarget:
        breaker, model = self._tools.breaker, exchange.call.model
        rests = [breaker.back(target.asked_name(model), target.name) for target in targets]
        wait = max(1.0, min((rest for rest in rests if rest is not None), default=0.0))
        message = f'no target of "{lane.model}" can take calls now; try again in {ceil(wait)} s'
        return NoTarget(message, retry_after=wait)

    async def _at(
        self, exchange: Exchange, lane: Lane, target: Target, asked: Put, *, last: bool
    ) -> Answered | Setback | None:
        """All tries at one target. None: its breaker let none through."""
        tools, tries, setback = self._tools, 0, None
        name = target.asked_name(exchange.call.model)  # by which its health is known
        keys = PROVIDERS[target.kind].keys(target.facts)
        key, *spare = tools.keyring.order(target.provider, name, keys)
        throttled, first = None, key  # of the keys that are throttled, the one that is back first
        tools.budgets.call(name)
        while tools.breaker.begin(name, target.name, last=last):
            attempt = Attempt(target, tools.clock(), asked=name)
            came = await self._try(exchange, lane, attempt, asked, key)
            if isinstance(came, Answered):
                return came
            setback = came
            if keys > 1 and is_of_key(lane.retry, came):
                is_throttled = came.failure is Failure.THROTTLED
                tools.keyring.rest(name, key, (came.retry_after or 0.0) if is_throttled else REFUSED)
                if is_throttled and is_back_sooner(came, throttled):
                    throttled, first = came, key
                if spare and not _is_spent(exchange.call):
                    tools.breaker.release(name)
                    key = spare.pop(0)
                    continue
                if throttled is not None:  # a key that is good says more of the target
                    setback = came = throttled
                    throttled, key = None, first
            tries += 1
            self._report(name, came, leads_on(lane.retry, came))
            if tries == 1 and came.status == 401 and await self._renewed(exchange):
                continue
            wait = pause(lane.retry, came, tries, tools.dice, last=last)
            if wait is None or _is_spent(exchange.call) or not tools.budgets.spend(name, lane.retry.budget):
                break
            tools.meters.retries.add((came.failure.value,))
            await asyncio.sleep(wait)
            exchange.waited += wait  # for the provider, too: it is no cost of ours
        return setback

    async def _renewed(self, exchange: Exchange) -> bool:
        """Whether the provider that has just refused a credential that can be renewed can be shown another one."""
        attempt = exchange.attempts[-1]
        source = PROVIDERS[attempt.target.kind].source(attempt.target.facts)
        if source is None or _is_spent(exchange.call):
            return False
        before = self._tools.clock()
        renewed = await self._tools.credentials.renew(source, attempt.shown)
        exchange.waited += self._tools.clock() - before
        return renewed

    async def _try(
        self, exchange: Exchange, lane: Lane, attempt: Attempt, asked: Put, key: int
    ) -> Answered | Setback:
        """One request to one target, timed and counted. The breaker is told what is no setback."""
        tools = self._tools
        if exchange.attempts:
            exchange.usage = Usage()  # what the answer before took does not count
        else:
            self._spool.begin(exchange)
        exchange.attempts.append(attempt)
        exchange.dropped = asked.dropped
        came: Answered | Setback | None = None
        unanswered = tools.breaker.release
        try:
            came = await self._ask(exchange, lane, attempt, asked, key)
        except UpstreamError as error:
            came, attempt.why = of_error(error), error.told
        except BadStream as error:
            came, attempt.why = of_error(BadAnswer(attempt.asked, str(error))), str(error)
        except asyncio.CancelledError as ended:
            # Who was asked late, or is still being told the question, is not the one that took all the time.
            had = tools.clock() - attempt.started
            if overran(ended) and not attempt.uploading and had * 2 >= lane.timeouts.total:
                unanswered = tools.breaker.fail
            raise
        finally:
            attempt.ended = tools.clock()
            exchange.waited += attempt.ended - attempt.started
            if came is None:
                attempt.result = "cancelled"
                unanswered(attempt.asked)
        if isinstance(came, Answered):
            attempt.result = "ok"
            self._begun(came)
        else:
            attempt.result = came.failure.value
            attempt.status = attempt.status or came.status
        return came

    async def _ask(
        self, exchange: Exchange, lane: Lane, attempt: Attempt, asked: Put, key: int
    ) -> Answered | Setback:
        call, target, times, way = exchange.call, attempt.target, lane.timeouts, asked.way
        provider = PROVIDERS[target.kind]
        tracing = self._tools.tracing(exchange, attempt)
        wire = provider.request(target, call, way.name, asked.body, tracing, key)
        if (source := provider.source(target.facts)) is not None:
            credentials = self._tools.credentials
            wire = credentials.current(source, wire) or await credentials.wait(source, wire)
            attempt.shown = credentials.number(source)
        known = Asked(
            call.payload,
            exchange.usage,
            asked.asks_usage,
            exchange.shape.choices,
            int(exchange.clock),
            exchange.id,
            exchange.request_id,
        )
        held = call.dialect != "openai.raw"
        # What is not streamed has the clock of the whole call alone, which `Watch` keeps already.
        first_byte = times.first_token if call.stream else None
        timing = Timing(times.connect, first_byte, times.idle if call.stream or not held else None)
        answer = await self._tools.upstream.send(
            wire.origin,
            wire.head,
            wire.body,
            timing,
            whole=held and not call.stream,
            length=wire.length,
            mark=attempt,
        )
        attempt.first_byte = self._tools.clock()
        attempt.status = answer.status
        attempt.request_id = request_id(answer.headers)
        try:
            return await self._take(exchange, lane, attempt, answer, way, known)
        except BaseException:
            answer.close()
            raise

    async def _take(
        self, exchange: Exchange, lane: Lane, attempt: Attempt, answer: Answer, way: Way, known: Asked
    ) -> Answered | Setback:
        """What the answer's head says is to be done with its body."""
        target, held = attempt.target, exchange.call.dialect != "openai.raw"
        headers = crossed(exchange.call, answer, way) if way.crosses else answer.headers
        if answer.status >= 400:
            return await self._refused(exchange, target, answer, way, headers)
        streamed = streams(exchange.call, answer, way)
        other = is_other(exchange.call, streamed)
        if other and not isinstance(way, Crossing) and (again := retold(exchange.call.dialect)):
            tap, headers = again.tap(known), crossed(exchange.call, answer, again)
        else:
            tap = way.tap(known)
        answered = Answered(target, attempt, answer.status, headers)
        if streamed:
            if other:
                return await _as_a_whole(exchange, answered, answer, tap)
            answered.answer, answered.tap, answered.events = answer, tap, True
            return await self._first_event(answered, attempt, lane.timeouts.first_token)
        if held:
            answered.body = answer.at_hand() or await answer.body(WHOLE_BODY)
            if other:
                return _as_a_stream(answered, answer, tap, way)
            answered.body = shown(target, tap, tap.whole(answered.body) or answered.body)
            exchange.finish_reason = tap.finish_reason
            return _is_an_error(answered, way) if tap.failed else answered
        answered.answer, answered.tap = answer, tap
        return answered

    async def _refused(
        self, exchange: Exchange, target: Target, answer: Answer, way: Way, headers: Headers
    ) -> Setback:
        provider = PROVIDERS[target.kind]
        body = provider.mask(target.facts, await answer.body(ERROR_BODY))
        if is_framed(body):
            body, headers = unframed(body), [*(pair for pair in headers if pair[0] != JSON[0]), JSON]
        status = provider.status(answer.status, body)
        failure = provider.classify(status, body)
        now = exchange.clock + self._tools.clock() - exchange.arrived
        message, wait = in_our_words(answer, status, body), retry_after_seconds(answer, now)
        told = b"" if message else way.refusal(status, body)
        headers = [pair for pair in headers if is_sensible(pair)]
        if wait is None:
            wait = retry_delay(body)
            if wait is None and failure is Failure.THROTTLED:
                wait = reset_seconds(answer.headers)
            if wait is not None:  # clients look for it in the head
                headers = [*headers, (b"retry-after", b"%d" % ceil(wait))]
        return Setback(failure, message, status, headers, told, wait)

    async def _first_event(self, answered: Answered, attempt: Attempt, seconds: float) -> Answered | Setback:
        """Nothing is owed to the client until a stream has spoken: wait for its first event."""
        answer, tap, clock = answered.answer, answered.tap, self._tools.clock
        assert answer is not None
        assert tap is not None
        deadline = attempt.started + seconds
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
                return _began_with_an_error(answered, tap)
            if (tap.finished or not chunk) and not tap.begun:
                raise BadAnswer(answered.target.name, "the stream ended before its first event")
        return answered

    def _begun(self, answered: Answered) -> None:
        """Tell the breaker of an answer, and when it is over."""
        breaker, attempt = self._tools.breaker, answered.attempt
        breaker.succeed(attempt.asked, attempt.first_byte - attempt.started)
        if answered.answer is None:
            breaker.leave(attempt.asked)
        else:
            answered.leave = partial(breaker.leave, attempt.asked)

    def _report(self, name: str, setback: Setback, leads: bool) -> None:
        """Tell the breaker what a setback says about the health of what was asked for."""
        breaker, throttled = self._tools.breaker, setback.failure is Failure.THROTTLED
        # Elsewhere the word is of one call (a 500), or of a credential of which there may be another at once (a 401).
        if setback.retry_after and (throttled or (leads and setback.status in _AWAY)):
            breaker.cool(name, min(setback.retry_after, LONGEST_REST))
        if throttled or setback.failure is Failure.REJECTED:
            breaker.release(name)
        else:
            breaker.fail(name)


def _is_spent(call: Call) -> bool:
    """Whether the body went out as it came in: nothing is left to send again."""
    return not isinstance(call.body, bytes) and call.body.sent


def _began_with_an_error(answered: Answered, tap: Tap) -> Setback:
    provider, facts = PROVIDERS[answered.target.kind], answered.target.facts
    if isinstance(tap, CrossingTap):
        return of_said(tap.error, provider.classify, lambda status: provider.mask(facts, tap.refusal(status)))
    return of_events(provider.mask(facts, b"".join(answered.first)), provider.classify)


def _as_a_stream(answered: Answered, answer: Answer, tap: Tap, way: Way) -> Answered | Setback:
    """Of a whole answer to a call for a stream: its client waits for events, and would read nothing else. Raises
    BadAnswer where there is no telling it so."""
    told = tap.streamed(answered.body) if isinstance(tap, CrossingTap) else None
    if told is None:
        return _is_an_error(answered, way)
    answered.answer, answered.tap, answered.body = answer, tap, b""
    answered.first, answered.events, answered.over = [told], True, True
    return answered


async def _as_a_whole(exchange: Exchange, answered: Answered, answer: Answer, tap: Tap) -> Answered | Setback:
    """Of a stream that answers a call for none: its client waits for one body. Raises BadAnswer likewise."""
    if not isinstance(tap, CrossingTap):
        raise BadAnswer(answered.target.name, "it answered a call for no stream with one")
    answered.body = tap.whole_of(answer.at_hand() or await answer.body(WHOLE_BODY))
    exchange.finish_reason = tap.finish_reason
    return _began_with_an_error(answered, tap) if tap.failed else answered


def _is_an_error(answered: Answered, way: Way) -> Setback:
    """Of a whole answer that is none. Raises BadAnswer where it does not say why."""
    target, status = answered.target, answered.status
    provider = PROVIDERS[target.kind]
    body = provider.mask(target.facts, unframed(answered.body))
    if came := of_body(body, provider.classify, lambda status: way.refusal(status, body)):
        return came
    raise BadAnswer(target.name, f"it answered {status} with a body that is no answer in its format")


def _last_word(setback: Setback, attempt: Attempt) -> Answered:
    """No target is left: the provider's own answer where it has one for the client, else our refusal."""
    if setback.failure is Failure.UNAUTHORIZED:
        raise _refused_key(setback, attempt)
    if not setback.status:
        why = f"{setback.message} (target {attempt.asked})"
        if setback.failure is Failure.TIMED_OUT:
            raise UpstreamTimeout(f"no provider answered in time: {why}", setback.failure)
        raise UpstreamFailed(f"no provider answered: {why}", setback.failure)
    headers = list(setback.headers)
    if setback.failure is not Failure.REJECTED:
        headers = [pair for pair in headers if pair[0] != b"x-should-retry"]
        headers.append((b"x-should-retry", b"false"))
    if not setback.body:
        kept = [pair for pair in headers if pair[0] in KEPT]
        raise UpstreamRefused(setback.message, setback.failure, setback.status, kept)
    return Answered(attempt.target, attempt, setback.status, headers, setback.body)


def _refused_key(setback: Setback, attempt: Attempt) -> GatewayError:
    if not setback.status:
        # Why says whose account it is, which is the operator's to know: the log tells it.
        return UpstreamFailed(
            f'the gateway has no credential to show to the provider "{attempt.target.provider}"; '
            "its operator has been told why",
            setback.failure,
        )
    return UpstreamFailed(
        f'the provider "{attempt.target.provider}" refused the gateway\'s own credential or account '
        f"(status {attempt.status}); the gateway's operator must mend it",
        Failure.UNAUTHORIZED,
    )
