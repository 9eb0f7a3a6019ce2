"""Anthropic's Messages between equals: read, sized, watched, and not a byte changed."""

from typing import Any

import orjson
import pytest

from gateway.core.exchange import Call, Shape
from gateway.core.failure import BadRequest, Failure, UpstreamFailed
from gateway.core.usage import Usage
from gateway.wire.base import Asked, Changes
from gateway.wire.messages.dialect import CountTokens, Messages, MessagesTap
from gateway.wire.sse import BadStream
from gateway.wire.thoughts import packed

MESSAGES = Messages()
ASKS = b'{"model": "m", "messages": [], "max_tokens" : 9}'


def call(body: bytes = ASKS) -> Call:
    payload, model, stream = MESSAGES.read(body)
    return Call("messages", "anthropic.messages", "POST", "/messages", body, payload, model, stream)


def told(**event: Any) -> bytes:
    return b"event: x\ndata: %b\n\n" % orjson.dumps(event)


def tap() -> tuple[MessagesTap, Usage]:
    usage = Usage()
    return MESSAGES.tap(Asked({}, usage)), usage


@pytest.mark.parametrize("body", [b'{"model": "m"}', b'{"model": "m", "messages": "hi"}'])
def test_a_call_without_a_list_of_messages_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        MESSAGES.read(body)
    assert caught.value.param == "messages"


def test_the_shape_counts_the_system_prompt_and_the_tools() -> None:
    payload = {
        "messages": [{"content": "12345678"}],
        "max_tokens": 9,
        "system": "s" * 38,
        "tools": [{"x": 1}],
    }
    assert MESSAGES.shape(payload, 1) == Shape(18, 9, 1, 1, 1)
    assert MESSAGES.shape({"messages": []}, 1) == Shape()
    assert CountTokens().shape(payload, 1) == Shape(0, 0, 0)


def test_nothing_changes_but_the_model_and_what_the_provider_adds() -> None:
    assert MESSAGES.write(call(), Changes("m", params={"max_tokens": 5})) is ASKS
    changed = MESSAGES.write(call(), Changes("n", params={"top_k": 5}))
    assert changed == b'{"top_k":5,"model": "n", "messages": [], "max_tokens" : 9}'
    assert MESSAGES.gives_usage({})
    assert MESSAGES.refusal(400, b"{ }") == b"{ }"


FOREIGN: dict[str, Any] = {
    "type": "redacted_thinking",
    "data": packed({"type": "reasoning.encrypted", "data": "sig", "format": "other"}),
}
OWN: dict[str, Any] = {"type": "redacted_thinking", "data": "EmwKAhgB"}


@pytest.mark.parametrize("dialect", [MESSAGES, CountTokens()])
def test_thoughts_that_another_provider_signed_are_left_out_and_named(dialect: Messages) -> None:
    def said(*blocks: dict[str, Any]) -> list[dict[str, Any]]:
        turns: list[dict[str, Any]] = [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": list(blocks)},
        ]
        return [*turns, {"role": "user", "content": [{"type": "text", "text": f"like {FOREIGN['data']}"}]}]

    def sent(*blocks: dict[str, Any]) -> tuple[Any, list[str]]:
        left: list[str] = []
        body = orjson.dumps({"model": "m", "messages": said(*blocks)})
        return orjson.loads(dialect.write(call(body), Changes("m", left_out=left)))["messages"], left

    text = {"type": "text", "text": "a"}
    assert sent(FOREIGN, OWN, text) == (said(OWN, text), ["messages.thinking"])
    assert sent(FOREIGN)[0] == [one for one in said() if one["content"]]
    assert sent(OWN, text)[0] == said(OWN, text)


def test_an_answer_goes_by_the_name_that_its_model_was_asked_for() -> None:
    watched = MESSAGES.tap(Asked({}, Usage(), named='the "smart" one'))
    start = (
        b'event: x\ndata: {"type": "message_start", "message": {"id": "a", "model": "m", "content": []}}\n\n'
    )
    asks = told(type="content_block_start", content_block={"type": "tool_use", "input": {"model": "m"}})
    passed = watched.feed(start + asks)
    assert passed == start.replace(b'"model": "m"', b'"model":"the \\"smart\\" one"') + asks
    whole = b'{"model" : "m", "content": [{"input": {"model": "m"}}], "usage": {"output_tokens": 1}}'
    assert watched.whole(whole) == whole.replace(b'"m"', b'"the \\"smart\\" one"', 1)
    assert watched.whole(b'{"input_tokens": 1}') is None


def test_an_answer_under_the_providers_own_name_is_not_touched() -> None:
    watched, _ = tap()
    start = told(type="message_start", message={"model": "m"})
    assert watched.feed(start) is start
    assert watched.whole(b'{"model": "m", "usage": {"output_tokens": 1}}') is None


def test_an_error_in_a_stream_is_an_event_of_anthropics() -> None:
    event = MESSAGES.error_event(UpstreamFailed("broke", Failure.BROKEN), "r")
    assert event.startswith(b"event: error\ndata: {")
    assert event.endswith(b',"request_id":"r"}\n\n')


def test_a_stream_is_watched_to_its_end() -> None:
    watched, usage = tap()
    start = told(type="message_start", message={"usage": {"input_tokens": 2, "cache_read_input_tokens": 5}})
    text = told(type="content_block_delta", delta={"type": "text_delta", "text": "12345678"})
    assert watched.feed(start[:20]) == b""
    assert not watched.begun
    assert watched.feed(start[20:] + text) == start + text
    assert (watched.begun, usage.prompt, usage.cached, usage.completion, usage.reported) == (
        True,
        7,
        5,
        2,
        False,
    )
    counts = {"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}}
    watched.feed(told(type="message_delta", delta={"stop_reason": "tool_use"}, usage=counts))
    assert (usage.prompt, usage.completion, usage.reasoning, usage.reported) == (7, 9, 4, True)
    assert (watched.finish_reason, watched.finished) == ("tool_calls", False)
    stop = told(type="message_stop")
    assert watched.feed(stop) is stop
    assert (watched.finished, watched.failed) == (True, False)


def test_a_stream_that_said_why_it_stops_is_settled_and_gets_its_last_event_at_its_end() -> None:
    watched, _ = tap()
    watched.feed(told(type="message_delta", delta={"stop_reason": None}))
    assert not watched.settled
    watched.feed(told(type="message_delta", delta={"stop_reason": "end_turn"}) + b"event: message_st")
    assert (watched.settled, watched.finished) == (True, False)
    assert watched.rest() == b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    assert watched.finished
    assert watched.rest() == b""


def test_a_stream_that_failed_behind_its_reason_gets_none() -> None:
    watched, _ = tap()
    watched.feed(told(type="message_delta", delta={"stop_reason": "end_turn"}) + told(type="error", error={}))
    assert (watched.rest(), watched.finished) == (b"", False)


def test_a_text_that_talks_of_events_is_no_event() -> None:
    watched, _ = tap()
    watched.feed(told(type="content_block_delta", delta={"text": '"type": "error"'}))
    watched.feed(told(type="content_block_delta", delta={"type": "error"}))
    watched.feed(told(type="content_block_delta", delta={"type": "message_stop"}))
    assert (watched.failed, watched.finished) == (False, False)


def test_an_event_that_is_not_valid_breaks_the_stream() -> None:
    watched, _ = tap()
    with pytest.raises(BadStream, match="an event is not valid JSON"):
        watched.feed(b'data: {"type":"error"\n\n')


def test_an_error_and_a_start_without_counts_are_noted() -> None:
    watched, usage = tap()
    watched.feed(told(type="message_start", message={"usage": None}))
    watched.feed(told(type="error", error={"message": "busy"}))
    assert (watched.failed, usage.prompt) == (True, 0)


@pytest.mark.parametrize(("cut", "rest"), [(1, b"\n"), (2, b"\n\n"), (9, b"")])
def test_only_a_whole_last_event_is_completed(cut: int, rest: bytes) -> None:
    watched, _ = tap()
    stop = told(type="message_stop")
    watched.feed(stop[:-cut])
    assert watched.rest() == (stop if rest else b"")
    assert watched.finished is bool(rest)


def test_a_whole_answer_is_counted_or_estimated() -> None:
    watched, usage = tap()
    counts = {"input_tokens": 2, "output_tokens": 3}
    watched.whole(orjson.dumps({"stop_reason": "max_tokens", "usage": counts}))
    assert (usage.prompt, usage.completion, watched.finish_reason, watched.finished) == (2, 3, "length", True)
    watched, usage = tap()
    watched.whole(b'{"content": [{"text": "12345678"}], "usage": {"output_tokens": -1}}')
    assert (usage.completion, usage.reported) == (2, False)


@pytest.mark.parametrize("body", [b"<html>", b"[]"])
def test_an_answer_that_is_no_object_has_failed(body: bytes) -> None:
    watched, _ = tap()
    watched.whole(body)
    assert watched.failed
