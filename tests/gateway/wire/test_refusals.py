"""A field without a word in the other format is refused by name; where a fallback must do, it is named and left out."""

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


def test_a_place_in_the_chat_call_is_the_nearest_that_came_from_a_known_one() -> None:
    refusals = Refusals("Latin", None)
    part = refusals.stands_for({"type": "text"}, "input[3].content[1]")
    chat = {"messages": [{"content": [{}, part]}], "n": 2}
    refusals.fields["n"] = "candidates"
    assert refusals.origin(chat, "messages[0].content[1].text") == "input[3].content[1]"
    assert refusals.origin(chat, "messages[0].content[0]") == "messages[0].content[0]"
    assert refusals.origin(chat, "n") == "candidates"
    assert refusals.origin(chat, "n[0].x") == "candidates[0].x"
