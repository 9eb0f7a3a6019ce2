from typing import Any

import pytest

from gateway.core.exchange import Call, Shape
from gateway.core.failure import BadRequest, Forbidden
from gateway.policy import access
from gateway.policy.expression import Condition
from tests.gateway.policy.calls import exchange


def test_a_team_without_rules_of_its_own_asks_what_it_likes() -> None:
    access.check(exchange(shape=Shape(max_tokens=10**9)), "free", None, None)


def test_more_output_than_the_cap_is_refused_by_name_and_the_cap_itself_is_not() -> None:
    access.check(exchange(shape=Shape(max_tokens=1000)), "free", 1000, None)
    with pytest.raises(
        BadRequest, match='team "free" may ask for at most 1000 output tokens, not 1001'
    ) as caught:
        access.check(exchange(shape=Shape(max_tokens=1001)), "free", 1000, None)
    assert caught.value.code == "max_output_tokens_exceeded"


def test_a_condition_refuses_when_false_and_when_it_fails() -> None:
    errors: list[int] = []
    condition = Condition("metadata.env == 'prod'").or_false(lambda exchange: errors.append(1))
    access.check(exchange(metadata={"env": "prod"}), "free", None, condition)
    for metadata in ({"env": "test"}, {"other": "prod"}):
        with pytest.raises(Forbidden, match="access condition") as caught:
            access.check(exchange(metadata=metadata), "free", None, condition)
        assert caught.value.code == "access_denied"
    assert len(errors) == 1


def named(dialect: str, payload: dict[str, Any], path: str = "/x") -> str | None:
    """The field that is named to a caller who asked for too much."""
    asked = exchange(shape=Shape(max_tokens=9))
    asked.call = Call("x", dialect, "POST", path, b"", payload, "m", stream=False)
    with pytest.raises(BadRequest) as caught:
        access.check(asked, "free", 5, None)
    return caught.value.param


@pytest.mark.parametrize(
    ("dialect", "payload", "field"),
    [
        ("openai.chat", {"max_tokens": 9}, "max_tokens"),
        ("openai.chat", {"max_completion_tokens": 9, "max_tokens": 1}, "max_completion_tokens"),
        ("openai.chat", {"max_completion_tokens": 1, "max_tokens": 9}, "max_tokens"),
        ("openai.chat", {"max_completion_tokens": 5, "max_tokens": 9}, "max_tokens"),
        ("openai.completions", {"max_tokens": 9, "max_completion_tokens": 9}, "max_tokens"),
        ("openai.responses", {"max_output_tokens": 9, "max_tokens": 9}, "max_output_tokens"),
        ("openai.raw", {"max_output_tokens": 9}, "max_output_tokens"),
        ("anthropic.messages", {"max_tokens": 9}, "max_tokens"),
        ("gemini.generate", {"generationConfig": {"maxOutputTokens": 9}}, "generationConfig.maxOutputTokens"),
        ("gemini.array", {"generationConfig": {"maxOutputTokens": 9}}, "generationConfig.maxOutputTokens"),
    ],
)
def test_a_refusal_names_the_field_as_the_calls_dialect_does(
    dialect: str, payload: dict[str, Any], field: str
) -> None:
    assert named(dialect, payload) == field


def test_a_refusal_of_a_run_names_the_bound_of_runs() -> None:
    assert named("openai.raw", {"max_completion_tokens": 9}, "/threads/t/runs") == "max_completion_tokens"
