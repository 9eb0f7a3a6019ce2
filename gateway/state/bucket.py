"""The arithmetic of one bucket and the words of its refusal; both stores decide by these numbers.

A bucket is kept as what is *used* of it: each claim adds, time takes away `limit` units per `per`, evenly and
never below nothing. A bucket nobody used is thus no bucket at all, and a limit that a new policy set changes
keeps what was used under the old one. `used` is exact: whole units less a carry of carry/per units.
"""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

from gateway.core.claim import Claim, Limit, Standing
from gateway.core.failure import GatewayError, LimitReached, NeverFits
from gateway.core.tally import Counter

MICROSECONDS = 1_000_000
LARGEST = 1 << 50  # amounts are cut off here: far beyond any limit, far below where doubles stop being exact
CONCURRENT_WAIT = 1.0  # when a call in flight ends is not known

_PERIODS = {1: "second", 60: "minute", 3600: "hour", 86400: "day"}


def pace(limit: Limit) -> tuple[int, int]:
    """Units that come back, and in how many microseconds. Concurrency comes back at settling: (0, 1)."""
    return (limit.limit, limit.per * MICROSECONDS) if limit.per else (0, 1)


def standing(limit: Limit, used: int, carry: int) -> Standing:
    rate, per = pace(limit)
    reset = -((carry - used * per) // rate) / MICROSECONDS if rate else 0.0
    return Standing(limit, max(0, limit.limit - used), reset)


class Shortage(NamedTuple):
    """A claim that did not fit, and how its bucket stood."""

    claim: Claim
    used: int
    carry: int


def wait(shortage: Shortage) -> float:
    """Seconds until the claim fits, if nobody else takes from the bucket."""
    rate, per = pace(shortage.claim.limit)
    if not rate:
        return CONCURRENT_WAIT
    missing = shortage.used + shortage.claim.amount - shortage.claim.limit.limit
    return -((shortage.carry - missing * per) // rate) / MICROSECONDS


def refuse(shortages: Sequence[Shortage], decisions: Counter) -> GatewayError:
    """Count each rule that had no room, and say the refusal the caller will see."""
    for shortage in shortages:
        decisions.add((shortage.claim.limit.rule, "refused"))
    return refusal(shortages)


def refusal(shortages: Sequence[Shortage]) -> GatewayError:
    """Of a claim that never fits, else of the one with the longest wait."""
    for shortage in shortages:
        if shortage.claim.amount > shortage.claim.limit.limit:
            return _never_fits(shortage.claim)
    longest = max(shortages, key=wait)
    return _limit_reached(longest, wait(longest))


def _never_fits(claim: Claim) -> NeverFits:
    limit = claim.limit
    return NeverFits(
        f'rule "{limit.rule}": this call needs {_count(claim.amount, limit)} and the rule never has more than '
        f"{_allowed(limit)}; ask for less output or send a shorter prompt",
        rule=limit.rule,
    )


def _limit_reached(shortage: Shortage, seconds: float) -> LimitReached:
    claim, limit = shortage.claim, shortage.claim.limit
    left = max(0, limit.limit - shortage.used)
    if limit.unit == "concurrent":
        why = f"{_allowed(limit)} {_are(limit)} in flight"
    elif left == 0:
        why = f"{_allowed(limit)} {_are(limit)} used up"
    else:
        why = f"{_count(claim.amount, limit)} do not fit into the {left} left of {_allowed(limit)}"
    message = f'rule "{limit.rule}": {why}; try again in {max(1, ceil(seconds))} s'
    stands = standing(limit, shortage.used, shortage.carry)
    return LimitReached(message, rule=limit.rule, retry_after=seconds, standing=stands)


def _are(limit: Limit) -> str:
    return "is" if limit.limit == 1 else "are"


def _count(amount: int, limit: Limit) -> str:
    unit = "calls" if limit.unit == "concurrent" else limit.unit
    return f"{amount} {unit[:-1] if amount == 1 else unit}"


def _allowed(limit: Limit) -> str:
    if limit.unit == "concurrent":
        return f"{_count(limit.limit, limit)} at a time"
    return f"{_count(limit.limit, limit)} per {_PERIODS.get(limit.per) or f'{limit.per} s'}"
