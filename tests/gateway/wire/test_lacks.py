"""What a format lacks of a chat call is told by its table: refused where it changes the answer, else named."""

from typing import Any

import pytest

from gateway.core.failure import BadRequest
from gateway.wire.lacks import Lacks, always
from gateway.wire.refusals import Refusals

NOTHING = Lacks({})
SIGNED = Lacks({}, takes={"reasoning_details": lambda detail: "signature" in detail})
TEXT, SIGN = {"type": "reasoning.text", "text": "hm"}, {"type": "reasoning.text", "signature": "s"}


def told(lacks: Lacks, dropped: list[str] | None = None, **chat: Any) -> list[str]:
    left_out: list[str] = []
    lacks.tell(chat, Refusals("Latin", dropped, left_out))
    return left_out


def said(lacks: Lacks, *messages: Any) -> list[str]:
    return told(lacks, messages=list(messages))


def test_a_field_that_changes_the_answer_is_refused_unless_it_asks_for_nothing() -> None:
    lacks = Lacks({"n": (1,), "seed": ()})
    assert told(lacks, n=1, seed=None) == []
    with pytest.raises(BadRequest, match="'n' cannot be carried"):
        told(lacks, n=2)
    dropped: list[str] = []
    told(lacks, dropped, n=2, seed=0)
    assert dropped == ["n", "seed"]


def test_a_field_that_changes_nothing_of_it_is_left_out_and_named() -> None:
    lacks = Lacks({}, frozenset({"store", "metadata"}))
    assert told(lacks, store=True, metadata={}, other=1) == ["store"]


def test_what_only_openai_knows_of_a_message_is_named() -> None:
    assert said(NOTHING, {"role": "user", "name": "ann"}, {"role": "function", "name": "f"}) == [
        "messages.name"
    ]
    dropped: list[str] = []
    assert told(NOTHING, dropped, messages=[{"role": "assistant", "audio": {"id": "a"}}]) == []
    assert dropped == ["messages[0].audio"]


def test_how_closely_to_look_at_a_picture_is_named_where_it_says_something() -> None:
    def shown(picture: Any, lacks: Lacks = NOTHING) -> list[str]:
        return said(lacks, {"role": "user", "content": [{"type": "image_url", "image_url": picture}]})

    for picture in ("https://a/b", {"url": "https://a/b"}, {"url": "https://a/b", "detail": "auto"}):
        assert shown(picture) == []
    close = {"url": "https://a/b", "detail": "low"}
    assert shown(close) == ["image_url.detail"]
    assert shown(close, Lacks({}, words=frozenset({"detail"}))) == []
    assert shown(close, Lacks({}, words=frozenset({"image_url"}))) == []  # taken whole


@pytest.mark.parametrize(
    ("message", "names"),
    [
        ({"reasoning_content": "hm"}, ["messages.reasoning_content"]),
        ({"reasoning_content": "hm", "reasoning_details": [SIGN]}, []),
        ({"reasoning_content": "hm", "reasoning_details": [SIGN, TEXT]}, ["messages.reasoning_details"]),
        ({"reasoning_details": [TEXT]}, ["messages.reasoning_details"]),
        ({"reasoning_details": [], "annotations": []}, []),
        ({"is_error": True, "annotations": [{}]}, ["messages.annotations", "messages.is_error"]),
    ],
)
def test_thoughts_are_taken_back_each_or_named(message: Any, names: list[str]) -> None:
    assert said(SIGNED, {"role": "assistant", "content": "a", **message}) == names


def test_what_a_format_has_further_words_for_is_not_named() -> None:
    lacks = Lacks({}, takes={"cache_control": always}, words=frozenset({"is_error", "cache_control"}))
    marked = {"cache_control": {"type": "ephemeral"}}
    chat: Any = {
        "tools": [{"type": "function", "function": {"name": "f"}, **marked}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a", **marked}], **marked},
            {"role": "tool", "content": "r", "is_error": True},
        ],
    }
    assert told(lacks, **chat) == []
    assert told(NOTHING, **chat) == [
        "tools.cache_control", "messages.cache_control", "messages.cache_control", "messages.is_error"
    ]  # fmt: skip


def test_what_stands_deeper_is_named_with_what_holds_it() -> None:
    schema = {"name": "a", "schema": {}, "description": "d"}
    call = {"id": "c", "type": "function", "function": {}, "extra_content": {"google": {}}}
    assert told(
        NOTHING,
        response_format={"type": "json_schema", "json_schema": schema, "odd": 1},
        tool_choice={"type": "function", "odd": 1},
        tools=[{"type": "function", "function": {"name": "f", "odd": 1}}],
        messages=[{"role": "assistant", "tool_calls": [call]}],
    ) == [
        "response_format.odd", "tool_choice.odd", "response_format.json_schema.description", "tools.function.odd",
        "messages.tool_calls.extra_content",
    ]  # fmt: skip


def test_what_is_no_call_at_all_is_left_to_who_reads_it() -> None:
    assert told(NOTHING, tools="f", messages={"role": "user"}, response_format="json") == []
    assert said(NOTHING, "hi", {"role": "user", "content": [None]}, {"tool_calls": {"id": "c"}}) == []
