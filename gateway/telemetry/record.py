"""What one finished call leaves behind: counts, a log line, spans."""

from typing import NamedTuple, Protocol

import orjson

from gateway.core.exchange import Caller, Exchange
from gateway.core.failure import GatewayError
from gateway.core.meters import Meters
from gateway.core.tally import Count, Labels
from gateway.core.usage import Usage
from gateway.telemetry.logs import Log

MOST_TEAMS = 500
OTHER = "_other"

# route, model, team, outcome, streamed, finish reason, and of the last attempt provider, target and result
Facts = tuple[str, str, str, str, bool, str, Labels]


class Spans(Protocol):
    def export(self, exchange: Exchange) -> None: ...


class Kind(NamedTuple):
    """Calls that have all labels in common, and where they are counted."""

    calls: Count
    durations: list[float]
    finish: Count | None  # None where the model gave no reason
    last: Count | None  # the last attempt; None where none was made
    read: Count  # tokens of its calls
    written: Count
    labels: Labels  # team, model, provider


class Recorder:
    """One per process. Labels come from closed sets, so that kinds of calls are few."""

    def __init__(self, meters: Meters, log: Log, spans: Spans | None = None) -> None:
        self._meters, self._log, self._spans = meters, log, spans
        self._teams: set[str] = set()
        self._kinds: dict[Facts, Kind] = {}
        self._overhead = meters.overhead.at(("total",))

    def record(self, exchange: Exchange, line: bytes) -> None:
        """Called once per call, after its last byte. `line` is the call's usage event, b"" where none left
        for a provider: the log shows the same."""
        meters, kind = self._meters, self._kind(exchange)
        seconds = exchange.ended - exchange.arrived
        kind.calls.n += 1
        meters.request_duration.note(seconds, kind.durations)
        meters.overhead.note(max(0.0, seconds - exchange.waited - exchange.idled), self._overhead)
        if kind.finish is not None:
            kind.finish.n += 1
        if kind.last is not None:
            kind.last.n += 1
            self._of_attempts(exchange, kind)
        if exchange.error == "upstream_stream_broken":
            meters.truncated.add((exchange.model,))
        if self._log.writes_calls:
            self._log.event(b"call", line or self._refused_line(exchange, seconds))
        if self._spans is not None and exchange.trace is not None and exchange.trace.sampled:
            self._spans.export(exchange)

    def _kind(self, exchange: Exchange) -> Kind:
        """One look-up for all that is counted: which series a call falls into follows from these labels."""
        call, team, reason = exchange.call, exchange.caller.team, exchange.finish_reason
        last = exchange.attempts[-1] if exchange.attempts else None
        if team not in self._teams:
            team = self._team(team)
        if reason and reason not in _REASONS:
            reason = OTHER
        of_last = (last.target.provider, last.target.name, last.result) if last is not None else ()
        facts = (call.route, exchange.model, team, exchange.outcome, call.stream, reason, of_last)
        return self._kinds.get(facts) or self._new_kind(facts)

    def _new_kind(self, facts: Facts) -> Kind:
        meters = self._meters
        route, model, team, outcome, stream, reason, of_last = facts
        labels = (team, model, *of_last[:1])
        kind = self._kinds[facts] = Kind(
            meters.requests.at((route, model, team, outcome)),
            meters.request_duration.at((route, model, "true" if stream else "false")),
            meters.finish_reasons.at((model, reason)) if reason else None,
            meters.attempts.at(of_last) if of_last else None,
            meters.tokens.at((*labels, "input")) if of_last else Count(),
            meters.tokens.at((*labels, "output")) if of_last else Count(),
            labels,
        )
        return kind

    def _of_attempts(self, exchange: Exchange, kind: Kind) -> None:
        meters = self._meters
        for attempt in exchange.attempts[:-1]:
            meters.attempts.add((attempt.target.provider, attempt.target.name, attempt.result))
        self._tokens(exchange.usage, kind)
        if exchange.first_token:
            self._pace(exchange, kind.labels[1:])
        if exchange.estimated:
            meters.estimated.add((exchange.model,))

    def refused(self, route: str, error: GatewayError, request_id: str, caller: Caller | None) -> None:
        """A call that was turned away before it was one, or before it was known whose it is."""
        team = OTHER
        if caller is not None:
            team = caller.team if caller.team in self._teams else self._team(caller.team)
        self._meters.requests.add((route, OTHER, team, error.outcome))
        if self._log.writes_calls:
            self._log.line(
                {
                    "time": self._log.now(),
                    "level": "info",
                    "msg": "refused",
                    "route": route,
                    "status": error.status,
                    "error": error.code,
                    "request_id": request_id,
                    **({"key": caller.key, "team": caller.team, "user": caller.user} if caller else {}),
                }
            )

    def _pace(self, exchange: Exchange, labels: Labels) -> None:
        self._meters.first_token.observe(exchange.first_token - exchange.arrived, labels)
        if exchange.chunks > 1:
            mean = (exchange.ended - exchange.first_token) / exchange.chunks
            self._meters.between.observe(mean, labels)

    def _tokens(self, usage: Usage, kind: Kind) -> None:
        kind.read.n += usage.prompt
        kind.written.n += usage.completion
        if usage.cached:
            self._meters.tokens.add((*kind.labels, "cache_read"), usage.cached)
        if usage.reasoning:
            self._meters.tokens.add((*kind.labels, "reasoning"), usage.reasoning)

    def _team(self, team: str) -> str:
        if len(self._teams) >= MOST_TEAMS:
            self._meters.label_overflow.add(("team",))
            return OTHER
        self._teams.add(team)
        return team

    def _refused_line(self, exchange: Exchange, seconds: float) -> bytes:
        """A call that was refused before it left: a limit, a condition, no target."""
        call, caller = exchange.call, exchange.caller
        fields = {
            "id": exchange.id,
            "started": exchange.wall_time,
            "request_id": exchange.request_id,
            "key": caller.key,
            "team": caller.team,
            "user": caller.user,
            "route": call.route,
            "model": call.model,
            "status": exchange.status,
            "outcome": exchange.outcome,
            "error": exchange.error,
            "ms": round(seconds * 1000, 1),
            "policies": exchange.policies,
        }
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


# What providers invent beyond these is `_other`.
_REASONS = frozenset({"stop", "length", "tool_calls", "function_call", "content_filter"})
