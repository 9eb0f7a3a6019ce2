"""Kind `access`: what a team may ask for, beyond which models it may name."""

from collections.abc import Callable

from gateway.core.exchange import Call, Exchange
from gateway.core.failure import BadRequest, Forbidden
from gateway.wire.chat import CAPS
from gateway.wire.raw import Raw, bound_of

# What a call's bound is called where chat's names are not read.
_FIELDS = {
    "anthropic.messages": "max_tokens",
    "gemini.array": "generationConfig.maxOutputTokens",
    "gemini.generate": "generationConfig.maxOutputTokens",
    "openai.completions": "max_tokens",
    "openai.responses": "max_output_tokens",
}


def check(
    exchange: Exchange, team: str, cap: int | None, condition: Callable[[Exchange], bool] | None
) -> None:
    """Raises BadRequest for more output than the team's cap, Forbidden where its condition does not hold."""
    asked = exchange.shape.max_tokens
    if cap is not None and asked > cap:
        raise BadRequest(
            f'team "{team}" may ask for at most {cap} output tokens, not {asked}',
            code="max_output_tokens_exceeded",
            param=_field(exchange.call, cap),
        )
    if condition is not None and not condition(exchange):
        raise Forbidden(f'the access condition of team "{team}" refuses this call', code="access_denied")


def _field(call: Call, cap: int) -> str:
    """The field that asks for more than the cap, as the call's dialect calls it."""
    if call.dialect == Raw.name:
        return bound_of(call) or "max_output_tokens"
    asked = (name for name in CAPS if isinstance(value := call.payload.get(name), int) and value > cap)
    return _FIELDS.get(call.dialect) or next(asked, "max_tokens")
