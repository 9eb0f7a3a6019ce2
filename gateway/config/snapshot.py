"""What the papers say, in the shape the hot path wants. Never changed, only replaced."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.core.claim import Claim
from gateway.core.exchange import Caller, Exchange, Target
from gateway.core.failure import Failure
from gateway.core.key import KeyFacts as KeyFacts
from gateway.policy.base import Gate, Selector


class Retry(NamedTuple):
    """`attempts` counts tries at one target, the first included; `statuses` and `failures` lead on."""

    attempts: int = 2
    statuses: frozenset[int] = frozenset({429, 500, 502, 503, 504})
    failures: frozenset[Failure] = frozenset({Failure.UNREACHABLE, Failure.TIMED_OUT})
    budget: float = 0.2  # same-target retries per call over 10 s


class Timeouts(NamedTuple):
    """Seconds."""

    connect: float = 2.0
    first_token: float = 60.0
    idle: float = 60.0
    total: float = 600.0


DEFAULT_RETRY = Retry()
DEFAULT_TIMEOUTS = Timeouts()


@dataclass(slots=True, frozen=True)
class Team:
    name: str
    models: Callable[[str], bool] = field(repr=False)  # may this team use that model
    max_output_tokens: int | None = None
    passthrough: frozenset[str] = frozenset()
    condition: Callable[[Exchange], bool] | None = field(default=None, repr=False)


@dataclass(slots=True, frozen=True)
class Engine:
    """A local engine the gateway starts, watches and restarts."""

    provider: str
    model: str
    socket: str


@dataclass(slots=True, frozen=True)
class Lane:
    """Everything that applies to one (key, team, model), resolved ahead of time."""

    model: str  # the configured name, as metrics call it
    team: Team
    targets: tuple[Target, ...]
    selector: Selector
    gates: tuple[Gate, ...]
    retry: Retry = DEFAULT_RETRY
    timeouts: Timeouts = DEFAULT_TIMEOUTS

    def claims(self, exchange: Exchange) -> list[Claim]:
        """Raises a GatewayError where a gate refuses outright."""
        return [claim for gate in self.gates for claim in gate.claims(exchange)]


class Snapshot:
    """One compiled policy set. `lane` finds what applies to a call; `compile` fills the tables."""

    version: str  # 12 hex of the SHA-256 over the papers
    keys: Mapping[str, KeyFacts]  # by hash
    teams: Mapping[str, Team]
    engines: Sequence[Engine]
    warnings: Sequence[str]

    def lane(self, caller: Caller, model: str) -> Lane:
        """Raises Forbidden (checked first) or NotFound."""
        raise NotImplementedError

    def provider_lane(self, caller: Caller, provider: str | None = None) -> Lane:
        """For endpoints that name no model: the named provider, else the default one."""
        raise NotImplementedError

    def listed(self, team: str) -> list[str]:
        """The exact model names a team may use, sorted; globs are not listed."""
        raise NotImplementedError
