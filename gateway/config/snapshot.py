"""What the papers say, in the shape the hot path wants. Never changed, only replaced."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.core.claim import Claim
from gateway.core.credential import Source
from gateway.core.exchange import Caller, Exchange, Target
from gateway.core.failure import Failure, Forbidden, NoTarget, NotFound
from gateway.core.key import KeyFacts
from gateway.policy.base import Gate, Selector
from gateway.policy.globs import Matcher
from gateway.policy.rate_limit import RateLimits
from gateway.policy.routing import Priority

MOST_ASKED = 1000  # asked names kept with their lanes: callers may invent any number under a glob
MOST_LANES = 10_000  # lanes kept ready


@dataclass(slots=True, frozen=True)
class Retry:
    """`attempts` counts tries at one target, the first included; `statuses` and `failures` lead on. Beyond HTTP's own
    statuses Cloudflare tells of a server behind it that fails (520-524), and Anthropic of too much load (529)."""

    attempts: int = 2
    statuses: frozenset[int] = frozenset({429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
    failures: frozenset[Failure] = frozenset({Failure.UNREACHABLE, Failure.TIMED_OUT})
    budget: float = 0.2  # same-target retries per call over 10 s


@dataclass(slots=True, frozen=True)
class Timeouts:
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
    models: Matcher = field(repr=False)  # may this team use that model
    max_output_tokens: int | None = None
    passthrough: frozenset[str] = frozenset()
    condition: Callable[[Exchange], bool] | None = field(default=None, repr=False)


@dataclass(slots=True, frozen=True)
class Engine:
    """A local engine the gateway starts, watches and restarts."""

    provider: str
    model: str
    socket: str
    flags: tuple[str, ...] = ()


@dataclass(slots=True, frozen=True)
class Model:
    """One entry of `models`; `name` is exact or a glob."""

    name: str
    targets: tuple[Target, ...]
    selector: Selector
    retry: Retry = DEFAULT_RETRY
    timeouts: Timeouts = DEFAULT_TIMEOUTS
    off: tuple[Target, ...] = ()  # whose providers are: nobody is sent there, but who asks why is told


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
        found: list[Claim] = []
        for gate in self.gates:
            found += gate.claims(exchange)
        return found


@dataclass(slots=True, frozen=True)
class Tables:
    """What `compile` found. `globs` are sorted, the longest first."""

    keys: Mapping[str, KeyFacts]  # by hash
    teams: Mapping[str, Team]
    exact: Mapping[str, Model]
    globs: Sequence[tuple[Matcher, Model]]
    limits: Sequence[RateLimits]
    providers: Mapping[str, Target]  # one that passes names through, per provider
    default_provider: str
    engines: Sequence[Engine] = ()
    warnings: Sequence[str] = ()
    secrets: Sequence[str] = field(default=(), repr=False)
    sources: Sequence[Source] = field(default=(), repr=False)  # of credentials that expire

    def targets(self) -> set[str]:
        """The names of all, as PROVIDER/MODEL."""
        models = [*self.exact.values(), *(model for _, model in self.globs)]
        listed = {target.name for model in models for target in model.targets}
        return listed | {target.name for target in self.providers.values()}


class Snapshot:
    """One compiled policy set."""

    def __init__(self, version: str, tables: Tables) -> None:
        self.version = version  # 12 hex
        self.tables = tables
        self.keys, self.teams = tables.keys, tables.teams
        # By key, team, model and, where the call names none, its provider.
        self._lanes: dict[tuple[str, str, str, str], Lane] = {}
        self._asked: dict[tuple[str, str, str], Lane] = {}  # by the asked name
        # Both are emptied when full: those that are in use come back.

    def lane(self, caller: Caller, model: str) -> Lane:
        """Raises Forbidden (checked first: what a team may not use, it cannot find out about) or NotFound."""
        at = (caller.key, caller.team, model)
        known = self._asked.get(at)
        if known is not None:
            return known
        team = self.teams[caller.team]
        if not team.models(model):
            raise Forbidden(f'team "{team.name}" may not use the model "{_shown(model)}"', param="model")
        found = self.find(model)
        if found is None or not found.targets:
            raise NotFound(f'there is no model "{_shown(model)}"; GET /v1/models lists yours', param="model")
        if len(self._asked) >= MOST_ASKED:
            self._asked.clear()
        lane = self._asked[at] = self._lane(caller, team, found)
        return lane

    def find(self, model: str) -> Model | None:
        """Exact names before globs, the longest glob first."""
        found = self.tables.exact.get(model)
        if found is not None:
            return found
        return next((entry for matches, entry in self.tables.globs if matches(model)), None)

    def provider_lane(self, caller: Caller, provider: str | None = None) -> Lane:
        """For endpoints that name no model: the named provider, else the default one. Raises NoTarget."""
        target = self.tables.providers.get(provider or self.tables.default_provider)
        if target is None and provider:
            raise NoTarget(f'the provider "{provider}", which made what this call is about, is off or gone')
        if target is None:
            raise NoTarget(
                "no provider is set up for endpoints that name no model; mark one with default: true"
            )
        team, other = self.teams[caller.team], Model("_other", (target,), Priority())
        return self._lane(caller, team, other, passing=target.provider)

    def listed(self, team: str) -> list[str]:
        """The exact model names a team may use, sorted; globs are not listed."""
        allowed = self.teams[team].models
        return sorted(name for name, model in self.tables.exact.items() if model.targets and allowed(name))

    def _lane(self, caller: Caller, team: Team, model: Model, passing: str = "") -> Lane:
        at = (caller.key, team.name, model.name, passing)
        lane = self._lanes.get(at)
        if lane is None:
            asked = model.name if model.name in self.tables.exact and not passing else None
            cap = team.max_output_tokens
            gates = [gate.within(caller.key, team.name, asked, cap) for gate in self.tables.limits]
            used = tuple(gate for gate in gates if gate.rules)
            if len(self._lanes) >= MOST_LANES:
                self._lanes.clear()
            lane = self._lanes[at] = Lane(
                model.name, team, model.targets, model.selector, used, model.retry, model.timeouts
            )
        return lane


def _shown(model: str) -> str:
    """A name from a request, fit for a message."""
    return "".join(char if char.isprintable() else "?" for char in model[:100])
