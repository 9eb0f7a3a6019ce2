"""Anthropic's Messages in the frames of Bedrock's InvokeModel."""

import base64
from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway.core.exchange import Call
from gateway.core.usage import Usage
from gateway.wire.base import Asked, Changes
from gateway.wire.eventstream import CONTENT_TYPE
from gateway.wire.invoke import Invoke, InvokeCount
from gateway.wire.sse import BadStream
from gateway.wire.thoughts import packed
from tests.gateway.wire import frames

WAY, COUNT = Invoke(), InvokeCount()
HI = [{"role": "user", "content": "hi"}]


def call(*betas: bytes, **body: Any) -> Call:
    payload = {"model": "m", "messages": HI, "max_tokens": 9, **body}
    forward = [(b"content-type", b"application/json"), *((b"anthropic-beta", beta) for beta in betas)]
    raw = orjson.dumps(payload)
    return Call("messages", "anthropic.messages", "POST", "/messages", raw, payload, "m", True, forward)


def written(*betas: bytes, params: dict[str, Any] | None = None, **body: Any) -> Any:
    return orjson.loads(WAY.write(call(*betas, **body), Changes("claude", params=params or {})))


def chunk(raw: bytes) -> bytes:
    return frames.event("chunk", bytes=base64.b64encode(raw).decode(), p="abc")


def fed(*pieces: bytes) -> tuple[bytes, Any, Usage]:
    usage = Usage()
    tap = WAY.tap(Asked({}, usage))
    return b"".join(map(tap.feed, pieces)) + tap.rest(), tap, usage


def test_all_of_a_call_goes_on_but_what_stands_in_the_path() -> None:
    cached = [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]
    body = written(stream=True, system=cached, params={"top_k": 3, "max_tokens": 5, "model": "x"}, new=1)
    assert body == {
        "anthropic_version": "bedrock-2023-05-31", "messages": HI, "max_tokens": 9, "system": cached, "top_k": 3,
        "new": 1,
    }  # fmt: skip
    assert written(anthropic_version="bedrock-2099-01-01")["anthropic_version"] == "bedrock-2099-01-01"
    assert (WAY.crosses, WAY.media, WAY.gives_usage({})) == (True, CONTENT_TYPE, True)


def test_what_the_client_wrote_stays_as_it_was_written() -> None:
    raw = b'{"model":"m", "stream": null, "messages" : [{"wei": 123456789012345678901234, "x": 1.0e0}],"max_tokens":9}'
    asked = replace(call(), body=raw, payload=orjson.loads(raw))
    written = WAY.write(asked, Changes("claude", params={"top_k": 3}))
    assert written == (
        b'{"anthropic_version":"bedrock-2023-05-31","top_k":3,'
        b'"messages":[{"wei": 123456789012345678901234, "x": 1.0e0}],"max_tokens":9}'
    )


def test_what_another_provider_signed_is_left_out_and_the_answer_goes_by_the_asked_name() -> None:
    foreign = {"type": "redacted_thinking", "data": packed({"type": "reasoning.encrypted", "data": "s"})}
    text = {"type": "text", "text": "a"}
    body = written(messages=[*HI, {"role": "assistant", "content": [foreign, text]}])
    assert body["messages"] == [*HI, {"role": "assistant", "content": [text]}]
    start = orjson.dumps({"type": "message_start", "message": {"model": "theirs"}})
    told = WAY.tap(Asked({}, Usage(), named="ours")).feed(chunk(start))
    assert told == b"event: message_start\ndata: %b\n\n" % start.replace(b"theirs", b"ours")


def betas(model: str, *headers: bytes, **body: Any) -> tuple[Any, list[str]]:
    """(those in the body, what was left out)."""
    left: list[str] = []
    told = orjson.loads(WAY.write(call(*headers, **body), Changes(model, left_out=left)))
    return told.get("anthropic_beta"), left


def test_betas_of_the_header_that_bedrock_knows_stand_in_the_body_and_the_others_are_told() -> None:
    new, old = "us.anthropic.claude-opus-4-7", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
    code, think = b"claude-code-20250219", b"interleaved-thinking-2025-05-14"
    manage = b"context-management-2025-06-27"
    sent = b"%b, %b,," % (code, think)
    assert betas(old, sent, manage) == (
        [think.decode(), manage.decode()],
        [f"anthropic-beta: {code.decode()}"],
    )
    left = [f"anthropic-beta: {one.decode()}" for one in (code, think)]
    assert betas(new, sent, manage) == ([manage.decode()], left)
    assert betas(new, sent) == (None, left)
    assert written(sent, manage)["anthropic_beta"] == [manage.decode()]  # who does not ask what was left out


def test_betas_of_the_body_are_the_clients_own() -> None:
    new, manage = "us.anthropic.claude-opus-4-7", "context-management-2025-06-27"
    assert betas(new, manage.encode(), anthropic_beta=["b", manage]) == (["b", manage], [])
    assert betas(new, manage.encode(), anthropic_beta=["b"]) == (["b", manage], [])
    assert betas(new, b"a", anthropic_beta="nonsense") == ("nonsense", [])
    assert betas(new) == (None, [])


def test_a_stream_comes_out_as_anthropics_own() -> None:
    start = b'{"type":"message_start","message":{"usage":{"input_tokens":16,"output_tokens":1}}}'
    delta = b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":21}}'
    stop = b'{"type":"message_stop",\n"amazon-bedrock-invocationMetrics":{"inputTokenCount":16}}'
    raw = b"".join(map(chunk, (start, delta, stop)))
    for size in (1, 7, len(raw)):
        out, tap, usage = fed(*(raw[at : at + size] for at in range(0, len(raw), size)))
        assert out == (
            b"event: message_start\ndata: %b\n\nevent: message_delta\ndata: %b\n\nevent: message_stop\ndata: %b\n\n"
            % (start, delta, stop.replace(b"\n", b" "))
        )
        assert (tap.begun, tap.finished, tap.failed, tap.finish_reason) == (True, True, False, "stop")
        assert (usage.prompt, usage.completion, usage.reported) == (16, 21, True)


def test_an_exception_is_an_error_with_its_status_and_other_frames_are_passed_over() -> None:
    out, tap, _ = fed(frames.event("later"), frames.exception("throttlingException"))
    event, _, data = out.partition(b"\n")
    assert (event, tap.failed) == (b"event: error", True)
    error = {"message": "throttlingException: too many", "type": "rate_limit_error", "code": 429}
    assert orjson.loads(data.removeprefix(b"data: ")) == {"type": "error", "error": error}


def test_a_stream_that_is_cut_is_not_complete() -> None:
    _, tap, _ = fed(chunk(b'{"type":"message_start"}'), chunk(b'{"type":"ping"}')[:-1])
    assert (tap.begun, tap.finished, tap.failed) == (True, False, False)


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (frames.event("chunk"), "no event"), (frames.event("chunk", bytes="!"), "no event"),
        (frames.event("chunk", bytes=5), "no event"), (chunk(b"no JSON"), "no event"), (chunk(b"[]"), "no event"),
        (chunk(b"{}"), "no event"), (chunk(b'{"type":5}'), "without a name"),
        (chunk(b'{"type":"a\\ndata: x"}'), "without a name"),
    ],
)  # fmt: skip
def test_a_frame_without_an_event_of_anthropics_breaks_the_stream(frame: bytes, why: str) -> None:
    with pytest.raises(BadStream, match=why):
        fed(frame)


def test_a_whole_answer_passes_as_it_is() -> None:
    usage = Usage()
    body = b'{"content":[],"stop_reason":"max_tokens","usage":{"input_tokens":3,"output_tokens":4}}'
    tap = WAY.tap(Asked({}, usage))
    tap.whole(body)
    assert (usage.prompt, usage.completion, tap.finish_reason) == (3, 4, "length")


def test_a_refusal_is_told_in_anthropics_envelope() -> None:
    for way in (WAY, COUNT):
        told = orjson.loads(way.refusal(400, b'{"message": "too long"}'))
        assert told == {"type": "error", "error": {"type": "invalid_request_error", "message": "too long"}}


def test_what_is_counted_is_a_whole_call() -> None:
    def counted(**body: Any) -> Any:
        payload = {"model": "m", "messages": HI, **body}
        asked = replace(call(), dialect="anthropic.count_tokens", body=orjson.dumps(payload), payload=payload)
        told = orjson.loads(COUNT.write(asked, Changes("claude")))
        return orjson.loads(base64.b64decode(told["input"]["invokeModel"]["body"]))

    whole = {"max_tokens": 1, "anthropic_version": "bedrock-2023-05-31", "messages": HI}
    assert counted() == whole
    assert counted(thinking={"type": "enabled", "budget_tokens": 2048})["max_tokens"] == 2049
    assert counted(thinking={"budget_tokens": "many"}, tools=[])["max_tokens"] == 1
    assert COUNT.crosses


def test_the_count_is_told_in_anthropics_words() -> None:
    tap = COUNT.tap(Asked({}, Usage()))
    assert tap.whole(b'{"inputTokens": 18}') == b'{"input_tokens":18}'
    assert (tap.finished, tap.failed) == (True, False)
    for odd in (b"[]", b"{}", b'{"inputTokens": "x"}', b"no"):
        assert tap.whole(odd) is None
        assert tap.failed
