"""OpenAI's chat in the frames of SageMaker's endpoints."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway.core.exchange import Call
from gateway.core.usage import Usage
from gateway.wire.base import Asked, Changes
from gateway.wire.eventstream import CONTENT_TYPE
from gateway.wire.invocations import Invocations, InvocationsBack
from gateway.wire.registry import between
from tests.gateway.wire import frames

WAY = Invocations()
HI = [{"role": "user", "content": "hi"}]
WORDS = [
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"hel"}}]}\n\n',
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":"stop"}]}\n\n',
    b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n',
    b"data: [DONE]\n\n",
]


def part(payload: bytes) -> bytes:
    return frames.message(
        payload, frames.text(":event-type", "PayloadPart") + frames.text(":message-type", "event")
    )


def parts(size: int) -> list[bytes]:
    """A stream in frames of so many bytes."""
    raw = b"".join(WORDS)
    return [part(raw[at : at + size]) for at in range(0, len(raw), size)]


def call(**body: Any) -> Call:
    raw = orjson.dumps({"model": "endpoint", "messages": HI, **body})
    payload, model, stream = WAY.read(raw)
    return Call("chat", "openai.chat", "POST", "/chat/completions", raw, payload, model, stream)


def test_a_chat_call_goes_on_without_the_endpoints_name() -> None:
    written = orjson.loads(WAY.write(call(new=1), Changes("endpoint", params={"top_k": 3})))
    assert written == {"messages": HI, "new": 1, "top_k": 3}
    asked = WAY.write(call(stream=True), Changes("endpoint", ask_usage=True, params={"model": "tgi"}))
    assert orjson.loads(asked) == {
        "messages": HI, "stream": True, "stream_options": {"include_usage": True}, "model": "tgi",
    }  # fmt: skip
    exactly = (
        b'{"model":"endpoint","messages":[{"role":"user","content":"hi"}],"seed": 12345678901234567890123}'
    )
    asks = replace(call(), body=exactly)
    assert WAY.write(asks, Changes("endpoint")) == exactly.replace(b'"model":"endpoint",', b"").replace(
        b" ", b""
    )
    assert (WAY.name, WAY.crosses, WAY.media) == ("sagemaker.chat", True, CONTENT_TYPE)


@pytest.mark.parametrize("size", [1, 7, 60, 1000])
def test_a_containers_stream_comes_out_as_it_went_in(size: int) -> None:
    usage = Usage()
    tap = WAY.tap(Asked({}, usage))
    raw = b"".join(parts(size))
    out = b"".join(tap.feed(raw[at : at + 5]) for at in range(0, len(raw), 5)) + tap.rest()
    assert out == b"".join(WORDS)
    assert (tap.begun, tap.finished, tap.failed, tap.finish_reason) == (True, True, False, "stop")
    assert (usage.prompt, usage.completion) == (3, 2)


def test_usage_that_only_the_gateway_asked_for_is_withheld() -> None:
    tap = WAY.tap(Asked({}, Usage(), withhold_usage=True))
    out = b"".join(map(tap.feed, parts(9))) + tap.rest()
    assert out == b"".join([*WORDS[:2], WORDS[3]])


def test_an_exception_ends_the_stream_with_an_error() -> None:
    tap = WAY.tap(Asked({}, Usage()))
    broke = frames.exception("ModelStreamError", b'{"Message":"timed out","ErrorCode":"StreamBroken"}')
    out = tap.feed(part(WORDS[0] + b"data: {") + broke)
    error = {"message": "ModelStreamError: timed out", "type": "api_error", "code": 502}
    assert out == WORDS[0] + b"data: " + orjson.dumps({"error": error}) + b"\n\n"
    assert (tap.failed, tap.finished) == (True, False)


def test_clients_of_other_dialects_are_told_the_same() -> None:
    way = between("anthropic.messages", "sagemaker.chat")
    payload = {"model": "endpoint", "max_tokens": 9, "messages": HI}
    asked = Call("messages", "anthropic.messages", "POST", "/messages", b"", payload, "endpoint", True)
    written = orjson.loads(way.write(asked, Changes("endpoint")))
    assert (written["messages"], "model" in written, written["max_tokens"]) == (HI, False, 9)
    assert way.media == CONTENT_TYPE
    usage = Usage()
    tap = way.tap(Asked(payload, usage))
    out = b"".join(map(tap.feed, parts(11))) + tap.rest()
    said = [orjson.loads(line[6:]) for line in out.split(b"\n") if line.startswith(b"data: ")]
    assert (
        "".join(one["delta"].get("text", "") for one in said if one["type"] == "content_block_delta")
        == "hello"
    )
    assert (said[-1]["type"], usage.completion, tap.finished) == ("message_stop", 2, True)


REFUSALS = [
    (b'{"Message":"Endpoint x not found."}', "Endpoint x not found."),
    (b'{"message":"not authorized"}', "not authorized"),
    (b'{"Message":"a","OriginalStatusCode":400,"OriginalMessage":"{\\"message\\":\\"too long\\"}"}', "too long"),
    (b'{"Message":"a","OriginalStatusCode":500,"OriginalMessage":"out of memory"}', "out of memory"),
    (b'{"Message":"a","OriginalStatusCode":500,"OriginalMessage":""}', "a"), (b"[]", "[]"), (b"no", "no"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "message"), REFUSALS)
def test_a_refusal_tells_what_the_container_said(body: bytes, message: str) -> None:
    assert InvocationsBack().error(body)["message"] == message
    told = orjson.loads(WAY.refusal(400, body))["error"]
    assert (told["message"], told["type"]) == (message, "invalid_request_error")
