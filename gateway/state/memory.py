"""The allowance of a gateway that runs as one process: buckets in a dict, decided without waiting."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count

from gateway.core.claim import NO_GRANT, Claim, Grant, Limit, Standing
from gateway.core.meters import Meters
from gateway.core.tally import Count
from gateway.state.bucket import LARGEST, MICROSECONDS, Shortage, pace, refuse

Name = tuple[str, str, str]  # rule, unit, bucket

# Each new bucket looks at two old ones and drops those that are full again: at most about half of all
# buckets are dead weight, however many names callers invent, and no sweep ever holds up the loop.
LOOKED_AT = 2


class Bucket:
    """`used` is in units times `per`, so that refilling is one subtraction without remainder."""

    __slots__ = ("allowed", "at", "full", "limit", "per", "rate", "used")

    def __init__(self, now: int, limit: Limit, allowed: Count) -> None:
        self.at, self.used, self.limit, self.allowed = now, 0, limit, allowed
        self.rate, self.per = pace(limit)
        self.full = limit.limit * self.per

    def refill(self, now: int) -> None:
        """Bring the bucket to `now` (microseconds)."""
        used = self.used - (now - self.at) * self.rate
        self.used = used if used > 0 else 0
        self.at = now

    def follow(self, limit: Limit) -> None:
        """Keep what is used, under a rule that has changed."""
        self.limit = limit
        rate, per = pace(limit)
        if per != self.per:
            self.used = -(-self.used * per // self.per)
        self.rate, self.per, self.full = rate, per, limit.limit * per

    def exactly(self) -> tuple[int, int]:
        """Used units and their carry, as `gateway.state.bucket` counts them."""
        used = -(-self.used // self.per)
        return used, used * self.per - self.used

    def standing(self) -> Standing:
        left = (self.full - self.used) // self.per
        reset = self.used / (self.rate * MICROSECONDS) if self.rate else 0.0
        return Standing(self.limit, left if left > 0 else 0, reset)


class MemoryAllowance:
    """Implements `Allowance`. `clock` gives nanoseconds that never go back."""

    def __init__(self, meters: Meters, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._decisions = meters.decisions
        self._clock = clock
        self._buckets: dict[Name, Bucket] = {}
        self._oldest: deque[Name] = deque()
        self._open: dict[str, list[tuple[Bucket, Claim]]] = {}  # reservations that are not settled
        self._numbers = count(1)

    @property
    def size(self) -> int:
        """Buckets that are remembered."""
        return len(self._buckets)

    async def reserve(self, claims: Sequence[Claim], hold: float) -> Grant:
        return self.take(claims)

    def take(self, claims: Sequence[Claim]) -> Grant:
        """`reserve` without waiting: nothing has to be held, for these buckets die with their process.
        Raises LimitReached, NeverFits."""
        if not claims:
            return NO_GRANT
        now = self._clock() // 1000
        taken: list[tuple[Bucket, Claim]] = []
        standings: list[Standing] = []
        refused: list[Shortage] = []
        for claim in claims:
            limit, name, amount = claim
            bucket = self._buckets.get((limit.rule, limit.unit, name))
            if bucket is None or bucket.limit is not limit:
                bucket = self._bucket(limit, name, now)
                used = bucket.used
            else:  # refilled in place: a call for it is a third of what a claim costs
                used = bucket.used - (now - bucket.at) * bucket.rate
                bucket.used = used = used if used > 0 else 0
                bucket.at = now
            used += amount * bucket.per
            if used <= bucket.full:
                bucket.used = used
                taken.append((bucket, claim))
            elif limit.mode == "shadow":
                self._decisions.add((limit.rule, "shadow_refused"))
            else:
                refused.append(Shortage(claim, *bucket.exactly()))
            if limit.mode == "enforce":
                standings.append(bucket.standing())
        if refused:
            for bucket, claim in taken:
                bucket.used -= claim.amount * bucket.per
            raise refuse(refused, self._decisions)
        return self._granted(taken, standings)

    def _granted(self, taken: list[tuple[Bucket, Claim]], standings: list[Standing]) -> Grant:
        for bucket, _ in taken:
            bucket.allowed.n += 1
        grant = Grant(f"m{next(self._numbers)}", standings=standings)
        self._open[grant.id] = taken
        return grant

    def use_at_least(self, limit: Limit, name: str, units: int) -> None:
        """So much of a bucket is used, by others it may be."""
        bucket = self._bucket(limit, name, self._clock() // 1000)
        bucket.used = max(bucket.used, units * bucket.per)

    def settle(self, grant: Grant, tokens: int) -> None:
        for bucket, claim in self._open.pop(grant.id, ()):
            limit, _, amount = claim
            if limit.unit == "tokens":
                self._give_back(bucket, claim, amount - min(max(tokens, 0), LARGEST))
            elif limit.unit == "concurrent":
                self._give_back(bucket, claim, amount)

    def release(self, grant: Grant) -> None:
        for bucket, claim in self._open.pop(grant.id, ()):
            self._give_back(bucket, claim, claim.amount)

    @property
    def degraded(self) -> list[str]:
        return []

    async def aclose(self) -> None:
        """Nothing is queued."""

    def _bucket(self, limit: Limit, name: str, now: int) -> Bucket:
        key = (limit.rule, limit.unit, name)
        bucket = self._buckets.get(key)
        if bucket is None:
            self._drop_full(now)
            allowed = self._decisions.at((limit.rule, "allowed"))
            bucket = self._buckets[key] = Bucket(now, limit, allowed)
            self._oldest.append(key)
            return bucket
        if bucket.limit is not limit:
            bucket.follow(limit)
        bucket.refill(now)
        return bucket

    def _drop_full(self, now: int) -> None:
        for _ in range(min(LOOKED_AT, len(self._oldest))):
            key = self._oldest.popleft()
            bucket = self._buckets[key]
            bucket.refill(now)
            if bucket.used:
                self._oldest.append(key)
            else:
                del self._buckets[key]

    def _give_back(self, bucket: Bucket, claim: Claim, amount: int) -> None:
        """A negative amount is what was used beyond the estimate: it falls on the bucket as it is now, which
        may be another one, for full buckets are dropped."""
        if amount < 0:
            bucket = self._bucket(claim.limit, claim.bucket, self._clock() // 1000)
        used = bucket.used - amount * bucket.per
        bucket.used = used if used > 0 else 0
