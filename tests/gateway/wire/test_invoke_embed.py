"""OpenAI's embeddings in the words of Titan and Cohere on Bedrock."""

from typing import Any

import orjson
import pytest

from gateway.core.exchange import Call
from gateway.core.failure import BadRequest
from gateway.core.usage import Usage
from gateway.wire.base import Asked, Changes
from gateway.wire.invoke_embed import ToCohereOnBedrock, ToTitan

TITAN, COHERE = ToTitan(), ToCohereOnBedrock()
Way = ToTitan | ToCohereOnBedrock


def written(
    way: Way, params: dict[str, Any] | None = None, dropped: list[str] | None = None, **more: Any
) -> Any:
    payload = {"model": "m", "input": "a", **more}
    call = Call("embeddings", "openai.embeddings", "POST", "/x", orjson.dumps(payload), payload, "m", False)
    return orjson.loads(way.write(call, Changes("m", params=params or {}, dropped=dropped)))


def told(way: Way, answer: Any, **asked: Any) -> tuple[Any, Usage, bool]:
    usage = Usage()
    tap = way.tap(Asked({"model": "m", "input": "hello you", **asked}, usage))
    body = tap.whole(orjson.dumps(answer))
    return orjson.loads(body) if body else None, usage, tap.failed


def test_titan_is_given_one_text() -> None:
    assert written(TITAN) == {"inputText": "a"}
    more: dict[str, Any] = {"dimensions": 256, "user": "u", "encoding_format": "base64", "normalize": False}
    assert written(TITAN, input=["b"], **more) == {"inputText": "b", "dimensions": 256, "normalize": False}
    assert written(TITAN, {"normalize": True}, dimensions=None) == {"inputText": "a", "normalize": True}
    for several in (["a", "b"], []):
        with pytest.raises(BadRequest, match="'input' must be one text"):
            written(TITAN, dropped=[], input=several)


def test_cohere_is_given_texts_and_what_they_are_for() -> None:
    assert written(COHERE) == {"input_type": "search_document", "texts": ["a"]}
    more: dict[str, Any] = {"dimensions": 256, "truncate": "END", "embedding_types": ["float"]}
    assert written(COHERE, {"input_type": "search_query"}, input=["a", "b"], **more) == {
        "input_type": "search_query", "texts": ["a", "b"], "output_dimension": 256, "truncate": "END",
    }  # fmt: skip
    with pytest.raises(BadRequest, match="embedding_types"):
        written(COHERE, embedding_types=["int8"])
    dropped: list[str] = []
    assert "embedding_types" not in written(COHERE, dropped=dropped, embedding_types=["int8"])
    assert dropped == ["embedding_types"]


@pytest.mark.parametrize("way", [TITAN, COHERE])
def test_tokens_and_other_forms_of_numbers_are_refused(way: Way) -> None:
    with pytest.raises(BadRequest, match="takes no tokens"):
        written(way, input=[1, 2])
    with pytest.raises(BadRequest, match="encoding_format"):
        written(way, encoding_format="int8")
    assert written(way, encoding_format=None) == written(way)


def test_the_answer_is_openais() -> None:
    found, usage, _ = told(TITAN, {"embedding": [0.5, -2.0], "inputTextTokenCount": 4})
    one = {"object": "embedding", "index": 0, "embedding": [0.5, -2.0]}
    assert found == {
        "object": "list", "model": "m", "data": [one], "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }  # fmt: skip
    assert (usage.prompt, usage.reported) == (4, True)
    for embeddings in ([[0.5, -2.0]], {"float": [[0.5, -2.0]]}):
        found, usage, _ = told(COHERE, {"embeddings": embeddings}, encoding_format="base64")
        assert found["data"] == [{"object": "embedding", "index": 0, "embedding": "AAAAPwAAAMA="}]
        assert (found["usage"]["prompt_tokens"], usage.reported) == (3, False)  # an estimate: none is told


@pytest.mark.parametrize("way", [TITAN, COHERE])
@pytest.mark.parametrize(
    "answer", [[], {}, {"embedding": 1, "embeddings": 1}, {"embedding": {}, "embeddings": [1]}]
)
def test_what_is_no_answer_is_a_fault(way: Way, answer: Any) -> None:
    found, _, failed = told(way, answer)
    assert (found, failed) == (None, True)


def test_what_is_no_number_is_a_fault_too() -> None:
    assert told(TITAN, {"embedding": ["x"]}, encoding_format="base64")[2]


@pytest.mark.parametrize("way", [TITAN, COHERE])
def test_a_refusal_is_told_in_openais_words(way: Way) -> None:
    error = orjson.loads(way.refusal(400, b'{"message": "too long"}'))["error"]
    assert (error["message"], error["type"]) == ("too long", "invalid_request_error")
    assert way.crosses
    assert way.gives_usage({})
