"""What a policy type must offer, and what it may ask."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from gateway.core.claim import Claim
from gateway.core.exchange import Exchange, Target

Dice = Callable[[], float]  # uniform in [0, 1)


class Health(Protocol):
    """What is known about targets, by provider/model as a call asks it of them."""

    def latency(self, asked: str) -> float | None:
        """Seconds to the first byte, smoothed; None while unknown."""
        ...

    def in_flight(self, asked: str) -> int: ...


class Gate(Protocol):
    """Raises a GatewayError to refuse, or names what must be reserved before the call may go on."""

    def claims(self, exchange: Exchange) -> Iterable[Claim]: ...


class Selector(Protocol):
    """Orders targets, the best first. It must not drop any: which ones are usable is asked by the caller."""

    def order(
        self, exchange: Exchange, targets: Sequence[Target], health: Health, dice: Dice
    ) -> Sequence[Target]: ...
