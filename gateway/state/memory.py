"""The allowance of a gateway that runs as one process: buckets in a dict, decided without waiting."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count

from gateway.core.claim import NOTHING, Claim, Grant, Limit, Standing
from gateway.core.meters import Meters
from gateway.state.bucket import LARGEST, Shortage, pace, refuse, standing

Name = tuple[str, str, str]  # rule, unit, bucket

# Each new bucket looks at two old ones and drops those that are full again: at most about half of all
# buckets are dead weight, however many names callers invent, and no sweep ever holds up the loop.
LOOKED_AT = 2


class Bucket:
    """`used` is in units times `per`, so that refilling is one subtraction without remainder."""

    __slots__ = ("at", "per", "rate", "used")

    def __init__(self, now: int, rate: int, per: int) -> None:
        self.at, self.used, self.rate, self.per = now, 0, rate, per

    def refill(self, now: int, rate: int, per: int) -> None:
        """Bring the bucket to `now` (microseconds); pace as the rule says today."""
        if per != self.per:
            self.used = -(-self.used * per // self.per)
            self.per = per
        used = self.used - (now - self.at) * rate
        self.used = used if used > 0 else 0
        self.at, self.rate = now, rate

    def exactly(self) -> tuple[int, int]:
        """Used units and their carry, as `gateway.state.bucket` counts them."""
        used = -(-self.used // self.per)
        return used, used * self.per - self.used


class MemoryAllowance:
    """Implements `Allowance`. `clock` gives nanoseconds that never go back."""

    def __init__(self, meters: Meters, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._decisions = meters.decisions
        self._clock = clock
        self._buckets: dict[Name, Bucket] = {}
        self._oldest: deque[Name] = deque()
        self._open: set[str] = set()
        self._numbers = count(1)

    @property
    def size(self) -> int:
        """Buckets that are remembered."""
        return len(self._buckets)

    async def reserve(self, claims: Sequence[Claim], hold: float) -> Grant:
        return self.take(claims)

    def take(self, claims: Sequence[Claim]) -> Grant:
        """`reserve` without waiting: nothing has to be held, for these buckets die with their process."""
        if not claims:
            return NOTHING
        now = self._clock() // 1000
        taken: list[tuple[Bucket, Claim]] = []
        standings: list[Standing] = []
        refused: list[Shortage] = []
        for claim in claims:
            limit, name, amount = claim
            bucket = self._bucket(limit, name, now)
            if bucket.used + amount * bucket.per <= limit.limit * bucket.per:
                bucket.used += amount * bucket.per
                taken.append((bucket, claim))
            elif limit.mode == "shadow":
                self._decisions.add((limit.rule, "shadow_refused"))
            else:
                refused.append(Shortage(claim, *bucket.exactly()))
            if limit.mode == "enforce":
                standings.append(standing(limit, *bucket.exactly()))
        if refused:
            self._undo(taken)
            raise refuse(refused, self._decisions)
        return self._granted([claim for _, claim in taken], standings)

    def _undo(self, taken: list[tuple[Bucket, Claim]]) -> None:
        for bucket, claim in taken:
            bucket.used -= claim.amount * bucket.per

    def _granted(self, claims: list[Claim], standings: list[Standing]) -> Grant:
        for claim in claims:
            self._decisions.add((claim.limit.rule, "allowed"))
        grant = Grant(f"m{next(self._numbers)}", tuple(claims), tuple(standings))
        self._open.add(grant.id)
        return grant

    def settle(self, grant: Grant, tokens: int) -> None:
        if grant.id not in self._open:
            return
        self._open.remove(grant.id)
        for claim in grant.claims:
            if claim.limit.unit == "tokens":
                self._give_back(claim, claim.amount - min(max(tokens, 0), LARGEST))
            elif claim.limit.unit == "concurrent":
                self._give_back(claim, claim.amount)

    def release(self, grant: Grant) -> None:
        if grant.id not in self._open:
            return
        self._open.remove(grant.id)
        for claim in grant.claims:
            self._give_back(claim, claim.amount)

    @property
    def degraded(self) -> list[str]:
        return []

    async def aclose(self) -> None:
        """Nothing is queued."""

    def _bucket(self, limit: Limit, name: str, now: int) -> Bucket:
        rate, per = pace(limit)
        key = (limit.rule, limit.unit, name)
        bucket = self._buckets.get(key)
        if bucket is None:
            self._drop_full(now)
            bucket = self._buckets[key] = Bucket(now, rate, per)
            self._oldest.append(key)
        else:
            bucket.refill(now, rate, per)
        return bucket

    def _drop_full(self, now: int) -> None:
        for _ in range(min(LOOKED_AT, len(self._oldest))):
            key = self._oldest.popleft()
            bucket = self._buckets[key]
            bucket.refill(now, bucket.rate, bucket.per)
            if bucket.used:
                self._oldest.append(key)
            else:
                del self._buckets[key]

    def _give_back(self, claim: Claim, amount: int) -> None:
        """A negative amount is what was used beyond the estimate."""
        bucket = self._bucket(claim.limit, claim.bucket, self._clock() // 1000)
        bucket.used = max(0, bucket.used - amount * bucket.per)
