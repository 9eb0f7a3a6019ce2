"""The arithmetic of one bucket and the words of its refusal; both stores decide by these numbers.

A bucket is kept as what is *used* of it: each claim adds, time takes away `limit` units per `per`, evenly and
never below nothing. A bucket nobody used is thus no bucket at all, and a limit that a new policy set changes
keeps what was used under the old one. `used` is exact: whole units less a carry of carry/per units.
"""

from gateway.core.claim import Claim, Limit, Standing
from gateway.core.failure import LimitReached, NeverFits

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


def wait(claim: Claim, used: int, carry: int) -> float:
    """Seconds until `claim` fits into a bucket of which `used` units, less the carry, are used."""
    rate, per = pace(claim.limit)
    if not rate:
        return CONCURRENT_WAIT
    missing = used + claim.amount - claim.limit.limit
    return -((carry - missing * per) // rate) / MICROSECONDS


def never_fits(claim: Claim) -> NeverFits:
    limit = claim.limit
    return NeverFits(
        f'rule "{limit.rule}": this call needs {_count(claim.amount, limit)} and the rule never has more than '
        f"{_allowed(limit)}; ask for less output or send a shorter prompt"
    )


def refusal(claim: Claim, used: int, seconds: float) -> LimitReached:
    """`seconds` is what `wait` said."""
    limit, whole = claim.limit, max(1, -int(-seconds // 1))
    left = max(0, limit.limit - used)
    if left == 0 or limit.unit == "concurrent":
        verb = "is" if limit.limit == 1 else "are"
        why = f"{_allowed(limit)} {verb} {'in flight' if limit.unit == 'concurrent' else 'used up'}"
    else:
        why = f"{_count(claim.amount, limit)} do not fit into the {left} left of {_allowed(limit)}"
    return LimitReached(
        f'rule "{limit.rule}": {why}; try again in {whole} s', rule=limit.rule, retry_after=seconds
    )


def _count(amount: int, limit: Limit) -> str:
    unit = "calls" if limit.unit == "concurrent" else limit.unit
    return f"{amount} {unit[:-1] if amount == 1 else unit}"


def _allowed(limit: Limit) -> str:
    if limit.unit == "concurrent":
        return f"{_count(limit.limit, limit)} at a time"
    return f"{_count(limit.limit, limit)} per {_PERIODS.get(limit.per) or f'{limit.per} s'}"
