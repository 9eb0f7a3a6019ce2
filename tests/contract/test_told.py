"""Whatever a translation leaves out of a call is told: each member of each object of a call, in each dialect before
each format, is in what the provider is sent, or is refused, or is named."""

from collections.abc import Container, Iterator
from copy import deepcopy
from typing import Any

import orjson
import pytest

from gateway.core.exchange import Call
from gateway.core.failure import BadRequest
from gateway.wire.base import Changes
from gateway.wire.crossing import Crossing
from gateway.wire.registry import BACKS, between
from tests.contract.translations import BASE, FEATURES

ODD, SENTINEL = "unheard_of", "said all the same"
GEMINI: list[dict[str, Any]] = [
    {"systemInstruction": {"parts": [{"text": "be brief"}]}},
    {"contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "iVBO"}}]}]},
    {"contents": [
        {"role": "user", "parts": [{"text": "hi"}]},
        {"role": "model", "parts": [
            {"text": "hm", "thought": True, "thoughtSignature": "s"},
            {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "s"}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": "r"}}}]}]},
    {"tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT"}}]}],
     "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}}},
    {"generationConfig": {"maxOutputTokens": 9000, "thinkingConfig": {"thinkingBudget": 2048}}},
    {"labels": {"a": "b"}},
]  # fmt: skip
CALLS = {front: [feature.more for feature in FEATURES[front]] for front in FEATURES} | {
    "gemini.generate": GEMINI
}
BASES = {**BASE, "gemini.generate": {"contents": [{"parts": [{"text": "hi"}]}]}}
PAIRS = [
    (front, back)
    for front in CALLS
    for back in BACKS
    if front != back and isinstance(between(front, back), Crossing)
]


# What is told, or taken, as a whole: what the gateway itself keeps, and thoughts.
WHOLE = {"openai.responses": {"metadata", "summary"}, "openai.chat": {"reasoning_details"}}


def objects(value: Any, whole: Container[str]) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = [one for name, one in value.items() if name not in whole]
    for one in value if isinstance(value, list) else ():
        yield from objects(one, whole)


def odd(payload: Any, whole: Container[str] = ()) -> Iterator[Any]:
    """The same call with a member that nobody knows, in each of its objects in turn."""
    for place in range(sum(1 for _ in objects(payload, whole))):
        made = deepcopy(payload)
        list(objects(made, whole))[place][ODD] = SENTINEL
        yield made


def told(front: str, back: str, payload: Any) -> tuple[bytes, list[str]]:
    left: list[str] = []
    call = Call("chat", front, "POST", "/", orjson.dumps(payload), payload, "m", False)
    return between(front, back).write(call, Changes("m", left_out=left)), left


@pytest.mark.parametrize(("front", "back"), PAIRS)
def test_a_member_that_nobody_knows_is_carried_or_refused_or_named(front: str, back: str) -> None:
    silent, untrue = [], []
    for more in CALLS[front]:
        for payload in odd({**BASES[front], **more}, WHOLE.get(front, ())):
            try:
                body, left = told(front, back, payload)
            except BadRequest:
                continue
            if SENTINEL.encode() not in body:
                silent += [] if left else [payload]
            elif any(ODD in name for name in left):
                untrue.append(payload)
    assert (silent, untrue) == ([], [])


@pytest.mark.parametrize(("front", "back"), PAIRS)
def test_what_says_nothing_is_not_named(front: str, back: str) -> None:
    values: tuple[Any, ...] = (None, False, [], {}, "")
    for nothing in values:
        for payload in odd(BASES[front]):
            quiet = orjson.loads(orjson.dumps(payload).replace(orjson.dumps(SENTINEL), orjson.dumps(nothing)))
            assert told(front, back, quiet)[1] == []


def test_each_name_is_told_once_however_often_it_stands() -> None:
    block = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
    said = [{"role": "user", "content": [block, block]}, {"role": "assistant", "content": [block]}] * 50
    payload = {**BASES["anthropic.messages"], "system": [block], "messages": said}
    assert told("anthropic.messages", "openai.chat", payload)[1] == [
        "system.cache_control", "messages.cache_control"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("front", "more"),
    [
        ("openai.chat", {"store": False, "service_tier": "auto", "metadata": {}, "user": None}),
        (
            "anthropic.messages",
            {"service_tier": "auto", "thinking": {"type": "disabled"}, "cache_control": None},
        ),
        (
            "openai.responses",
            {"service_tier": "auto", "truncation": "disabled", "stream_options": {"a": False}},
        ),
        ("gemini.generate", {"serviceTier": "standard", "store": False, "labels": {}}),
    ],
)
def test_a_default_that_is_said_is_not_named(front: str, more: dict[str, Any]) -> None:
    for back in (back for one, back in PAIRS if one == front):
        assert told(front, back, {**BASES[front], **more})[1] == []


@pytest.mark.parametrize(
    ("front", "back", "payload", "names"),
    [
        ("openai.embeddings", "cohere.chat", {"input": "a", "user": "u"}, ["user"]),
        ("openai.embeddings", "gemini.generate", {"input": "a", "user": "u"}, ["user"]),
        ("openai.embeddings", "bedrock.titan_embed", {"input": "a", "user": "u"}, ["user"]),
        ("openai.embeddings", "bedrock.cohere_embed", {"input": "a", "user": "u"}, ["user"]),
        ("openai.completions", "triton.vllm", {"prompt": "a", "store": True, "user": "u"}, ["store", "user"]),
        ("cohere.rerank", "voyage.rerank", {"query": "q", "documents": ["d"], "priority": 3}, ["priority"]),
    ],
)
def test_so_it_is_where_no_chat_is_between(
    front: str, back: str, payload: dict[str, Any], names: list[str]
) -> None:
    assert told(front, back, {"model": "m", **payload})[1] == names
