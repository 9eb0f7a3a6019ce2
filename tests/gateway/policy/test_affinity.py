"""Conversations stay where their beginning is cached, and nobody drowns in them."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Exchange, Target
from gateway.policy.affinity import EXCESS, LEADING, SPARE, PrefixAware, beginning
from tests.gateway.policy.calls import exchange, target
from tests.gateway.policy.test_routing import Known

TARGETS = [target(f"engine{n}/m") for n in range(5)]
SYSTEM = {"role": "system", "content": "You are terse."}


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def asking(payload: Mapping[str, Any]) -> Exchange:
    made = exchange()
    made.call = replace(made.call, payload=payload)
    return made


def chat(*turns: Mapping[str, Any]) -> Exchange:
    return asking({"messages": [SYSTEM, *turns]})


def first(call: Exchange, targets: Sequence[Target] = TARGETS, busy: dict[str, int] | None = None) -> str:
    return PrefixAware().order(call, targets, Known(busy=busy), lambda: 0.5)[0].name


@given(question=st.text(max_size=50), answer=st.text(max_size=50), more=st.text(max_size=50))
def test_later_turns_go_where_the_first_one_went(question: str, answer: str, more: str) -> None:
    opening = user(question)
    second = chat(opening, {"role": "assistant", "content": answer}, user(more))
    assert first(chat(opening)) == first(second)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"messages": [user("a")]}, {"messages": [user("b")]}),
        ({"messages": [user("a")]}, {"messages": [user("a")], "tools": [{"name": "t"}]}),
        ({"system": "x", "messages": [user("a")]}, {"system": "y", "messages": [user("a")]}),
        ({"contents": [{"parts": [{"text": "a"}]}]}, {"contents": [{"parts": [{"text": "b"}]}]}),
        ({"systemInstruction": "x", "contents": []}, {"systemInstruction": "y", "contents": []}),
        ({"system_instruction": "x", "contents": []}, {"system_instruction": "y", "contents": []}),
        ({"instructions": "x", "input": "a"}, {"instructions": "y", "input": "a"}),
        ({"input": "a"}, {"input": "b"}),
        ({"prompt": "a"}, {"prompt": "b"}),
        ({"prompt": [1, 2]}, {"prompt": [2, 2]}),
        ({"messages": "no list"}, {"messages": None}),
    ],
)
def test_what_conversations_begin_with_tells_them_apart(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert beginning(one) != beginning(other)


def test_a_turn_that_names_no_role_is_the_users() -> None:
    opening = {"parts": [{"text": "a"}]}
    assert beginning({"contents": [opening]}) == beginning(
        {"contents": [opening, {"role": "model"}, opening]}
    )


def test_the_order_of_an_objects_members_and_what_follows_a_long_beginning_tell_nothing() -> None:
    assert beginning({"messages": [{"role": "user", "content": "a"}]}) == beginning(
        {"messages": [{"content": "a", "role": "user"}]}
    )
    long = "x" * LEADING
    assert beginning({"prompt": long + "a"}) == beginning({"prompt": long + "b"})
    assert len(beginning({"messages": [user([{"image_url": {"url": long * 100}}])]})) < 2 * LEADING


def test_conversations_are_spread_evenly() -> None:
    found = Counter(first(chat(user(f"question {n}"))) for n in range(5000))
    assert all(900 < count < 1100 for count in found.values())


@given(n=st.integers(0, 10**6), lost=st.integers(0, 4))
def test_a_replica_that_is_lost_moves_its_own_conversations_only(n: int, lost: int) -> None:
    call = chat(user(f"question {n}"))
    before = first(call)
    left = [one for one in TARGETS if one is not TARGETS[lost]]
    assert before == TARGETS[lost].name or first(call, left) == before


def test_the_place_of_a_target_does_not_depend_on_the_order_of_the_file() -> None:
    shuffled = random.Random(3).sample(TARGETS, len(TARGETS))
    assert all(first(chat(user(str(n)))) == first(chat(user(str(n))), shuffled) for n in range(50))


@given(calls=st.integers(1, 300), ends=st.integers(0, 10**6))
def test_one_shared_beginning_fills_no_replica_beyond_its_bound(calls: int, ends: int) -> None:
    busy: dict[str, int] = dict.fromkeys((one.name for one in TARGETS), 0)
    dice = random.Random(ends)
    for _ in range(calls):
        chosen = first(chat(user("always the same")), busy=busy)
        busy[chosen] += 1
        assert busy[chosen] <= max(EXCESS * sum(busy.values()) / len(TARGETS), SPARE)
        done = dice.choice(TARGETS).name
        if dice.random() < 0.3 and busy[done]:
            busy[done] -= 1


def test_a_few_calls_at_once_stay_together() -> None:
    home = first(chat(user("a")))
    assert first(chat(user("a")), busy={home: SPARE - 1}) == home
    assert first(chat(user("a")), busy={home: SPARE}) != home


def test_where_all_are_about_as_busy_conversations_stay_where_they_are() -> None:
    busy = {target.name: 20 + 2 * place for place, target in enumerate(TARGETS)}
    for question in range(20):
        call = chat(user(f"question {question}"))
        assert first(call, busy=busy) == first(call)


def test_those_that_are_full_come_last_and_the_least_loaded_of_them_first() -> None:
    busy = {"engine0/m": 90, "engine1/m": 80}
    ordered = PrefixAware().order(chat(user("a")), TARGETS, Known(busy=busy), lambda: 0.5)
    assert [one.name for one in ordered[-2:]] == ["engine1/m", "engine0/m"]
    assert first(chat(user("a")), [TARGETS[0]], busy) == "engine0/m"


def test_under_a_glob_the_load_is_that_of_the_asked_model() -> None:
    targets = [target(f"engine{n}/*") for n in range(5)]
    call = chat(user("a"))
    home = first(call, targets)
    full = home.replace("*", call.call.model)
    assert first(call, targets, {full: SPARE}) != home
    assert first(call, targets, {full.replace(call.call.model, "other"): SPARE}) == home
