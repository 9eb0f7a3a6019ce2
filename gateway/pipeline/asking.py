"""What is asked of a target: in which dialect, with which body; and what a crossing leaves of an answer's head."""

from collections.abc import Mapping
from typing import Any

from gateway.config.snapshot import Lane
from gateway.core.exchange import Call, Exchange, Target
from gateway.providers.registry import PROVIDERS
from gateway.upstream.client import Answer
from gateway.wire.base import Changes, Way
from gateway.wire.chat import CAPS
from gateway.wire.registry import DIALECTS, between

CAPPED = ("chat", "completions", "responses", "messages")  # routes whose output a team may have bounded
_KEPT = (b"retry-after", b"retry-after-ms", b"x-should-retry")


def way_of(call: Call, target: Target) -> Way:
    """In the client's own dialect where the provider speaks it, else across to the provider's."""
    provider = PROVIDERS[target.kind]
    dialect = call.dialect
    return DIALECTS[dialect] if dialect in provider.dialects else between(dialect, provider.native)


def crossed(answer: Answer) -> list[tuple[bytes, bytes]]:
    """The headers of an answer that is translated: what the provider says of its body is true no more."""
    events = answer.header(b"content-type").startswith(b"text/event-stream") and answer.status < 400
    kept = [pair for pair in answer.headers if pair[0] in _KEPT]
    return [*kept, (b"content-type", b"text/event-stream; charset=utf-8" if events else b"application/json")]


def body_for(exchange: Exchange, lane: Lane, target: Target, way: Way, ask_usage: bool) -> bytes:
    call = exchange.call
    if not isinstance(call.body, bytes) or not call.payload:
        return call.body if isinstance(call.body, bytes) else b""
    provider = PROVIDERS[target.kind]
    params = provider.params(target.facts)
    cap = lane.team.max_output_tokens
    if cap is not None and call.route in CAPPED:
        params = _capped(params, call, cap, provider.cap_name)
    if not way.crosses:
        return way.write(call, Changes(target.asked(call.model), ask_usage, params))
    exchange.dropped = [] if len(exchange.attempts) > 1 else None
    changes = Changes(
        target.asked(call.model), ask_usage, params, provider.cap_name, exchange.dropped, provider.quirks
    )
    return way.write(call, changes)


def _capped(params: Mapping[str, Any], call: Call, cap: int, cap_name: str) -> dict[str, Any]:
    """The provider's defaults with the team's output cap among them, unless the call says its own."""
    kept = {name: value for name, value in params.items() if name not in CAPS}
    if any(call.payload.get(name) is not None for name in CAPS):
        return kept
    name = {"responses": "max_output_tokens", "completions": "max_tokens"}.get(call.route, cap_name)
    return {**kept, name: cap}
