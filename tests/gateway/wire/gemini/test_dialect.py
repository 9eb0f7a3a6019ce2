from typing import Any

import orjson
import pytest

from gateway.core.exchange import Call, Shape
from gateway.core.failure import BadRequest, Failure, UpstreamFailed
from gateway.core.usage import Usage
from gateway.wire import sse
from gateway.wire.base import Asked, Changes
from gateway.wire.gemini.dialect import CountTokens, Generate
from gateway.wire.gemini.words import chat_usage
from gateway.wire.sse import BadStream

SSE, ARRAY, COUNT = Generate(), Generate("gemini.array"), CountTokens()
COUNTS = {
    "promptTokenCount": 7,
    "candidatesTokenCount": 2,
    "thoughtsTokenCount": 1,
    "cachedContentTokenCount": 3,
}


def written(body: bytes, **params: Any) -> bytes:
    payload = SSE.read(body).payload
    call = Call("generate", SSE.name, "POST", "/models/m:generateContent", body, payload, "m", False)
    return SSE.write(call, Changes("other", params=params))


def test_a_bound_of_the_output_stands_in_the_config() -> None:
    assert written(b'{"contents": []}', maxOutputTokens=5) == (
        b'{"generationConfig":{"maxOutputTokens":5},"contents": []}'
    )
    body = b'{"contents": [], "generation_config": {"top_k": 1 }}'
    assert written(body, maxOutputTokens=5) == (
        b'{"contents": [], "generation_config": {"maxOutputTokens":5,"top_k":1}}'
    )
    body = b'{"contents": [], "maxOutputTokens": 1, "generationConfig": {"maxOutputTokens": null, "topK": 1}}'
    assert written(body, maxOutputTokens=5) == body.replace(
        b'{"maxOutputTokens": null, "topK": 1}', b'{"maxOutputTokens":5,"topK":1}'
    )
    body = b'{"contents": [], "generationConfig": {"max_output_tokens": 3}}'
    assert written(body, maxOutputTokens=5).endswith(b'{"max_output_tokens": 3}}'), "the call's own"
    assert written(b'{"contents": [], "labels": {}}', labels={"a": "b"}) == b'{"contents": [], "labels": {}}'


def test_the_size_of_a_call_is_what_limits_need() -> None:
    contents: list[Any] = [
        {"parts": [{"text": "x" * 40}, {"inlineData": {}}, {"functionCall": {"name": "f"}}, "odd"]},
        {"role": "user"},
        3,
    ]
    asked = {
        "contents": contents,
        "system_instruction": {"parts": [{"text": "y" * 40}]},
        "tools": [{"function_declarations": [{}, {}]}, {"googleSearch": {}}],
        "generationConfig": {"maxOutputTokens": 9, "candidateCount": 2},
    }
    shape = SSE.shape(asked, 0)
    assert shape == Shape(shape.input_tokens, 9, 2, 3, 2, 1)
    assert 1030 < shape.input_tokens < 1070
    assert SSE.shape({"contents": []}, 0) == Shape(0, 0, 1, 0, 0, 0)
    assert COUNT.shape(asked, 0) == Shape(0, 0, 0)
    with pytest.raises(BadRequest, match="'maxOutputTokens' must be a whole number"):
        SSE.shape({"contents": [], "generationConfig": {"maxOutputTokens": "9"}}, 0)


@pytest.mark.parametrize("tools", [7, [7], [{"functionDeclarations": 7}], {}])
def test_tools_that_are_none_declare_nothing(tools: Any) -> None:
    assert SSE.shape({"contents": [], "tools": tools}, 0).tools == 0


@pytest.mark.parametrize(
    "twice",
    [
        {"generationConfig": {"maxOutputTokens": 1}, "generation_config": {"maxOutputTokens": 9}},
        {"generationConfig": {"maxOutputTokens": 1, "max_output_tokens": 9}},
    ],
)
def test_a_bound_in_two_spellings_is_refused(twice: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="stands twice"):
        SSE.shape({"contents": [], **twice}, 0)


def test_what_is_counted_may_stand_in_a_call_of_its_own() -> None:
    assert COUNT.read(b'{"generateContentRequest": {}}').payload == {"generateContentRequest": {}}
    with pytest.raises(BadRequest, match="'contents' is missing"):
        COUNT.read(b'{"contents": "hi"}')


def test_a_call_without_contents_is_refused() -> None:
    with pytest.raises(BadRequest, match="'contents' must be a list"):
        SSE.read(b'{"contents": "hi"}')


def test_a_broken_stream_ends_in_googles_error() -> None:
    error = UpstreamFailed("it broke", Failure.BROKEN)
    assert orjson.loads(SSE.error_event(error, "r")[6:])["error"]["message"] == "it broke"
    assert orjson.loads(b"[{}" + ARRAY.error_event(error, "r"))[1]["error"]["status"] == "INTERNAL"


def event(**answer: Any) -> bytes:
    return b"data: %b\r\n\r\n" % orjson.dumps(answer)


def done(*indexes: int) -> list[dict[str, Any]]:
    return [{"index": index, "finishReason": "STOP"} for index in indexes]


def test_a_stream_of_several_is_complete_when_each_of_them_is() -> None:
    tap = SSE.tap(Asked({}, Usage(), choices=2))
    tap.feed(event(candidates=done(0)))
    assert (tap.rest(), tap.finished) == (b"", False)
    tap.feed(event(candidates=done(1)))
    assert not tap.finished, "its usage may come"
    assert (tap.rest(), tap.finished) == (b"", True)


def test_usage_that_comes_after_the_reason_is_the_end() -> None:
    usage = Usage()
    tap = SSE.tap(Asked({}, usage))
    tap.feed(event(candidates=done(0)) + event(usageMetadata=COUNTS))
    assert (tap.finished, tap.rest()) == (True, b"")
    assert usage == Usage(7, 3, 3, 1, reported=True)


def test_an_event_without_its_blank_line_is_completed_if_it_is_a_whole_one() -> None:
    tap = SSE.tap(Asked({}, Usage()))
    whole = event(candidates=done(0))
    assert tap.feed(whole[:-4]) == b""
    assert tap.rest().startswith(whole[:-4])
    assert tap.finished
    tap = SSE.tap(Asked({}, Usage()))
    tap.feed(whole[:-2])
    assert (tap.rest(), tap.finished) == (whole[:-2] + b"\n", True)
    tap = SSE.tap(Asked({}, Usage()))
    tap.feed(whole[:9])
    assert (tap.rest(), tap.finished) == (b"", False)


def test_a_blocked_prompt_is_a_complete_answer() -> None:
    tap = SSE.tap(Asked({}, Usage()))
    tap.feed(event(promptFeedback={"blockReason": "SAFETY"}))
    assert tap.rest() == b""
    assert (tap.finished, tap.finish_reason) == (True, "content_filter")


TOLD = {"error": {"code": 503, "message": "overloaded"}}


@pytest.mark.parametrize("told", [event(**TOLD), b'data: {\ndata: "error" : "no"}\n\n'])
def test_an_error_inside_a_stream_is_seen(told: bytes) -> None:
    tap = SSE.tap(Asked({}, Usage()))
    assert tap.feed(told) == told
    assert tap.failed


@pytest.mark.parametrize("blank", [b"", b"\n", b"\n\n", b"\r\n\r\n"])
def test_an_error_that_stands_bare_in_a_stream_is_told_as_an_event(blank: bytes) -> None:
    bare = orjson.dumps(TOLD, option=orjson.OPT_INDENT_2)
    tap = SSE.tap(Asked({}, Usage()))
    said = event(candidates=[{"content": {"parts": [{"text": "a"}]}}])
    assert tap.feed(said + bare + blank) + tap.rest() == said + event(**TOLD)
    assert tap.failed


def test_an_error_inside_an_array_is_seen_and_a_text_of_errors_is_none() -> None:
    tap = ARRAY.tap(Asked({}, Usage()))
    tap.feed(b'[{"candidates": [{"content": {"parts": [{"text": "\\n{\\"error\\": {"}]}}]}')
    assert (tap.begun, tap.failed) == (True, False)
    tap.feed(b',\r\n{\n  "error": {"code": 503}}')
    assert tap.failed


def test_once_usage_is_told_nothing_is_estimated() -> None:
    usage = Usage()
    tap = SSE.tap(Asked({}, usage))
    tap.feed(event(candidates=done(0), usageMetadata=COUNTS))
    tap.feed(event(candidates=[{"content": {"parts": [{"text": "more"}]}}]))
    assert usage.completion == 3


def test_an_array_that_is_not_closed_is_not_complete() -> None:
    tap = ARRAY.tap(Asked({}, Usage()))
    tap.feed(b"[%b" % orjson.dumps({"candidates": done(0), "usageMetadata": COUNTS}))
    assert tap.finished
    assert (tap.rest(), tap.finished) == (b"", False)


@pytest.mark.parametrize(
    ("came", "passes", "ends"),
    [
        (
            b'[{"candidates":[{"finishReason":"STOP"}]}]',
            b'[{"candidates":[{"finishReason":"STOP"}]}]',
            (True, True),
        ),
        (b'[{"candidates":[{}]}]', b'[{"candidates":[{}]}', (False, False)),
        (b'[{"error":{"code":500}}]', b'[{"error":{"code":500}}]', (True, False)),
        (b'[{"error":{"code":500}}', b'[{"error":{"code":500}}]', (True, False)),
    ],
)
def test_an_array_ends_with_a_bracket_where_that_is_its_end(
    came: bytes, passes: bytes, ends: tuple[bool, bool]
) -> None:
    tap = ARRAY.tap(Asked({}, Usage()))
    assert tap.feed(came) == passes
    assert (tap.settled, tap.finished) == ends
    assert tap.feed(b",{}") == tap.rest() == b""


def test_of_an_array_what_is_not_whole_does_not_pass() -> None:
    for cut in (b",", b',\r\n{"candidates": [{', b',{"text": "]'):
        tap = ARRAY.tap(Asked({}, Usage()))
        passed = tap.feed(b"[%b%b" % (orjson.dumps({"candidates": done(0)}), cut))
        assert (passed + tap.rest(), tap.finished) == (
            b'[{"candidates":[{"index":0,"finishReason":"STOP"}]}',
            False,
        )


@pytest.mark.parametrize(
    ("way", "broken"),
    [
        (ARRAY, b'[{"finishReason": "STOP", oops}'),
        (ARRAY, b'{"candidates": []'),
        (SSE, b'data: {"text": "a\r\n\r\n'),
        (SSE, b'data: ["finishReason": "STOP"]\n\n'),
        (SSE, b'data: {"candidates": [{"finishReason": "STOP"}\r\n\r\n'),
    ],
)
def test_what_is_not_valid_is_not_passed(way: Generate, broken: bytes) -> None:
    with pytest.raises(BadStream, match="is not valid JSON"):
        way.tap(Asked({}, Usage())).feed(broken)


def test_the_last_event_is_looked_at_when_no_other_has_told_the_end() -> None:
    tap = SSE.tap(Asked({}, Usage()))
    cut = b'data: {"candidates": [{}], "usageMetadata": {"promptTokenCount": 7}\n\n'
    assert tap.feed(cut) == cut, "its bracket is that of an inner object"
    with pytest.raises(BadStream):
        tap.rest()
    assert not tap.finished


def test_what_says_nothing_is_not_noted() -> None:
    usage = Usage()
    tap = SSE.tap(Asked({}, usage))
    tap.feed(event(candidates=["finishReason"], usageMetadata=3))
    assert (usage.reported, tap.finished) == (False, False)


def test_a_whole_answer_is_accounted_for_or_estimated() -> None:
    usage = Usage()
    tap = SSE.tap(Asked({}, usage))
    tap.whole(orjson.dumps({"candidates": [{"finishReason": 2}], "usageMetadata": COUNTS}))
    assert (usage.total, tap.finish_reason, tap.finished, tap.failed) == (10, "length", True, False)
    usage = Usage()
    SSE.tap(Asked({}, usage)).whole(b'{"candidates": [{"content": {"parts": [{"text": "hello"}]}}]}')
    assert (usage.completion, usage.reported) == (2, False)
    tap = SSE.tap(Asked({}, Usage()))
    tap.whole(b"<html>")
    assert tap.failed


def test_every_stream_tells_its_usage() -> None:
    assert SSE.gives_usage({})


def test_a_total_that_is_not_told_is_added_up() -> None:
    assert chat_usage({"promptTokenCount": 1, "toolUsePromptTokenCount": 2, "thoughtsTokenCount": "x"}) == {
        "prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0},
    }  # fmt: skip


def test_of_a_long_stream_one_event_alone_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with chat, whose usage stands in one event: here it stands in all of them."""
    parsed: list[bytes] = []

    def loads(data: bytes) -> Any:
        parsed.append(data)
        return orjson.loads(data)

    monkeypatch.setattr(sse, "parsed", loads)
    tap = SSE.tap(Asked({}, Usage()))
    for _ in range(50):
        tap.feed(
            event(candidates=[{"content": {"parts": [{"text": "a"}]}}], usageMetadata={"promptTokenCount": 7})
        )
    tap.feed(event(candidates=done(0), usageMetadata=COUNTS))
    assert (len(parsed), tap.finished) == (1, True)
