import pytest

from gateway.core.exchange import Shape
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
    condition = Condition("metadata.env == 'prod'").or_false(lambda: errors.append(1))
    access.check(exchange(metadata={"env": "prod"}), "free", None, condition)
    for metadata in ({"env": "test"}, {"other": "prod"}):
        with pytest.raises(Forbidden, match="access condition") as caught:
            access.check(exchange(metadata=metadata), "free", None, condition)
        assert caught.value.code == "access_denied"
    assert len(errors) == 1
