"""Reserve claims before a call, settle them after it: the interface both stores keep."""

from collections.abc import Sequence
from typing import Protocol

from gateway.core.claim import Claim, Grant


class Allowance(Protocol):
    """Buckets refill evenly in integer arithmetic: in any span t a rule admits at most
    limit x (1 + t / per) units over all processes that share the store."""

    async def reserve(self, claims: Sequence[Claim], hold: float) -> Grant:
        """All claims or none, in one step. `hold` is how many seconds a reservation may stay open before it
        is swept (its process died). Raises LimitReached (the rule that has the longest wait) or StoreGone."""
        ...

    def settle(self, grant: Grant, tokens: int) -> None:
        """The call reached a provider and used `tokens`: correct the token claims (a bucket may go
        negative), give concurrency back. Never waits; settling twice counts once."""
        ...

    def release(self, grant: Grant) -> None:
        """The call never left for a provider: give everything back. Never waits."""
        ...

    @property
    def degraded(self) -> list[str]:
        """What of the store is away, for `/health/ready`; empty when all is well."""
        ...

    async def aclose(self) -> None:
        """Write what is queued, then close."""
        ...
