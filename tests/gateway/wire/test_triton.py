"""Completions before Triton's generate endpoint, by the names of the engine that it serves a model with."""

from typing import Any

import orjson
import pytest

from gateway.core.exchange import Call
from gateway.core.failure import BadRequest
from gateway.core.usage import Usage
from gateway.wire.base import Asked, Changes, Tap
from gateway.wire.registry import between
from gateway.wire.sse import BadStream
from tests.scripted import event

VLLM = between("openai.completions", "triton.vllm")
TENSORRT = between("openai.completions", "triton.tensorrt-llm")
ASKED = {
    "model": "ours",
    "prompt": "Once",
    "max_tokens": 9,
    "temperature": 0.5,
    "stop": "\n",
    "seed": 7,
    "user": "u",
}
COUNTS = {"num_input_tokens": 4, "num_output_tokens": 1}


def written(
    way: Any, payload: dict[str, Any], *, stream: bool = False, dropped: list[str] | None = None
) -> Any:
    call = Call("completions", "openai.completions", "POST", "/completions", b"", payload, "ours", stream)
    return orjson.loads(way.write(call, Changes("theirs", dropped=dropped)))


def watching(way: Any, **asked: Any) -> tuple[Tap, Usage]:
    usage = Usage()
    return way.tap(Asked({"model": "ours", **asked}, usage, moment=5, ident="1")), usage


def test_vllm_takes_its_options_in_a_text_of_json_and_is_asked_for_counts() -> None:
    body = written(VLLM, ASKED, stream=True)
    options = orjson.loads(body.pop("sampling_parameters"))
    assert options == {"max_tokens": 9, "temperature": 0.5, "stop": ["\n"], "seed": 7}
    assert body == {
        "text_input": "Once", "stream": True, "exclude_input_in_output": True, "return_finish_reason": True,
        "return_num_input_tokens": True, "return_num_output_tokens": True,
    }  # fmt: skip


def test_tensorrt_llm_takes_each_as_an_input_of_its_own_name() -> None:
    assert written(TENSORRT, ASKED) == {
        "text_input": "Once", "stream": False, "max_tokens": 9, "temperature": 0.5, "stop_words": ["\n"],
        "random_seed": 7,
    }  # fmt: skip


def test_what_asks_for_nothing_is_left_out_and_a_prompt_may_stand_in_a_list() -> None:
    more = {
        "n": 1,
        "best_of": 1,
        "echo": False,
        "logit_bias": {},
        "suffix": None,
        "stream_options": {"include_usage": True},
    }
    assert written(TENSORRT, {"model": "m", "prompt": ["Once"], **more}) == {
        "text_input": "Once",
        "stream": False,
    }
    assert "sampling_parameters" not in written(VLLM, {"model": "m", "prompt": "Once"})


def test_the_prompt_is_repeated_where_the_engine_can() -> None:
    assert written(VLLM, ASKED | {"echo": True})["exclude_input_in_output"] is False
    with pytest.raises(BadRequest, match="'echo' cannot be carried over to Triton's generate") as caught:
        written(TENSORRT, ASKED | {"echo": True})
    assert caught.value.param == "echo"


@pytest.mark.parametrize(
    "more", [{"n": 2}, {"logprobs": 3}, {"suffix": "end"}, {"logit_bias": {"5": 1}}, {"new": 1}]
)
def test_what_it_has_no_word_for_is_refused_or_left_out_by_name(more: dict[str, Any]) -> None:
    [name] = more
    with pytest.raises(BadRequest) as caught:
        written(VLLM, ASKED | more)
    assert caught.value.param == name
    dropped: list[str] = []
    written(VLLM, ASKED | more, dropped=dropped)
    assert dropped == [name]


@pytest.mark.parametrize("prompt", [["a", "b"], [1, 2], [[1]], [], 5])
def test_it_takes_one_prompt_and_that_in_words(prompt: Any) -> None:
    with pytest.raises(BadRequest, match="must be one text") as caught:
        written(VLLM, ASKED | {"prompt": prompt}, dropped=[])
    assert caught.value.param == "prompt"


def test_chat_has_no_way_there() -> None:
    with pytest.raises(BadRequest, match="no such endpoint"):
        between("openai.chat", "triton.vllm")


def test_a_whole_answer_is_a_completion() -> None:
    tap, usage = watching(VLLM)
    counts = {"num_input_tokens": 4, "num_output_tokens": 6}
    said = {
        "model_name": "theirs",
        "model_version": "1",
        "text_output": " upon",
        "finish_reason": "length",
        **counts,
    }
    assert orjson.loads(tap.whole(orjson.dumps(said)) or b"") == {
        "id": "cmpl-1", "object": "text_completion", "created": 5, "model": "ours",
        "choices": [{"index": 0, "text": " upon", "logprobs": None, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 4, "completion_tokens": 6, "total_tokens": 10},
    }  # fmt: skip
    assert (usage.prompt, usage.completion, usage.reported, tap.finish_reason) == (4, 6, True, "length")


def test_one_without_counts_is_estimated_and_tells_none() -> None:
    tap, usage = watching(TENSORRT)
    told = orjson.loads(tap.whole(b'{"text_output": "a time there was"}') or b"")
    assert "usage" not in told
    assert told["choices"][0]["finish_reason"] == "stop"
    assert (usage.completion, usage.reported) == (4, False)


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"text_output": 5}', b"{}", b"5"])
def test_what_is_no_answer_is_none(body: bytes) -> None:
    tap, _ = watching(VLLM)
    assert tap.whole(body) is None
    assert tap.failed


def pieces(told: bytes) -> list[Any]:
    data = [one.removeprefix(b"data: ") for one in told.split(b"\n\n") if one]
    return [one.decode() if one == b"[DONE]" else orjson.loads(one) for one in data]


@pytest.mark.parametrize("counted", [True, False])
def test_a_stream_comes_piece_by_piece_and_ends_with_why(counted: bool) -> None:
    tap, usage = watching(VLLM, stream_options={"include_usage": counted})
    counts = COUNTS if counted else {}
    raw = (
        b": hello\n\n"
        + event(text_output="", **counts, finish_reason="None")
        + event(text_output=" upon", **counts, finish_reason=None)
        + event(text_output=" a", **counts, finish_reason="length")
    )
    told = b"".join(tap.feed(raw[at : at + 7]) for at in range(0, len(raw), 7))
    assert [one["choices"][0]["text"] for one in pieces(told)] == [" upon", " a"]
    assert not tap.finished
    last = pieces(tap.rest())
    assert last[0]["choices"] == [{"index": 0, "text": "", "logprobs": None, "finish_reason": "length"}]
    assert last[-1] == "[DONE]"
    assert [one["usage"] for one in last[1:-1]] == [
        {"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7}
    ] * counted
    assert tap.finished
    assert (usage.completion, usage.reported) == (3, counted)


def test_counts_that_came_once_are_not_mixed_with_estimates() -> None:
    tap, usage = watching(VLLM)
    tap.feed(event(text_output=" upon", **COUNTS) + event(text_output=" a very long time"))
    assert (usage.prompt, usage.completion) == (4, 1)


def test_an_error_in_a_stream_is_told_and_ends_it() -> None:
    tap, _ = watching(TENSORRT)
    assert pieces(tap.feed(event(error="out of memory")))[0]["error"]["message"] == "out of memory"
    assert tap.feed(event(text_output="more") + event(error="again")) == b""
    assert (tap.failed, tap.rest(), tap.finished) == (True, b"", False)


def test_a_stream_that_says_nothing_is_none() -> None:
    tap, _ = watching(TENSORRT)
    assert tap.rest() == b""
    assert not tap.finished
    with pytest.raises(BadStream):
        tap.feed(event(text_output=5))


def test_a_refusal_is_told_in_openais_words() -> None:
    told = orjson.loads(VLLM.refusal(400, b'{"error": "unknown model"}'))
    assert told["error"]["message"] == "unknown model"
    assert VLLM.gives_usage({})
