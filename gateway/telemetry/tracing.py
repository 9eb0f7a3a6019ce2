"""Traces: sampled once per call before a span exists, written as spans after the call, from its facts.

Deciding first costs 0.3 us; a span that is then dropped would cost 3, one that is kept 16 to 22.
"""

import random
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from gateway.core.exchange import Attempt, Call, Exchange, Headers, Trace
from gateway.telemetry.otlp import resource

_PARENT = re.compile(rb"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_STATE = re.compile(rb"[\x20-\x7e]{1,512}")


class Sampler:
    """Head sampling by the standard variables OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG."""

    def __init__(self, environ: Mapping[str, str], *, exporting: bool) -> None:
        """Without an exporter nothing is sampled, and traces pass as they came. Raises ValueError."""
        name = environ.get("OTEL_TRACES_SAMPLER") or "parentbased_always_on"
        self._by_parent = name.startswith("parentbased_")
        kind = name.removeprefix("parentbased_")
        if kind not in ("always_on", "always_off", "traceidratio"):
            raise ValueError(f"OTEL_TRACES_SAMPLER: there is no sampler {name!r}")
        argument = _share(environ.get("OTEL_TRACES_SAMPLER_ARG") or "1")
        self._share = {"always_on": 1.0, "always_off": 0.0}.get(kind, argument)
        self._exporting = exporting

    def sample(self, traceparent: bytes | None, tracestate: bytes | None) -> Trace | None:
        """Where a call stands; None where nobody wants to know."""
        parent = _PARENT.fullmatch(traceparent) if traceparent is not None else None
        if not self._exporting:
            return _passing(parent, traceparent, tracestate) if traceparent is not None else None
        if parent is None:
            if random.random() >= self._share:
                return None
            return Trace(f"{random.getrandbits(128):032x}", "", _span_id(), True)
        asked = bool(int(parent[3], 16) & 1)
        sampled = asked if self._by_parent else random.random() < self._share
        state = tracestate.decode("ascii") if tracestate is not None and _STATE.fullmatch(tracestate) else ""
        return Trace(parent[1].decode(), parent[2].decode(), _span_id(), sampled, state)


def _passing(parent: re.Match[bytes] | None, traceparent: bytes, tracestate: bytes | None) -> Trace:
    """A trace in which nothing of ours will be found: its headers go on as they came, of whatever version."""
    given = [(b"traceparent", traceparent)]
    if tracestate is not None:
        given.append((b"tracestate", tracestate))
    return Trace(parent[1].decode() if parent is not None else "", "", "", False, given=given)


def _share(text: str) -> float:
    with suppress(ValueError):
        if 0 <= (share := float(text)) <= 1:
            return share
    raise ValueError("OTEL_TRACES_SAMPLER_ARG: takes a share from 0 to 1, as 0.25")


def _span_id() -> str:
    return f"{random.getrandbits(64) or 1:016x}"


def carry_on(exchange: Exchange, attempt: Attempt) -> Headers:
    """The headers that tell a provider which attempt of which trace is asking, or the client's own."""
    trace = exchange.trace
    if trace is None:
        return ()
    if trace.given:
        return trace.given
    attempt.span_id = _span_id()
    flag = "01" if trace.sampled else "00"
    headers = [(b"traceparent", f"00-{trace.trace_id}-{attempt.span_id}-{flag}".encode())]
    if trace.state:
        headers.append((b"tracestate", trace.state.encode()))
    return headers


class Spans:
    """Makes one span per call and one per attempt, with explicit times, and hands them to a batch exporter.

    Names and attributes are those of the GenAI semantic conventions v1.41; content is never among them.
    """

    def __init__(self, exporter: Any) -> None:
        # Imported here: only processes that export traces pay for it.
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._processor: Any = BatchSpanProcessor(exporter)
        self._resource = resource()

    def export(self, exchange: Exchange) -> None:
        trace = exchange.trace
        assert trace is not None
        for attempt in exchange.attempts:
            self._end(exchange, attempt.span_id, trace.span_id, "CLIENT", _of_attempt(exchange, attempt))
        self._end(exchange, trace.span_id, trace.parent_id, "SERVER", _of_call(exchange))

    def close(self) -> None:
        self._processor.shutdown()

    def _end(self, exchange: Exchange, span_id: str, parent_id: str, kind: str, facts: "Facts") -> None:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
        from opentelemetry.trace.status import Status, StatusCode

        trace = exchange.trace
        assert trace is not None
        number = int(trace.trace_id, 16)

        def context(span: str) -> SpanContext:
            return SpanContext(number, int(span, 16), is_remote=False, trace_flags=TraceFlags(1))

        status = Status(StatusCode.ERROR, facts.error) if facts.error else Status(StatusCode.UNSET)
        self._processor.on_end(
            ReadableSpan(
                name=facts.name,
                context=context(span_id),
                parent=context(parent_id) if parent_id else None,
                resource=self._resource,
                attributes=facts.attributes,
                kind=SpanKind[kind],
                status=status,
                start_time=_nanoseconds(exchange, facts.started),
                end_time=_nanoseconds(exchange, facts.ended),
            )
        )


class Facts:
    """What a span says."""

    __slots__ = ("attributes", "ended", "error", "name", "started")

    def __init__(
        self, name: str, started: float, ended: float, error: str, attributes: dict[str, Any]
    ) -> None:
        self.name, self.started, self.ended, self.error = name, started, ended, error
        self.attributes = {key: value for key, value in attributes.items() if value not in ("", None)}


_VERSIONS = {"cohere.rerank": "/v2"}
# A step of a path that names no object: ids have digits, capitals or dashes.
_WORD = re.compile(r"[a-z_]{1,32}")
_OPERATIONS = {"chat": "chat", "completions": "text_completion", "embeddings": "embeddings"}


def route_of(call: Call) -> str:
    """The template of its path: what names an object or a model is left open."""
    version, (path, *_) = _VERSIONS.get(call.dialect, "/v1"), call.path.partition("?")
    if path.startswith("/models/"):
        return f"/v1beta/models/{{model}}:{path.rpartition(':')[2]}"
    steps = path.removeprefix("/").split("/")
    return "/".join([version, *(step if _WORD.fullmatch(step) else "{id}" for step in steps)])


def _of_call(exchange: Exchange) -> Facts:
    call, usage = exchange.call, exchange.usage
    error = "" if exchange.outcome == "ok" else exchange.error or exchange.outcome
    route = route_of(call)
    attributes = {
        "http.request.method": call.method,
        "http.route": route,
        "http.response.status_code": exchange.status,
        "gen_ai.operation.name": _OPERATIONS.get(call.route, call.route),
        "gen_ai.request.model": call.model,
        "gen_ai.request.stream": call.stream,
        "gen_ai.usage.input_tokens": usage.prompt,
        "gen_ai.usage.output_tokens": usage.completion,
        "gen_ai.response.finish_reasons": (exchange.finish_reason,) if exchange.finish_reason else None,
        "gatehouse.team": exchange.caller.team,
        "gatehouse.request_id": exchange.request_id,
        "gatehouse.policies": exchange.policies,
        "error.type": error,
    }
    return Facts(f"{call.method} {route}", exchange.arrived, exchange.ended, error, attributes)


def _of_attempt(exchange: Exchange, attempt: Attempt) -> Facts:
    call, target = exchange.call, attempt.target
    operation = _OPERATIONS.get(call.route, call.route)
    model = target.asked(call.model)
    error = "" if attempt.result == "ok" else attempt.result
    is_last = attempt is exchange.attempts[-1]
    attributes = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": target.provider,
        "gen_ai.request.model": model,
        "gen_ai.usage.input_tokens": exchange.usage.prompt if is_last and not error else None,
        "gen_ai.usage.output_tokens": exchange.usage.completion if is_last and not error else None,
        "http.response.status_code": attempt.status or None,
        "gatehouse.upstream_request_id": attempt.request_id,
        "error.type": error,
    }
    ended = max(attempt.ended, exchange.ended if is_last and not error else attempt.ended)
    return Facts(f"{operation} {model}".strip(), attempt.started, ended, error, attributes)


def _nanoseconds(exchange: Exchange, moment: float) -> int:
    """A perf_counter reading of this call on the wall clock."""
    return int((exchange.wall_time + (moment - exchange.arrived)) * 1e9)
