from typing import Any

import orjson
import pytest

from gateway.wire import sse
from gateway.wire.gemini.back import GeminiBack

BACK = GeminiBack()


def completion(*parts: Any, **more: Any) -> Any:
    candidate = {"content": {"parts": [*parts], "role": "model"}, "finishReason": "STOP"} | more
    return BACK.completion({"candidates": [candidate], "responseId": "r", "modelVersion": "v"})


def test_a_made_id_is_the_same_at_each_reading_and_unlike_its_neighbours() -> None:
    call = {"functionCall": {"name": "f"}}
    calls = completion(call, call)["choices"][0]["message"]["tool_calls"]
    assert [one["id"] for one in calls] == ["call_gem_r_0", "call_gem_r_1"]


def test_log_probabilities_are_told_in_chats_words() -> None:
    token = {"token": "é", "logProbability": -0.5}
    result = {"chosenCandidates": [token, {}], "topCandidates": [{"candidates": [token]}]}
    told = completion({"text": "é"}, logprobsResult=result)["choices"][0]["logprobs"]
    one = {"token": "é", "logprob": -0.5, "bytes": [195, 169]}
    none = {"token": "", "logprob": 0.0, "bytes": [], "top_logprobs": []}
    assert told == {"content": [one | {"top_logprobs": [one]}, none], "refusal": None}


def test_sources_are_cited_in_characters_though_google_counts_bytes() -> None:
    support = {"segment": {"startIndex": 2, "endIndex": 6}, "groundingChunkIndices": [0, 5]}
    grounding = {"groundingChunks": [{"web": {"uri": "u", "title": "t"}}], "groundingSupports": [support, {}]}
    cited = {"citations": [{"endIndex": 2, "uri": "w"}]}
    [choice] = completion({"text": "éabcd"}, groundingMetadata=grounding, citationMetadata=cited)["choices"]
    found = [one["url_citation"] for one in choice["message"]["annotations"]]
    assert found == [
        {"start_index": 1, "end_index": 5, "url": "u", "title": "t"},
        {"start_index": 1, "end_index": 5, "url": "", "title": ""},
        {"start_index": 0, "end_index": 1, "url": "w", "title": ""},
    ]
    assert choice["groundingMetadata"] == grounding


def test_sources_of_an_answer_as_a_whole_have_no_place_and_their_words_are_told() -> None:
    grounding = {"groundingChunks": [{"web": {"uri": "u"}}, {"retrievedContext": {"text": "words"}}, {}]}
    [choice] = completion({"text": "abc"}, groundingMetadata=grounding)["choices"]
    none = {"start_index": 0, "end_index": 0, "title": ""}
    assert [one["url_citation"] for one in choice["message"]["annotations"]] == [
        {**none, "url": "u"}, {**none, "url": "", "content": "words"}, {**none, "url": ""},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "told"),
    [("STOP", "stop"), ("MAX_TOKENS", "length"), ("SPII", "content_filter"), ("MALFORMED_FUNCTION_CALL", "error"),
     ("NEW_ONE", "NEW_ONE"), (None, None), (1, "stop")],
)  # fmt: skip
def test_reasons_are_told_by_table_and_the_native_one_beside(reason: Any, told: str | None) -> None:
    [choice] = completion(finishReason=reason)["choices"]
    assert (choice["finish_reason"], choice.get("native_finish_reason")) == (told, reason)


def test_parts_that_chat_has_no_word_for_are_kept_as_they_came() -> None:
    part = {"inlineData": {"mimeType": "image/png", "data": "AA=="}, "thoughtSignature": "s"}
    message = completion(part, {"text": "a", "thoughtSignature": "t"}, {"text": "b", "thought": True})
    told = message["choices"][0]["message"]
    assert told["other_blocks"] == [part]
    assert [one["type"] for one in told["reasoning_details"]] == ["reasoning.encrypted", "reasoning.text"]


@pytest.mark.parametrize("answer", [[], {}, {"candidates": []}, {"promptFeedback": {}}])
def test_what_is_no_answer_is_a_broken_one(answer: Any) -> None:
    with pytest.raises(sse.BadStream):
        BACK.completion(answer)


def test_a_blocked_prompt_is_a_refusal() -> None:
    found = BACK.completion(
        {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}}
    )
    assert found["choices"][0]["message"]["refusal"] == "the prompt was blocked: SAFETY"
    assert (found["choices"][0]["finish_reason"], found["usage"]["prompt_tokens"]) == ("content_filter", 4)


def event(answer: Any) -> bytes:
    return b"data: %b\r\n\r\n" % orjson.dumps(answer)


def test_a_stream_that_errs_says_so() -> None:
    for named, kind in (("UNAVAILABLE", "overloaded_error"), ("INTERNAL", "api_error")):
        [piece] = BACK.reader().feed(event({"error": {"message": "busy", "status": named}}))
        assert piece == {"error": {"message": "busy", "type": kind, "code": named}}


def test_a_blocked_prompt_ends_a_stream_too() -> None:
    reader = BACK.reader()
    [piece] = reader.feed(event({"promptFeedback": {"blockReason": "OTHER", "blockReasonMessage": "no"}}))
    assert piece["choices"][0]["delta"]["refusal"] == "no"
    assert (list(reader.rest()), reader.finished) == ([], True)


def test_a_stream_without_a_reason_is_not_finished() -> None:
    reader = BACK.reader()
    answer = {
        "candidates": [{"content": {}, "index": 0}, {"index": 1}],
        "usageMetadata": {"promptTokenCount": 1},
    }
    [piece] = reader.feed(event(answer) + b": comment\r\n\r\n")
    assert [one["index"] for one in piece["choices"]] == [0, 1]
    [last] = reader.rest()
    assert (last["usage"]["total_tokens"], reader.finished) == (1, False)


@pytest.mark.parametrize("data", [b"data: {\n\n", b"data: []\n\n"])
def test_an_event_that_is_no_object_breaks_the_stream(data: bytes) -> None:
    with pytest.raises(sse.BadStream):
        BACK.reader().feed(data)


def test_of_two_fragments_the_words_and_calls_are_counted_on() -> None:
    reader = BACK.reader()
    call = {"content": {"parts": [{"functionCall": {"name": "f"}, "thoughtSignature": "s"}]}}
    pieces = [*reader.feed(event({"candidates": [call]})), *reader.feed(event({"candidates": [call]}))]
    assert [one["choices"][0]["delta"]["tool_calls"][0]["index"] for one in pieces] == [0, 1]


@pytest.mark.parametrize("blank", [b"", b"\n\n", b"\r\n\r\n"])
def test_an_error_that_stands_bare_in_a_stream_is_one(blank: bytes) -> None:
    reader = BACK.reader()
    bare = b'{\n  "error": {\n    "code": 503,\n    "message": "busy",\n    "status": "UNAVAILABLE"\n  }\n}'
    (piece,) = [*reader.feed(bare + blank), *reader.rest()]
    assert piece == {"error": {"message": "busy", "type": "overloaded_error", "code": "UNAVAILABLE"}}
