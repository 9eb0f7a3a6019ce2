"""In which order the targets of a model are tried; which of them may be tried is the caller's business."""

from collections.abc import Sequence
from math import log

from gateway.core.exchange import Exchange, Target
from gateway.policy.base import Dice, Health

JITTER = 0.1  # keeps targets that are equally fast sharing the load
EXPLORE = 0.02  # share of calls that measure a slower target again, lest a recovered one be forgotten


class Priority:
    """As the policy file lists them."""

    def order(
        self, exchange: Exchange, targets: Sequence[Target], health: Health, dice: Dice
    ) -> Sequence[Target]:
        return targets


class Weighted:
    """At random by weight, and the rest behind in the same manner (weighted sampling without replacement,
    Efraimidis and Spirakis 2006: the smallest of exponential variates with the weights as rates wins)."""

    def order(
        self, exchange: Exchange, targets: Sequence[Target], health: Health, dice: Dice
    ) -> Sequence[Target]:
        drawn = [(-log(1.0 - dice()) / target.weight, place) for place, target in enumerate(targets)]
        return [targets[place] for _, place in sorted(drawn)]


class Fastest:
    """By smoothed time to the first byte. Targets that nobody has tried yet come first, so that they are."""

    def order(
        self, exchange: Exchange, targets: Sequence[Target], health: Health, dice: Dice
    ) -> Sequence[Target]:
        def seconds(target: Target) -> float:
            latency = health.latency(target.asked_name(exchange.call.model))
            return -dice() if latency is None else latency * (1 + JITTER * dice())

        ordered = sorted(targets, key=seconds)
        if dice() < EXPLORE:
            ordered.insert(0, ordered.pop(int(dice() * len(ordered))))
        return ordered


class LeastBusy:
    """By calls in flight from this process; the listed order decides between equals."""

    def order(
        self, exchange: Exchange, targets: Sequence[Target], health: Health, dice: Dice
    ) -> Sequence[Target]:
        model = exchange.call.model
        return sorted(targets, key=lambda target: health.in_flight(target.asked_name(model)))
