"""What one finished call leaves behind: counts, a log line, spans."""

from typing import Protocol

import orjson

from gateway.core.exchange import Exchange
from gateway.core.failure import GatewayError
from gateway.core.meters import Meters
from gateway.telemetry.logs import Log

MOST_TEAMS = 500
OTHER = "_other"

Labels = tuple[str, ...]


class Spans(Protocol):
    def export(self, exchange: Exchange) -> None: ...


class Recorder:
    """One per process. Labels come from closed sets; tuples of them are made once and kept."""

    def __init__(self, meters: Meters, log: Log, spans: Spans | None = None) -> None:
        self._meters, self._log, self._spans = meters, log, spans
        self._teams: set[str] = set()

    def record(self, exchange: Exchange, line: bytes) -> None:
        """Called once per call, after its last byte. `line` is the call's usage event, b"" where none left
        for a provider: the log shows the same."""
        meters, call, usage = self._meters, exchange.call, exchange.usage
        route, model, team = call.route, exchange.model, exchange.caller.team
        if team not in self._teams:
            team = self._team(team)
        seconds = exchange.ended - exchange.arrived
        meters.requests.add((route, model, team, exchange.outcome))
        meters.request_duration.observe(seconds, (route, model, "true" if call.stream else "false"))
        meters.overhead.observe(max(0.0, seconds - exchange.waited), ("total",))
        if exchange.attempts:
            for attempt in exchange.attempts:
                target = attempt.target
                meters.attempts.add((target.provider, target.name, attempt.result))
            provider = exchange.attempts[-1].target.provider
            self._tokens(exchange, (team, model, provider))
            if exchange.first_token:
                self._pace(exchange, (model, provider))
        if exchange.finish_reason:
            meters.finish_reasons.add((model, _reason(exchange.finish_reason)))
        if exchange.error == "upstream_stream_broken":
            meters.truncated.add((model,))
        if exchange.attempts and not usage.reported and exchange.outcome in ("ok", "client_cancelled"):
            meters.estimated.add((model,))
        if self._log.writes_calls:
            self._log.event(b"call", line or self._refused_line(exchange, seconds))
        if self._spans is not None and exchange.trace is not None and exchange.trace.sampled:
            self._spans.export(exchange)

    def refused(self, route: str, error: GatewayError, request_id: str) -> None:
        """A call that was turned away before it was known whose it is."""
        self._meters.requests.add((route, OTHER, OTHER, error.outcome))
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
                }
            )

    def _pace(self, exchange: Exchange, labels: Labels) -> None:
        self._meters.first_token.observe(exchange.first_token - exchange.arrived, labels)
        if exchange.chunks > 1:
            mean = (exchange.ended - exchange.first_token) / exchange.chunks
            self._meters.between.observe(mean, labels)

    def _tokens(self, exchange: Exchange, labels: Labels) -> None:
        usage, add = exchange.usage, self._meters.tokens.add
        if usage.prompt:
            add((*labels, "input"), usage.prompt)
        if usage.completion:
            add((*labels, "output"), usage.completion)
        if usage.cached:
            add((*labels, "cache_read"), usage.cached)
        if usage.reasoning:
            add((*labels, "reasoning"), usage.reasoning)

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
            "started": exchange.clock,
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


_REASONS = frozenset({"stop", "length", "tool_calls", "function_call", "content_filter"})


def _reason(reason: str) -> str:
    """A closed set: what providers invent is `_other`."""
    return reason if reason in _REASONS else OTHER
