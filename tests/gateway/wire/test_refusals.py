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


def test_what_only_openai_knows_of_a_message_is_told() -> None:
    left_out: list[str] = []
    dropped: list[str] = []
    refusals = Refusals("Latin", dropped, left_out)
    refusals.of_message({"role": "user", "name": "ann", "content": "hi"}, "messages[0]")
    refusals.of_message({"role": "function", "name": "f", "content": "r"}, "messages[1]")
    refusals.of_message({"role": "assistant", "audio": {"id": "a"}}, "messages[2]")
    assert (left_out, dropped) == (["messages.name"], ["messages[2].audio"])


def test_how_closely_to_look_at_a_picture_is_told_where_it_says_something() -> None:
    left_out: list[str] = []
    refusals = Refusals("Latin", None, left_out)
    for image in ("https://a/b", {"url": "https://a/b"}, {"url": "https://a/b", "detail": "auto"}):
        refusals.of_part({"type": "image_url", "image_url": image})
    assert left_out == []
    refusals.of_part({"type": "image_url", "image_url": {"url": "https://a/b", "detail": "low"}})
    assert left_out == ["image_url.detail"]


def test_a_place_in_the_chat_call_is_the_nearest_that_came_from_a_known_one() -> None:
    refusals = Refusals("Latin", None)
    part = refusals.stands_for({"type": "text"}, "input[3].content[1]")
    chat = {"messages": [{"content": [{}, part]}], "n": 2}
    refusals.fields["n"] = "candidates"
    assert refusals.origin(chat, "messages[0].content[1].text") == "input[3].content[1]"
    assert refusals.origin(chat, "messages[0].content[0]") == "messages[0].content[0]"
    assert refusals.origin(chat, "n") == "candidates"
    assert refusals.origin(chat, "n[0].x") == "candidates[0].x"
