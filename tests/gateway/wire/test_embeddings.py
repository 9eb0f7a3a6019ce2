"""Embeddings pass untouched; their usage is read at the ends of the answer, whatever lies between."""

from typing import Any

import orjson
import pytest

from gateway.core.exchange import Call, Shape
from gateway.core.failure import BadRequest, GatewayError
from gateway.core.usage import Usage
from gateway.wire.base import Asked, Changes
from gateway.wire.embeddings import MOST_INPUTS, Embeddings, EmbeddingsTap

EMBEDDINGS = Embeddings()
ASKS = b'{"input" : "12345678", "model": "m"}'
COUNTS = {"prompt_tokens": 5, "total_tokens": 5}
NUMBERS = [{"embedding": [0.25] * 3000}]


def call(body: bytes) -> Call:
    payload, model, stream = EMBEDDINGS.read(body)
    return Call("embeddings", "openai.embeddings", "POST", "/embeddings", body, payload, model, stream)


def tap() -> tuple[EmbeddingsTap, Usage]:
    usage = Usage()
    return EMBEDDINGS.tap(Asked({}, usage, withhold_usage=True)), usage


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"model": "m"}, "missing_required_parameter"),
        ({"model": "m", "input": None}, "missing_required_parameter"),
        ({"model": "m", "input": ["x"] * (MOST_INPUTS + 1)}, "invalid_value"),
    ],
)
def test_a_call_without_texts_or_with_too_many_is_refused(body: dict[str, Any], code: str) -> None:
    with pytest.raises(BadRequest) as caught:
        EMBEDDINGS.read(orjson.dumps(body))
    assert (caught.value.code, caught.value.param) == (code, "input")


@pytest.mark.parametrize("asked", [["x"] * MOST_INPUTS, [1] * (MOST_INPUTS + 1), []])
def test_many_tokens_are_one_text(asked: list[Any]) -> None:
    assert EMBEDDINGS.read(orjson.dumps({"model": "m", "input": asked})).payload["input"] == asked


def test_an_embedding_has_no_output_to_reserve() -> None:
    assert EMBEDDINGS.shape({"input": ["12345678", [1, 2]]}, 1) == Shape(5, 0, 0)


def test_model_and_defaults_are_the_only_changes() -> None:
    asks = call(ASKS)
    assert EMBEDDINGS.write(asks, Changes("m")) is ASKS
    assert EMBEDDINGS.write(asks, Changes("n", params={"dimensions": 3, "input": "no"})) == (
        b'{"dimensions":3,"input" : "12345678", "model": "n"}'
    )


@pytest.mark.parametrize(
    "answer", [{"data": NUMBERS, "usage": COUNTS}, {"usage": COUNTS, "data": NUMBERS}, {"usage": COUNTS}]
)
def test_usage_is_read_at_either_end(answer: dict[str, Any]) -> None:
    one, usage = tap()
    one.whole(orjson.dumps(answer))
    assert (one.begun, one.finished, one.failed) == (True, True, False)
    assert usage == Usage(5, reported=True)


@pytest.mark.parametrize("cost", [{"cost": {"total": 1e-7}, **COUNTS}, {**COUNTS, "details": {"cost": {}}}])
def test_usage_that_tells_a_cost_is_read_where_it_is_not_too_deep(cost: dict[str, Any]) -> None:
    one, usage = tap()
    one.whole(orjson.dumps({"data": NUMBERS, "usage": cost}))
    assert not one.failed
    assert usage == (Usage(5, reported=True) if "cost" in cost else Usage())


@pytest.mark.parametrize(
    "answer", [{"data": NUMBERS}, {"data": NUMBERS, "usage": None}, {"data": [], "usage": {}}]
)
def test_an_answer_without_usage_is_an_answer(answer: dict[str, Any]) -> None:
    one, usage = tap()
    one.whole(orjson.dumps(answer) + b"\n")
    assert not one.failed
    assert not usage.reported


@pytest.mark.parametrize("body", [b"", b"<html>", b'["usage"]', b'{"data": [1,', b'{"usage": {broken}}'])
def test_what_is_no_object_is_no_answer(body: bytes) -> None:
    one, usage = tap()
    one.whole(body)
    assert one.failed
    assert not usage.reported


def test_a_stream_that_nobody_expects_passes() -> None:
    one, _ = tap()
    assert EMBEDDINGS.gives_usage({}), "none is to be asked for"
    assert one.feed(b"data: x") == b"data: x"
    assert (one.begun, one.finished, one.rest()) == (True, True, b"")
    assert EMBEDDINGS.error_event(GatewayError("broke"), "r").startswith(b'data: {"error":{"message":"broke"')
