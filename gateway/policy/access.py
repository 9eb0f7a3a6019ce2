"""Kind `access`: what a team may ask for, beyond which models it may name."""

from collections.abc import Callable

from gateway.core.exchange import Exchange
from gateway.core.failure import BadRequest, Forbidden


def check(
    exchange: Exchange, team: str, cap: int | None, condition: Callable[[Exchange], bool] | None
) -> None:
    """Raises BadRequest for more output than the team's cap, Forbidden where its condition does not hold."""
    asked = exchange.shape.max_tokens
    if cap is not None and asked > cap:
        raise BadRequest(
            f'team "{team}" may ask for at most {cap} output tokens, not {asked}',
            code="max_output_tokens_exceeded",
            param="max_tokens",
        )
    if condition is not None and not condition(exchange):
        raise Forbidden(f'the access condition of team "{team}" refuses this call', code="access_denied")
