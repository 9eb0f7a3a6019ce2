"""Kind `rate-limits`: requests, tokens and calls in flight, by key, team, user, model or metadata.

Decides which rules a call falls under and how much of each it needs; `state` does the counting.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from gateway.core.claim import Claim, Limit
from gateway.core.exchange import Exchange
from gateway.core.failure import NeverFits
from gateway.policy.expression import Condition, ConditionFailed, Facts, OnError
from gateway.policy.globs import Matcher

SEPARATOR = "\x1f"

Part = Callable[[Exchange], str]
_PARTS: dict[str, Part] = {
    "key": lambda exchange: exchange.caller.key,
    "team": lambda exchange: exchange.caller.team,
    # Free text of the caller must not pass for the boundary between two parts.
    "user": lambda exchange: exchange.caller.user.replace(SEPARATOR, " "),
    # The configured name: names invented under a glob would each open a new bucket.
    "model": lambda exchange: exchange.model,
}


def part(name: str) -> Part:
    """What tells the buckets of a rule apart: one of key, team, user, model, metadata.NAME."""
    if name.startswith("metadata."):
        wanted = name.removeprefix("metadata.")
        return lambda exchange: exchange.caller.metadata.get(wanted, "").replace(SEPARATOR, " ")
    return _PARTS[name]


@dataclass(slots=True, frozen=True)
class When:
    """Which calls a rule is about. None: any."""

    teams: Matcher | None = None
    keys: Matcher | None = None
    models: Matcher | None = None  # of the asked name
    metadata: tuple[tuple[str, Matcher], ...] = ()

    def misses(self, exchange: Exchange) -> str:
        """The first predicate that fails, "" if none does."""
        caller = exchange.caller
        if self.teams is not None and not self.teams(caller.team):
            return "when.teams"
        if self.keys is not None and not self.keys(caller.key):
            return "when.keys"
        if self.models is not None and not self.models(exchange.call.model):
            return "when.models"
        for name, allowed in self.metadata:
            if name not in caller.metadata or not allowed(caller.metadata[name]):
                return f"when.metadata.{name}"
        return ""


@dataclass(slots=True, frozen=True)
class Rule:
    """One rule of a document: which calls it is about, and what each of them claims."""

    limit: Limit
    when: When = field(default_factory=When)
    condition: Condition | None = None
    on_error: OnError = field(default=lambda exchange: None, repr=False)
    parts: tuple[Part, ...] = ()  # for_each
    assume_output: int = 1024
    settled: bool = False  # applies to every call that comes this way: there is nothing left to ask
    bucket: str | None = None  # what `parts` give, where that is the same for every call
    ready: Claim | None = None  # the whole claim, where that is

    def misses(self, exchange: Exchange, facts: Facts | None = None) -> str:
        """The first predicate that this call fails, "" if the rule applies. An error of the condition makes
        the rule apply: a limit must not be dodged by a call that breaks its expression. `facts` are this call's, where
        other rules have asked about it before."""
        missed = self.when.misses(exchange)
        if missed or self.condition is None:
            return missed
        try:
            return "" if self.condition.holds(facts or Facts(exchange)) else "if"
        except ConditionFailed:
            self.on_error(exchange)
            return ""

    def claim(self, exchange: Exchange, cap: int | None) -> Claim:
        """`cap` is the team's output bound. Raises NeverFits for more than the whole bucket holds."""
        limit = self.limit
        amount = self._tokens(exchange, cap) if limit.unit == "tokens" else 1
        if amount > limit.limit and limit.mode == "enforce":
            raise NeverFits(
                f'rule "{limit.rule}" never has more than {limit.limit} {limit.unit}, and this call may need '
                f"{amount}; ask for less output or send a shorter prompt",
                rule=limit.rule,
            )
        bucket = self.bucket
        if bucket is None:
            bucket = SEPARATOR.join([get(exchange) for get in self.parts])
        return Claim(limit, bucket, amount)

    def within(self, key: str, team: str, model: str | None) -> "Rule | None":
        """This rule for one key, team and model: what these settle is asked no more. None where it never applies."""
        when, condition = self.when, self.condition
        settled = [(when.keys, key), (when.teams, team)]
        names = {"key": key, "team": team}
        if model is not None:
            settled.append((when.models, model))
            names["request.model"] = model
        if not all(allowed is None or allowed(name) for allowed, name in settled):
            return None
        if condition is not None and (verdict := condition.settled(names)) is not None:
            if not verdict:
                return None
            condition = None
        left = When(models=when.models if model is None else None, metadata=when.metadata)
        settles = left == When() and condition is None
        return replace(self._bound(key, team, model), when=left, condition=condition, settled=settles)

    def _bound(self, key: str, team: str, model: str | None) -> "Rule":
        """With what `parts` give, where that is known."""
        names = {_PARTS["key"]: key, _PARTS["team"]: team}
        if model is not None:
            names[_PARTS["model"]] = model
        if not all(part in names for part in self.parts):
            return self
        bucket = SEPARATOR.join(names[part] for part in self.parts)
        one = Claim(self.limit, bucket, 1)
        return replace(self, bucket=bucket, ready=None if self.limit.unit == "tokens" else one)

    def _tokens(self, exchange: Exchange, cap: int | None) -> int:
        shape = exchange.shape
        return shape.input_tokens + shape.choices * (shape.max_tokens or cap or self.assume_output)


@dataclass(slots=True, frozen=True)
class RateLimits:
    """The rules of one document as a gate. `first`: only the first rule that matches counts."""

    rules: tuple[Rule, ...]
    first: bool = False
    cap: int | None = None  # the team's output bound

    def claims(self, exchange: Exchange) -> Sequence[Claim]:
        """Raises NeverFits."""
        found, facts = [], None
        for rule in self.rules:
            if not rule.settled:
                facts = facts or Facts(exchange)
                if rule.misses(exchange, facts):
                    continue
            found.append(rule.ready or rule.claim(exchange, self.cap))
            if self.first:
                break
        return found

    def within(self, key: str, team: str, model: str | None, cap: int | None) -> "RateLimits":
        """This gate for one key, team and model: what is settled by these three is asked no more.
        `model` is None where the asked name is known only when the call comes."""
        kept = (rule.within(key, team, model) for rule in self.rules)
        return RateLimits(tuple(rule for rule in kept if rule is not None), self.first, cap)
