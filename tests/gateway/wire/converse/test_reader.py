"""Converse's stream, as chat chunks."""

import base64
from typing import Any

import pytest

from gateway.wire.converse.reader import ConverseReader
from gateway.wire.sse import BadStream
from tests.gateway.wire.frames import event, exception, message, text

FORMAT = "anthropic-claude-v1"
STOP = event("contentBlockStop", contentBlockIndex=0)


def delta(**members: Any) -> bytes:
    return event("contentBlockDelta", contentBlockIndex=0, delta=members)


def call(name: str, **more: Any) -> bytes:
    use = {"name": name, "toolUseId": "t", **more}
    return event("contentBlockStart", contentBlockIndex=0, start={"toolUse": use})


def deltas(*events: bytes) -> list[dict[str, Any]]:
    reader = ConverseReader()
    return [piece["choices"][0]["delta"] for one in events for piece in reader.feed(one)]


def test_an_answer_begins_stops_and_is_counted() -> None:
    reader = ConverseReader()
    [first] = reader.feed(event("messageStart", role="assistant", p="abc"))
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    [last] = reader.feed(event("messageStop", stopReason="max_tokens"))
    assert last["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "length"}
    assert not reader.finished
    counts = {"inputTokens": 3, "outputTokens": 2, "cacheReadInputTokens": 4}
    [counted] = reader.feed(event("metadata", usage=counts))
    assert reader.finished
    assert (counted["usage"]["prompt_tokens"], counted["usage"]["completion_tokens"]) == (7, 2)
    assert ConverseReader().feed(event("metadata", metrics={})) == []


def test_a_stream_without_usage_is_complete_if_it_said_why_it_stops_and_is_not_cut() -> None:
    for after, complete in ((b"", True), (b"\0\0\0", False)):
        reader = ConverseReader()
        reader.feed(event("messageStop", stopReason="end_turn") + after)
        assert reader.rest() == []
        assert reader.finished is complete
    reader = ConverseReader()
    reader.feed(event("messageStart", role="assistant"))
    assert (reader.rest(), reader.finished) == ([], False)


def test_calls_come_in_fragments_and_one_without_arguments_has_an_empty_object() -> None:
    given = [delta(toolUse={"input": one}) for one in ("", '{"a"', ": 1}")]
    found = deltas(call("f"), *given, STOP, call("g", type="tool_use"), STOP)
    fragments = [one["tool_calls"][0] for one in found]
    function = {"name": "f", "arguments": ""}
    assert fragments[0] == {"index": 0, "id": "t", "type": "function", "function": function}
    assert [one["function"]["arguments"] for one in fragments] == ["", '{"a"', ": 1}", "", "{}"]
    assert [one["index"] for one in fragments] == [0, 0, 0, 1, 1]


def test_thoughts_carry_their_signatures_and_each_block_has_an_index() -> None:
    hidden = base64.b64encode(b"secret").decode()
    found = deltas(
        delta(reasoningContent={"text": "hm"}), delta(reasoningContent={"signature": "s"}), STOP,
        delta(reasoningContent={"redactedContent": hidden}), STOP, delta(text="so"), STOP,
    )  # fmt: skip
    told = {"type": "reasoning.text", "index": 0}
    assert found == [
        {"reasoning_content": "hm", "reasoning_details": [{**told, "text": "hm"}]},
        {"reasoning_details": [{**told, "text": "", "signature": "s", "format": FORMAT}]},
        {
            "reasoning_details": [
                {"type": "reasoning.encrypted", "data": "secret", "format": FORMAT, "index": 1}
            ]
        },
        {"content": "so"},
    ]


def test_sources_and_what_nobody_knows_are_told_as_they_are() -> None:
    server = {"toolUse": {"name": "web", "toolUseId": "t", "type": "server_tool_use"}}
    cited = {"title": "t", "location": {"later": {"x": 1}}}
    found = deltas(
        delta(citation=cited), event("contentBlockStart", start=server), delta(toolUse={"input": "{}"}),
        STOP, event("later", x=1),
    )  # fmt: skip
    assert found == [
        {"annotations": [cited]},
        {"other_blocks": [server]},
        {"other_blocks": [{"toolUse": {"input": "{}"}}]},
    ]


def test_an_exception_is_an_error_with_the_status_it_would_have_been() -> None:
    [piece] = ConverseReader().feed(exception("throttlingException"))
    told = {"message": "throttlingException: too many", "type": "rate_limit_error", "code": 429}
    assert piece == {"error": told}
    [piece] = ConverseReader().feed(exception("newException", b"{}"))
    assert piece["error"] == {"message": "newException: no reason given", "type": "api_error", "code": 502}
    named = {":message-type": "error", ":error-code": "internalServerException", ":error-message": "x"}
    [piece] = ConverseReader().feed(message(b"", b"".join(text(*pair) for pair in named.items())))
    assert piece["error"] == {"message": "internalServerException: x", "type": "api_error", "code": 500}


@pytest.mark.parametrize("payload", [b"no", b"[]"])
def test_what_is_no_event_is_refused(payload: bytes) -> None:
    with pytest.raises(BadStream, match="an event is n"):
        ConverseReader().feed(message(payload, text(":event-type", "metadata")))
