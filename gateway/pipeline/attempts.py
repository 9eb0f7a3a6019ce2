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

from gateway.config.course import Course, Prepared, usable
from gateway.config.snapshot import Lane
from gateway.core.exchange import Attempt, Call, Exchange, Target
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
from gateway.pipeline.dispatch import Dispatch
from gateway.pipeline.head import KEPT
from gateway.pipeline.relay import Answered
from gateway.pipeline.setback import Setback, is_back_sooner, is_of_key, leads_on, of_error, pause
from gateway.pipeline.watch import overran
from gateway.policy.base import Dice
from gateway.providers.registry import PROVIDERS
from gateway.upstream.breaker import LONGEST_REST, Breaker
from gateway.upstream.budgets import RetryBudgets
from gateway.upstream.failures import BadAnswer, UpstreamError
from gateway.upstream.keyring import REFUSED, Keyring
from gateway.wire.sse import BadStream

_AWAY = (503, 529)  # what a target says that is down or has too much to do


class Spool(Protocol):
    def begin(self, exchange: Exchange) -> None: ...


@dataclass(slots=True, frozen=True)
class Attempts:
    """The rooms beside and below, joined by the builder."""

    dispatch: Dispatch
    spool: Spool
    breaker: Breaker
    budgets: RetryBudgets
    keyring: Keyring
    meters: Meters
    clock: Callable[[], float]
    dice: Dice

    async def run(self, exchange: Exchange, lane: Lane) -> Answered:
        """Raises NoTarget, UpstreamFailed or UpstreamTimeout when nothing answered, BadRequest where the call can be
        put to no target."""
        setback: Setback | None = None
        before: Target | None = None
        targets = usable(exchange, lane, self.breaker, self.dice)
        course = Course(exchange, lane, targets)
        for target, prepared, last in course:
            if before is not None and setback is not None:
                self.meters.fallbacks.add((before.name, target.name, setback.failure.value))
            # What has just recovered is spared for the sake of others, where there are some.
            alone = last or not self._others(exchange, targets, target)
            came = await self._at(exchange, lane, target, prepared, last=alone)
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
        breaker, model = self.breaker, exchange.call.model
        return any(breaker.usable(one.asked_name(model), one.name) for one in targets if one is not but)

    def _nobody(self, exchange: Exchange, lane: Lane, targets: Sequence[Target]) -> NoTarget:
        breaker, model = self.breaker, exchange.call.model
        rests = [breaker.back(target.asked_name(model), target.name) for target in targets]
        wait = max(1.0, min((rest for rest in rests if rest is not None), default=0.0))
        message = f'no target of "{lane.model}" can take calls now; try again in {ceil(wait)} s'
        return NoTarget(message, retry_after=wait)

    async def _at(
        self, exchange: Exchange, lane: Lane, target: Target, prepared: Prepared, *, last: bool
    ) -> Answered | Setback | None:
        """All tries at one target. None: its breaker let none through."""
        tries, setback = 0, None
        name = target.asked_name(exchange.call.model)  # by which its health is known
        keys = PROVIDERS[target.kind].keys(target.facts)
        key, *spare = self.keyring.order(target.provider, name, keys)
        throttled, first = None, key  # of the keys that are throttled, the one that is back first
        self.budgets.call(name)
        while self.breaker.begin(name, target.name, last=last):
            attempt = Attempt(target, self.clock(), asked=name)
            came = await self._try(exchange, lane, attempt, prepared, key)
            if isinstance(came, Answered):
                return came
            setback = came
            if keys > 1 and is_of_key(lane.retry, came):
                is_throttled = came.failure is Failure.THROTTLED
                self.keyring.rest(name, key, (came.retry_after or 0.0) if is_throttled else REFUSED)
                if is_throttled and is_back_sooner(came, throttled):
                    throttled, first = came, key
                if spare and not _is_spent(exchange.call):
                    self.breaker.release(name)
                    key = spare.pop(0)
                    continue
                if throttled is not None:  # a key that is good says more of the target
                    setback = came = throttled
                    throttled, key = None, first
            tries += 1
            self._report(name, came, leads_on(lane.retry, came))
            if _is_spent(exchange.call):
                break
            if tries == 1 and came.status == 401 and await self.dispatch.renew(exchange, attempt):
                continue
            wait = pause(lane.retry, came, tries, self.dice, last=last)
            if wait is None or not self.budgets.spend(name, lane.retry.budget):
                break
            self.meters.retries.add((came.failure.value,))
            before = self.clock()
            try:
                await asyncio.sleep(wait)
            finally:  # for the provider, too: it is no cost of ours
                exchange.waited += self.clock() - before
        return setback

    async def _try(
        self, exchange: Exchange, lane: Lane, attempt: Attempt, prepared: Prepared, key: int
    ) -> Answered | Setback:
        """One request to one target, timed and counted. The breaker is told what is no setback."""
        if exchange.attempts:
            exchange.usage = Usage()  # what the answer before took does not count
        else:
            self.spool.begin(exchange)
        exchange.attempts.append(attempt)
        exchange.dropped = prepared.dropped
        came: Answered | Setback | None = None
        unanswered, result = self.breaker.release, "cancelled"
        try:
            came = await self.dispatch.ask(exchange, lane.timeouts, attempt, prepared, key)
        except UpstreamError as error:
            came, attempt.why = of_error(error), error.told
        except BadStream as error:
            came, attempt.why = of_error(BadAnswer(attempt.asked, str(error))), str(error)
        except asyncio.CancelledError as ended:
            # Who was asked late, or is still being told the question, is not the one that took all the time.
            had = self.clock() - attempt.started
            if overran(ended) and not attempt.uploading and had * 2 >= lane.timeouts.total:
                unanswered, result = self.breaker.fail, "overran"
            raise
        finally:
            attempt.ended = self.clock()
            exchange.waited += attempt.ended - attempt.started
            if came is None:
                attempt.result = result
                unanswered(attempt.asked)
        if isinstance(came, Answered):
            attempt.result = "ok"
            self._begun(came)
        else:
            attempt.result = came.failure.value
            attempt.status = attempt.status or came.status
        return came

    def _begun(self, answered: Answered) -> None:
        """Tell the breaker of an answer, and when it is over."""
        breaker, attempt = self.breaker, answered.attempt
        breaker.succeed(attempt.asked, attempt.first_byte - attempt.started)
        if answered.answer is None:
            breaker.leave(attempt.asked)
        else:
            answered.leave = partial(breaker.leave, attempt.asked)

    def _report(self, name: str, setback: Setback, leads: bool) -> None:
        """Tell the breaker what a setback says about the health of what was asked for."""
        breaker, throttled = self.breaker, setback.failure is Failure.THROTTLED
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


def _last_word(setback: Setback, attempt: Attempt) -> Answered:
    """No target is left: the provider's own answer where it has one for the client, else our refusal."""
    if setback.failure is Failure.UNAUTHORIZED:
        raise _refused_key(setback, attempt)
    if not setback.status:
        why = f"{setback.message} (target {attempt.asked})"
        if setback.failure is Failure.TIMED_OUT:
            raise UpstreamTimeout(f"no provider answered in time: {why}", setback.failure)
        raise UpstreamFailed(f"no provider answered: {why}", setback.failure)
    headers = setback.headers
    if setback.failure is not Failure.REJECTED:
        headers = {**headers, b"x-should-retry": b"false"}
    if not setback.body:
        kept = [(name, headers[name]) for name in KEPT if name in headers]
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
