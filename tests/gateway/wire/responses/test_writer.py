"""Chat's chunks as the events of a response, and whole answers as the same response."""

from typing import Any

import orjson
import pytest

from gateway.core.failure import Failure, UpstreamFailed
from gateway.core.usage import Usage
from gateway.wire.base import Asked
from gateway.wire.registry import between
from gateway.wire.responses.words import OURS, answer_of, unseal
from gateway.wire.responses.writer import ResponsesWriter
from gateway.wire.sse import BadStream
from tests.gateway.wire import frames
from tests.scripted import DONE, FINISH, event

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}


def events(told: bytes) -> list[dict[str, Any]]:
    found = []
    for one in told.decode().split("\n\n")[:-1]:
        head, data = one.split("\n")
        event = orjson.loads(data.removeprefix("data: "))
        assert head == f"event: {event['type']}"
        found.append(event)
    assert [one["sequence_number"] for one in found] == list(range(len(found)))
    return found


def told(*deltas: dict[str, Any], reason: str | None = "stop", **asked: Any) -> list[dict[str, Any]]:
    writer = ResponsesWriter({"model": "m", **asked}, 5, "a" * 32)
    out = [writer.write({"model": "m-1", "choices": [{"delta": one}]}) for one in deltas]
    out.append(writer.write({"choices": [{"delta": {}, "finish_reason": reason}], "service_tier": "default"}))
    out.append(writer.write({"choices": [], "usage": USAGE}))
    return events(b"".join([*out, writer.end()]))


def kinds(found: list[dict[str, Any]]) -> list[str]:
    return [one["type"].removeprefix("response.") for one in found]


def call(index: int, text: str, **more: Any) -> dict[str, Any]:
    return {
        "tool_calls": [
            {"index": index, "function": {"arguments": text, **more}, **({"id": f"c{index}"} if more else {})}
        ]
    }


def test_thoughts_words_and_calls_are_items_in_their_order() -> None:
    detail = {"type": "reasoning.text", "index": 0, "format": "x"}
    found = told(
        {"role": "assistant", "content": ""},
        {"reasoning_content": "h", "reasoning_details": [{**detail, "text": "h"}]},
        {"reasoning_details": [{**detail, "text": "m"}]},
        {"reasoning_details": [{**detail, "signature": "s"}]},
        {"content": "hel"},
        {"content": "lo"},
        {"annotations": [{"type": "url_citation", "url_citation": {"url": "u"}}, "odd"]},
        call(0, "", name="f"),
        call(0, '{"a":1}'),
        call(1, "{}", name="g"),
    )
    assert kinds(found) == [
        "created", "in_progress",
        "output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta",
        "reasoning_summary_text.delta", "reasoning_summary_text.done", "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.annotation.added", "output_text.annotation.added", "output_text.done",
        "content_part.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done",
        "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]  # fmt: skip
    response = found[-1]["response"]
    thought, message, first, second = response["output"]
    assert unseal(thought["encrypted_content"]) == [{**detail, "text": "hm", "signature": "s"}]
    assert message["content"][0]["text"] == "hello"
    assert message["content"][0]["annotations"] == [{"type": "url_citation", "url": "u"}, "odd"]
    assert (first["call_id"], first["name"], first["arguments"]) == ("c0", "f", '{"a":1}')
    assert (second["call_id"], second["arguments"]) == ("c1", "{}")
    assert response["usage"]["input_tokens_details"] == {"cached_tokens": 2, "cache_write_tokens": 0}
    assert (response["id"], response["model"], response["created_at"]) == (OURS + "a" * 32, "m-1", 5)
    assert response["service_tier"] == "default"
    assert {answer_of(one["id"]) for one in response["output"]} == {response["id"]}
    assert answer_of("msg_1") == ""


FORMAT = "anthropic-claude-v1"
CLAUDES = (
    event(type="content_block_start", content_block={"type": "thinking", "thinking": "", "signature": ""}),
    event(type="content_block_delta", delta={"type": "thinking_delta", "thinking": "h"}),
    event(type="content_block_delta", delta={"type": "thinking_delta", "thinking": "m"}),
    event(type="content_block_delta", delta={"type": "signature_delta", "signature": "s"}),
    event(type="content_block_stop"),
    event(type="message_delta", delta={"stop_reason": "end_turn"}),
    event(type="message_stop"),
)
BEDROCKS = (
    *(frames.event("contentBlockDelta", delta={"reasoningContent": {"text": text}}) for text in "hm"),
    frames.event("contentBlockDelta", delta={"reasoningContent": {"signature": "s"}}),
    frames.event("contentBlockStop"),
    frames.event("messageStop", stopReason="end_turn"),
    frames.event("metadata"),
)
OPENROUTERS = (
    *(
        event(choices=[{"delta": {"reasoning_details": [
            {"type": "reasoning.text", "index": 0, "format": FORMAT, **more}]}}])
        for more in ({"text": "h", "signature": None}, {"text": "m"}, {"text": None, "signature": "s"},
                     {"text": "", "signature": None})
    ),
    FINISH, DONE,
)  # fmt: skip


@pytest.mark.parametrize(
    ("provider", "stream"),
    [("anthropic.messages", CLAUDES), ("bedrock.converse", BEDROCKS), ("openai.chat", OPENROUTERS)],
)
def test_a_signed_thought_is_sealed_with_all_its_words(provider: str, stream: tuple[bytes, ...]) -> None:
    """Its signature comes after them, with an empty text or none: without its words it would be refused."""
    tap = between("openai.responses", provider).tap(Asked({"model": "m"}, Usage(), ident="i"))
    [thought] = events(b"".join(map(tap.feed, stream)))[-1]["response"]["output"]
    [detail] = unseal(thought["encrypted_content"])
    assert (detail["text"], detail["signature"], detail["format"]) == ("hm", "s", FORMAT)
    assert thought["summary"] == [{"type": "summary_text", "text": "hm"}]


def test_calls_that_come_interleaved_are_told_together() -> None:
    found = told(
        call(0, '{"a"', name="f"), call(1, "{", name="g"), call(0, ":1}"), call(1, "}"), {"content": "ok"}
    )
    assert [one["item"].get("arguments") for one in found if one["type"] == "response.output_item.done"] == [
        '{"a":1}', "{}", None
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("between", "kind"),
    [({"content": "\n"}, "message"), ({"refusal": "no"}, "message"), ({"annotations": ["odd"]}, "message"),
     ({"reasoning_content": "hm"}, "reasoning")],
)  # fmt: skip
def test_pieces_of_one_call_are_one_call_whatever_comes_between(between: dict[str, Any], kind: str) -> None:
    found = told(call(0, '{"a":', name="f"), between, call(0, "1}"), call(1, "{}", name="g"))
    first, other, second = found[-1]["response"]["output"]
    assert (first["call_id"], first["arguments"], other["type"]) == ("c0", '{"a":1}', kind)
    assert (second["call_id"], second["arguments"]) == ("c1", "{}")


def test_words_that_came_before_the_end_of_a_cut_call_are_told_after_it() -> None:
    found = told(call(0, "{", name="f"), {"content": "a"}, reason="length")
    cut, message = found[-1]["response"]["output"]
    assert (cut["arguments"], cut["status"]) == ("{", "incomplete")
    assert message["content"][0]["text"] == "a"


def test_a_late_piece_of_a_call_says_nothing_or_breaks_the_stream() -> None:
    calls = (call(0, "{}", name="f"), call(1, "{}", name="g"))
    found = told(*calls, call(0, ""), call(0, "\n"))
    assert [one["arguments"] for one in found[-1]["response"]["output"]] == ["{}", "{}"]
    with pytest.raises(BadStream, match="goes on after"):
        told(*calls, call(0, "1"))


def test_custom_tools_and_namespaces_are_told_by_their_own_names() -> None:
    tools = [{"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f"}]}]
    custom = {
        "tool_calls": [{"index": 0, "id": "c0", "type": "custom", "custom": {"name": "g", "input": "raw"}}]
    }
    found = told(
        custom, call(1, "{}", name="n__f"), {"tool_calls": [{"function": {"name": "h"}}]}, tools=tools
    )
    free, named, nameless = found[-1]["response"]["output"]
    assert (free["type"], free["input"]) == ("custom_tool_call", "raw")
    assert (named["namespace"], named["name"]) == ("n", "f")
    assert nameless["call_id"] == f"call_{'a' * 32}_2"
    assert "custom_tool_call_input.done" in kinds(found)


@pytest.mark.parametrize(
    ("reason", "status", "why"),
    [("length", "incomplete", "max_output_tokens"), ("content_filter", "incomplete", "content_filter"),
     ("stop", "completed", None)],
)  # fmt: skip
def test_the_status_says_why_a_model_stopped(reason: str, status: str, why: str | None) -> None:
    *_, done, last = told({"content": "x"}, reason=reason)
    assert (last["type"], last["response"]["status"]) == (f"response.{status}", status)
    assert done["item"]["status"] == status
    assert (last["response"]["incomplete_details"] or {}).get("reason") == why


def test_a_refusal_is_a_part_of_its_own() -> None:
    found = told({"content": "x"}, {"refusal": "n"}, {"refusal": "o"})
    (message,) = found[-1]["response"]["output"]
    assert [part["type"] for part in message["content"]] == ["output_text", "refusal"]
    assert [one["refusal"] for one in found if one["type"] == "response.refusal.done"] == ["no"]


def test_encrypted_thoughts_come_without_a_summary_and_likelihoods_with_the_text() -> None:
    writer = ResponsesWriter({"model": "m"}, 5, "i")
    secret = {"type": "reasoning.encrypted", "data": "d", "index": 0}
    logprobs = [{"token": "x", "logprob": -1.0, "bytes": [120], "top_logprobs": []}]
    message = {"content": "x", "reasoning_details": [secret]}
    response = writer.whole(
        {"choices": [{"message": message, "logprobs": {"content": logprobs}, "finish_reason": "stop"}]}
    )
    thought, said = response["output"]
    assert (thought["summary"], unseal(thought["encrypted_content"])) == ([], [secret])
    assert said["content"][0]["logprobs"] == logprobs
    assert response["usage"] is None


def test_thoughts_of_a_whole_answer_are_items_where_they_stood() -> None:
    details = [
        {"type": "reasoning.text", "text": "one", "signature": "s", "index": 0},
        {"type": "reasoning.text", "text": "two", "signature": "t", "index": 1, "after": [1, 1]},
    ]
    calls = [{"id": f"c{place}", "function": {"name": "f", "arguments": "{}"}} for place in range(2)]
    message = {
        "content": "a",
        "reasoning_content": "onetwo",
        "reasoning_details": details,
        "tool_calls": calls,
    }
    response = ResponsesWriter({"model": "m"}, 5, "i").whole({"choices": [{"message": message}]})
    first, said, called, second, last = response["output"]
    assert (first["summary"][0]["text"], second["summary"][0]["text"]) == ("one", "two")
    assert (said["content"][0]["text"], called["call_id"], last["call_id"]) == ("a", "c0", "c1")
    assert unseal(second["encrypted_content"]) == [{name: details[1][name] for name in ("type", "text", "signature",
                                                                                       "index")}]  # fmt: skip


def test_what_was_asked_is_told_with_the_answer() -> None:
    asked = {"tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "g"}], "temperature": 0.2,
             "text": {"verbosity": "low"}, "store": False, "metadata": {"a": "b"}}  # fmt: skip
    response = ResponsesWriter({"model": "m", **asked}, 1, "i").whole(
        {"choices": [{"message": {"content": ""}}]}
    )
    assert response["tools"][0] == {
        "type": "function",
        "name": "f",
        "description": None,
        "parameters": None,
        "strict": None,
    }
    assert response["text"] == {"verbosity": "low", "format": {"type": "text"}}
    assert (response["temperature"], response["store"], response["output"]) == (0.2, False, [])


def test_a_stream_that_breaks_fails_in_the_order_of_its_events() -> None:
    tap = between("openai.responses", "openai.chat").tap(Asked({"model": "m"}, Usage(), ident="i"))
    begun = tap.feed(b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n')
    found = events(begun + tap.broken(UpstreamFailed("it broke", Failure.BROKEN)))  # type: ignore[attr-defined]
    assert found[-1]["response"]["error"] == {"code": "server_error", "message": "it broke"}
    assert tap.failed


def test_arguments_that_are_nothing_are_an_object_that_clients_can_read() -> None:
    found = told(call(0, "", name="f"), reason="tool_calls")
    assert [one["delta"] for one in found if one["type"].endswith("arguments.delta")] == ["{}"]
    assert [one["arguments"] for one in found if one["type"].endswith("arguments.done")] == ["{}"]
    assert found[-1]["response"]["output"][0]["arguments"] == "{}"
