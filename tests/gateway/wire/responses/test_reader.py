"""Responses' stream as chat chunks."""

from typing import Any

import orjson
import pytest

from gateway.core.usage import Usage
from gateway.wire.base import Asked
from gateway.wire.registry import between
from gateway.wire.responses.reader import ResponsesReader
from gateway.wire.responses.words import seal
from gateway.wire.sse import BadStream


def event(kind: str, **more: Any) -> bytes:
    name = kind if kind == "error" else f"response.{kind}"
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps({"type": name, **more}))


def read(*events: bytes) -> tuple[list[Any], ResponsesReader]:
    reader = ResponsesReader()
    return [piece for one in events for piece in reader.feed(one)], reader


def deltas(*events: bytes) -> list[Any]:
    return [piece["choices"][0]["delta"] for piece in read(*events)[0]]


def item(kind: str, place: int = 0, **more: Any) -> dict[str, Any]:
    return {"output_index": place, "item": {"type": kind, "id": f"i{place}", **more}}


def test_a_stream_begins_with_its_head_and_ends_with_its_reason_and_usage() -> None:
    usage = {"input_tokens": 7, "output_tokens": 3}
    pieces, reader = read(
        event("created", response={"id": "resp_1", "model": "m"}),
        event("in_progress", response={}),
        event("output_text.delta", delta="hel", logprobs=[]),
        event("output_text.delta", delta="lo", logprobs=[{"token": "lo"}]),
        event("completed", response={"status": "completed", "output": [], "usage": usage}),
    )
    assert (pieces[0]["id"], pieces[0]["model"]) == ("resp_1", "m")
    assert [one["choices"][0]["delta"].get("content") for one in pieces[:3]] == ["", "hel", "lo"]
    assert pieces[2]["choices"][0]["logprobs"] == {"content": [{"token": "lo"}], "refusal": None}
    assert pieces[3]["choices"][0]["finish_reason"] == "stop"
    assert (pieces[4]["choices"], pieces[4]["usage"]["total_tokens"]) == ([], 10)
    assert (reader.finished, list(reader.feed(b"data: [DONE]\n\n"))) == (True, [])


def test_who_has_told_a_call_waits_for_its_result_though_the_last_event_holds_no_items() -> None:
    call = item("function_call", call_id="c", name="f", arguments="{}")
    pieces, _ = read(
        event("output_item.done", **call), event("completed", response={"status": "completed", "output": []})
    )
    assert pieces[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_an_end_without_usage_or_blank_line_is_an_end() -> None:
    last = event("incomplete", response={"incomplete_details": {"reason": "content_filter"}})
    reader = ResponsesReader()
    assert list(reader.feed(last[:-1])) == []
    [piece] = reader.rest()
    assert piece["choices"][0]["finish_reason"] == "content_filter"
    assert reader.finished


def test_calls_come_bit_by_bit_by_their_place_and_those_at_once_are_not_lost() -> None:
    told = deltas(
        event("output_item.added", **item("function_call", 1, call_id="c1", name="f", arguments="")),
        event("output_item.added", **item("function_call", 2, call_id="c2", name="g", arguments="")),
        event("function_call_arguments.delta", output_index=2, delta="{}"),
        event("function_call_arguments.delta", output_index=1, delta='{"x":'),
        event("function_call_arguments.delta", output_index=1, delta="1}"),
        event("output_item.done", **item("function_call", 1, call_id="c1", name="f", arguments='{"x":1}')),
        event("output_item.done", **item("function_call", 2, call_id="c2", name="g", arguments="{}")),
        event("output_item.added", **item("custom_tool_call", 3, call_id="c3", name="h")),
        event("custom_tool_call_input.delta", output_index=3, delta="raw"),
        event("output_item.added", **item("function_call", 4, call_id="c4", name="k")),
        event("output_item.done", **item("function_call", 4, call_id="c4", name="k", arguments="{}")),
        event("output_item.done", **item("function_call", 5, call_id="c5", name="l", arguments="{}")),
    )
    calls = [one["tool_calls"][0] for one in told]
    assert [(one["index"], one.get("id")) for one in calls] == [
        (0, "c1"), (1, "c2"), (1, None), (0, None), (0, None), (2, "c3"), (2, None), (3, "c4"), (3, None), (4, "c5"),
    ]  # fmt: skip
    given = dict.fromkeys(range(5), "")
    for call in calls:
        given[call["index"]] += (call.get("function") or {}).get("arguments", "")
    assert given == {0: '{"x":1}', 1: "{}", 2: "", 3: "{}", 4: "{}"}
    assert calls[6]["custom"] == {"input": "raw"}


def test_thoughts_come_as_they_are_told_and_what_is_encrypted_at_their_end() -> None:
    summary = [{"type": "summary_text", "text": text} for text in ("hm", "so")]
    told = deltas(
        event("output_item.added", **item("reasoning")),
        event("reasoning_summary_part.added", summary_index=0),
        event("reasoning_summary_text.delta", delta="hm"),
        event("reasoning_summary_part.added", summary_index=1),
        event("reasoning_summary_text.delta", delta="so"),
        event("output_item.done", **item("reasoning", summary=summary, encrypted_content="gAAA")),
        event("output_item.done", **item("reasoning", 1, summary=summary[:1])),
        event("output_item.done", **item("reasoning", 2, summary=[])),
    )
    thoughts = [one.get("reasoning_content") for one in told]
    assert thoughts == ["hm", "\n\n", "so", None, "hm"]
    assert told[3]["reasoning_details"] == [
        {
            "type": "reasoning.encrypted",
            "data": "gAAA",
            "format": "openai-responses-v1",
            "id": "i0",
            "index": 0,
        }
    ]


def test_what_another_gateway_sealed_is_told_once_with_its_signature() -> None:
    detail = {"type": "reasoning.text", "text": "hm", "signature": "s", "format": "anthropic-claude-v1"}
    told = deltas(
        event("reasoning_text.delta", delta="hm"),
        event("output_item.done", **item("reasoning", summary=[], encrypted_content=seal([detail]))),
    )
    assert told == [{"reasoning_content": "hm"}, {"reasoning_details": [{**detail, "text": "", "index": 0}]}]


def test_a_message_that_comes_at_once_is_told_at_its_end_and_no_other_twice() -> None:
    citation = {"type": "url_citation", "url": "https://a"}
    whole = [
        {"type": "output_text", "text": "all", "annotations": [citation], "logprobs": [{"token": "all"}]},
        {"type": "refusal", "refusal": "no"},
    ]
    told, _ = read(
        event("output_text.delta", output_index=0, delta="a"),
        event("refusal.delta", output_index=1, delta="n"),
        event("output_item.done", **item("message", 0, content=[{"type": "output_text", "text": "a"}])),
        event("output_item.done", **item("message", 1, content=[{"type": "refusal", "refusal": "n"}])),
        event("output_item.done", **item("message", 2, content=whole)),
        event("output_item.done", **item("message", 3, content=[{"type": "output_text", "text": "b"}])),
    )
    cited = [{"type": "url_citation", "url_citation": {"url": "https://a"}}]
    assert [one["choices"][0]["delta"] for one in told] == [
        {"content": "a"}, {"refusal": "n"}, {"content": "all", "annotations": cited}, {"refusal": "no"},
        {"content": "b"},
    ]  # fmt: skip
    assert told[2]["choices"][0]["logprobs"]["content"] == [{"token": "all"}]
    unnumbered = event("output_text.delta", delta="a")
    done = event("output_item.done", **item("message", content=[{"type": "output_text", "text": "a"}]))
    assert deltas(unnumbered, done) == [{"content": "a"}]


MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "hello"}]}
REASONING = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"x":1}'}


def last(*output: Any, kind: str = "completed") -> bytes:
    return event(kind, response={"status": kind, "output": list(output)})


@pytest.mark.parametrize("kind", ["completed", "incomplete"])
def test_items_that_the_last_event_alone_tells_are_told_before_the_end(kind: str) -> None:
    searched = {"type": "web_search_call", "id": "ws_1"}
    told = deltas(last(REASONING, searched, MESSAGE, CALL, {**CALL, "call_id": "c2"}, kind=kind))
    assert told[:3] == [{"reasoning_content": "hm"}, {"other_blocks": [searched]}, {"content": "hello"}]
    calls = [one["tool_calls"][0] for one in told[3:5]]
    assert [(one["index"], one["id"], one["function"]["arguments"]) for one in calls] == [
        (0, "c1", '{"x":1}'), (1, "c2", '{"x":1}'),
    ]  # fmt: skip
    assert told[5:] == [{}]


def test_the_last_event_tells_nothing_again_however_a_server_numbers_its_items() -> None:
    given = event("function_call_arguments.delta", output_index=7, delta='{"x":1}')
    told = deltas(
        event("reasoning_text.delta", output_index=5, delta="hm"),
        event("output_text.delta", output_index=9, delta="hello"),
        event("output_item.added", **item("function_call", 7, call_id="c1", name="f", arguments="")),
        given,
        last(REASONING, MESSAGE, CALL),
    )
    assert [*map(list, told)] == [
        ["reasoning_content"], ["content"], ["tool_calls"], ["tool_calls"], [],
    ]  # fmt: skip
    assert deltas(last(kind="completed"), event("completed", response={"output": None})) == [{}, {}]


def test_a_call_that_was_only_begun_is_given_its_arguments_by_the_last_event_once() -> None:
    begun = event("output_item.added", **item("function_call", 0, call_id="c1", name="f", arguments=""))
    done = event("output_item.done", output_index=0, item=CALL)
    for events in ([begun], [begun, done]):
        told = deltas(*events, last(CALL))
        given = [one["tool_calls"][0]["function"]["arguments"] for one in told if one]
        assert given == ["", '{"x":1}']


def test_refusals_citations_and_items_nobody_here_knows() -> None:
    citation = {"type": "url_citation", "url": "https://a"}
    told = deltas(
        event("refusal.delta", delta="no"),
        event("output_text.annotation.added", annotation=citation),
        event("output_item.added", **item("web_search_call")),
        event("output_item.done", **item("web_search_call", status="completed")),
        event("output_item.done", **item("message", 1)),
    )
    assert told == [
        {"refusal": "no"},
        {"annotations": [{"type": "url_citation", "url_citation": {"url": "https://a"}}]},
        {"other_blocks": [{"type": "web_search_call", "id": "i0", "status": "completed"}]},
    ]


def test_each_of_several_thoughts_keeps_its_place_among_them() -> None:
    """openai-responses-35ae2410a0"""
    thoughts = [item("reasoning", place, summary=[], encrypted_content=f"e{place}") for place in (0, 1)]
    items = [one["item"] for one in thoughts]
    last = event("completed", response={"status": "completed", "output": items})
    stream = b"".join([*(event("output_item.done", **one) for one in thoughts), last])
    body = orjson.dumps({"status": "completed", "output": items})
    way = between("openai.chat", "openai.responses")
    gathered = way.tap(Asked({}, Usage())).whole_of(stream)  # type: ignore[attr-defined]
    for told in (gathered, way.tap(Asked({}, Usage())).whole(body)):
        details = orjson.loads(told or b"")["choices"][0]["message"]["reasoning_details"]
        assert [(one["index"], one["data"]) for one in details] == [(0, "e0"), (1, "e1")]


@pytest.mark.parametrize(
    ("told", "error"),
    [
        (event("failed", response={"error": {"code": "rate_limit_exceeded", "message": "slow"}}),
         {"message": "slow", "code": "rate_limit_exceeded", "type": "rate_limit_error"}),
        (event("error", code="x", message="down"), {"message": "down", "code": "x", "type": "api_error"}),
        (event("error", error={"message": "down"}), {"message": "down", "code": None, "type": "api_error"}),
    ],
)  # fmt: skip
def test_an_error_is_told_as_one(told: bytes, error: dict[str, Any]) -> None:
    assert read(told)[0] == [{"error": error}]


def test_what_a_failed_response_used_counts() -> None:
    counts = {"input_tokens": 1000, "output_tokens": 77, "total_tokens": 1077}
    told = event("failed", response={"error": {"code": "server_error", "message": "boom"}, "usage": counts})
    usage = Usage()
    tap = between("openai.chat", "openai.responses").tap(Asked({}, usage))
    assert b'"message":"boom"' in tap.feed(event("output_text.delta", delta="hey") + told)
    assert (usage.prompt, usage.completion, usage.reported, tap.failed) == (1000, 77, True, True)


@pytest.mark.parametrize("told", [b"data: {\n\n", b"data: [1]\n\n"])
def test_what_is_no_event_breaks_the_stream(told: bytes) -> None:
    with pytest.raises(BadStream):
        read(told)
