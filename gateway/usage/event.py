"""The usage event of a call: what was asked of whom, what it took. Content never, secrets never."""

from collections.abc import Iterable
from typing import Any

import orjson

from gateway.core.exchange import Exchange

VERSION = 1
ID, KIND = slice(7, 39), slice(39, 53)  # where they stand in a line
BEGIN, MOVED = b'","e":"begin",', b'","e":"moved"}'
# Where the two lines of a call stop differing.
_SHARED = len('{"id":"0123456789abcdef0123456789abcdef","e":"begin"')


def begun(exchange: Exchange) -> bytes:
    """The line of what must be known of a call before it leaves: enough for a row, should the process die."""
    call, caller = exchange.call, exchange.caller
    return orjson.dumps(
        {
            "id": exchange.id,  # first in the line, where the collector finds it without parsing
            "e": "begin",
            "v": VERSION,
            "started": exchange.wall_time,
            "key": caller.key,
            "team": caller.team,
            "user": caller.user,
            "model": call.model,
            "entry": exchange.model,
            "route": call.route,
            "stream": call.stream,
            "prompt_estimate": exchange.shape.input_tokens,
            "request_id": exchange.request_id,
            "policies": exchange.policies,
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def ended(exchange: Exchange, begin: bytes) -> bytes:
    """The line of the whole row, what `begin` says included: it needs no `begin` to be understood. What the
    log wants beside it is in it too."""
    rest = orjson.dumps(_outcome(exchange), option=orjson.OPT_APPEND_NEWLINE)
    return b'{"id":"%b","e":"end"%b,%b' % (exchange.id.encode(), begin[_SHARED:-2], rest[1:])


def moved(ids: Iterable[str]) -> bytes:
    """The lines of calls that are begun again in the next file: of how they end this one need not tell."""
    return b"".join(b'{"id":"%b","e":"moved"}\n' % id.encode() for id in ids)


def _outcome(exchange: Exchange) -> dict[str, Any]:
    usage, last = exchange.usage, exchange.attempts[-1]
    first = exchange.first_token
    told = {
        "ended": exchange.wall_time + (exchange.ended - exchange.arrived),
        "provider": last.target.provider,
        "target": last.asked,
        "status": exchange.status,
        "outcome": exchange.outcome,
        "prompt": usage.prompt,
        "completion": usage.completion,
        "cached": usage.cached,
        "reasoning": usage.reasoning,
        "estimated": exchange.estimated,
        "ms": _ms(exchange.ended - exchange.arrived),
        "upstream_ms": _ms(exchange.waited),
        "ttft_ms": _ms(first - exchange.arrived) if first else None,
        "finish_reason": exchange.finish_reason,
        "error": exchange.error,
        "trace_id": exchange.trace.trace_id if exchange.trace else "",
        "metadata": exchange.caller.metadata,
        "attempts": [
            {
                "target": attempt.asked,
                "result": attempt.result,
                "status": attempt.status,
                "ms": _ms(max(0.0, attempt.ended - attempt.started)),
                **({"why": attempt.why} if attempt.why else {}),
            }
            for attempt in exchange.attempts
        ],
    }
    if usage.search_units:
        told["search_units"] = usage.search_units
    return told


def _ms(seconds: float) -> float:
    """Milliseconds with one decimal; `round` would go by way of its digits."""
    return int(seconds * 10_000 + 0.5) / 10


def died(begin: dict[str, Any], target: str = "") -> dict[str, Any]:
    """The row of a call whose process ended before it did: its prompt was on its way, so it is charged."""
    return {
        **begin,
        "ended": None,
        "provider": "",
        "target": target,
        "status": 0,
        "outcome": "gateway_died",
        "prompt": begin["prompt_estimate"],
        "completion": 0,
        "cached": 0,
        "reasoning": 0,
        "estimated": True,
        "metadata": {},
        "attempts": [],
    }
