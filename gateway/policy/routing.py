"""In which order the targets of a model are tried."""

from collections.abc import Sequence

from gateway.core.exchange import Exchange, Target
from gateway.policy.base import Dice, Health


class Priority:
    """As the policy file lists them."""

    def order(
        self, exchange: Exchange, targets: Sequence[Target], health: Health, dice: Dice
    ) -> Sequence[Target]:
        return targets


class Weighted:
    """At random by weight, the rest behind in the same manner (Efraimidis and Spirakis, 2006)."""

    def order(
        self, exchange: Exchange, targets: Sequence[Target], health: Health, dice: Dice
    ) -> Sequence[Target]:
        keys = [(max(dice(), 1e-12) ** (1 / target.weight), target) for target in targets]
        return [target for _, target in sorted(keys, key=lambda pair: pair[0], reverse=True)]


class Fastest:
    """By smoothed time to the first byte; targets that nobody has tried yet come first, so that they are.

    The jitter of a tenth keeps equals sharing the load.
    """

    def order(
        self, exchange: Exchange, targets: Sequence[Target], health: Health, dice: Dice
    ) -> Sequence[Target]:
        def seconds(target: Target) -> float:
            latency = health.latency(target.name)
            return -1.0 if latency is None else latency * (0.95 + 0.1 * dice())

        return sorted(targets, key=seconds)


class LeastBusy:
    """By calls in flight from this process; the listed order decides between equals."""

    def order(
        self, exchange: Exchange, targets: Sequence[Target], health: Health, dice: Dice
    ) -> Sequence[Target]:
        return sorted(targets, key=lambda target: health.in_flight(target.name))
