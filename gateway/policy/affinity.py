"""Send a conversation where its beginning is cached: replicas of a local engine keep what they have computed.

Each target has a place of its own for every conversation (rendezvous hashing, Thaler and Ravishankar 1998), so that
a target that is lost moves only the conversations it held. One that is loaded far above the mean is passed over
(bounded loads, Mirrokni, Thorup and Zadimoghaddam 2018): a shared beginning must not fill one engine alone.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import orjson

from gateway.core.exchange import Exchange, Target
from gateway.policy.base import Dice, Health

LEADING = 1024  # characters of a text that tell conversations apart: some 256 tokens, a few blocks of a cache
EXCESS = 1.25  # times the mean of the calls in flight that a target may have
SPARE = 4  # calls in flight that never count as too many: an engine computes a few together as fast as one

_TURNS = ("messages", "contents", "input")  # as chat and Messages, Gemini, and Responses call them
_BEFORE = ("system", "systemInstruction", "system_instruction", "instructions", "tools")


class PrefixAware:
    """By what the conversation begins with. Those that have more than their share come last."""

    def order(
        self, exchange: Exchange, targets: Sequence[Target], health: Health, dice: Dice
    ) -> Sequence[Target]:
        key = blake2b(beginning(exchange.call.payload), digest_size=16).digest()
        model = exchange.call.model
        load = {target.name: health.in_flight(target.asked_name(model)) for target in targets}
        most = max(EXCESS * (sum(load.values()) + 1) / len(targets), SPARE)

        def place(target: Target) -> tuple[int, bytes]:
            behind = load[target.name] if load[target.name] + 1 > most else 0
            return behind, blake2b(target.name.encode(), key=key, digest_size=8).digest()

        return sorted(targets, key=place)


def beginning(payload: Mapping[str, Any]) -> bytes:
    """What all turns of a conversation have in common and other conversations have not: its instructions and
    everything up to the user's first words. Of a text without turns, its first characters."""
    turns = next((payload[name] for name in _TURNS if name in payload), payload.get("prompt"))
    if isinstance(turns, list):
        first = next((at for at, turn in enumerate(turns) if _is_users(turn)), len(turns))
        turns = turns[: first + 1]
    before = [payload.get(name) for name in _BEFORE]
    return orjson.dumps(_cut([before, turns]), option=orjson.OPT_SORT_KEYS)


def _is_users(turn: Any) -> bool:
    return not isinstance(turn, dict) or turn.get("role", "user") == "user"


def _cut(value: Any) -> Any:
    """Long texts, images among them, by their first characters."""
    if isinstance(value, str):
        return value[:LEADING]
    if isinstance(value, list):
        return [_cut(one) for one in value[:LEADING]]
    if isinstance(value, dict):
        return {name[:LEADING]: _cut(one) for name, one in value.items()}
    return value
