"""Rerank as Cohere made it, and in the words of those who call it otherwise."""

from typing import Any

import orjson
import pytest

from gateway.core.exchange import Call, Shape
from gateway.core.failure import BadRequest
from gateway.core.usage import Usage
from gateway.wire.base import Asked, Changes
from gateway.wire.rerank import FORMATS, Ranked, Rerank

RERANK = Rerank("cohere.rerank")
ASKED = {"model": "m", "query": "why", "documents": ["ab", {"text": "cd", "id": 7}, "ef"]}
TEI, SGLANG, VOYAGE = (
    Ranked(f"{name}.rerank", FORMATS[f"{name}.rerank"]) for name in ("tei", "sglang", "voyage")
)


def call(payload: dict[str, Any]) -> Call:
    return Call("rerank", "cohere.rerank", "POST", "/rerank", orjson.dumps(payload), payload, "m", False)


@pytest.mark.parametrize(
    ("less", "message"),
    [
        ({"query": None}, "'query' is missing"),
        ({"documents": None}, "'documents' is missing"),
        ({"query": ["x"]}, "'query' must be a text"),
        ({"documents": "x"}, "'documents' must be a list"),
        ({"model": ""}, "'model' must name a model"),
    ],
)
def test_what_is_no_call_is_refused(less: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        RERANK.read(orjson.dumps(ASKED | less))


def test_the_query_is_read_with_every_document_and_nothing_is_written() -> None:
    assert RERANK.read(orjson.dumps(ASKED)).payload == ASKED
    size = RERANK.shape({"query": "q" * 40, "documents": ["d" * 80, "d" * 80]}, 0)
    assert size == Shape(2 * 11 + 2 * 21, 0, 0)
    assert RERANK.shape(ASKED, 0).choices == 0
    with pytest.raises(BadRequest, match="top_n"):
        RERANK.shape(ASKED | {"top_n": 0}, 0)


def noted(answer: Any) -> tuple[Usage, bool]:
    usage = Usage()
    tap = RERANK.tap(Asked(ASKED, usage))
    tap.whole(answer if isinstance(answer, bytes) else orjson.dumps(answer))
    assert tap.finished
    return usage, tap.failed


def test_what_it_took_is_read_in_each_ones_words() -> None:
    cohere = {"results": [], "meta": {"billed_units": {"search_units": 2}, "tokens": {"input_tokens": 9}}}
    usage, _ = noted(cohere)
    assert (usage.search_units, usage.prompt, usage.reported) == (2, 9, True)
    usage, _ = noted({"results": [], "meta": {"billed_units": {"search_units": 1}}})
    assert (usage.search_units, usage.reported) == (1, False), "tokens are not told"
    usage, _ = noted({"results": [], "usage": {"total_tokens": 17}})
    assert (usage.search_units, usage.prompt, usage.reported) == (0, 17, True)
    assert noted({"results": [], "meta": []}) == (Usage(), False)


@pytest.mark.parametrize("body", [b"[]", b"{", b""])
def test_what_is_no_answer_is_a_fault(body: bytes) -> None:
    assert noted(body)[1]


def written(way: Ranked, dropped: list[str] | None = None, **more: Any) -> Any:
    changes = Changes("own", params={"truncation": True}, dropped=dropped)
    return orjson.loads(way.write(call(ASKED | more), changes))


def test_each_is_asked_in_its_own_words() -> None:
    texts = ["ab", "cd", "ef"]
    common = {"model": "own", "query": "why", "truncation": True}
    assert written(VOYAGE, top_n=2, return_documents=True, priority=1) == {
        **common, "documents": texts, "top_k": 2, "return_documents": False
    }  # fmt: skip
    assert written(SGLANG, top_n=2, instruct="i") == {
        **common, "documents": texts, "top_n": 2, "return_documents": False, "instruct": "i"
    }  # fmt: skip
    tei = {**common, "texts": texts, "truncate": True, "return_text": False}
    assert written(TEI, top_n=2) == tei, "it names all of them, and is cut here"
    assert written(TEI, top_n=None, truncate=False) == {**tei, "truncate": False}


def test_what_cannot_be_carried_is_refused_by_name() -> None:
    with pytest.raises(BadRequest, match="max_tokens_per_doc"):
        written(VOYAGE, max_tokens_per_doc=5)
    dropped: list[str] = []
    assert "max_tokens_per_doc" not in written(VOYAGE, dropped, max_tokens_per_doc=5)
    assert dropped == ["max_tokens_per_doc"]
    for document in ({"image": "x"}, 7):
        with pytest.raises(BadRequest) as refusal:
            written(VOYAGE, [], documents=["a", document])
        assert refusal.value.param == "documents[1]", "it cannot be left out: the others are counted"


def told(way: Ranked, answer: Any, **more: Any) -> tuple[Any, Usage, bool]:
    usage = Usage()
    tap = way.tap(Asked(ASKED | more, usage, ident="i"))
    body = tap.whole(orjson.dumps(answer))
    return orjson.loads(body) if body else None, usage, tap.failed


def test_an_answer_is_coheres_with_the_best_first() -> None:
    listed = [{"index": 2, "score": 0.1}, {"index": 1, "score": 0.9}, {"index": 0, "score": 0.5}]
    found, usage, failed = told(TEI, listed, top_n=2, return_documents=True)
    assert found == {
        "id": "i",
        "results": [
            {"index": 1, "relevance_score": 0.9, "document": {"text": "cd", "id": 7}},
            {"index": 0, "relevance_score": 0.5, "document": {"text": "ab"}},
        ],
    }
    assert (usage, failed) == (Usage(), False)
    data = {"data": [{"index": 0, "relevance_score": 0.5}], "usage": {"total_tokens": 57}}
    found, usage, _ = told(VOYAGE, data)
    assert found == {
        "id": "i",
        "results": [{"index": 0, "relevance_score": 0.5}],
        "meta": {"tokens": {"input_tokens": 57}},
    }
    assert (usage.prompt, usage.reported) == (57, True)


@pytest.mark.parametrize(
    ("way", "answer"),
    [
        (TEI, {}),
        (TEI, [{"index": 1}]),
        (TEI, ["x"]),
        (TEI, [{"index": 1, "score": "x"}]),
        (VOYAGE, {"results": []}),
        (VOYAGE, 7),
        (SGLANG, [{"index": 9, "score": 1.0}]),
    ],
)
def test_an_answer_of_another_shape_is_a_fault(way: Ranked, answer: Any) -> None:
    found, _, failed = told(way, answer, return_documents=True)
    assert found is None
    assert failed


def test_a_refusal_is_told_as_cohere_and_openai_tell_it() -> None:
    said = orjson.loads(VOYAGE.refusal(400, b'{"detail": "no such model"}'))
    assert said["message"] == said["error"]["message"] == "no such model"
    assert said["error"]["type"] == "invalid_request_error"
