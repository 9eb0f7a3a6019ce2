"""Endpoints that pass through: nothing is changed but the model, and the look at the answer is bounded."""

from typing import Any

import orjson
import pytest

from gateway.core.exchange import Call, Shape
from gateway.core.failure import BadRequest, Failure, UpstreamFailed
from gateway.core.usage import Usage
from gateway.wire.base import Asked, Changes
from gateway.wire.raw import LOOK, Raw, RawTap, bound_of

RAW = Raw()


def call(body: bytes) -> Call:
    payload, model, stream = RAW.read(body)
    return Call("responses", "openai.raw", "POST", "/responses", body, payload, model, stream)


def tap() -> tuple[RawTap, Usage]:
    usage = Usage()
    return RAW.tap(Asked({}, usage)), usage


def test_the_same_name_and_no_params_leave_the_very_same_bytes() -> None:
    body = b'{ "model": "m", "x" :1.0}'
    assert RAW.write(call(body), Changes("m")) is body


def test_the_model_is_renamed_and_params_are_added_where_absent() -> None:
    body = b'{"model": "m", "store": true}'
    assert RAW.write(call(body), Changes("n", params={"store": False, "user": "u"})) == (
        b'{"user":"u","model": "n", "store": true}'
    )


@pytest.mark.parametrize(
    ("payload", "shape"),
    [
        ({"model": "m", "input": "12345678", "max_output_tokens": 9}, Shape(3, 9, tools=0, messages=1)),
        ({"model": "m", "prompt": "12345678", "tools": [{}]}, Shape(4, 0, tools=1, messages=1)),
        ({"input": "", "prompt": {"id": "p", "variables": {"x": "x" * 400}}}, Shape(108, 0, messages=1)),
        ({"input": "", "thread": {"messages": ["x" * 400]}}, Shape(105, 0, messages=1)),
        ({"model": "m", "documents": "x" * 100, "tools": 7}, Shape(34, 0, tools=0, messages=1)),
    ],
)
def test_the_shape_is_what_the_call_says_else_its_size(payload: dict[str, Any], shape: Shape) -> None:
    assert RAW.shape(payload, len(orjson.dumps(payload))) == shape


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/responses", "max_output_tokens"),
        ("POST", "/responses?beta=true", "max_output_tokens"),
        ("POST", "/threads/runs", "max_completion_tokens"),
        ("POST", "/threads/thread_1/runs?include[]=x", "max_completion_tokens"),
        ("POST", "/threads/thread_1/runs/run_1", ""),
        ("POST", "/threads", ""),
        ("POST", "/responses/compact", ""),
        ("GET", "/threads/thread_1/runs", ""),
        ("POST", "/files", ""),
    ],
)
def test_what_bounds_an_output_is_known_by_the_place(method: str, path: str, name: str) -> None:
    assert bound_of(Call("x", "openai.raw", method, path, b"", {}, "", stream=False)) == name


def test_a_bound_is_read_under_the_name_it_has_there() -> None:
    payload = {"max_completion_tokens": 9, "max_output_tokens": 5}
    assert RAW.shape(payload, 0, "max_completion_tokens").max_tokens == 9
    assert RAW.shape(payload, 0).max_tokens == 5


def test_a_bound_that_is_none_is_refused() -> None:
    with pytest.raises(BadRequest):
        RAW.shape({"max_output_tokens": -1}, 10)


def test_usage_needs_no_asking() -> None:
    assert RAW.gives_usage({})


def test_the_error_event_is_that_of_responses() -> None:
    event = RAW.error_event(UpstreamFailed("broke", Failure.BROKEN), "r")
    assert event.startswith(b"event: error\ndata: ")
    payload = orjson.loads(event.split(b"data: ")[1])
    assert (payload["type"], payload["error"]["message"]) == ("error", "broke")


def data(**event: Any) -> bytes:
    return b"data: " + orjson.dumps(event) + b"\n\n"


def test_the_end_of_a_response_is_its_own_last_event_alone() -> None:
    one, usage = tap()
    assert one.feed(b": comment\n\n") == b": comment\n\n"
    assert not one.begun
    for kind in ("created", "output_text.done", "web_search_call.completed", "output_item.done"):
        one.feed(data(type=f"response.{kind}"))
        assert one.begun
        assert not one.finished
    counts = {"input_tokens": 3, "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 1}}
    one.feed(data(type="response.completed", response={"usage": counts}))
    assert one.finished
    assert (usage.prompt, usage.completion, usage.reasoning) == (3, 2, 1)


def test_a_response_without_a_last_event_is_unfinished() -> None:
    one, _ = tap()
    one.feed(data(type="response.created"))
    assert one.rest() == b""
    assert not one.finished


def test_streams_of_other_kinds_end_where_they_end() -> None:
    one, _ = tap()
    one.feed(data(type="thread.run.created"))
    assert (one.rest(), one.finished) == (b"", True)
    for last in (b'data: {"done": true}', b"event: done\ndata: [DONE]\n", b": a comment"):
        one, _ = tap()
        one.feed(data(type="thread.run.created") + last)
        assert (one.rest(), one.finished) == (last, True)


@pytest.mark.parametrize("cut", [b'data: {"done": ', b"event: do", b"event: done\nda"])
def test_none_ends_in_the_middle_of_an_event(cut: bytes) -> None:
    one, _ = tap()
    one.feed(data(type="thread.run.created") + cut)
    assert (one.rest(), one.finished) == (b"", False)


@pytest.mark.parametrize(
    "last",
    [
        data(type="speech.audio.done", usage={"input_tokens": 3, "output_tokens": 2}),
        data(type="transcript.text.done", usage={"input_tokens": 3, "output_tokens": 2}),
        data(type="image_generation.completed", usage={"input_tokens": 3, "output_tokens": 2}),
        data(usage={"input_tokens": 3, "output_tokens": 2}) + b"data: [DONE]\n\n",
    ],
)
def test_usage_is_read_from_the_last_event(last: bytes) -> None:
    one, usage = tap()
    assert one.feed(last[:7]) == b""
    assert one.feed(last[7:]) == last
    assert (one.finished, usage.prompt, usage.completion) == (True, 3, 2)


@pytest.mark.parametrize(
    "event", [b'event: error\ndata: {"message":"x"}\n\n', data(type="error", message="x")]
)
def test_an_error_event_is_a_failure(event: bytes) -> None:
    one, _ = tap()
    one.feed(event)
    assert one.failed


@pytest.mark.parametrize(
    ("event", "settled"),
    [
        (b"data: [DONE]\n\n", True),
        (data(type="response.completed"), True),
        (data(type="speech.audio.done"), True),
        (data(type="error", message="x"), True),
        (data(type="image_edit.completed"), False),
        (data(type="image_edit.completed") + b"data: [DONE]\n\n", True),
        (data(type="response.output_item.done"), False),
    ],
)
def test_more_is_waited_for_only_where_an_event_like_the_last_may_follow(event: bytes, settled: bool) -> None:
    one, _ = tap()
    one.feed(event)
    assert one.settled is settled


@pytest.mark.parametrize(
    "text", ["event: error", "\nevent: error\n", '"type":"error"', "data: [DONE]", "\n[DONE]"]
)
def test_talk_of_errors_and_ends_is_neither(text: str) -> None:
    one, _ = tap()
    one.feed(data(type="response.output_text.delta", delta=text))
    assert (one.failed, one.finished) == (False, False)


@pytest.mark.parametrize("payload", [b"data: [1]\n\n", b'data: {"response": 7}\n\n', b"data: {broken\n\n"])
def test_events_that_are_no_objects_say_nothing(payload: bytes) -> None:
    one, usage = tap()
    one.feed(payload + b"data: [DONE]\n\n")
    assert one.finished
    assert not usage.reported


COUNTS = {"input_tokens": 5, "output_tokens": 6}


@pytest.mark.parametrize(
    ("answer", "reported"),
    [
        (orjson.dumps({"usage": COUNTS}), True),
        (b'{"usage": broken', False),
        (b"\x00\x01 sound", False),
        (b"", False),
        (orjson.dumps({"b64": "A" * (2 * LOOK), "usage": COUNTS}), True),
        (orjson.dumps({"b64": "A" * LOOK, "usage": COUNTS})[:-3], False),
        (orjson.dumps({"b64": "A" * LOOK}), False),
        (bytes(LOOK + 1), False),
    ],
)
def test_usage_of_an_answer_is_read_in_bounded_memory(answer: bytes, reported: bool) -> None:
    one, usage = tap()
    for at in range(0, len(answer), 100_000):
        one.keep(answer[at : at + 100_000])
    one.whole(b"")
    assert (one.begun, one.finished) == (True, True)
    assert (usage.prompt, usage.completion) == ((5, 6) if reported else (0, 0))


@pytest.mark.parametrize("blank", [b"", b"\n ", b" \r\n\t"])
def test_a_whole_answer_can_be_handed_over_at_once(blank: bytes) -> None:
    one, usage = tap()
    one.whole(blank + orjson.dumps({"usage": COUNTS}))
    assert usage.reported
