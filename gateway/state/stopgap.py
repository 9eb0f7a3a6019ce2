"""What each rule does while the shared store is away, by its own word: a local share, no limit, or a refusal."""

from collections.abc import Sequence
from dataclasses import replace

from gateway.core.claim import Claim, Grant, Limit
from gateway.core.failure import StoreGone
from gateway.core.meters import Meters
from gateway.state.memory import MemoryAllowance


class Stopgap:
    def __init__(self, meters: Meters) -> None:
        self._store_errors = meters.store_errors
        self._local = MemoryAllowance(meters)
        self._shares: dict[tuple[Limit, int], Limit] = {}

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
        return Claim(share, claim.bucket, min(claim.amount, share.limit))
