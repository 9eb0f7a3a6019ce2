"""Kind `rate-limits`: requests, tokens and calls in flight, by key, team, user, model or metadata."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.core.claim import Claim, Limit
from gateway.core.exchange import Exchange
from gateway.core.failure import NeverFits
from gateway.policy.expression import Condition, ConditionFailed
from gateway.policy.globs import Matcher

SEPARATOR = "\x1f"

ForEach = Callable[[Exchange], str]
_PARTS: dict[str, ForEach] = {
    "key": lambda exchange: exchange.caller.key,
    "team": lambda exchange: exchange.caller.team,
    "user": lambda exchange: exchange.caller.user,
    "model": lambda exchange: exchange.model,
}


def part(name: str) -> ForEach:
    """What tells the buckets of a rule apart: one of key, team, user, model, metadata.NAME."""
    if name.startswith("metadata."):
        wanted = name.removeprefix("metadata.")
        return lambda exchange: exchange.caller.metadata.get(wanted, "")
    return _PARTS[name]


@dataclass(slots=True, frozen=True)
class When:
    """Which calls a rule is about. None: any."""

    teams: Matcher | None = None
    keys: Matcher | None = None
    models: Matcher | None = None
    metadata: tuple[tuple[str, Matcher], ...] = ()

    def misses(self, key: str, team: str, model: str) -> str:
        """The first predicate that fails for good, "" if none does; `model` is the asked name."""
        for name, allowed, value in (
            ("teams", self.teams, team),
            ("keys", self.keys, key),
            ("models", self.models, model),
        ):
            if allowed is not None and not allowed(value):
                return name
        return ""


@dataclass(slots=True, frozen=True)
class Rule:
    limit: Limit
    when: When = field(default_factory=When)
    condition: Condition | None = None
    on_error: Callable[[], None] = field(default=lambda: None)
    for_each: tuple[str, ...] = ()
    parts: tuple[ForEach, ...] = ()
    assume_output: int = 1024

    def misses(self, exchange: Exchange) -> str:
        """The first predicate that this call fails, "" if the rule applies. An error of the condition makes
        the rule apply: a limit must not be dodged by a call that breaks its expression."""
        caller = exchange.caller
        if missed := self.when.misses(caller.key, caller.team, exchange.call.model):
            return missed
        for name, allowed in self.when.metadata:
            if not allowed(caller.metadata.get(name, "")):
                return f"metadata.{name}"
        if self.condition is not None:
            try:
                return "" if self.condition.holds(exchange) else "if"
            except ConditionFailed:
                self.on_error()
        return ""

    def claim(self, exchange: Exchange, cap: int | None) -> Claim:
        """Raises NeverFits for more than the whole bucket holds."""
        limit = self.limit
        amount = 1 if limit.unit != "tokens" else self._tokens(exchange, cap)
        if amount > limit.limit and limit.mode == "enforce":
            raise NeverFits(
                f'rule "{limit.rule}" allows {limit.limit} {limit.unit} in all, and this call may need '
                f"{amount}; ask for less output or send less"
            )
        return Claim(limit, SEPARATOR.join([get(exchange) for get in self.parts]), amount)

    def _tokens(self, exchange: Exchange, cap: int | None) -> int:
        shape = exchange.shape
        return shape.input_tokens + shape.choices * (shape.max_tokens or cap or self.assume_output)


@dataclass(slots=True, frozen=True)
class RateLimits:
    """The rules of one document as a gate. `first`: only the first rule that matches counts."""

    rules: tuple[Rule, ...]
    first: bool = False
    cap: int | None = None  # the team's output cap

    def claims(self, exchange: Exchange) -> Sequence[Claim]:
        found = []
        for rule in self.rules:
            if rule.misses(exchange):
                continue
            found.append(rule.claim(exchange, self.cap))
            if self.first:
                break
        return found

    def within(self, key: str, team: str, cap: int | None) -> "RateLimits":
        """The same gate with only the rules that can ever match this key and team."""
        kept = tuple(
            rule
            for rule in self.rules
            if (rule.when.keys is None or rule.when.keys(key))
            and (rule.when.teams is None or rule.when.teams(team))
        )
        return RateLimits(kept, self.first, cap)
