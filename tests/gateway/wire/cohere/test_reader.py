"""Cohere's answers, whole and as streams, in chat's words."""

from typing import Any

import orjson
import pytest

from gateway.wire.cohere.reader import CohereReader, completion
from gateway.wire.sse import BadStream


def told(type_: str, delta: Any = None, **more: Any) -> bytes:
    event = {"type": type_, **({"delta": delta} if delta is not None else {}), **more}
    return b"event: %b\ndata: %b\n\n" % (type_.encode(), orjson.dumps(event))


def of(type_: str, name: str, value: Any, **more: Any) -> bytes:
    return told(type_, {"message": {name: value}}, **more)


def deltas(*events: bytes) -> list[dict[str, Any]]:
    reader = CohereReader()
    return [piece["choices"][0]["delta"] for one in events for piece in reader.feed(one)]


def call(index: int, arguments: str, **more: Any) -> dict[str, Any]:
    name = {"name": more.pop("name"), "arguments": arguments} if more else {"arguments": arguments}
    return {"tool_calls": [{"index": index, **more, "function": name}]}


def test_thoughts_plan_and_text_are_told_as_they_come() -> None:
    assert deltas(
        of("message-start", "role", "assistant", id="i"),
        of("content-start", "content", {"type": "thinking", "thinking": "h"}, index=0),
        of("content-delta", "content", {"thinking": "m"}, index=0),
        told("content-end", index=0),
        of("tool-plan-delta", "tool_plan", "I will"),
        of("content-start", "content", {"type": "text", "text": ""}, index=1),
        of("content-delta", "content", {"text": "hello"}, index=1),
        told("debug", prompt="x"),
    ) == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "h"},
        {"reasoning_content": "m"},
        {"content": "I will"},
        {"content": "hello"},
    ]


def test_calls_come_one_after_the_other_and_one_without_arguments_gets_an_empty_object() -> None:
    def begin(id_: str, arguments: str = "") -> bytes:
        function = {"name": "f", "arguments": arguments}
        return of("tool-call-start", "tool_calls", {"id": id_, "type": "function", "function": function})

    def more(text: str) -> bytes:
        return of("tool-call-delta", "tool_calls", {"function": {"arguments": text}})

    end = told("tool-call-end")
    assert deltas(
        begin("a"), more(""), more('{"x'), more('":1}'), end, begin("b"), end, begin("c", "{}"), end
    ) == [
        call(0, "", id="a", type="function", name="f"),
        call(0, '{"x'),
        call(0, '":1}'),
        call(1, "", id="b", type="function", name="f"),
        call(1, "{}"),
        call(2, "{}", id="c", type="function", name="f"),
    ]


def test_citations_count_the_plan_that_was_told_before() -> None:
    source = {"type": "tool", "id": "s"}
    [_, delta] = deltas(
        of("tool-plan-delta", "tool_plan", "I will"),
        of("citation-start", "citations", {"start": 0, "end": 2, "sources": [source]}),
        of("citation-start", "citations", {"start": 0, "end": 2, "sources": []}),
        told("citation-end"),
    )
    place = {"start_index": 6, "end_index": 8, "url": "", "title": "s"}
    assert delta == {"annotations": [{"type": "url_citation", "url_citation": place, "source": source}]}


def test_log_probabilities_come_with_their_text() -> None:
    chances = {"text": "a", "token_ids": [1], "logprobs": [-1.0]}
    [piece] = CohereReader().feed(of("content-delta", "content", {"text": "a"}, logprobs=chances))
    assert piece["choices"][0]["logprobs"]["content"][0]["logprob"] == -1.0


def test_the_last_event_says_why_it_ends_and_what_it_took() -> None:
    reader = CohereReader()
    usage = {"tokens": {"input_tokens": 1, "output_tokens": 2}}
    last = told("message-end", {"finish_reason": "MAX_TOKENS", "usage": usage})
    pieces = [*reader.feed(last[:-1]), *reader.feed(last[-1:] + b"data: [DONE]\n"), *reader.rest()]
    assert pieces[0]["choices"][0]["finish_reason"] == "length"
    assert pieces[1]["usage"]["total_tokens"] == 3
    assert reader.finished
    assert len(CohereReader().feed(told("message-end", {"finish_reason": "COMPLETE"}))) == 1


@pytest.mark.parametrize(
    ("event", "message", "code"),
    [
        (told("message-end", {"finish_reason": "ERROR", "error": "e", "error_type": "T"}), "e", "T"),
        (told("message-end", {"finish_reason": "TIMEOUT"}), "the generation ended in TIMEOUT", None),
        (b'data: {"id":"i","message":"m"}\n\n', "m", None),
        (b'event: error\ndata: {"message":"m"}\n\n', "m", None),
    ],
)
def test_a_stream_that_fails_says_why(event: bytes, message: str, code: str | None) -> None:
    reader = CohereReader()
    [piece] = reader.feed(event)
    assert piece == {"error": {"message": message, "type": "api_error", "code": code}}
    assert not reader.finished


@pytest.mark.parametrize("event", [b"data: {\n\n", b"data: []\n\n"])
def test_what_is_no_event_is_a_fault(event: bytes) -> None:
    with pytest.raises(BadStream):
        CohereReader().feed(event)


def test_a_whole_answer_is_a_completion() -> None:
    function = {"name": "f", "arguments": ""}
    message = {
        "role": "assistant",
        "tool_plan": "I will",
        "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "so"}],
        "tool_calls": [{"id": "a", "type": "function", "function": function}],
        "citations": [{"start": 0, "end": 2, "sources": [{"id": "s"}]}],
    }
    answer = {
        "id": "i",
        "message": message,
        "finish_reason": "TOOL_CALL",
        "usage": {"tokens": {"input_tokens": 1}},
    }
    made = completion(answer)
    said = made["choices"][0]["message"]
    assert (said["content"], said["reasoning_content"]) == ("I willso", "hm")
    assert said["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert said["annotations"][0]["url_citation"]["start_index"] == 6
    assert (made["id"], made["usage"]["prompt_tokens"]) == ("i", 1)
    assert made["choices"][0]["finish_reason"] == "tool_calls"
    bare = completion({"message": {"role": "assistant"}})
    assert bare["choices"][0]["message"] == {"role": "assistant", "content": None, "refusal": None}
    assert "usage" not in bare


@pytest.mark.parametrize("answer", [None, [], {}, {"message": "m"}])
def test_what_is_no_answer_is_a_fault(answer: Any) -> None:
    with pytest.raises(BadStream):
        completion(answer)
