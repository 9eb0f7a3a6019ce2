"""What a rule wants reserved before a call may go on, and what was granted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gateway.core.fact import fact

Unit = Literal["requests", "tokens", "concurrent"]
Mode = Literal["enforce", "shadow"]
OnStoreError = Literal["local_share", "allow", "refuse"]


@dataclass(slots=True, frozen=True)
class Limit:
    """One rule's bucket size: `limit` units, full at first, refilled evenly over `per` seconds.

    `concurrent` has no period (`per` is 0): its units come back when the call ends.
    """

    rule: str
    unit: Unit
    limit: int
    per: int = 0
    mode: Mode = "enforce"
    on_store_error: OnStoreError = "local_share"


class Claim(NamedTuple):
    """`amount` units out of one bucket of a limit; `bucket` tells the buckets of a rule apart
    (the values of its `for_each`, joined by 0x1f; empty for the one bucket of a rule without)."""

    limit: Limit
    bucket: str
    amount: int


@fact
class Standing:
    """How a bucket stood right after the reservation: units left, seconds until it is full again."""

    limit: Limit
    remaining: int
    reset: float


@fact
class Grant:
    """A reservation that was made. `id` is unique, so that settling twice counts once; `claims` are what was reserved,
    where the store keeps no account of that itself."""

    id: str
    claims: Sequence[Claim] = ()
    standings: Sequence[Standing] = ()


NO_GRANT = Grant("")
