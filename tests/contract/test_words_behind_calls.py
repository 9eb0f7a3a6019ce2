"""What a model said behind a call of a tool stays behind it, wherever both dialects hold blocks in an order. OpenAI's
chat has one place for all words: what its clients and its providers are told stands before the calls."""

from typing import Any, Protocol

import httpx
import orjson
import pytest

from gateway.core.exchange import Call
from gateway.core.usage import Usage
from gateway.wire.base import Asked, Changes
from gateway.wire.crossing import CrossingTap
from gateway.wire.registry import between
from tests.contract.test_interleaved import Anthropic, Bedrock
from tests.contract.turns import CLIENTS, NAMES, Json

# Calls are numbers, all else is said.
SAID = (
    [0, "sunny?", 1], [0, 1, "both asked"], ["first", 0, "then", 1, "at last"], [0, "a é\U0001f600", 1, "\u00fc"],
    ["well", 0, 1],
)  # fmt: skip


class Provider(Protocol):
    name: str

    def whole(self, blocks: list[Json]) -> bytes: ...

    def said(self, body: Json) -> list[Json]:
        """What the model said, as Anthropic's blocks, in a call that goes on."""
        ...


class Google:
    name = "gemini.generate"

    def whole(self, blocks: list[Json]) -> bytes:
        parts = [
            {"functionCall": {"id": one["id"], "name": one["name"], "args": one["input"]}}
            if one["type"] == "tool_use" else {"text": one["text"]}
            for one in blocks
        ]  # fmt: skip
        return orjson.dumps({"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]})

    def said(self, body: Json) -> list[Json]:
        [parts] = [one["parts"] for one in body["contents"] if one["role"] == "model"]
        calls = [one.get("functionCall") or {} for one in parts]
        return [
            used(call["id"], call["name"], call["args"]) if call else words(one["text"])
            for one, call in zip(parts, calls, strict=True)
        ]


class Responses:
    name = "openai.responses"

    def whole(self, blocks: list[Json]) -> bytes:
        return orjson.dumps({"status": "completed", "output": [self._item(one) for one in blocks]})

    def _item(self, block: Json) -> Json:
        if block["type"] == "text":
            return {"type": "message", "content": [{"type": "output_text", "text": block["text"]}]}
        given = {"name": block["name"], "arguments": orjson.dumps(block["input"]).decode()}
        return {"type": "function_call", "call_id": block["id"], **given}

    def said(self, body: Json) -> list[Json]:
        items = [one for one in body["input"] if one.get("role") == "assistant" or "name" in one]
        return [
            used(one["call_id"], one["name"], orjson.loads(one["arguments"]))
            if "name" in one
            else words(one["content"][0]["text"])
            for one in items
        ]


def used(ident: str, name: str, given: Any) -> Json:
    return {"type": "tool_use", "id": ident, "name": name, "input": given}


def words(text: str) -> Json:
    return {"type": "text", "text": text.strip()}


def blocks_of(said: list[Any]) -> list[Json]:
    return [used(f"c{one}", NAMES[one], {"n": one}) if isinstance(one, int) else words(one) for one in said]


def again(dialect: str, provider: Provider, told: bytes, streamed: bool) -> list[Json]:
    """What the provider sees of its own answer when the client goes on."""
    client = CLIENTS[dialect]
    first = client.first("m", streamed)
    second = {"model": "m", **client.second(first, client.said(httpx.Response(200, content=told), streamed))}
    asked = Call("chat", dialect, "POST", "/", b"", second, "claude-x", streamed)
    seen = provider.said(orjson.loads(between(dialect, provider.name).write(asked, Changes("claude-x"))))
    return [one | ({"text": one["text"].strip()} if "text" in one else {}) for one in seen]


def tap(dialect: str, provider: Provider, streamed: bool) -> CrossingTap:
    first = CLIENTS[dialect].first("m", streamed)
    watched = between(dialect, provider.name).tap(Asked(first, Usage(), ident="i"))
    assert isinstance(watched, CrossingTap)
    return watched


PROVIDERS: tuple[Provider, ...] = (Anthropic(), Bedrock(), Google(), Responses())


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("dialect", ["anthropic.messages", "openai.responses", "gemini.generate"])
@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda one: one.name)
def test_words_behind_a_call_come_back_behind_it(provider: Provider, dialect: str, said: list[Any]) -> None:
    if provider.name == dialect:
        return
    told = tap(dialect, provider, False).whole(provider.whole(blocks_of(said)))
    assert told is not None
    assert again(dialect, provider, told, False) == blocks_of(said)


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("provider", [Anthropic(), Bedrock()], ids=lambda one: one.name)
def test_words_behind_a_call_in_a_stream_do_too(provider: Anthropic | Bedrock, said: list[Any]) -> None:
    watched = tap("openai.responses", provider, True)
    told = watched.feed(provider.stream(blocks_of(said))) + watched.rest()
    assert again("openai.responses", provider, told, True) == blocks_of(said)


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda one: one.name)
def test_chat_clients_are_told_no_places(provider: Provider) -> None:
    body = provider.whole(blocks_of([0, "then", 1]))
    assert b"after" not in (tap("openai.chat", provider, False).whole(body) or b"after")
    assert b"after" not in (tap("openai.chat", provider, True).streamed(body) or b"after")


@pytest.mark.parametrize("dialect", ["anthropic.messages", "openai.responses", "gemini.generate"])
def test_chat_providers_are_told_no_places(dialect: str) -> None:
    provider = Responses() if dialect != "openai.responses" else Anthropic()
    told = tap(dialect, provider, False).whole(provider.whole(blocks_of([0, "then", 1])))
    client = CLIENTS[dialect]
    second = client.second(
        client.first("m", False), client.said(httpx.Response(200, content=told or b""), False)
    )
    asked = Call("chat", dialect, "POST", "/", b"", {"model": "m", **second}, "m", False)
    body = between(dialect, "openai.chat").write(asked, Changes("m"))
    assert b"then" in body
    assert b"after" not in body
