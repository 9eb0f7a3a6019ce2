"""A call in one dialect, answered in another: the way there and back, its account, and answers that are wrong."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway.core.exchange import Call
from gateway.core.failure import BadRequest
from gateway.core.usage import Usage
from gateway.wire.base import Asked, Changes, Tap
from gateway.wire.crossing import Crossing, CrossingTap
from gateway.wire.hub import ChatFront
from gateway.wire.messages.back import MessagesBack
from gateway.wire.registry import DIALECTS, between
from gateway.wire.sse import BadStream
from tests.scripted import DONE, FINISH, USAGE, event, word

TO_CHAT = between("anthropic.messages", "openai.chat")
TO_MESSAGES = between("openai.chat", "anthropic.messages")
USER = [{"role": "user", "content": "hi"}]


def call(stream: bool = False) -> Call:
    payload = {"model": "m", "messages": USER, "max_tokens": 9, "stream": stream}
    return Call("messages", "anthropic.messages", "POST", "/messages", b"", payload, "m", stream)


def tap() -> tuple[Tap, Usage]:
    usage = Usage()
    return TO_CHAT.tap(Asked({}, usage)), usage


def whole(body: Any) -> tuple[Any, Tap, Usage]:
    watched, usage = tap()
    told = watched.whole(body if isinstance(body, bytes) else orjson.dumps(body))
    return told and orjson.loads(told), watched, usage


def test_a_call_goes_out_in_the_providers_format_under_the_providers_name_for_the_model() -> None:
    assert orjson.loads(TO_CHAT.write(call(), Changes("theirs"))) == {
        "model": "theirs",
        "messages": USER,
        "max_tokens": 9,
    }


def test_a_stream_asks_for_usage_because_its_reader_must_be_told() -> None:
    sent = orjson.loads(TO_CHAT.write(call(stream=True), Changes("m")))
    assert (sent["stream"], sent["stream_options"]) == (True, {"include_usage": True})
    assert TO_CHAT.gives_usage({})


def test_there_is_no_way_between_formats_of_different_purpose() -> None:
    with pytest.raises(BadRequest, match="cannot be translated") as caught:
        between("openai.embeddings", "anthropic.messages")
    assert caught.value.code == "unsupported_endpoint"


def test_a_stream_that_begins_with_an_error_may_still_be_an_answer() -> None:
    watched = TO_CHAT.tap(Asked({}, Usage()))
    assert isinstance(watched, CrossingTap)
    watched.feed(event(error={"message": "slow down", "code": "rate_limit_exceeded"}))
    assert watched.failed
    assert orjson.loads(watched.refusal(429)) == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "slow down"},
    }


@pytest.mark.parametrize("end", [FINISH + DONE, event(error={"message": "boom"})])
def test_behind_the_end_only_what_it_took_is_heard(end: bytes) -> None:
    watched, usage = tap()
    assert watched.feed(word("hello") + end)
    assert watched.feed(word("more") + USAGE + event(error={"message": "again"})) == b""
    assert (usage.prompt, usage.completion, usage.reported) == (7, 3, True)


def test_a_whole_answer_is_told_and_counted() -> None:
    choice = {"index": 0, "message": {"content": "yes"}, "finish_reason": "length"}
    counts = {"prompt_tokens": 7, "completion_tokens": 3}
    told, watched, usage = whole({"id": "c", "model": "m", "choices": [choice], "usage": counts})
    assert told["content"] == [{"type": "text", "text": "yes"}]
    assert told["stop_reason"] == "max_tokens"
    assert (usage.prompt, usage.completion, usage.reported) == (7, 3, True)
    assert (watched.finish_reason, watched.finished, watched.failed) == ("length", True, False)


def test_a_whole_answer_may_be_told_as_the_stream_that_was_asked_for() -> None:
    function = {"name": "f", "arguments": '{"a":1}'}
    called = {
        "content": "yes",
        "tool_calls": [{"id": i, "type": "function", "function": function} for i in "tu"],
    }
    choice = {"index": 0, "message": called, "finish_reason": "tool_calls"}
    counts = {"prompt_tokens": 7, "completion_tokens": 3}
    watched, usage = tap()
    assert isinstance(watched, CrossingTap)
    told = watched.streamed(orjson.dumps({"id": "c", "model": "m", "choices": [choice], "usage": counts}))
    assert told
    reader = MessagesBack().reader()
    read = [choice["delta"] for piece in reader.feed(told) for choice in piece["choices"]]
    assert "".join(delta.get("content", "") for delta in read) == "yes"
    calls = [call for delta in read for call in delta.get("tool_calls", [])]
    assert [call["id"] for call in calls if "id" in call] == ["t", "u"]
    assert "".join(call["function"]["arguments"] for call in calls) == '{"a":1}' * 2
    assert (reader.finished, watched.finished, watched.finish_reason) == (True, True, "tool_calls")
    assert (usage.prompt, usage.completion, usage.reported) == (7, 3, True)
    assert watched.rest() == b"", "it has ended"
    assert (watched.streamed(b"{}"), watched.failed) == (None, True)


def test_an_answer_without_usage_is_estimated() -> None:
    _, _, usage = whole({"choices": [{"message": {"content": "y" * 400}}]})
    assert 100 <= usage.completion <= 120
    assert not usage.reported


@pytest.mark.parametrize(
    "body",
    [b"<html>", {"choices": []}, {"choices": [7]}, {"choices": [{"message": 5}]}, [],
     {"choices": [{"message": {"tool_calls": [{"function": 5}]}}]}],
)  # fmt: skip
def test_an_answer_of_another_shape_is_a_failure_of_the_provider(body: Any) -> None:
    told, watched, _ = whole(body)
    assert told is None
    assert watched.failed


@pytest.mark.parametrize("front", ["openai.chat", "anthropic.messages", "gemini.generate"])
def test_what_a_whole_answer_used_counts_though_it_failed(front: str) -> None:
    told = {
        "status": "failed", "output": [], "error": {"code": "server_error", "message": "boom"},
        "usage": {"input_tokens": 1000, "output_tokens": 77},
    }  # fmt: skip
    for way in ("whole", "streamed"):
        usage = Usage()
        watched = between(front, "openai.responses").tap(Asked({}, usage))
        assert getattr(watched, way)(orjson.dumps(told)) is None
        assert (usage.prompt, usage.completion, usage.reported, watched.failed) == (1000, 77, True, True)


def test_a_stream_is_told_event_by_event_and_ends_once() -> None:
    watched, usage = tap()
    assert b"text_delta" in watched.feed(word("hello"))
    assert (watched.begun, watched.finished) == (True, False)
    assert watched.feed(FINISH) == b""
    assert watched.feed(USAGE) == b""
    assert watched.feed(event(choices=[{"delta": {}}])) == b""  # what comes after the count is not guessed at
    end = watched.feed(DONE)
    assert end.count(b"event: message_stop") == 1
    assert (watched.finished, watched.finish_reason, usage.completion) == (True, "stop", 3)
    assert watched.rest() == b""


def test_a_stream_without_its_last_word_ends_with_its_reason() -> None:
    watched, usage = tap()
    watched.feed(word("hello") + FINISH[:-1])
    assert b"message_stop" in watched.rest()
    assert usage.completion == 2  # of "hello", by estimate


def test_a_stream_that_breaks_off_has_not_finished() -> None:
    watched, _ = tap()
    watched.feed(word("hello"))
    assert (watched.rest(), watched.finished) == (b"", False)


def test_an_error_within_a_stream_is_told_and_nothing_ends_well_after_it() -> None:
    watched = TO_CHAT.tap(Asked({}, Usage(), request_id="r"))
    told = watched.feed(event(error={"message": "no", "type": "overloaded_error"}) + DONE)
    error = b'{"type":"error","error":{"type":"overloaded_error","message":"no"},"request_id":"r"}'
    assert told == b"event: error\ndata: %b\n\n" % error
    assert (watched.failed, watched.finished) == (True, False)


def test_behind_an_error_only_what_was_used_counts() -> None:
    watched, usage = tap()
    watched.feed(word("hello") + event(error={"message": "no"}))
    assert watched.feed(word("still there") + USAGE + DONE) == b""
    assert (watched.failed, watched.finished, usage.completion, usage.reported) == (True, False, 3, True)


def test_an_event_of_another_shape_breaks_the_stream() -> None:
    watched, _ = tap()
    with pytest.raises(BadStream, match="not what its format says"):
        watched.feed(event(choices=[7]))
    watched, _ = tap()
    watched.feed(event(choices=[7])[:-1])
    with pytest.raises(BadStream, match="the last event"):
        watched.rest()


def test_what_is_no_event_at_all_is_named() -> None:
    watched, _ = tap()
    with pytest.raises(BadStream, match="not valid JSON"):
        watched.feed(b"data: {\n\n")
    watched, _ = tap()
    watched.feed(b"data: [1]")
    with pytest.raises(BadStream, match="no object"):
        watched.rest()


def malformed(*words: str) -> dict[str, Any]:
    """An answer of Gemini's that ended in a call nobody can read."""
    content = {"role": "model", "parts": [{"text": one} for one in words]}
    counts = {"promptTokenCount": 7, "totalTokenCount": 7}
    ended = {"content": content, "finishReason": "MALFORMED_FUNCTION_CALL", "index": 0}
    return {"candidates": [ended], "usageMetadata": counts, "responseId": "r"}


@pytest.mark.parametrize(
    ("front", "told"),
    [("anthropic.messages", b'"type":"error","error":{"type":"api_error"'),
     ("openai.responses", b'"status":"failed"')],
)  # fmt: skip
def test_a_generation_that_failed_is_an_error_where_no_word_says_so(front: str, told: bytes) -> None:
    usage = Usage()
    watched = between(front, "gemini.generate").tap(Asked({"model": "m"}, usage))
    assert isinstance(watched, CrossingTap)
    assert b"Hm" in watched.feed(event(**malformed("Hm")))
    end = watched.rest()
    assert told in end
    assert b"the generation failed (MALFORMED_FUNCTION_CALL)" in end
    assert (watched.failed, watched.finished, watched.error["type"]) == (True, False, "api_error")
    assert (watched.finish_reason, usage.prompt, usage.reported) == ("error", 7, True)


@pytest.mark.parametrize("front", ["anthropic.messages", "openai.responses"])
def test_a_whole_answer_of_a_failed_generation_is_none_but_counts(front: str) -> None:
    usage = Usage()
    watched = between(front, "gemini.generate").tap(Asked({"model": "m"}, usage))
    with pytest.raises(BadStream, match="MALFORMED_FUNCTION_CALL"):
        watched.whole(orjson.dumps(malformed("Hm")))
    assert (watched.finish_reason, usage.prompt) == ("error", 7)


PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


@pytest.mark.parametrize("front", ["anthropic.messages", "openai.responses"])
def test_pictures_that_a_dialect_has_no_place_for_end_in_an_error(front: str) -> None:
    """Words before them are told; a whole answer is refused, for to ask again would bring the same."""
    tap = between(front, "openai.chat").tap(Asked({"model": "m"}, Usage()))
    assert isinstance(tap, CrossingTap)
    begun = tap.feed(word("Look:") + event(choices=[{"index": 0, "delta": {"images": [PICTURE]}}]))
    end = tap.feed(FINISH + USAGE + DONE)
    assert (b"Look:" in begun, b"pictures or sound" in end, tap.failed) == (True, True, True)
    usage = Usage()
    choice = {"message": {"content": "", "images": [PICTURE]}, "finish_reason": "stop"}
    counts = {"prompt_tokens": 7, "completion_tokens": 1290}
    with pytest.raises(BadRequest, match="pictures or sound") as refused:
        between(front, "openai.chat").tap(Asked({"model": "m"}, usage)).whole(
            orjson.dumps({"choices": [choice], "usage": counts})
        )
    assert (refused.value.code, usage.completion) == ("unsupported_output", 1290)


def test_chat_says_by_its_reason_that_a_generation_failed() -> None:
    watched = between("openai.chat", "gemini.generate").tap(Asked({"model": "m"}, Usage()))
    end = watched.feed(event(**malformed("Hm"))) + watched.rest()
    assert (b'"finish_reason":"error"' in end, watched.finished, watched.failed) == (True, True, False)
    told = orjson.loads(watched.whole(orjson.dumps(malformed("Hm"))) or b"{}")
    assert told["choices"][0]["finish_reason"] == "error"


ODD: list[Any] = ["x", 7, [1], {"a": {}}]


@pytest.mark.parametrize("odd", ODD)
def test_a_finish_reason_of_any_kind_is_a_text(odd: Any) -> None:
    watched, _ = tap()
    watched.feed(event(choices=[{"index": 0, "delta": {}, "finish_reason": odd}]) + DONE)
    assert (watched.finish_reason, watched.finished) == (str(odd), True)
    _, watched, _ = whole({"choices": [{"message": {"content": "a"}, "finish_reason": odd}]})
    assert (watched.finish_reason, watched.failed) == (str(odd), False)


@pytest.mark.parametrize("odd", ODD)
def test_an_answer_is_good_without_counts_that_are_counts(odd: Any) -> None:
    usage = Usage()
    watched = TO_MESSAGES.tap(Asked({}, usage))
    for said in (
        event(type="message_start", message={"usage": odd}),
        event(type="message_delta", usage=odd, delta={"stop_reason": "end_turn"}),
        event(type="message_stop"),
    ):
        watched.feed(said)
    assert (watched.finished, usage.prompt, usage.completion) == (True, 0, 0)


def any_of(kind: str, odd: Any) -> list[dict[str, Any]]:
    """Answers and events of one format with a value of another kind at each place that is read."""
    return {
        "openai.chat": [
            {"choices": [{"delta": odd, "message": odd}], "usage": odd},
            {"choices": [{"delta": {"tool_calls": odd}, "message": {"tool_calls": odd}}], "id": odd},
            {"choices": odd, "error": odd, "usage": {"prompt_tokens": odd, "prompt_tokens_details": odd}},
        ],
        "anthropic.messages": [
            {"type": "message_start", "message": odd, "content": odd},
            {"type": "content_block_start", "content_block": odd, "content": [odd], "usage": odd},
            {"type": "content_block_delta", "delta": odd, "content": [{"type": odd}], "stop_reason": odd},
            {"type": "message_delta", "usage": odd, "delta": odd, "content": [], "id": odd},
            {"type": odd, "error": odd},
            {"type": "error", "error": odd},
        ],
        "gemini.generate": [
            {"candidates": odd, "usageMetadata": odd, "responseId": odd},
            {"candidates": [{"content": odd, "finishReason": odd}], "promptFeedback": odd},
            {"candidates": [{"content": {"parts": odd}, "index": odd}], "error": odd},
            {"candidates": [{"content": {"parts": [odd]}, "finishReason": "STOP", "groundingMetadata": odd}]},
        ],
        "openai.responses": [
            {"type": "response.completed", "response": odd, "output": odd},
            {"type": "response.completed", "response": {"usage": odd, "incomplete_details": odd}, "output": [odd],
             "incomplete_details": odd},
            {"type": "response.completed", "response": {"status": odd, "output": [{"type": odd}]}, "output": [],
             "usage": {"input_tokens": odd, "input_tokens_details": odd}, "incomplete_details": {"reason": odd}},
            {"type": "response.output_item.added", "output_index": odd, "item": odd},
            {"type": "error", "error": odd},
        ],
        "cohere.chat": [
            {"type": "message-end", "delta": odd, "message": odd},
            {"type": "message-end", "delta": {"usage": odd, "finish_reason": odd}, "message": {"content": odd}},
            {"type": "message-end", "delta": {"usage": {"tokens": odd}}, "message": {}, "usage": {"tokens": odd}},
        ],
    }[kind]  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(
    "back", ["openai.chat", "anthropic.messages", "gemini.generate", "openai.responses", "cohere.chat"]
)
@pytest.mark.parametrize(
    "front", ["openai.chat", "anthropic.messages", "gemini.generate", "openai.responses"]
)
def test_what_a_provider_says_of_another_kind_is_told_or_a_bad_answer(
    front: str, back: str, odd: Any
) -> None:
    way = DIALECTS[front] if front == back else between(front, back)
    for said in any_of(back, odd):
        asked = Asked({"model": "m"}, Usage())
        watched = way.tap(asked)
        with suppress(BadStream):
            watched.feed(event(**said))
            watched.rest()
        way.tap(asked).whole(orjson.dumps(said))
        assert isinstance(watched.finish_reason, str)


def test_a_refusal_keeps_the_providers_reason() -> None:
    said = TO_CHAT.refusal(404, b'{"error": {"message": "no such model"}}')
    assert orjson.loads(said) == {
        "type": "error",
        "error": {"type": "not_found_error", "message": "no such model"},
    }
    told = orjson.loads(
        TO_MESSAGES.refusal(429, b'{"error": {"type": "rate_limit_error", "message": "slow"}}')
    )
    assert told["error"] == {"message": "slow", "type": "rate_limit_error", "param": None, "code": None}


# The names of what cannot be carried

SEE = {"type": "text", "text": "see"}
ODD_CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "t", "function": {"arguments": "["}}]}


@pytest.mark.parametrize(
    ("front", "back", "payload", "field"),
    [
        ("openai.responses", "anthropic.messages",
         {"instructions": "s", "input": [{"role": "user", "content": "a"}, {"role": "user", "content": [
             {"type": "input_text", "text": "a"}, {"type": "input_audio", "input_audio": {"data": "a"}}]}]},
         "input[1].content[1]"),
        ("openai.responses", "anthropic.messages",
         {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "["}]}, "input[0]"),
        ("openai.responses", "anthropic.messages", {"input": "a", "top_logprobs": 2}, "top_logprobs"),
        ("openai.responses", "anthropic.messages", {"input": "a", "include": ["message.output_text.logprobs"]},
         "include"),
        ("openai.responses", "gemini.generate", {"input": "a", "reasoning": {"effort": "most"}}, "reasoning.effort"),
        ("openai.responses", "gemini.generate",
         {"input": "a", "tools": [{"type": "web_search"}, {"type": "custom", "name": "f"}]}, "tools[1]"),
        ("gemini.generate", "anthropic.messages", {"contents": [{"parts": [{"text": "a"}, {"fileData": {
            "mimeType": "video/mp4", "fileUri": "gs://a/b"}}]}]}, "contents[0].parts[1]"),
        ("gemini.generate", "anthropic.messages", {"contents": [], "generationConfig": {"candidateCount": 2}},
         "generationConfig.candidateCount"),
        ("gemini.generate", "openai.chat", {"contents": [{"role": "odd", "parts": []}]}, "contents[0]"),
        ("anthropic.messages", "gemini.generate", {"messages": [], "output_config": {"effort": "most"}},
         "output_config.effort"),
        ("anthropic.messages", "openai.chat", {"messages": [
            {"role": "user", "content": "a"}, {"role": "user", "content": [SEE, {"type": "video"}]}]},
         "messages.1.content.1"),
        ("openai.chat", "anthropic.messages", {"messages": [{"role": "user", "content": "a"}, ODD_CALL]},
         "messages[1].tool_calls[0].function.arguments"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_clients_own_field_as_its_api_writes_it(
    front: str, back: str, payload: Any, field: str
) -> None:
    asked = Call("chat", front, "POST", "/", b"", {"model": "m", **payload}, "m", False)
    with pytest.raises(BadRequest) as refused:
        between(front, back).write(asked, Changes("m"))
    assert refused.value.param == field
    assert field in refused.value.message


def test_a_refusal_that_names_no_field_stays_as_it_is() -> None:
    class Closed(MessagesBack):
        def from_chat(self, chat: Any, changes: Changes) -> Any:
            raise BadRequest("closed on Sundays", code="closed")

    with pytest.raises(BadRequest, match="closed on Sundays") as refused:
        Crossing("anthropic.messages", ChatFront(), Closed()).write(call(), Changes("m"))
    assert (refused.value.code, refused.value.param) == ("closed", None)


def test_a_schema_without_end_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(1000):
        schema = {"not": schema}
    asks = {"messages": USER, "response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
    asked = Call("chat", "openai.chat", "POST", "/", b"", asks, "m", False)
    with pytest.raises(BadRequest, match="cannot be translated"):
        TO_MESSAGES.write(asked, Changes("m"))


def test_what_a_fallback_leaves_out_is_told_in_the_clients_words_whoever_has_no_place_for_it() -> None:
    content = [SEE, {"type": "video"}, {"type": "document", "source": {"type": "text", "data": "d"}}]
    payload = {"messages": [{"role": "user", "content": content}], "output_config": {"effort": "most"}}
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    asked = Call("chat", "anthropic.messages", "POST", "/", b"", payload | {"tools": tools}, "m", False)
    dropped: list[str] = []
    left_out: list[str] = []
    between("anthropic.messages", "gemini.generate").write(
        asked, Changes("m", dropped=dropped, left_out=left_out)
    )
    assert dropped == ["messages.0.content.1", "output_config.effort"]
    assert left_out == ["tools.0"]


def test_what_is_left_out_of_every_call_is_told_in_the_clients_words_too() -> None:
    payload = {"input": "hi", "max_output_tokens": 100, "reasoning": {"effort": "high"}}
    asked = Call("responses", "openai.responses", "POST", "/", b"", payload, "m", False)
    left_out: list[str] = []
    between("openai.responses", "anthropic.messages").write(
        asked, Changes("claude-haiku-4-5", left_out=left_out)
    )
    assert left_out == ["reasoning.effort"]
    picture = {"type": "image_url", "image_url": {"url": "https://a/b", "detail": "low"}}
    payload = {
        "model": "m",
        "messages": [{"role": "user", "name": name, "content": [picture]} for name in "ab"],
    }
    for back, told in (
        ("anthropic.messages", ["messages.name", "image_url.detail"]),
        ("gemini.generate", ["messages.name", "image_url.detail"]),
        ("cohere.chat", ["messages.name"]),
        ("openai.responses", ["messages.name"]),
    ):
        left_out.clear()
        asked = Call("chat", "openai.chat", "POST", "/", b"", payload, "m", False)
        between("openai.chat", back).write(asked, Changes("m", left_out=left_out))
        assert left_out == told


# Calls of any shape

MESSAGES_CALL = {
    "model": "m", "max_tokens": 9, "system": [{"type": "text", "text": "s"}], "metadata": {"user_id": "u"},
    "thinking": {"type": "enabled", "budget_tokens": 2000}, "output_config": {"format": {"schema": {}}},
    "tools": [{"name": "f", "input_schema": {}}], "tool_choice": {"type": "tool", "name": "f"},
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "a"},
                                     {"type": "image", "source": {"type": "url", "url": "u"}},
                                     {"type": "document", "source": {"type": "text", "data": "d"}},
                                     {"type": "document", "source": {"type": "content", "content": []}},
                                     {"type": "tool_result", "tool_use_id": "t", "content": "c"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}},
                                          {"type": "thinking", "thinking": "t", "signature": "s"}]},
    ],
}  # fmt: skip
CHAT_CALL = {
    "model": "m", "max_tokens": 9000, "reasoning_effort": "low", "stop": "x", "user": "u", "output_config": {},
    "response_format": {"type": "json_schema", "json_schema": {"schema": {}}}, "n": 1, "modalities": ["text"],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "r"},
                                     {"type": "image_url", "image_url": {"url": "u"}},
                                     {"type": "file", "file": {"file_data": "data:x;base64,a", "filename": "n"}}]},
        {"role": "assistant", "content": None, "reasoning_details": [{"format": "anthropic-claude-v1"}],
         "tool_calls": [{"id": "t", "function": {"name": "f", "arguments": "{}"}}], "other_blocks": [{}],
         "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "tool", "tool_call_id": "t", "content": "c"},
    ],
}  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value within."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(one for name, member in inner for one in places(member, (*path, name)))]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


@pytest.mark.parametrize(
    ("way", "payload"), [(TO_CHAT, MESSAGES_CALL), (TO_MESSAGES, CHAT_CALL)], ids=["messages", "chat"]
)
@pytest.mark.parametrize("new", [None, True, 7, "text", [], [7], [{}], {}, {"type": "x"}], ids=repr)
def test_whatever_stands_in_place_of_a_member_it_is_carried_over_or_refused(
    way: Any, payload: Any, new: Any
) -> None:
    for path in places(payload):
        if path in ((), ("max_tokens",), ("messages",)):
            continue  # these are read before: the dialect takes objects alone, bounds that are, and lists
        body = changed(payload, path, new)
        try:
            way.write(replace(call(), payload=body), Changes("m"))
        except BadRequest as refusal:
            assert refusal.param, path


def test_a_value_of_a_kind_nobody_thought_of_is_the_callers_fault() -> None:
    odd = replace(
        call(),
        dialect="openai.chat",
        payload={"model": "m", "messages": USER, "max_tokens": ["9"], "reasoning_effort": "low"},
    )
    with pytest.raises(BadRequest, match="not of the kind its API takes") as refused:
        TO_MESSAGES.write(odd, Changes("m", cap_name="max_tokens"))
    assert refused.value.code == "invalid_value"


def test_a_stream_that_goes_on_behind_its_reason_has_not_settled() -> None:
    one = between("anthropic.messages", "openai.chat").tap(Asked({}, Usage()))
    one.feed(word("a") + FINISH)
    assert one.settled
    one.feed(word("b"))
    assert not one.settled
    one.feed(FINISH)
    assert not one.settled, "it says one all the time"


def test_of_geminis_stream_all_has_come_with_its_reason_and_what_it_took() -> None:
    said = {"content": {"parts": [{"text": "he"}]}}
    counted = {"usageMetadata": {"promptTokenCount": 7}}
    stopped = event(candidates=[said | {"finishReason": "STOP"}], **counted)
    for choices, chunks, complete in (
        (1, [event(candidates=[said], **counted)], False),
        (1, [event(candidates=[said], **counted), stopped], True),
        (1, [stopped, event(candidates=[said])], False),
        (1, [event(candidates=[said | {"finishReason": "STOP"}])], False),
        (2, [stopped], False),
    ):
        watched = between("openai.chat", "gemini.generate").tap(Asked({}, Usage(), choices=choices))
        assert isinstance(watched, CrossingTap)
        for chunk in chunks:
            watched.feed(chunk)
        assert (watched.complete, watched.finished) == (complete, False)


def test_a_stream_with_a_last_event_is_not_complete_before_it() -> None:
    watched, _ = tap()
    assert isinstance(watched, CrossingTap)
    for chunk in (word("he"), FINISH, USAGE):
        watched.feed(chunk)
    assert (watched.settled, watched.complete) == (True, False)
