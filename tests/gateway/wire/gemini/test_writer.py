from typing import Any

import orjson
import pytest

from gateway.wire.gemini.front import GeminiFront
from gateway.wire.gemini.words import FORMAT
from gateway.wire.thoughts import unpacked

SIGNED = {
    "type": "reasoning.text",
    "text": "hm",
    "signature": "s",
    "format": "anthropic-claude-v1",
    "index": 0,
}


def new_writer(is_array: bool = False) -> Any:
    return GeminiFront(is_array).writer({}, 0)


def told(message: dict[str, Any], **more: Any) -> dict[str, Any]:
    choice = {"message": message, "finish_reason": "stop"} | more
    answer = new_writer().whole({"id": "i", "model": "m", "choices": [choice]})
    candidate: dict[str, Any] = answer["candidates"][0]
    return candidate


def test_a_completion_is_an_answer_with_thoughts_words_and_calls_in_order() -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": '{"a":1}'}}
    details = [
        {"type": "reasoning.text", "text": "hm", "format": FORMAT},
        {"type": "reasoning.encrypted", "data": "t", "format": FORMAT},
        {"type": "reasoning.encrypted", "data": "c", "id": "c", "format": FORMAT},
    ]
    candidate = told(
        {
            "content": "yes",
            "reasoning_content": "hm",
            "reasoning_details": details,
            "tool_calls": [call, {"function": {"arguments": "["}}],
            "other_blocks": [{"inlineData": {}}, {"type": "x"}],
        },
        index=1,
        finish_reason="tool_calls",
    )
    assert candidate["content"]["parts"] == [
        {"text": "hm", "thought": True},
        {"text": "yes", "thoughtSignature": "t"},
        {"inlineData": {}},
        {"functionCall": {"name": "f", "args": {"a": 1}, "id": "c"}, "thoughtSignature": "c"},
        {"functionCall": {"name": "", "args": {"arguments": "["}}},
    ]
    assert (candidate["index"], candidate["finishReason"]) == (1, "STOP")


def test_pictures_of_other_providers_are_parts_of_their_own() -> None:
    shown = [
        {"type": "image_url", "image_url": {"url": url}}
        for url in ("data:image/png;base64,AA==", "https://a/b.gif")
    ]
    assert told({"content": "", "images": shown})["content"]["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": "AA=="}},
        {"fileData": {"mimeType": "image/gif", "fileUri": "https://a/b.gif"}},
    ]


def test_what_others_signed_is_packed_with_the_thought() -> None:
    redacted = {"type": "reasoning.encrypted", "data": "d", "format": "anthropic-claude-v1"}
    first, second = told({"reasoning_content": "hm", "reasoning_details": [SIGNED, redacted]})["content"][
        "parts"
    ]
    assert (first["text"], first["thought"], second["thought"]) == ("hm", True, True)
    kept = {"type": "reasoning.text", "signature": "s", "format": "anthropic-claude-v1"}
    assert (unpacked(first["thoughtSignature"]), unpacked(second["thoughtSignature"])) == (kept, redacted)
    assert told({"reasoning_content": "h"})["content"]["parts"] == [{"text": "h", "thought": True}]


@pytest.mark.parametrize(
    ("message", "reason", "named"),
    [({}, "length", "MAX_TOKENS"), ({}, "content_filter", "SAFETY"), ({}, "eos", "OTHER"), ({}, None, "STOP"),
     ({"refusal": "no"}, "stop", "SAFETY")],
)  # fmt: skip
def test_reasons_are_told_by_table(message: dict[str, Any], reason: str, named: str) -> None:
    assert told(message, finish_reason=reason)["finishReason"] == named


def test_places_in_the_text_are_told_in_bytes_whole_and_streamed() -> None:
    page, other = {"url": "u", "title": "t"}, {"url": "v"}
    cited = [
        {"type": "url_citation", "url_citation": {**page, "start_index": 1, "end_index": 3}},
        {"type": "url_citation", "url_citation": {**other, "start_index": 0, "end_index": 0}},
        {"type": "url_citation", "url_citation": {**page, "start_index": 3, "end_index": 4}},
        {"type": "url_citation", "url_citation": {**page, "start_index": 3, "end_index": 40}},
    ]
    grounding = {
        "groundingChunks": [{"web": {"uri": "u", "title": "t"}}, {"web": {"uri": "v"}}],
        "groundingSupports": [
            {"segment": {"startIndex": 2, "endIndex": 4, "text": "ab"}, "groundingChunkIndices": [0]},
            {"segment": {"startIndex": 4, "endIndex": 5, "text": "c"}, "groundingChunkIndices": [0]},
        ],
    }
    assert told({"content": "éabc", "annotations": cited})["groundingMetadata"] == grounding
    streamed = new_writer()
    streamed.write({"choices": [{"delta": {"content": "éa"}}]})
    event = streamed.write({"choices": [{"delta": {"content": "bc", "annotations": cited}}]})
    [candidate] = orjson.loads(event.removeprefix(b"data: "))["candidates"]
    assert candidate["groundingMetadata"] == grounding


def test_sources_and_log_probabilities_are_told_as_gemini_does() -> None:
    cited = [
        {"type": "url_citation", "url_citation": {"url": "u", "title": "t"}},
        {"type": "char_location", "document_title": "d"},
    ]
    found = told({"content": "a", "annotations": cited})
    assert found["groundingMetadata"]["groundingChunks"] == [
        {"web": {"uri": "u", "title": "t"}},
        {"web": {"title": "d"}},
    ]
    one = {"token": "a", "logprob": -1.0}
    found = told({"content": "a"}, logprobs={"content": [one | {"top_logprobs": [one]}]})
    token = {"token": "a", "logProbability": -1.0}
    assert found["logprobsResult"] == {
        "chosenCandidates": [token],
        "topCandidates": [{"candidates": [token]}],
    }


def test_usage_is_told_apart() -> None:
    usage = {
        "prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2},
    }  # fmt: skip
    answer = new_writer().whole({"choices": [], "usage": usage})
    assert answer["usageMetadata"] == {
        "promptTokenCount": 9, "candidatesTokenCount": 3, "totalTokenCount": 14, "cachedContentTokenCount": 4,
        "thoughtsTokenCount": 2,
    }  # fmt: skip


def piece(delta: dict[str, Any], reason: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"id": "i", "model": "m", "choices": [{"index": index, "delta": delta, "finish_reason": reason}]}


def fragments() -> list[dict[str, Any]]:
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a"'}}
    detail = {"type": "reasoning.encrypted", "data": "t", "id": "c", "format": FORMAT}
    return [
        piece({"role": "assistant", "content": ""}),
        piece(
            {"content": "he", "reasoning_details": [{"type": "reasoning.text", "text": "", "format": FORMAT}]}
        ),
        piece({"tool_calls": [call], "reasoning_details": [detail]}),
        piece({"refusal": "no"}, index=1),
        piece({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}, "tool_calls"),
        piece({}, "stop", 1),
        {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}},
    ]


def test_a_stream_tells_calls_whole_and_usage_in_its_last_event() -> None:
    writer = new_writer()
    out = [text for one in fragments() if (text := writer.write(one))] + [writer.end()]
    assert all(one.startswith(b"data: ") and one.endswith(b"\r\n\r\n") for one in out)
    first, refusal, last = [orjson.loads(one[6:]) for one in out]
    assert first["candidates"][0]["content"]["parts"] == [{"text": "", "thought": True}, {"text": "he"}]
    assert refusal["candidates"] == [{"content": {"role": "model", "parts": [{"text": "no"}]}, "index": 1}]
    call = {"functionCall": {"name": "f", "args": {"a": 1}, "id": "c"}, "thoughtSignature": "t"}
    assert [one["content"]["parts"] for one in last["candidates"]] == [[call], []]
    assert [one["finishReason"] for one in last["candidates"]] == ["STOP", "SAFETY"]
    assert (last["usageMetadata"]["totalTokenCount"], last["responseId"], last["modelVersion"]) == (
        2,
        "i",
        "m",
    )


def test_in_an_array_the_same_is_one_json_text() -> None:
    writer, lines = new_writer(is_array=True), new_writer()
    out = b"".join([*map(writer.write, fragments()), writer.end()])
    events = b"".join([*map(lines.write, fragments()), lines.end()]).split(b"\r\n\r\n")
    assert orjson.loads(out) == [orjson.loads(one[6:]) for one in events if one]


@pytest.mark.parametrize(
    ("kind", "code", "named"),
    [("rate_limit_error", 429, "RESOURCE_EXHAUSTED"), ("overloaded_error", 503, "UNAVAILABLE"),
     ("invalid_request_error", 400, "INVALID_ARGUMENT"), ("api_error", 500, "INTERNAL"), (None, 500, "INTERNAL")],
)  # fmt: skip
def test_an_error_in_a_stream_has_the_status_of_its_kind(kind: str | None, code: int, named: str) -> None:
    told = orjson.loads(new_writer().write({"error": {"message": "no", "type": kind}})[6:])
    assert told == {"error": {"code": code, "message": "no", "status": named}}


def test_an_error_ends_a_stream_of_either_kind() -> None:
    error = {"error": {"message": "no"}}
    assert orjson.loads(new_writer().write(error)[6:])["error"]["message"] == "no"
    writer = new_writer(is_array=True)
    assert (
        orjson.loads(writer.write(piece({"content": "a"})) + writer.write(error))[1]["error"]["code"] == 500
    )


def test_a_stream_whose_server_does_not_say_why_it_stops_keeps_its_calls_and_has_an_end() -> None:
    """snowflake-chat_completions-7f482c6143"""
    writer = new_writer()
    writer.write(
        {"choices": [{"delta": {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f"}}]}}]}
    )
    writer.write({"choices": [{"index": 1, "delta": {"content": "hi"}}]})
    last = orjson.loads(writer.end().removeprefix(b"data: "))["candidates"]
    assert [one["finishReason"] for one in last] == ["STOP", "STOP"]
    assert [one["content"]["parts"] for one in last] == [
        [{"functionCall": {"name": "f", "args": {}, "id": "c"}}],
        [],
    ]


def test_a_summary_of_a_thought_is_told_once() -> None:
    summary = {"type": "reasoning.summary", "summary": "hm", "format": "openai-responses-v1"}
    parts = told({"reasoning_content": "hm", "reasoning_details": [summary]})["content"]["parts"]
    assert parts == [{"text": "hm", "thought": True}]
