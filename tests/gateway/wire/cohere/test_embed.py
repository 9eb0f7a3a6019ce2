"""OpenAI's embeddings in Cohere's words, and back."""

from typing import Any

import orjson
import pytest

from gateway.core.exchange import Call
from gateway.core.failure import BadRequest
from gateway.core.usage import Usage
from gateway.wire.base import Asked, Changes
from gateway.wire.cohere.embed import ToCohere

WAY = ToCohere()
ANSWER = {"embeddings": {"float": [[0.5, -2.0]]}, "meta": {"billed_units": {"input_tokens": 7}}}


def written(dropped: list[str] | None = None, params: dict[str, Any] | None = None, **more: Any) -> Any:
    payload = {"model": "m", "input": "a", **more}
    call = Call("embeddings", "openai.embeddings", "POST", "/x", orjson.dumps(payload), payload, "m", False)
    return orjson.loads(WAY.write(call, Changes("embed-v4.0", params=params or {}, dropped=dropped)))


def told(answer: Any, **asked: Any) -> tuple[Any, Usage, bool]:
    usage = Usage()
    tap = WAY.tap(Asked({"model": "m", "input": "hello you", **asked}, usage))
    body = tap.whole(orjson.dumps(answer))
    return orjson.loads(body) if body else None, usage, tap.failed


def test_texts_are_embedded_for_a_store_unless_somebody_says_otherwise() -> None:
    floats = {"model": "embed-v4.0", "embedding_types": ["float"]}
    assert written() == {**floats, "texts": ["a"], "input_type": "search_document"}
    query = {**floats, "texts": ["a", "b"], "input_type": "search_query"}
    more: dict[str, Any] = {"dimensions": 256, "user": "u", "encoding_format": "base64", "truncate": "END"}
    assert written(input=["a", "b"], input_type="search_query", **more) == {
        **query,
        "output_dimension": 256,
        "truncate": "END",
    }
    assert written(input=["a", "b"], params={"input_type": "search_query"}, dimensions=None) == query


@pytest.mark.parametrize("field", ["encoding_format", "embedding_types"])
def test_another_form_of_numbers_is_refused_or_left_out(field: str) -> None:
    with pytest.raises(BadRequest, match=field):
        written(None, None, **{field: "int8"})
    dropped: list[str] = []
    assert written(dropped, None, **{field: "int8"})["embedding_types"] == ["float"]
    assert dropped == [field]


@pytest.mark.parametrize("tokens", [[1, 2], [[1]], 7])
def test_tokens_are_refused_for_they_are_another_models(tokens: Any) -> None:
    with pytest.raises(BadRequest, match="Cohere takes no tokens"):
        written([], input=tokens)


def test_the_answer_is_openais_with_the_tokens_that_are_billed() -> None:
    found, usage, failed = told(ANSWER)
    assert found == {
        "object": "list",
        "model": "m",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -2.0]}],
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    assert (usage.prompt, usage.reported, failed) == (7, True, False)
    packed, _, _ = told(ANSWER, encoding_format="base64")
    assert packed["data"][0]["embedding"] == "AAAAPwAAAMA="


def test_what_no_answer_counts_is_estimated() -> None:
    found, usage, _ = told({"embeddings": {"float": []}})
    assert (found["usage"]["prompt_tokens"], usage.reported) == (3, False)


@pytest.mark.parametrize(
    "answer", [[], {}, {"embeddings": [[1.0]]}, {"embeddings": {"float": [1]}}, {**ANSWER, "meta": "m"}]
)
def test_what_is_no_answer_is_a_fault(answer: Any) -> None:
    found, _, failed = told(answer)
    assert found is None
    assert failed


def test_what_is_no_number_is_a_fault_too() -> None:
    found, _, failed = told({"embeddings": {"float": [["x"]]}}, encoding_format="base64")
    assert found is None
    assert failed


def test_a_refusal_is_told_in_openais_words() -> None:
    told = orjson.loads(WAY.refusal(404, b'{"id":"i","message":"no such model"}'))["error"]
    assert (told["message"], told["type"]) == ("no such model", "invalid_request_error")
