from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Exchange, Shape
from gateway.policy.expression import BadExpression, Condition, ConditionFailed, Facts
from tests.gateway.policy.calls import NO_METADATA, exchange

SHAPE = Shape(input_tokens=10, max_tokens=100, choices=2, messages=3, tools=4, images=5)


def verdict(text: str, metadata: Mapping[str, str] = NO_METADATA) -> bool | str:
    call = exchange(model="gpt-5", key="ci", team="free", user="ada", metadata=metadata, shape=SHAPE)
    try:
        return Condition(text).holds(Facts(call))
    except ConditionFailed:
        return "error"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True),
        ("false", False),
        ("!false", True),
        ("request.model == 'gpt-5'", True),
        ("request.model == 'gpt-6'", False),
        ("request.stream", False),
        ("!request.stream", True),
        ("request.max_tokens == 100", True),
        ("request.max_tokens <= 99", False),
        ("request.input_tokens == 10 && request.messages == 3", True),
        ("request.tools == 4 && request.images == 5", True),
        ("key == 'ci' && team == 'free' && user == 'ada'", True),
        ("team in ['research', 'ops']", False),
        ("time.getFullYear() == 2027 && time.getHours() == 8", True),
        ("timestamp('2027-01-01T00:00:00Z') < time", True),
        ("request.model.startsWith('gpt-')", True),
        ("request.model.matches('^gpt-[0-9]+$')", True),
        ("has(metadata.env)", False),
        ("metadata.env == 'prod'", "error"),
        ("metadata['env'] == 'prod'", "error"),
        ("'env' in metadata && metadata.env == 'prod'", False),
        ("metadata.env == 'prod' || true", True),
        ("metadata.env == 'prod' && false", False),
        ("1 / 0 == 1", "error"),
        ("int(user) == 1", "error"),
        ("request.model.matches('(')", "error"),
    ],
)
def test_the_truth_table(text: str, expected: bool | str) -> None:
    assert verdict(text) is expected or verdict(text) == expected == "error"


def test_metadata_that_is_there_is_compared() -> None:
    assert verdict("metadata.env == 'prod'", {"env": "prod"}) is True
    assert verdict("metadata.env == 'prod'", {"env": "test"}) is False


def test_false_and_errors_are_never_taken_for_true_by_the_predicate() -> None:
    errors: list[int] = []
    for text, wanted, counted in (
        ("true", True, 0),
        ("false", False, 0),
        ("metadata.gone == 'x'", False, 1),
        ("1 / 0 == 1", False, 1),
    ):
        errors.clear()
        predicate = Condition(text).or_false(lambda exchange: errors.append(1))
        assert predicate(exchange()) is wanted
        assert len(errors) == counted


def test_a_runaway_expression_is_stopped_and_is_an_error() -> None:
    numbers = "[" + ",".join("1" * 200) + "]"
    text = f"{numbers}.all(a, {numbers}.all(b, {numbers}.all(c, a + b + c > 0)))"
    with pytest.raises(ConditionFailed, match="budget"):
        Condition(text).holds(Facts(exchange()))


def test_a_hostile_regular_expression_is_harmless() -> None:
    assert (
        Condition("request.model.matches('(a+)+$')").holds(Facts(exchange(model="a" * 5000 + "!"))) is False
    )


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("request.foo == 1", (1, 8), 'there is no "request.foo"; there are request.{model'),
        ("tem == 'a'", (1, 1), 'there is no "tem"'),
        ("request.stream &&", (1, 18), "mend the expression here"),
        ("", (1, 1), "mend the expression here"),
        ("request.model == 1", (1, 15), "both sides must be of one kind"),
        ("true &&\n  nobody", (2, 3), 'there is no "nobody"'),
        ("request.max_tokens", (1, 1), "true or false"),
        ("metadata", (1, 1), "true or false"),
        ("(" * 300 + "true" + ")" * 300, (1, 1), "simpler"),
    ],
)
def test_what_is_wrong_is_told_at_load_with_its_place(text: str, place: tuple[int, int], words: str) -> None:
    with pytest.raises(BadExpression) as caught:
        Condition(text)
    assert (caught.value.line, caught.value.column) == place
    assert words in str(caught.value)


def test_a_value_that_is_no_truth_value_is_an_error() -> None:
    with pytest.raises(ConditionFailed):
        Condition("metadata.flag == 'x'").holds(Facts(exchange()))


@pytest.mark.parametrize(
    "call",
    [
        exchange(user="admin\0x"),
        exchange(user="admin", model="gpt-5\0x"),
        exchange(user="admin", metadata={"a": "b\0"}),
        exchange(user="admin", metadata={"a\0": "b"}),
        exchange(user="\ud800"),
    ],
)
def test_text_the_library_would_misread_is_an_error(call: Exchange) -> None:
    with pytest.raises(ConditionFailed):
        Condition("user == 'admin'").holds(Facts(call))


@given(
    st.booleans(),
    st.integers(0, 200),
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8),
)
def test_the_library_agrees_with_python(stream: bool, most: int, user: str) -> None:
    condition = Condition("request.stream && request.max_tokens <= 100 || size(user) > 3")
    call = exchange(stream=stream, shape=Shape(max_tokens=most), user=user)
    assert condition.holds(Facts(call)) is ((stream and most <= 100) or len(user) > 3)


NAMES = {"key": "ci", "team": "free"}


@pytest.mark.parametrize(
    ("text", "names", "known"),
    [
        ("team == 'free'", NAMES, True),
        ("team == 'paid' || key.startsWith('x')", NAMES, False),
        ("true", NAMES, True),
        ("team == 'free' && request.stream", NAMES, None),
        ("metadata.env == 'prod'", NAMES, None),
        ("request.model == 'gpt-5'", NAMES, None),
        ("request.model == 'gpt-5'", {**NAMES, "request.model": "gpt-5"}, True),
        ("team == 'free' && 1 / 0 == 1", NAMES, None),  # each call counts the error
    ],
)
def test_what_key_team_and_model_settle_is_known_before_a_call(
    text: str, names: dict[str, str], known: bool | None
) -> None:
    condition = Condition(text)
    assert [condition.settled(names), condition.settled(names)] == [known, known]


def test_conditions_that_share_the_facts_of_a_call_say_what_each_would_alone() -> None:
    facts = Facts(exchange(user="ada", shape=SHAPE, metadata={"env": "prod"}))
    for text in ("user == 'ada'", "metadata.env == 'prod'", "request.max_tokens == 100", "time < time"):
        assert Condition(text).holds(facts) is (text != "time < time")
