"""What is asked of a target: in which dialect, with which body; and what a crossing leaves of an answer's head."""

from collections.abc import Mapping
from typing import Any

from gateway.config.snapshot import Lane
from gateway.core.exchange import Call, Exchange, Target
from gateway.providers.registry import PROVIDERS
from gateway.upstream.client import Answer
from gateway.wire.base import EVENTS, Changes, Way
from gateway.wire.chat import CAPS
from gateway.wire.registry import DIALECTS, between

CAPPED = (
    "chat",
    "completions",
    "responses",
    "messages",
    "generate",
)  # routes whose output a team may have bounded
# What formats other than chat call the bound, whatever their provider calls chat's.
_CAP_NAMES = {"openai.responses": "max_output_tokens", "openai.completions": "max_tokens"}
_KEPT = (b"retry-after", b"retry-after-ms", b"x-should-retry")


def way_of(call: Call, target: Target) -> Way:
    """In the client's own dialect where the provider speaks it, else across to the provider's."""
    provider = PROVIDERS[target.kind]
    dialect = call.dialect
    spoken = provider.speaks(dialect, target.asked(call.model), target.facts)
    return DIALECTS[dialect] if spoken == dialect else between(dialect, spoken)


def streams(call: Call, answer: Answer, way: Way) -> bool:
    """Whether an answer is a stream that a tap watches."""
    media = answer.header(b"content-type")
    return media.startswith(EVENTS) or (call.stream and media.startswith(way.media))


def crossed(call: Call, answer: Answer, way: Way) -> list[tuple[bytes, bytes]]:
    """The headers of an answer that is translated: what the provider says of its body is true no more."""
    events = streams(call, answer, way) and answer.status < 400
    media = DIALECTS[call.dialect].media if events else b"application/json"
    kept = [pair for pair in answer.headers if pair[0] in _KEPT]
    return [*kept, (b"content-type", media + b"; charset=utf-8" if media == EVENTS else media)]


def body_for(exchange: Exchange, lane: Lane, target: Target, way: Way, ask_usage: bool) -> bytes:
    call = exchange.call
    if not isinstance(call.body, bytes) or not call.payload:
        return call.body if isinstance(call.body, bytes) else b""
    provider = PROVIDERS[target.kind]
    params = provider.params(target.facts)
    cap = lane.team.max_output_tokens
    if cap is not None and call.route in CAPPED and way.name != "openai.raw":
        params = _capped(params, exchange, cap, _CAP_NAMES.get(way.name, provider.cap_name))
    if not way.crosses:
        return way.write(call, Changes(target.asked(call.model), ask_usage, params))
    exchange.dropped = [] if len(exchange.attempts) > 1 else None
    changes = Changes(
        target.asked(call.model), ask_usage, params, provider.cap_name, exchange.dropped, provider.quirks
    )
    return way.write(call, changes)


def _capped(params: Mapping[str, Any], exchange: Exchange, cap: int, cap_name: str) -> dict[str, Any]:
    """The provider's defaults with the team's output cap among them, unless the call says its own."""
    kept = {name: value for name, value in params.items() if name not in (*CAPS, cap_name)}
    if exchange.shape.max_tokens:
        return kept
    return {**kept, cap_name: cap}
