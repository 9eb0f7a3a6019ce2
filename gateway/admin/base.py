"""What the back door needs from the rest of the house: facts by asking, acts by name."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.config.policies import Policies
from gateway.core.key import KeyFacts
from gateway.core.readiness import Readiness


class Keys(Protocol):
    async def create(self, name: str, team: str, expires: float | None = None) -> tuple[str, str]: ...

    async def revoke(self, name: str) -> None: ...

    async def rotate(self, name: str) -> tuple[str, str]: ...

    async def listed(self) -> list[dict[str, Any]]: ...

    def named(self, name: str) -> KeyFacts | None: ...


@dataclass(slots=True, frozen=True)
class Backoffice:
    """With several workers, `targets`, `metrics` and `drain` ask all of them."""

    policies: Policies
    keys: Keys
    usage: Callable[[list[str], float], Awaitable[dict[str, Any]]]  # by, since (epoch seconds)
    targets: Callable[[], Awaitable[list[dict[str, Any]]]]
    drain: Callable[[str, bool], Awaitable[None]]
    metrics: Callable[[], Awaitable[bytes]]
    ready: Callable[[], Readiness]
    audit: Callable[[str, str], None]  # what was done, to what
    now: Callable[[], float]
    admin_token: str = field(repr=False)
    metrics_token: str = field(repr=False)
