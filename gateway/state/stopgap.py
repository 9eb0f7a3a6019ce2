"""What each rule does while the shared store is away, by its own word: a local share, no limit, or a refusal."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from gateway.core.claim import Claim, Grant, Limit
from gateway.core.failure import StoreGone
from gateway.core.meters import Meters
from gateway.state.bucket import pace
from gateway.state.memory import MemoryAllowance

MOST_HEARD = 20_000  # buckets whose use is remembered


class Stopgap:
    """A share begins as far used as the whole was when it was last heard of: an outage fills no bucket."""

    def __init__(self, meters: Meters, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._store_errors = meters.store_errors
        self._local = MemoryAllowance(meters, clock)
        self._clock = clock
        self._shares: dict[tuple[Limit, int], Limit] = {}
        # Of buckets more than half used: how many units, and when by the clock.
        self.heard: dict[tuple[str, str, str], tuple[int, int]] = {}

    def hear(self, claim: Claim, used: int) -> None:
        """How many units of a claim's bucket were used when its call had been decided. Concurrency is another matter:
        what is in flight ends, and nobody would tell."""
        limit, name = claim.limit, (claim.limit.rule, claim.limit.unit, claim.bucket)
        if used * 2 <= limit.limit or limit.unit == "concurrent":
            self.heard.pop(name, None)  # what was claimed then has been given back since
            return
        if len(self.heard) >= MOST_HEARD:
            self.heard.clear()
        self.heard[name] = used, self._clock()

    def take(self, claims: Sequence[Claim], processes: int) -> Grant:
        """`processes`: among how many a limit is shared. Raises StoreGone, LimitReached."""
        shared: list[Claim] = []
        for claim in claims:
            limit = claim.limit
            self._store_errors.add((limit.on_store_error,))
            if limit.on_store_error == "local_share":
                shared.append(self._share(claim, processes))
            elif limit.on_store_error == "refuse" and limit.mode == "enforce":
                raise StoreGone(
                    f'rule "{limit.rule}" refuses calls while its store is away; try again in 1 s',
                    rule=limit.rule,
                )
        return self._local.take(shared)

    def settle(self, grant: Grant, tokens: int) -> None:
        self._local.settle(grant, tokens)

    def release(self, grant: Grant) -> None:
        self._local.release(grant)

    def _share(self, claim: Claim, processes: int) -> Claim:
        """This process's part of the limit. A claim larger than the part takes all of it: the rest of what it
        uses is owed at settling."""
        limit = claim.limit
        share = self._shares.get((limit, processes))
        if share is None:
            if len(self._shares) > 1000:  # policy sets come and go
                self._shares.clear()
            share = self._shares[limit, processes] = replace(limit, limit=max(1, limit.limit // processes))
        heard = self.heard.get((limit.rule, limit.unit, claim.bucket))
        if heard is not None:
            rate, per = pace(limit)
            still = max(0, heard[0] - (self._clock() - heard[1]) // 1000 * rate // per)
            self._local.use_at_least(share, claim.bucket, still * share.limit // limit.limit)
        return Claim(share, claim.bucket, min(claim.amount, share.limit))
