"""Chat and completions: read, sized and written with the client's bytes; answers are watched, never changed."""

from typing import Any

import orjson
import pytest

from gateway.core.exchange import Call, Shape
from gateway.core.failure import BadRequest, Failure, UpstreamFailed
from gateway.core.usage import Usage
from gateway.wire.base import Asked, Changes
from gateway.wire.chat import Chat, ChatTap
from gateway.wire.sse import BadStream
from tests.scripted import CHAT as ANSWER
from tests.scripted import DONE, FINISH, USAGE, event, word

CHAT = Chat("openai.chat", "messages")
COMPLETIONS = Chat("openai.completions", "prompt")
ASKS = b'{"model": "m", "messages": [], "stream" : true}'


def call(body: bytes) -> Call:
    payload, model, stream = CHAT.read(body)
    return Call("chat", "openai.chat", "POST", "/chat/completions", body, payload, model, stream)


def tap(*, withhold: bool = False, choices: int = 1) -> tuple[ChatTap, Usage]:
    usage = Usage()
    return CHAT.tap(Asked({}, usage, withhold_usage=withhold, choices=choices)), usage


# Requests


@pytest.mark.parametrize(("dialect", "listed"), [(CHAT, "messages"), (COMPLETIONS, "prompt")])
@pytest.mark.parametrize("absent", [b"", b', "messages": null, "prompt": null'])
def test_a_call_that_asks_nothing_is_refused(dialect: Chat, listed: str, absent: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        dialect.read(b'{"model": "m"%b}' % absent)
    assert (caught.value.code, caught.value.param) == ("missing_required_parameter", listed)


@pytest.mark.parametrize(
    ("more", "shape"),
    [
        ({"messages": [{"role": "user", "content": "12345678"}]}, Shape(6, messages=1)),
        ({"messages": "12345678"}, Shape(3, messages=1)),
        ({"messages": [], "n": 3, "max_tokens": 9}, Shape(0, 9, 3)),
        ({"messages": [], "max_tokens": 9, "max_completion_tokens": 5}, Shape(0, 9)),
        ({"messages": [], "max_tokens": 9, "max_completion_tokens": None}, Shape(0, 9)),
        ({"messages": [], "max_output_tokens": 5}, Shape(0)),
        ({"messages": [], "tools": [{"x": "12345678"}]}, Shape(4, tools=1)),
        ({"messages": [], "tools": {"x": "12345678"}}, Shape(4)),
        ({"messages": [{"content": [{"type": "image_url"}]}]}, Shape(1003, messages=1, images=1)),
    ],
)
def test_the_shape_is_what_the_call_says(more: dict[str, Any], shape: Shape) -> None:
    assert CHAT.shape({"model": "m", **more}, 1) == shape


@pytest.mark.parametrize(
    ("prompt", "choices"),
    [("p", 2), (["p", "q", "r"], 6), ([1, 2, 3], 2), ([[1, 2], [3]], 4), ([], 2), (7, 2)],
)
def test_each_prompt_of_a_completion_is_answered_n_times(prompt: Any, choices: int) -> None:
    assert COMPLETIONS.shape({"prompt": prompt, "n": 2}, 1).choices == choices


def test_of_a_completion_all_that_is_written_counts_and_what_is_told_ends_it() -> None:
    payload = {"prompt": ["p", "q"], "n": 1, "best_of": 20}
    assert COMPLETIONS.shape(payload, 1).choices == 40
    assert COMPLETIONS.shape({"prompt": "p", "n": 3, "best_of": 2}, 1).choices == 3
    told = COMPLETIONS.tap(Asked(payload, Usage(), choices=40))
    told.feed(FINISH + FINISH)
    assert (told.rest(), told.finished) == (b"", True)


def test_a_completion_is_bounded_by_its_own_name_alone() -> None:
    assert COMPLETIONS.shape({"prompt": "p", "max_completion_tokens": 5}, 1).max_tokens == 0
    assert COMPLETIONS.shape({"prompt": "p", "max_tokens": 5, "max_completion_tokens": 9}, 1).max_tokens == 9


def test_a_completion_may_ask_for_nothing_but_what_is_told_of_its_prompt() -> None:
    payload = {"prompt": "12345678", "max_tokens": 0, "best_of": 0, "echo": True, "logprobs": 1}
    assert COMPLETIONS.shape(payload, 1) == Shape(3, 0, 1, messages=1)
    with pytest.raises(BadRequest, match="'max_tokens' must be a whole number from 0 to"):
        COMPLETIONS.shape({"prompt": "p", "max_tokens": -1}, 1)


@pytest.mark.parametrize(
    "nonsense", [{"n": 0}, {"max_tokens": 0}, {"n": 129}, {"max_tokens": "9"}, {"max_completion_tokens": -1}]
)
def test_bounds_that_are_none_are_refused(nonsense: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        CHAT.shape({"messages": [], **nonsense}, 1)


def test_a_call_with_nothing_to_change_leaves_as_the_very_same_bytes() -> None:
    assert CHAT.write(call(ASKS), Changes("m", params={"stream": False})) is ASKS


def test_model_and_defaults_are_the_only_changes() -> None:
    assert CHAT.write(call(ASKS), Changes("n", params={"user": "u", "stream": False})) == (
        b'{"user":"u","model": "n", "messages": [], "stream" : true}'
    )


def test_a_field_that_is_null_takes_its_default() -> None:
    body = ASKS[:-1] + b', "max_tokens": null}'
    assert CHAT.write(call(body), Changes("m", params={"max_tokens": 7})) == ASKS[:-1] + b', "max_tokens": 7}'


@pytest.mark.parametrize(
    ("options", "asked", "given"),
    [
        (None, {"include_usage": True}, False),
        (b"null", {"include_usage": True}, False),
        (b'{"include_usage": false, "x": 1}', {"include_usage": True, "x": 1}, False),
        (b'{"include_usage": true}', {"include_usage": True}, True),
    ],
)
def test_usage_is_asked_for_beside_what_the_client_asks(
    options: bytes | None, asked: dict[str, Any], given: bool
) -> None:
    body = ASKS if options is None else ASKS[:-1] + b', "stream_options": %b}' % options
    sent = orjson.loads(CHAT.write(call(body), Changes("m", ask_usage=True)))
    assert sent == {**orjson.loads(ASKS), "stream_options": asked}
    assert CHAT.gives_usage(orjson.loads(body)) is given


# Streams


def test_a_stream_is_watched_and_passes_as_it_is() -> None:
    one, usage = tap()
    events = [b": hello\n\n", word("hel"), word("lo"), FINISH, USAGE, DONE]
    begun, finished = [], []
    for chunk in events:
        assert one.feed(chunk) == chunk
        begun.append(one.begun)
        finished.append(one.finished)
    assert begun == [False, True, True, True, True, True]
    assert finished == [False, False, False, False, False, True]
    assert (one.finish_reason, one.failed, one.rest()) == ("stop", False, b"")
    assert usage == Usage(7, 3, reported=True)


def test_a_reason_that_is_none_yet_ends_nothing() -> None:
    one, _ = tap()
    one.feed(FINISH.replace(b'"stop"', b'"null"'))
    assert (one.finish_reason, one.settled, one.rest(), one.finished) == ("", False, b"", False)


def test_a_stream_of_several_choices_is_complete_when_each_of_them_is() -> None:
    one, _ = tap(choices=2)
    one.feed(FINISH)
    assert (one.rest(), one.settled, one.finished) == (b"", False, False)
    one.feed(FINISH.replace(b'"index":0', b'"index":1'))
    assert (one.settled, one.finished) == (True, False), "more may come, such as usage"
    assert (one.rest(), one.finished) == (b"", True)
    both, _ = tap(choices=2)
    both.feed(FINISH + FINISH)
    assert (both.rest(), both.finished) == (b"", True)
    goes_on, _ = tap()
    goes_on.feed(FINISH)
    goes_on.feed(word(""))
    assert goes_on.settled, "nothing more was said"
    goes_on.feed(word("more"))
    assert (goes_on.settled, goes_on.rest(), goes_on.finished) == (False, b"", True)
    always, _ = tap()
    always.feed(word("a").replace(b'"finish_reason":null', b'"finish_reason":"stop"') + word("b"))
    assert not always.settled, "more was said behind the reason"
    always.feed(FINISH)
    assert (always.settled, always.rest(), always.finished) == (False, b"", True), "it says one all the time"
    fewer, _ = tap(choices=2)
    fewer.feed(FINISH + DONE)
    assert fewer.finished, "the provider says that there are no more"


@pytest.mark.parametrize("text", ["[DONE]", "data: [DONE]", "\ndata: [DONE]\n\n", '"finish_reason": "stop"'])
def test_an_answer_that_talks_of_its_end_has_not_ended(text: str) -> None:
    one, _ = tap()
    one.feed(word(text))
    assert not one.finished


def test_until_usage_is_reported_the_words_are_counted() -> None:
    one, usage = tap()
    one.feed(word("a") + word("x" * 40) + word(""))
    assert (usage.completion, usage.reported) == (11, False)
    one.feed(USAGE + word("after the account"))
    assert (usage.completion, usage.reported) == (3, True)


def test_a_part_of_an_event_waits_for_the_rest() -> None:
    one, _ = tap()
    assert one.feed(word("hello")[:20]) == b""
    assert not one.begun
    assert one.feed(word("hello")[20:]) == word("hello")


def test_usage_that_only_the_gateway_asked_for_is_noted_and_withheld() -> None:
    one, usage = tap(withhold=True)
    assert one.feed(word("hi", usage=None)) == word("hi")
    assert one.feed(b'data: {"usage" : null, "choices":[]}\n\n') == b'data: { "choices":[]}\n\n'
    assert one.feed(FINISH + USAGE + DONE) == FINISH + DONE
    assert usage == Usage(7, 3, reported=True)


def test_usage_in_an_event_with_words_is_not_withheld() -> None:
    one, usage = tap(withhold=True)
    last = word("hi", usage={"prompt_tokens": 7, "completion_tokens": 3})
    assert one.feed(last) == last
    assert usage.reported


@pytest.mark.parametrize(
    "odd",
    [
        b'data: ["usage"]\n\n',
        event(usage=7),
        event(x="usage"),
        event(x={"usage": {"prompt_tokens": 7}}),
    ],
)
@pytest.mark.parametrize("withhold", [False, True])
def test_events_with_a_usage_that_is_none_pass(odd: bytes, withhold: bool) -> None:
    one, usage = tap(withhold=withhold)
    assert one.feed(odd) == odd
    assert not usage.reported


@pytest.mark.parametrize(
    "odd", [b'data: {"usage": {broken}\n\n', b'data: {"a": \n\n', word("a")[:-5] + b"\n\n"]
)
def test_an_event_that_is_not_valid_breaks_the_stream(odd: bytes) -> None:
    one, _ = tap()
    with pytest.raises(BadStream, match="an event is not valid JSON"):
        one.feed(word("a") + odd + word("b"))


def test_an_event_that_is_an_error_is_a_failure_and_talk_of_errors_is_none() -> None:
    one, _ = tap()
    one.feed(word('{"error": {}}') + event(choices=[], note={"error": "x"}) + event(choices=[], error=None))
    one.feed(event(choices=[{"delta": {"tool_calls": [{"type": "error", "error": {}}]}}], error=""))
    assert not one.failed
    one.feed(event(error={"message": "out of memory"}))
    assert one.failed


@pytest.mark.parametrize(
    "told",
    [
        event(id="i", choices=[], error={"message": "no"}), event(type="error", error={"message": "no"}),
        event(status=429, error="no"), event(type="error", message="no"), word("a") + event(id="i", error="no"),
        event(object="error", message="no"), b'data: {}\r\rdata: {"error": "no"}\r\r',
        event(id="i", error={"message": "no"}, choices=[{"delta": {"content": ""}, "finish_reason": "error"}]),
    ],
)  # fmt: skip
def test_errors_of_other_shapes_are_failures_too(told: bytes) -> None:
    one, _ = tap()
    one.feed(told)
    assert one.failed


@pytest.mark.parametrize(
    ("half", "completed"),
    [
        (FINISH[:-2], FINISH),
        (FINISH[:-1], FINISH),
        (DONE[:-2], DONE),
        (FINISH[:-2] + b"\r\n", FINISH[:-2] + b"\r\n\n"),
        (FINISH[:-9], b""),
        (b": comment", b""),
        (b"", b""),
    ],
)
def test_a_last_event_without_its_blank_line_is_completed_if_it_is_whole(
    half: bytes, completed: bytes
) -> None:
    one, _ = tap()
    assert one.feed(half) == b""
    assert one.rest() == completed
    assert one.finished is bool(completed)


def test_the_end_of_a_broken_stream_is_an_error_that_is_no_end() -> None:
    told = CHAT.error_event(UpstreamFailed("broke", Failure.BROKEN), "r")
    one, _ = tap()
    assert one.feed(told) == told
    assert (one.failed, one.finished) == (True, False)


# Whole answers


def test_a_whole_answer_gives_its_usage_and_finish_reason() -> None:
    one, usage = tap()
    one.whole(orjson.dumps(ANSWER))
    assert (one.begun, one.finished, one.failed, one.finish_reason) == (True, True, False, "stop")
    assert usage == Usage(7, 3, reported=True)


@pytest.mark.parametrize(
    "thought",
    [
        {"reasoning": "x" * 40},  # groq-chat_completions-0404df1e1a
        {"reasoning_content": "x" * 40},
        {"reasoning": "x" * 40, "reasoning_content": "x" * 40},
        # openrouter-chat_completions-5c374820ea
        {"reasoning": "x" * 40, "reasoning_details": [{"type": "reasoning.text", "text": "x" * 40}]},
        {"content": "x" * 40, "reasoning": None},
    ],
)
def test_thoughts_are_counted_once_by_whatever_names_they_go(thought: dict[str, Any]) -> None:
    one, usage = tap()
    one.feed(event(choices=[{"index": 0, "delta": {"content": "", **thought}, "finish_reason": None}]))
    assert (usage.completion, usage.reported) == (10, False)


@pytest.mark.parametrize("choices", [[], [7], [{"finish_reason": None}]])
def test_an_answer_without_a_finish_reason_has_none(choices: Any) -> None:
    one, usage = tap()
    one.whole(orjson.dumps({"choices": choices, "text": "x" * 40}))
    assert (one.failed, one.finish_reason) == (False, "")
    assert (usage.completion, usage.reported) == (10, False), "estimated by the text"


@pytest.mark.parametrize(
    ("body", "failed"),
    [
        ({"error": {"message": "no"}}, True), ({"error": "no", "choices": []}, True),
        ({"object": "error", "message": "no"}, True), ({"error": {}, "choices": []}, False),
        ({"detail": "x"}, True), ({"choices": None}, True), ({"choices": {}}, True),
        ({"choices": [{"finish_reason": "error", "error": {"message": "no"}}]}, True),
        ({**ANSWER, "error": {"message": "a warning"}}, False),
    ],
)  # fmt: skip
def test_an_error_is_no_answer_and_neither_is_what_has_no_choices(body: Any, failed: bool) -> None:
    one, _ = tap()
    one.whole(orjson.dumps(body))
    assert one.failed is failed


@pytest.mark.parametrize("body", [b"", b"<html>", b'["no object"]'])
def test_what_is_no_object_is_no_answer(body: bytes) -> None:
    one, _ = tap()
    one.whole(body)
    assert one.failed
