"""The chunks of a chat stream as the whole answer that they amount to."""

from typing import Any

import orjson
import pytest

from gateway.core.failure import BadRequest
from gateway.core.usage import Usage
from gateway.wire.base import Asked
from gateway.wire.crossing import CrossingTap
from gateway.wire.gathered import gathered
from gateway.wire.registry import between
from gateway.wire.sse import BadStream
from tests.contract.recorded import answer_of, recorded
from tests.scripted import DONE, FINISH, USAGE, event, word


def chunk(delta: Any = None, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": None, **more}]}


def message(*deltas: dict[str, Any]) -> dict[str, Any]:
    [choice] = gathered(map(chunk, deltas))["choices"]
    assert choice["message"].pop("role") == "assistant"
    return {name: value for name, value in choice["message"].items() if value is not None}


def test_a_completion_has_the_head_and_the_usage_of_its_chunks() -> None:
    head = {"id": "c", "model": "m", "object": "chat.completion.chunk", "prompt": (7, 0)}
    usage = {"prompt_tokens": 7}
    told = gathered([
        {**head, **chunk({"role": "assistant", "content": ""}), "usage": None},
        {"id": "", **chunk({}, finish_reason="stop", stop_reason=None, native_finish_reason="eos")},
        {"choices": [], "usage": usage},
    ])  # fmt: skip
    assert (told["id"], told["model"], told["usage"], told.keys() & {"object", "prompt"}) == (
        "c",
        "m",
        usage,
        set(),
    )
    [choice] = told["choices"]
    assert (choice["finish_reason"], choice["native_finish_reason"]) == ("stop", "eos")
    assert choice["message"] == {"role": "assistant", "content": None, "refusal": None}


def test_texts_and_lists_go_on() -> None:
    told = message(
        {"content": "a", "reasoning_content": "x", "annotations": [1]},
        {"content": "b", "reasoning_content": "y", "annotations": [2], "other_blocks": [3], "refusal": None},
    )
    assert told == {"content": "ab", "reasoning_content": "xy", "annotations": [1, 2], "other_blocks": [3]}
    assert message({"refusal": "n"}, {"refusal": "o"}, {"audio": {"id": "a"}}) == {
        "refusal": "no",
        "audio": {"id": "a"},
    }


def test_a_thought_is_one_with_its_signature() -> None:
    detail = {"type": "reasoning.text", "index": 0}
    signed = {**detail, "text": "", "signature": "s", "after": [1, 0]}
    told = message(
        {"reasoning_details": [{**detail, "text": "h"}]},
        {"reasoning_details": [{**detail, "text": "m"}, signed]},
    )
    assert told["reasoning_details"] == [{**detail, "text": "hm", "signature": "s", "after": [1, 0]}]
    assert message({"reasoning_details": None, "tool_calls": None}) == {}


def test_calls_are_told_by_their_index_bit_by_bit() -> None:
    def call(index: int, ident: str | None = None, kind: str = "function", **said: Any) -> dict[str, Any]:
        return {
            "tool_calls": [{"index": index, kind: said, **({"id": ident, "type": kind} if ident else {})}]
        }

    told = message(
        call(0, "c0", name="f", arguments=""), call(1, "c1", name="g"), call(1, name=None, arguments='{"x"'),
        call(0, arguments="{}"), call(1, arguments=":1}"), call(2, "c2", "custom", name="h", input="r"),
        call(2, kind="custom", input="aw"),
    )  # fmt: skip
    assert told["tool_calls"] == [
        {"id": "c0", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        {"id": "c1", "type": "function", "function": {"name": "g", "arguments": '{"x":1}'}},
        {"id": "c2", "type": "custom", "custom": {"name": "h", "input": "raw"}},
    ]


def test_words_behind_a_call_stay_behind_it() -> None:
    call = {"tool_calls": [{"index": 0, "id": "c0", "type": "function", "function": {"name": "f"}}]}
    told = message({"content": "a"}, call, {"content": "b"}, {"content": "c"})
    assert (told["content"], told["tool_calls"][0]["after"]) == ("abc", 1)


def test_choices_stand_apart_with_their_probabilities() -> None:
    def probable(*tokens: str) -> dict[str, Any]:
        return {"content": list(tokens), "refusal": None}

    told = gathered([
        chunk({"content": "b"}, 1), chunk({"content": "a"}, logprobs=probable("a")), chunk(None, logprobs=None),
        chunk({"content": "c"}, logprobs=probable("c")),
    ])  # fmt: skip
    assert [(one["index"], one["message"]["content"]) for one in told["choices"]] == [(0, "ac"), (1, "b")]
    assert told["choices"][0]["logprobs"] == probable("a", "c")


def tap(front: str, back: str, usage: Usage) -> CrossingTap:
    watched = between(front, back).tap(Asked({}, usage))
    assert isinstance(watched, CrossingTap)
    return watched


@pytest.mark.parametrize("front", ["openai.chat", "openai.responses", "gemini.generate"])
def test_recorded_streams_amount_to_what_they_said(front: str) -> None:
    streams = [one for one in recorded("anthropic", "messages") if one["response"]["status"] == 200]
    streams = [one for one in streams if b"message_stop" in answer_of(one)]
    assert len(streams) > 20
    for record in streams:
        usage = Usage()
        watched = tap(front, "anthropic.messages", usage)
        told = watched.whole_of(answer_of(record))
        assert watched.finished
        assert usage.reported
        said = [
            orjson.loads(line[5:]) for line in answer_of(record).splitlines() if line.startswith(b"data:")
        ]
        texts = [one["delta"]["text"] for one in said if one.get("delta", {}).get("type") == "text_delta"]
        for text in texts:
            assert orjson.dumps(text)[1:-1] in told, record["id"]


def test_a_stream_as_a_whole_answer_keeps_its_account_and_its_reason() -> None:
    usage = Usage()
    watched = tap("anthropic.messages", "openai.chat", usage)
    told = orjson.loads(watched.whole_of(word("hel") + word("lo") + FINISH + USAGE + DONE))
    assert told["content"] == [{"type": "text", "text": "hello"}]
    assert (usage.prompt, usage.completion, watched.finish_reason, watched.finished) == (7, 3, "stop", True)


def test_a_stream_that_fails_is_no_answer() -> None:
    watched = tap("anthropic.messages", "openai.chat", Usage())
    assert watched.whole_of(word("a") + event(error={"message": "no", "type": "rate_limit_error"})) == b""
    assert (watched.failed, watched.error["type"]) == (True, "rate_limit_error")


@pytest.mark.parametrize(
    "stream", [DONE, word("a"), b"data: {\n\n", event(choices=[1]), event(choices=[]) + DONE]
)
def test_a_stream_that_breaks_off_or_is_none_is_a_bad_answer(stream: bytes) -> None:
    with pytest.raises(BadStream):
        tap("anthropic.messages", "openai.chat", Usage()).whole_of(stream)


def test_pictures_in_a_stream_are_an_error_where_no_place_is_for_them() -> None:
    shown = event(choices=[{"index": 0, "delta": {"images": [{"image_url": {"url": "https://a"}}]}}])
    with pytest.raises(BadRequest):
        tap("anthropic.messages", "openai.chat", Usage()).whole_of(shown + FINISH + DONE)
