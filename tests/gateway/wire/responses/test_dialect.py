"""Responses between equals: the account of what passes."""

from typing import Any

import orjson
import pytest

from gateway.core.exchange import Call
from gateway.core.failure import Failure, UpstreamFailed
from gateway.core.usage import Usage
from gateway.wire.base import Asked, Changes
from gateway.wire.registry import DIALECTS
from gateway.wire.responses.dialect import ResponsesTap, last_response, unkept
from gateway.wire.responses.words import item_id, seal
from gateway.wire.sse import BadStream
from gateway.wire.weights import IMAGE_TOKENS
from tests.scripted import event

RESPONSES = DIALECTS["openai.responses"]
CREATED = event(type="response.created", response={"id": "r"})
DELTA = event(type="response.output_text.delta", delta='hello "x')


def last(status: str, **more: Any) -> bytes:
    counts = {"input_tokens": 7, "output_tokens": 3}
    return event(type=f"response.{status}", response={"status": status, "usage": counts, **more})


def watched(*chunks: bytes) -> tuple[ResponsesTap, Usage, bytes]:
    usage = Usage()
    tap = ResponsesTap(usage)
    passed = b"".join([*(tap.feed(chunk) for chunk in chunks), tap.rest()])
    return tap, usage, passed


def test_a_stream_tells_its_usage_and_reason_at_its_end() -> None:
    tap, usage, passed = watched(CREATED, DELTA, last("completed", output=[{"type": "function_call"}]))
    assert passed.count(b"\n\n") == 3
    assert (usage.prompt, usage.completion, usage.reported) == (7, 3, True)
    assert (tap.finished, tap.failed, tap.finish_reason) == (True, False, "tool_calls")


@pytest.mark.parametrize(
    ("status", "more", "reason"),
    [
        ("incomplete", {"incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ("incomplete", {"incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ("completed", {}, "stop"),
        ("cancelled", {}, "cancelled"),
    ],
)
def test_why_a_model_stopped_is_said_in_chats_words(status: str, more: dict[str, Any], reason: str) -> None:
    usage = Usage()
    tap = ResponsesTap(usage)
    tap.whole(orjson.dumps({"status": status, **more}))
    assert (tap.finish_reason, tap.failed, usage.reported) == (reason, False, False)
    assert usage.completion > 0


def test_an_event_that_is_not_valid_breaks_the_stream() -> None:
    with pytest.raises(BadStream, match="an event is not valid JSON"):
        watched(CREATED, b'data: {"type":"response.output_text.delta"\n\n')


def test_a_failure_is_told_as_it_is_once_something_else_was() -> None:
    assert watched(CREATED, last("failed"))[0].failed
    assert not watched(last("failed"))[0].failed
    assert watched(b"event: error\n" + event(type="error", message="m"))[0].failed


def test_a_last_event_without_its_blank_line_is_completed() -> None:
    cut = last("completed")[:-2]
    for rest in (cut, cut + b"\n"):
        tap, _, passed = watched(rest)
        assert (tap.finished, passed) == (True, cut + b"\n\n")
    for rest, kept in (
        (b"data: [DONE]", b"data: [DONE]\n\n"),
        (b"data: {", b""),
        (b"data: 1", b""),
        (b": x", b""),
        (b"event: response.comp", b""),
        (b"event: response.completed\ndata:", b""),
    ):
        assert watched(rest)[2] == kept
    assert watched(event(type="response.completed", response=1))[0].finish_reason == ""


def test_a_call_passes_as_it_is_but_for_its_model_and_what_is_added() -> None:
    dialect = DIALECTS["openai.responses"]
    body = b'{"model": "m", "input": "i"}'
    call = Call("responses", dialect.name, "POST", "/responses", body, *dialect.read(body))
    assert dialect.write(call, Changes("m")) is body
    assert dialect.write(call, Changes("o", params={"input": 1, "user": "u"})) == (
        b'{"user":"u","model": "o", "input": "i"}'
    )
    assert dialect.gives_usage({})
    assert isinstance(dialect.tap(Asked({}, Usage())), ResponsesTap)


OF_OPENAI = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAABo"}
SAID_BEFORE = {
    "type": "message",
    "role": "assistant",
    "content": [{"type": "output_text", "text": 'it is "gh1.'}],
}


@pytest.mark.parametrize(
    "thought",
    [
        {
            "type": "reasoning",
            "id": "rs_2",
            "encrypted_content": seal([{"type": "reasoning.text", "signature": "s"}]),
        },
        {"type": "reasoning", "id": item_id("reasoning", "0" * 32, 0), "encrypted_content": None},
    ],
)
def test_thoughts_of_another_api_are_left_out_and_named(thought: dict[str, Any]) -> None:
    def sent(*items: dict[str, Any]) -> tuple[bytes, list[str]]:
        left: list[str] = []
        body = b'{"seed": 1e0, "input": ' + orjson.dumps(items) + b', "model": "m"}'
        payload, model, stream = RESPONSES.read(body)
        call = Call("responses", "openai.responses", "POST", "/responses", body, payload, model, stream)
        sent = RESPONSES.write(call, Changes("m", left_out=left))
        assert RESPONSES.write(call, Changes("m")) == sent
        return sent, left

    without = sent(OF_OPENAI, SAID_BEFORE)
    assert sent(OF_OPENAI, thought, SAID_BEFORE) == (without[0], ["input.reasoning"])
    assert without == (
        b'{"seed": 1e0, "input": ' + orjson.dumps([OF_OPENAI, SAID_BEFORE]) + b', "model": "m"}',
        [],
    )


def test_whoever_follows_a_response_is_left_with_the_formats_own_event() -> None:
    told = DIALECTS["openai.responses"].error_event(UpstreamFailed("it broke", Failure.BROKEN), "r")
    head, data = told.decode().strip().split("\n")
    said = orjson.loads(data.removeprefix("data: "))
    assert (head, said["type"], said["message"], said["code"]) == (
        "event: error", "error", "it broke", "upstream_error"
    )  # fmt: skip
    assert said["error"]["type"] == "api_error"


def test_a_stream_that_breaks_fails_in_the_order_of_its_events() -> None:
    tap, _, _ = watched(
        event(type="response.created", response={"id": "r"}, sequence_number=0),
        event(type="response.output_text.delta", delta="x", sequence_number=1),
    )
    *_, error, failed = tap.broken(UpstreamFailed("it broke", Failure.BROKEN)).decode().split("data: ")
    assert orjson.loads(error.split("\n")[0])["sequence_number"] == 2
    said = orjson.loads(failed)
    assert (said["type"], said["sequence_number"]) == ("response.failed", 3)
    assert said["response"] == {
        "id": "r", "status": "failed", "error": {"code": "server_error", "message": "it broke"}
    }  # fmt: skip


def test_the_end_is_found_among_other_events_of_a_chunk() -> None:
    tap, usage, _ = watched(CREATED + DELTA + last("completed"))
    assert (tap.finished, usage.prompt) == (True, 7)


def test_usage_that_came_is_not_estimated_on() -> None:
    tap, usage, _ = watched(CREATED, last("completed"), DELTA)
    assert usage.completion == 3
    tap.whole(orjson.dumps({"usage": {"input_tokens": 1, "output_tokens": 2}}))
    assert usage.completion == 2


def test_what_is_written_in_the_background_is_not_estimated() -> None:
    usage = Usage()
    tap = DIALECTS["openai.responses"].tap(Asked({"background": True}, usage))
    tap.feed(CREATED + DELTA)
    tap.whole(orjson.dumps({"status": "queued", "instructions": "x" * 900}))
    assert (usage.completion, usage.reported) == (0, False)
    tap.feed(last("completed"))
    assert usage.completion == 3


def test_what_is_no_object_is_no_answer() -> None:
    for body in (b"[]", b"{"):
        tap = ResponsesTap(Usage())
        tap.whole(body)
        assert tap.failed


def test_the_size_of_a_call_counts_all_that_is_sent() -> None:
    shape = DIALECTS["openai.responses"].shape
    items = [{"role": "user", "content": "x" * 400}, {"type": "function_call_output", "output": "y" * 400}]
    counted = shape({"input": items, "tools": [{"name": "f" * 400}], "max_output_tokens": 9}, 0)
    assert counted.input_tokens > 300
    assert (counted.max_tokens, counted.messages, counted.tools) == (9, 2, 1)
    assert shape({"tools": 1}, 0).tools == 0
    seen = [{"type": "input_text", "text": "12345678"}, {"type": "input_image", "image_url": "x" * 99_999}]
    given_back = shape({"input": [{"type": "function_call_output", "output": seen}]}, 0)
    assert (given_back.images, given_back.input_tokens < 2 * IMAGE_TOKENS) == (1, True)


def test_the_last_response_of_a_stream_is_found_and_can_say_that_it_was_not_stored() -> None:
    block = CREATED + last("completed", store=True)
    assert last_response(CREATED) is None
    assert last_response(event(type="response.completed", response=1)) is None
    assert (last_response(block) or {})["store"] is True
    assert (last_response(unkept(block)) or {})["store"] is False
    assert unkept(block).startswith(CREATED)
