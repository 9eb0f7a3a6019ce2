"""The whole story of a call: look up its lane, reserve, attempt, relay, settle.

`serve` hands the reply to the edge's writer and settles when the writer returns, whatever way that is. A
generator's `finally` would not do: a client that leaves before the first chunk never starts the generator.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.config.snapshot import Lane
from gateway.core.exchange import Exchange, Reply
from gateway.core.failure import Failure, GatewayError, UpstreamTimeout
from gateway.pipeline.attempts import Attempts
from gateway.pipeline.relay import Answered, relay
from gateway.pipeline.watch import Deadlines, Watch
from gateway.policy import access
from gateway.state.allowance import Allowance
from gateway.wire.registry import DIALECTS

SWEEP_AFTER = 30.0  # seconds past a call's total timeout at which its reservation is given back regardless

Deliver = Callable[[Reply], Awaitable[None]]


class Recorder(Protocol):
    def record(self, exchange: Exchange, line: bytes) -> None: ...


class Spool(Protocol):
    def end(self, exchange: Exchange) -> bytes: ...


@dataclass(slots=True, frozen=True)
class Pipeline:
    """The rooms along the corridor, joined by the builder."""

    allowance: Allowance
    attempts: Attempts
    spool: Spool
    recorder: Recorder
    clock: Callable[[], float]
    deadlines: Deadlines

    async def serve(self, exchange: Exchange, lane: Lane, watch: Watch, deliver: Deliver) -> None:
        """Raises GatewayError for what is refused, CancelledError where the client left or we shut down."""
        exchange.model = lane.model
        total = lane.timeouts.total
        answered: Answered | None = None
        try:
            team = lane.team
            access.check(exchange, team.name, team.max_output_tokens, team.condition)
            exchange.grant = await self.allowance.reserve(lane.claims(exchange), total + SWEEP_AFTER)
            self.deadlines.start(watch, total)
            answered = await self.attempts.run(exchange, lane)
            try:
                await deliver(relay(exchange, answered, DIALECTS[exchange.call.dialect], self.clock))
            finally:
                answered.close()
                if answered.status >= 400 and exchange.outcome == "ok":
                    _judge(exchange, answered)
        except GatewayError as error:
            _note(exchange, error)
            raise
        except asyncio.CancelledError:
            if answered is None or not answered.told:
                _note_end(exchange, watch)
            if watch.reason != "timeout":
                raise
            watch.uncancel()
            raise UpstreamTimeout("the call took longer than it may", Failure.TIMED_OUT) from None
        except Exception:  # a fault of ours: the edge tells it, the books must not call it a success
            _note(exchange, GatewayError(""))
            raise
        finally:
            self.deadlines.stop(watch)
            self._settle(exchange)

    def _settle(self, exchange: Exchange) -> None:
        """Every way out passes here exactly once."""
        exchange.ended = self.clock()
        attempts, line = exchange.attempts, b""
        if attempts and (attempts[-1].sent or any(attempt.sent for attempt in attempts)):
            _estimate(exchange)
            self.allowance.settle(exchange.grant, exchange.usage.total)
        else:
            self.allowance.release(exchange.grant)
        if attempts:
            line = self.spool.end(exchange)
        self.recorder.record(exchange, line)


def _judge(exchange: Exchange, answered: Answered) -> None:
    exchange.outcome = "client_error" if answered.status < 429 else "upstream_error"
    exchange.error = answered.attempt.result


def _note(exchange: Exchange, error: GatewayError) -> None:
    exchange.status, exchange.outcome, exchange.error = error.status, error.outcome, error.code


def _note_end(exchange: Exchange, watch: Watch) -> None:
    """A cancelled call: by its client, its clock, or (without a reason) the end of the process. What is told then is
    told by the edge; an answer that had begun keeps its status, and an attempt that had failed its failure."""
    outcomes = {
        "client": ("client_cancelled", "client_closed", 0),
        "timeout": ("timeout", "upstream_timeout", 504),
    }
    outcome, error, status = outcomes.get(watch.reason, ("overloaded", "shutdown", 503))
    exchange.outcome, exchange.error = outcome, error
    exchange.status = exchange.status or status
    for attempt in exchange.attempts[-1:]:
        if attempt.result in ("pending", "ok"):
            attempt.result = "cancelled"


def _estimate(exchange: Exchange) -> None:
    """What a call is charged that no provider accounted for: the prompt where one was working on it."""
    if exchange.estimated:
        usage = exchange.usage
        usage.prompt = usage.prompt or exchange.shape.input_tokens  # Anthropic tells it when a stream begins
