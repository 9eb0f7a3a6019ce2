"""A field without a word in the other format is refused by name; where a fallback must do, it is named and left out."""

from typing import Any

import pytest

from gateway.core.failure import BadRequest
from gateway.wire.refusals import Refusals


def test_a_field_that_cannot_be_carried_is_refused_by_name() -> None:
    with pytest.raises(BadRequest) as caught:
        Refusals("Latin", None).add("tools[2]")
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "tools[2]")
    assert "cannot be carried over to Latin" in caught.value.message


def test_before_a_fallback_it_is_written_down_and_left_out() -> None:
    dropped: list[str] = []
    Refusals("Latin", dropped).add("seed")
    assert dropped == ["seed"]


def test_what_is_always_left_out_is_told_where_somebody_listens() -> None:
    left_out: list[str] = []
    Refusals("Latin", None, left_out).leave_out("tools[0]")
    Refusals("Latin", None).leave_out("tools[0]")
    assert left_out == ["tools[0]"]


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}, "auto", "default"])
def test_a_member_that_says_nothing_is_not_told(value: Any) -> None:
    left_out: list[str] = []
    Refusals("Latin", None, left_out).leave_out_of({"service_tier": value}, ("service_tier", "store"))
    assert left_out == []


def test_members_are_told_with_where_they_stand_the_same_way_each_time() -> None:
    left_out: list[str] = []
    refusals = Refusals("Latin", None, left_out)
    refusals.leave_out_of({"store": True, "service_tier": "flex", "n": 2}, {"store", "service_tier"})
    refusals.leave_out_rest({"type": "text", "text": "a", "phase": "x"}, {"type", "text"}, "input.")
    refusals.leave_out_rest({"type": "text"}, {"type", "text"}, "input.")
    refusals.leave_out_within({"text": {"format": {}, "verse": True}, "tool_choice": "auto"},
                              {"text": {"format"}, "tool_choice": {"type"}})  # fmt: skip
    assert left_out == ["service_tier", "store", "input.phase", "text.verse"]


def test_a_place_in_the_chat_call_is_the_nearest_that_came_from_a_known_one() -> None:
    refusals = Refusals("Latin", None)
    part = refusals.stands_for({"type": "text"}, "input[3].content[1]")
    chat = {"messages": [{"content": [{}, part]}], "n": 2}
    refusals.fields["n"] = "candidates"
    assert refusals.origin(chat, "messages[0].content[1].text") == "input[3].content[1]"
    assert refusals.origin(chat, "messages[0].content[0]") == "messages[0].content[0]"
    assert refusals.origin(chat, "n") == "candidates"
    assert refusals.origin(chat, "n[0].x") == "candidates[0].x"
    refusals.fields["messages.thoughts"] = "input.reasoning"
    assert refusals.origin(chat, "messages.thoughts") == "input.reasoning"
