"""Anthropic's stream, as chat chunks."""

from typing import Any

import orjson
import pytest

from gateway.wire.messages.reader import MessagesReader
from gateway.wire.sse import BadStream

FORMAT = "anthropic-claude-v1"


def told(type_: str, **members: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (type_.encode(), orjson.dumps({"type": type_, **members}))


def start(**block: Any) -> bytes:
    return told("content_block_start", index=0, content_block=block)


def delta(type_: str, **members: Any) -> bytes:
    return told("content_block_delta", index=0, delta={"type": type_, **members})


STOP = told("content_block_stop", index=0)


def deltas(*events: bytes) -> list[dict[str, Any]]:
    reader = MessagesReader()
    return [piece["choices"][0]["delta"] for one in events for piece in reader.feed(one)]


def call(index: int, arguments: str, **more: Any) -> dict[str, Any]:
    name = {"name": more.pop("name")} if more else {}
    return {"tool_calls": [{"index": index, **more, "function": {**name, "arguments": arguments}}]}


def test_the_first_event_names_the_message_and_the_last_ones_count_it() -> None:
    reader = MessagesReader()
    usage = {"input_tokens": 2, "output_tokens": 1, "cache_read_input_tokens": 5}
    [first] = reader.feed(told("message_start", message={"id": "i", "model": "m", "usage": usage}))
    assert (first["id"], first["model"], first["choices"][0]["delta"]) == (
        "i",
        "m",
        {"role": "assistant", "content": ""},
    )
    assert first["prompt"] == (7, 5), "known from the start, should the stream never come to its end"
    counts = {"output_tokens": 9, "input_tokens": None}
    [end] = reader.feed(
        told("message_delta", delta={"stop_reason": "stop_sequence", "stop_sequence": "END"}, usage=counts)
    )
    assert (end["choices"][0]["finish_reason"], end["choices"][0]["stop_reason"]) == ("stop", "END")
    assert not reader.finished
    [last] = reader.feed(told("message_stop"))
    assert (last["choices"], last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]) == ([], 7, 9)
    assert reader.finished


def test_a_stop_without_a_sequence_names_none() -> None:
    [end] = MessagesReader().feed(told("message_delta", delta={"stop_reason": "end_turn"}))
    assert end["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop"}


def test_text_comes_as_content() -> None:
    found = deltas(
        start(type="text", text=""), start(type="text", text="a"), delta("text_delta", text="b"), STOP
    )
    assert found == [{"content": "a"}, {"content": "b"}]


def test_calls_are_numbered_and_one_without_arguments_has_an_empty_object() -> None:
    found = deltas(
        start(type="tool_use", id="t", name="f", input={}),
        delta("input_json_delta", partial_json=""),
        delta("input_json_delta", partial_json='{"x"'),
        delta("input_json_delta", partial_json=":1}"),
        STOP,
        start(type="tool_use", id="u", name="g", input={}),
        STOP,
        start(type="tool_use", id="v", name="h", input={"y": 2}),
        STOP,
    )
    assert found == [
        call(0, "", id="t", type="function", name="f"),
        call(0, '{"x"'),
        call(0, ":1}"),
        call(1, "", id="u", type="function", name="g"),
        call(1, "{}"),
        call(2, '{"y":2}', id="v", type="function", name="h"),
    ]


def test_thoughts_come_with_their_signatures() -> None:
    found = deltas(
        start(type="thinking", thinking="", signature=""),
        delta("thinking_delta", thinking="hm"),
        delta("signature_delta", signature="s"),
        STOP,
        start(type="redacted_thinking", data="d"),
    )
    thought = {"type": "reasoning.text", "index": 0}
    assert found == [
        {"reasoning_content": "hm", "reasoning_details": [{**thought, "text": "hm"}]},
        {"reasoning_details": [{**thought, "text": "", "signature": "s", "format": FORMAT}]},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "d", "format": FORMAT, "index": 1}]},
    ]


def test_citations_are_annotations_and_blocks_nobody_knows_are_kept() -> None:
    search = {"type": "web_search_tool_result", "content": []}
    odd = {"index": 0, "delta": {"type": "compaction_delta", "content": "c"}}
    found = deltas(
        delta("citations_delta", citation={"url": "u"}),
        start(**search),
        told("content_block_delta", **odd),
    )
    assert found[0] == {"annotations": [{"url": "u"}]}
    assert found[1] == {"other_blocks": [search]}
    assert found[2]["other_blocks"][0]["delta"] == {"type": "compaction_delta", "content": "c"}


def test_input_of_a_servers_own_tool_is_not_taken_for_a_call() -> None:
    found = deltas(start(type="server_tool_use", id="s"), delta("input_json_delta", partial_json="{}"), STOP)
    assert [list(one) for one in found] == [["other_blocks"], ["other_blocks"]]


def test_pings_comments_and_events_of_a_later_day_say_nothing() -> None:
    assert deltas(told("ping"), b": comment\n\n", told("message_hint")) == []


def test_an_error_is_an_error() -> None:
    [piece] = MessagesReader().feed(told("error", error={"type": "overloaded_error", "message": "busy"}))
    assert piece == {"error": {"message": "busy", "type": "overloaded_error"}}
    [piece] = MessagesReader().feed(b'event: error\ndata: {"message":"busy"}\n\n')
    assert piece == {"error": {"message": "busy", "type": None}}, "by its name alone"


def test_a_last_event_without_its_blank_line_counts() -> None:
    reader = MessagesReader()
    assert reader.feed(told("message_stop")[:-1]) == []
    assert len(reader.rest()) == 1
    assert reader.finished


def test_a_stream_that_said_why_it_stops_is_complete_at_its_end() -> None:
    reader = MessagesReader()
    reader.feed(told("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 9}))
    [last] = reader.rest()
    assert (reader.finished, last["choices"], last["usage"]["completion_tokens"]) == (True, [], 9)
    assert reader.rest() == []


@pytest.mark.parametrize("data", [b"data: {\n\n", b"data: 7\n\n"])
def test_an_event_that_is_no_object_breaks_the_stream(data: bytes) -> None:
    with pytest.raises(BadStream):
        MessagesReader().feed(data)
