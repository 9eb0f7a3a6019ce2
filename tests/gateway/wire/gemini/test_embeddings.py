from typing import Any

import orjson
import pytest

from gateway.core.exchange import Call, Shape
from gateway.core.failure import BadRequest
from gateway.core.usage import Usage
from gateway.wire.base import Asked, Changes, Way
from gateway.wire.gemini.embeddings import Embed, FromGemini, ToGemini

ONE, SEVERAL = Embed("gemini.embed", "content"), Embed("gemini.batch_embed", "requests")
TEXT = {"content": {"parts": [{"text": "hello you"}]}}


def call(payload: dict[str, Any]) -> Call:
    return Call("embeddings", "d", "POST", "/x", orjson.dumps(payload), payload, "m", False)


def written(way: Way, payload: dict[str, Any], dropped: list[str] | None = None, model: str = "m") -> Any:
    return orjson.loads(way.write(call(payload), Changes(model, params={"p": 1}, dropped=dropped)))


def told(way: Way, asked: dict[str, Any], answer: Any) -> tuple[Any, Usage, bool]:
    usage = Usage()
    tap = way.tap(Asked(asked, usage))
    body = tap.whole(answer if isinstance(answer, bytes) else orjson.dumps(answer))
    return orjson.loads(body) if body else None, usage, tap.failed


def test_a_model_by_another_name_is_renamed_wherever_it_stands() -> None:
    requests = {"requests": [TEXT | {"model": "models/m"}]}
    assert written(SEVERAL, requests, model="n") == {"p": 1, "requests": [TEXT | {"model": "models/n"}]}
    assert written(ONE, TEXT | {"model": "models/m"}, model="n") == TEXT | {"model": "models/n", "p": 1}
    assert written(ONE, TEXT, model="n") == TEXT | {"p": 1}
    body = call(TEXT)
    assert ONE.write(body, Changes("m")) is body.body


@pytest.mark.parametrize(
    ("dialect", "body"), [(ONE, b"{}"), (ONE, b'{"content": []}'), (SEVERAL, b'{"requests": {}}')]
)
def test_what_is_no_call_is_refused(dialect: Embed, body: bytes) -> None:
    with pytest.raises(BadRequest, match="is missing"):
        dialect.read(body)


def test_the_size_is_that_of_the_texts() -> None:
    assert ONE.read(orjson.dumps(TEXT)).payload == TEXT
    assert SEVERAL.shape({"requests": [TEXT, TEXT]}, 0) == Shape(12, 0, 0)
    with pytest.raises(BadRequest, match="list of objects"):
        SEVERAL.shape({"requests": ["x"]}, 0)


def test_usage_is_read_where_it_is_told() -> None:
    answer = b'{"embedding": {"values": [%b0.5]}, "usageMetadata": {"promptTokenCount": 4}}' % (
        b"0.25," * 900
    )
    usage = Usage()
    tap = ONE.tap(Asked({}, usage))
    tap.whole(answer)
    assert (usage.prompt, usage.reported, tap.failed) == (4, True, False)
    tap = ONE.tap(Asked({}, Usage()))
    tap.whole(b"<html>")
    assert tap.failed
    assert ONE.gives_usage({})


def test_openais_call_is_a_batch_of_geminis() -> None:
    way = ToGemini()
    asked = {"model": "our", "input": "a", "dimensions": 8, "user": "u", "taskType": "X"}
    one = {"content": {"parts": [{"text": "a"}]}, "model": "models/m", "p": 1}
    assert written(way, asked) == {"requests": [one | {"outputDimensionality": 8, "taskType": "X"}]}
    with pytest.raises(BadRequest) as refused:
        written(way, {"input": [[1]]})
    assert refused.value.param == "input"
    dropped: list[str] = []
    written(way, {"input": ["a"], "encoding_format": "int8"}, dropped)
    assert (dropped, way.gives_usage({})) == (["encoding_format"], True)


def test_geminis_answer_is_openais_as_numbers_or_bytes() -> None:
    asked = {"model": "our", "input": ["hello you"]}
    found, usage, _ = told(ToGemini(), asked, {"embeddings": [{"values": [0.5, -1.0]}]})
    assert found["data"] == [{"object": "embedding", "index": 0, "embedding": [0.5, -1.0]}]
    assert (found["model"], found["usage"]["prompt_tokens"] > 0, usage.reported) == ("our", True, False)
    answer = {"embeddings": [{"values": [0.5, -1.0]}], "usageMetadata": {"promptTokenCount": 3}}
    found, usage, _ = told(ToGemini(), asked | {"encoding_format": "base64"}, answer)
    assert found["data"][0]["embedding"] == "AAAAPwAAgL8="
    assert (found["usage"], usage.prompt) == ({"prompt_tokens": 3, "total_tokens": 3}, 3)


@pytest.mark.parametrize("answer", [b"{", [], {"embeddings": [3]}, {"embeddings": [{}]}])
def test_an_answer_without_numbers_is_a_broken_one(answer: Any) -> None:
    assert told(ToGemini(), {"model": "m", "input": "a"}, answer)[::2] == (None, True)


def test_geminis_call_is_openais() -> None:
    way = FromGemini()
    assert written(way, TEXT | {"output_dimensionality": 8}) == {
        "p": 1, "model": "m", "input": ["hello you"], "encoding_format": "float", "dimensions": 8
    }  # fmt: skip
    two = {"parts": [{"text": "a"}, {"text": "b"}]}
    assert written(way, {"requests": [{"content": two, "model": "models/m"}]})["input"] == ["a\nb"]


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({"requests": [TEXT | {"taskType": "X"}]}, "requests[0].taskType"),
        (TEXT | {"title": "t"}, "title"),
        ({"requests": [TEXT, TEXT | {"outputDimensionality": 8}]}, "requests[].outputDimensionality"),
        ({"requests": [TEXT | {"outputDimensionality": []}, TEXT]}, "requests[].outputDimensionality"),
        ({"requests": []}, "requests"),
        ({"content": {"parts": [{"inlineData": {}}]}}, "content"),
        ({"content": {"parts": []}}, "content"),
        ({"content": {"parts": [{"text": "a"}, 3]}}, "content"),
    ],
)
def test_what_openai_cannot_embed_is_refused_by_name(payload: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest) as refused:
        written(FromGemini(), payload)
    assert refused.value.param == field


def test_openais_answer_is_geminis() -> None:
    answer = {"data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 3, "total_tokens": 3}}
    counts = {"usageMetadata": {"promptTokenCount": 3}}
    assert told(FromGemini(), TEXT, answer)[0] == {"embedding": {"values": [0.5]}} | counts
    assert told(FromGemini(), {"requests": []}, {"data": [{}]})[0] == {"embeddings": [{"values": []}]}
    assert told(FromGemini(), TEXT, {"data": []})[::2] == (None, True)


def test_refusals_are_told_in_the_clients_words() -> None:
    assert orjson.loads(ToGemini().refusal(404, b'{"error": {"message": "no"}}'))["error"]["type"]
    assert (
        orjson.loads(FromGemini().refusal(404, b'{"error": {"message": "no"}}'))["error"]["status"]
        == "NOT_FOUND"
    )
    assert ONE.error_event(BadRequest("no"), "r").endswith(b"\r\n\r\n")
