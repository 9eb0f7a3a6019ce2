import orjson
import pytest

from gateway.core.failure import BadRequest
from gateway.core.usage import Usage
from gateway.wire.base import Asked
from gateway.wire.crossing import CrossingTap
from gateway.wire.registry import BACKS, DIALECTS, FRONTS, between, leads, retold
from tests.contract.recorded import answer_of, every


def test_every_dialect_is_found_by_its_own_name() -> None:
    assert all(dialect.name == name for name, dialect in DIALECTS.items())
    openai = {"openai.chat", "openai.completions", "openai.embeddings", "openai.raw", "openai.responses"}
    gemini = {f"gemini.{name}" for name in ("generate", "array", "count_tokens", "embed", "batch_embed")}
    cohere = {"cohere.rerank", "cohere.rerank_v1"}
    assert set(DIALECTS) == openai | gemini | cohere | {"anthropic.messages", "anthropic.count_tokens"}


def test_there_is_a_way_from_every_front_to_every_back() -> None:
    for front in FRONTS:
        for back in set(BACKS) - {front}:
            way = between(front, back)
            assert (way.name, way.crosses) == (back, True)


def test_where_there_is_no_way_the_call_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"openai\.embeddings cannot be translated to anthropic\.messages"):
        between("openai.embeddings", "anthropic.messages")


@pytest.mark.parametrize(
    ("name", "api"),
    [
        ("openai.chat", "chat.completions"),
        ("anthropic.messages", "messages"),
        ("gemini.generate", "generateContent"),
    ],
)
def test_an_answer_that_is_told_as_the_other_kind_is_one_of_its_own_dialect(name: str, api: str) -> None:
    answers = [one for one in every() if one["api"] == api and one["response"]["status"] == 200]
    streamed = [one for one in answers if not one["streaming"]]
    assert len(streamed) > 150
    for record in streamed:
        told = asked_again(name).streamed(answer_of(record))
        tap = DIALECTS[name].tap(Asked({}, Usage()))
        assert told
        tap.feed(told)
        tap.rest()
        assert (tap.finished, tap.failed) == (True, False), record["id"]
    for record in [one for one in answers if one["streaming"] and b'"error":' not in answer_of(one)]:
        tap = DIALECTS[name].tap(Asked({}, Usage()))
        tap.whole(asked_again(name).whole_of(answer_of(record)))
        assert (tap.finished, tap.failed) == (True, False), record["id"]


def asked_again(name: str) -> CrossingTap:
    way = retold(name)
    assert way is not None
    tap = way.tap(Asked({}, Usage()))
    assert isinstance(tap, CrossingTap)
    return tap


def test_there_is_not_always_a_way_to_tell_an_answer_as_the_other_kind() -> None:
    assert retold("openai.completions") is None


@pytest.mark.parametrize(
    ("front", "back", "there"),
    [
        ("cohere.rerank", "cohere.rerank", True),
        ("cohere.rerank_v1", "tei.rerank", True),
        ("cohere.rerank", "openai.chat", False),
        ("openai.chat", "cohere.chat", True),
    ],
)
def test_a_call_can_be_put_to_whom_there_is_a_way(front: str, back: str, there: bool) -> None:
    assert leads(front, back) is there


@pytest.mark.parametrize(
    "name", ["openai.chat", "openai.responses", "anthropic.messages", "gemini.generate", "openai.embeddings"]
)
def test_an_error_in_place_of_an_answer_is_none_in_any_dialect(name: str) -> None:
    tap = DIALECTS[name].tap(Asked({}, Usage()))
    kind = {"type": "error"} if name == "anthropic.messages" else {}
    tap.whole(orjson.dumps({"error": {"message": "no"}, **kind}))
    assert tap.failed
