from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.claim import Limit
from gateway.core.exchange import Shape
from gateway.core.failure import NeverFits
from gateway.policy.expression import Condition
from gateway.policy.globs import matcher
from gateway.policy.rate_limit import SEPARATOR, RateLimits, Rule, When, part
from tests.gateway.policy.calls import exchange

REQUESTS = Limit("per-key", "requests", 600, 60)
TOKENS = Limit("tokens", "tokens", 20_000, 60)
AT_ONCE = Limit("at-once", "concurrent", 4)


def gate(*rules: Rule, first: bool = False, cap: int | None = None) -> RateLimits:
    return RateLimits(rules, first, cap)


def ids(limits: RateLimits, **call: object) -> list[str]:
    return [claim.limit.rule for claim in limits.claims(exchange(**call))]  # type: ignore[arg-type]  # keywords


def test_a_rule_without_conditions_is_about_every_call() -> None:
    [claim] = gate(Rule(REQUESTS)).claims(exchange())
    assert claim == (REQUESTS, "", 1)


def test_requests_and_calls_at_once_count_one_each() -> None:
    assert [claim.amount for claim in gate(Rule(REQUESTS), Rule(AT_ONCE)).claims(exchange())] == [1, 1]


@pytest.mark.parametrize(
    ("when", "call", "missed"),
    [
        (When(teams=matcher(["free"])), {"team": "free"}, ""),
        (When(teams=matcher(["free"])), {"team": "paid"}, "when.teams"),
        (When(keys=matcher(["ci*"])), {"key": "ci-2"}, ""),
        (When(keys=matcher(["ci*"])), {"key": "cd"}, "when.keys"),
        (When(models=matcher(["gpt-*"])), {"model": "gpt-5"}, ""),
        (When(models=matcher(["gpt-*"])), {"model": "o1"}, "when.models"),
        (When(metadata=(("env", matcher(["prod"])),)), {"metadata": {"env": "prod"}}, ""),
        (When(metadata=(("env", matcher(["prod"])),)), {"metadata": {"env": "test"}}, "when.metadata.env"),
        (When(metadata=(("env", matcher(["*"])),)), {"metadata": {}}, "when.metadata.env"),
    ],
)
def test_when_names_the_first_predicate_that_fails(when: When, call: dict[str, str], missed: str) -> None:
    assert Rule(REQUESTS, when).misses(exchange(**call)) == missed  # type: ignore[arg-type]  # keywords
    assert ids(gate(Rule(REQUESTS, when)), **call) == ([] if missed else ["per-key"])


def test_models_match_the_asked_name_not_the_configured_one() -> None:
    rule = Rule(REQUESTS, When(models=matcher(["gpt-5"])))
    assert not rule.misses(exchange(model="gpt-5", configured="gpt-*"))
    assert rule.misses(exchange(model="gpt-*", configured="gpt-5")) == "when.models"


def test_an_expression_decides_after_when_and_its_error_makes_the_rule_apply() -> None:
    errors: list[int] = []
    rule = Rule(
        REQUESTS,
        When(teams=matcher(["free"])),
        Condition("metadata.tier == 'low'"),
        lambda exchange: errors.append(1),
    )
    assert rule.misses(exchange(metadata={"tier": "low"})) == ""
    assert rule.misses(exchange(metadata={"tier": "high"})) == "if"
    assert rule.misses(exchange(team="paid")) == "when.teams"
    assert not errors
    assert rule.misses(exchange()) == ""
    assert errors == [1]


def test_all_matching_rules_count_and_of_a_first_gate_only_the_first() -> None:
    free = Rule(REQUESTS, When(teams=matcher(["free"])))
    rules = (free, Rule(TOKENS), Rule(AT_ONCE))
    assert ids(gate(*rules)) == ["per-key", "tokens", "at-once"]
    assert ids(gate(*rules, first=True)) == ["per-key"]
    assert ids(gate(*rules, first=True), team="paid") == ["tokens"]
    assert ids(gate(free, first=True), team="paid") == []


@pytest.mark.parametrize(
    ("parts", "bucket"),
    [
        ([], ""),
        (["key"], "ci"),
        (["team", "user"], f"free{SEPARATOR}ada"),
        (["model"], "gpt-*"),
        (["metadata.app", "key"], f"chat{SEPARATOR}ci"),
        (["metadata.gone"], ""),
    ],
)
def test_for_each_tells_buckets_apart(parts: list[str], bucket: str) -> None:
    rule = Rule(REQUESTS, parts=tuple(part(name) for name in parts))
    call = exchange(user="ada", metadata={"app": "chat"}, model="gpt-x", configured="gpt-*")
    assert rule.claim(call, None).bucket == bucket


def test_a_caller_cannot_write_the_boundary_between_two_parts() -> None:
    rule = Rule(REQUESTS, parts=(part("user"), part("metadata.app")))
    one = rule.claim(exchange(user=f"a{SEPARATOR}b", metadata={"app": "c"}), None).bucket
    two = rule.claim(exchange(user="a", metadata={"app": f"b{SEPARATOR}c"}), None).bucket
    assert one != two
    assert one.count(SEPARATOR) == two.count(SEPARATOR) == 1


@given(
    tokens=st.integers(0, 1000),
    bound=st.integers(0, 1000),
    choices=st.integers(0, 10),
    cap=st.none() | st.integers(1, 500),
    assumed=st.integers(1, 500),
)
def test_tokens_are_the_prompt_and_the_bound_of_every_choice(
    tokens: int, bound: int, choices: int, cap: int | None, assumed: int
) -> None:
    rule = Rule(Limit("t", "tokens", 10**9, 60), assume_output=assumed)
    claim = rule.claim(exchange(shape=Shape(tokens, bound, choices)), cap)
    each = bound if bound else cap if cap is not None else assumed
    assert claim.amount == tokens + choices * each


def test_what_can_never_fit_names_its_rule_and_shadow_lets_it_pass() -> None:
    shape = Shape(input_tokens=20_001, max_tokens=1)
    with pytest.raises(NeverFits, match='rule "tokens" never has more than 20000 tokens') as caught:
        gate(Rule(TOKENS)).claims(exchange(shape=shape))
    assert caught.value.rule == "tokens"
    shadow = Limit("tokens", "tokens", 20_000, 60, "shadow")
    assert [claim.amount for claim in gate(Rule(shadow)).claims(exchange(shape=shape))] == [20_002]


def test_what_exactly_fits_is_claimed() -> None:
    [claim] = gate(Rule(TOKENS)).claims(exchange(shape=Shape(19_999, 1)))
    assert claim.amount == 20_000


def test_the_cap_of_the_team_bounds_what_a_call_leaves_open() -> None:
    [claim] = gate(Rule(TOKENS), cap=50).claims(exchange(shape=Shape(10)))
    assert claim.amount == 60


def lane(limits: RateLimits, *, model: str | None) -> RateLimits:
    return limits.within("ci", "free", model, 77)


def test_within_a_lane_only_rules_that_can_match_are_left() -> None:
    limits = gate(
        Rule(REQUESTS, When(teams=matcher(["free"]), keys=matcher(["ci"]))),
        Rule(TOKENS, When(teams=matcher(["paid"]))),
        Rule(AT_ONCE, When(keys=matcher(["other"]))),
    )
    left = lane(limits, model="gpt-5")
    assert [rule.limit.rule for rule in left.rules] == ["per-key"]
    assert left.cap == 77


def test_a_rule_with_nothing_left_to_ask_is_settled_within_its_lane() -> None:
    limits = gate(
        Rule(REQUESTS, When(teams=matcher(["free"]), models=matcher(["gpt-5"]))),
        Rule(TOKENS, condition=Condition("request.stream")),
        Rule(AT_ONCE, When(metadata=(("env", matcher(["*"])),))),
    )
    assert [rule.settled for rule in lane(limits, model="gpt-5").rules] == [True, False, False]
    assert [rule.settled for rule in lane(gate(limits.rules[0]), model=None).rules] == [False]


def test_a_condition_on_key_and_team_alone_is_settled_within_a_lane() -> None:
    limits = gate(
        Rule(REQUESTS, condition=Condition("team == 'free' && key == 'ci'")),
        Rule(TOKENS, condition=Condition("team == 'paid'")),
        Rule(AT_ONCE, condition=Condition("request.model == 'gpt-5'")),
    )
    one, many = lane(limits, model="gpt-5"), lane(limits, model=None)
    assert [(rule.limit.rule, rule.settled) for rule in one.rules] == [("per-key", True), ("at-once", True)]
    assert [(rule.limit.rule, rule.settled) for rule in many.rules] == [("per-key", True), ("at-once", False)]
    assert ids(many, model="gpt-6") == ["per-key"]


def test_within_a_lane_of_one_model_the_model_is_settled_and_of_a_glob_it_is_not() -> None:
    limits = gate(Rule(REQUESTS, When(models=matcher(["gpt-5"]))))
    assert lane(limits, model="o1").rules == ()
    assert lane(limits, model="gpt-5").rules[0].when.models is None
    open_lane = lane(limits, model=None)
    assert ids(open_lane, model="gpt-5") == ["per-key"]
    assert ids(open_lane, model="gpt-6") == []


CONDITIONS = [
    None,
    "team == 'free'",
    "key in ['ci', 'cd']",
    "request.model == 'o1'",
    "team == 'free' || request.stream",
    "1 / 0 == 1",
]


@given(
    teams=st.none() | st.lists(st.sampled_from(["free", "pa*"]), max_size=2),
    keys=st.none() | st.lists(st.sampled_from(["ci", "c?"]), max_size=2),
    models=st.none() | st.lists(st.sampled_from(["gpt-*", "o1"]), max_size=2),
    parts=st.lists(
        st.sampled_from(["key", "team", "model", "user", "metadata.app"]), max_size=3, unique=True
    ),
    first=st.booleans(),
    who=st.tuples(st.sampled_from(["free", "paid"]), st.sampled_from(["ci", "cd", "x"])),
    model=st.sampled_from(["gpt-5", "o1"]),
    known=st.booleans(),
    text=st.sampled_from(CONDITIONS),
)
def test_a_lane_claims_what_the_whole_gate_would(
    teams: list[str] | None,
    keys: list[str] | None,
    models: list[str] | None,
    parts: list[str],
    first: bool,
    who: tuple[str, str],
    model: str,
    known: bool,
    text: str | None,
) -> None:
    def optional(names: list[str] | None) -> Callable[[str], bool] | None:
        return None if names is None else matcher(names)

    when = When(optional(teams), optional(keys), optional(models))
    for_each = tuple(part(name) for name in parts)
    condition = Condition(text) if text else None
    limits = gate(Rule(REQUESTS, when, condition, parts=for_each), Rule(TOKENS, parts=for_each), first=first)
    call = exchange(
        team=who[0],
        key=who[1],
        model=model,
        configured=model if known else "*",
        user="ada",
        metadata={"app": "chat"},
    )
    narrowed = limits.within(who[1], who[0], model if known else None, None)
    assert list(narrowed.claims(call)) == list(limits.claims(call))
