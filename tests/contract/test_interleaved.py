"""What a Claude thought between its words and its calls comes back in its place, through clients of every dialect that
is not its own: signed blocks that stand elsewhere are refused."""

import base64
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from gateway.core.exchange import Call
from gateway.core.usage import Usage
from gateway.wire.base import Asked, Changes
from gateway.wire.crossing import CrossingTap
from gateway.wire.registry import between
from tests.contract.test_messages import events
from tests.contract.turns import CLIENTS, NAMES, Json
from tests.gateway.wire import frames
from tests.scripted import event

TEXTS = ("hm", "a é\U0001f600", "\n so\n")
STEP = st.tuples(st.integers(0, 2), st.booleans(), st.sampled_from(("", *TEXTS)), st.booleans())


@st.composite
def contents(draw: Any) -> list[Json]:
    """Steps of thoughts, words and a call; two calls, as the clients of the tests answer so many."""
    blocks: list[Json] = []
    steps = [*draw(st.lists(STEP, max_size=3)), (1, False, "", True), (1, True, "", True)]
    for thoughts, hidden, text, called in steps:
        calls = sum(one["type"] == "tool_use" for one in blocks)
        if calls == 2:
            break
        for _ in range(max(thoughts, 1 if blocks else 0)):
            signature = f"S{len(blocks)}"
            seen = {"type": "thinking", "thinking": TEXTS[len(blocks) % 3], "signature": signature}
            blocks.append({"type": "redacted_thinking", "data": signature} if hidden else seen)
        blocks += [{"type": "text", "text": text}] if text else []
        if called:
            blocks.append(
                {"type": "tool_use", "id": f"c{calls}", "name": NAMES[calls], "input": {"n": calls}}
            )
    return blocks


class Anthropic:
    name = "anthropic.messages"

    def whole(self, blocks: list[Json]) -> bytes:
        return orjson.dumps({"id": "m", "content": blocks, "stop_reason": "tool_use"})

    def stream(self, blocks: list[Json]) -> bytes:
        told = [event(type="message_start", message={"id": "m"})]
        for block in blocks:
            told.append(event(type="content_block_start", content_block=self._empty(block)))
            told += [event(type="content_block_delta", delta=delta) for delta in self._deltas(block)]
            told.append(event(type="content_block_stop"))
        told.append(event(type="message_delta", delta={"stop_reason": "tool_use"}))
        return b"".join([*told, event(type="message_stop")])

    def _empty(self, block: Json) -> Json:
        return (
            block
            | {name: "" for name in ("text", "thinking", "signature") if name in block}
            | ({"input": {}} if "input" in block else {})
        )

    def _deltas(self, block: Json) -> list[Json]:
        match block["type"]:
            case "text":
                return [{"type": "text_delta", "text": one} for one in block["text"]]
            case "thinking":
                signed = {"type": "signature_delta", "signature": block["signature"]}
                return [*({"type": "thinking_delta", "thinking": one} for one in block["thinking"]), signed]
            case "tool_use":
                return [{"type": "input_json_delta", "partial_json": orjson.dumps(block["input"]).decode()}]
        return []

    def said(self, body: Json) -> list[Json]:
        [blocks] = [one["content"] for one in body["messages"] if one["role"] == "assistant"]
        return list(blocks)


class Bedrock:
    name = "bedrock.converse"

    def whole(self, blocks: list[Json]) -> bytes:
        output = {"message": {"role": "assistant", "content": [self._block(one) for one in blocks]}}
        return orjson.dumps({"output": output, "stopReason": "tool_use"})

    def stream(self, blocks: list[Json]) -> bytes:
        told = [frames.event("messageStart", role="assistant")]
        for block in blocks:
            if block["type"] == "tool_use":
                use = {"toolUseId": block["id"], "name": block["name"]}
                told.append(frames.event("contentBlockStart", start={"toolUse": use}))
            told += [frames.event("contentBlockDelta", delta=delta) for delta in self._deltas(block)]
            told.append(frames.event("contentBlockStop"))
        told.append(frames.event("messageStop", stopReason="tool_use"))
        return b"".join([*told, frames.event("metadata", usage={})])

    def _block(self, block: Json) -> Json:
        match block["type"]:
            case "text":
                return {"text": block["text"]}
            case "thinking":
                said = {"text": block["thinking"], "signature": block["signature"]}
                return {"reasoningContent": {"reasoningText": said}}
            case "tool_use":
                use = {"toolUseId": block["id"], "name": block["name"], "input": block["input"]}
                return {"toolUse": use}
        return {"reasoningContent": {"redactedContent": base64.b64encode(block["data"].encode()).decode()}}

    def _deltas(self, block: Json) -> list[Json]:
        match block["type"]:
            case "text":
                return [{"text": one} for one in block["text"]]
            case "thinking":
                texts = [{"reasoningContent": {"text": one}} for one in block["thinking"]]
                return [*texts, {"reasoningContent": {"signature": block["signature"]}}]
            case "tool_use":
                return [{"toolUse": {"input": orjson.dumps(block["input"]).decode()}}]
        return [self._block(block)]

    def said(self, body: Json) -> list[Json]:
        [blocks] = [one["content"] for one in body["messages"] if one["role"] == "assistant"]
        return [self._read(one) for one in blocks]

    def _read(self, block: Json) -> Json:
        if "toolUse" in block:
            use = block["toolUse"]
            return {"type": "tool_use", "id": use["toolUseId"], "name": use["name"], "input": use["input"]}
        if "text" in block:
            return {"type": "text", "text": block["text"]}
        thought = block["reasoningContent"]
        if "redactedContent" in thought:
            return {
                "type": "redacted_thinking",
                "data": base64.b64decode(thought["redactedContent"]).decode(),
            }
        return {
            "type": "thinking",
            "thinking": thought["reasoningText"]["text"],
            "signature": thought["reasoningText"]["signature"],
        }


def simplified(blocks: list[Json]) -> list[Json]:
    """Blanks around a text may be others where two became one on the way."""
    return [one | ({"text": one["text"].strip()} if "text" in one else {}) for one in blocks]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("dialect", ["openai.chat", "openai.responses", "gemini.generate"])
@pytest.mark.parametrize("provider", [Anthropic(), Bedrock()], ids=lambda one: one.name)
@given(blocks=contents())
def test_thoughts_come_back_where_they_stood(
    provider: Anthropic | Bedrock, dialect: str, streamed: bool, blocks: list[Json]
) -> None:
    client, way = CLIENTS[dialect], between(dialect, provider.name)
    first = client.first("m", streamed)
    tap = way.tap(Asked(first, Usage(), ident="i"))
    assert isinstance(tap, CrossingTap)
    told = tap.feed(provider.stream(blocks)) + tap.rest() if streamed else tap.whole(provider.whole(blocks))
    said = client.said(httpx.Response(200, content=told), streamed)
    second = {"model": "m", **client.second(first, said)}
    asked = Call("chat", dialect, "POST", "/", b"", second, "anthropic.claude-x", streamed)
    body = orjson.loads(way.write(asked, Changes("anthropic.claude-x")))
    assert simplified(provider.said(body)) == simplified(blocks)


@pytest.mark.parametrize("provider", [Anthropic(), Bedrock()], ids=lambda one: one.name)
def test_thoughts_that_openais_sdk_gathered_come_back_signed(provider: Anthropic | Bedrock) -> None:
    thought = {"type": "thinking", "thinking": "hm, so", "signature": "S"}
    calls = [{"type": "tool_use", "id": f"c{place}", "name": NAMES[place], "input": {}} for place in (0, 1)]
    way, state = between("openai.chat", provider.name), ChatCompletionStreamState()
    tap = way.tap(Asked({"model": "m"}, Usage(), ident="i"))
    for chunk in events((tap.feed(provider.stream([thought, *calls])) + tap.rest()).decode()):
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    said = state.get_final_completion().choices[0].message.model_dump(exclude_none=True)
    client = CLIENTS["openai.chat"]
    second = client.second(client.first("m", True), said)
    asked = Call("chat", "openai.chat", "POST", "/", b"", second, "anthropic.claude-x", True)
    body = orjson.loads(way.write(asked, Changes("anthropic.claude-x")))
    assert provider.said(body) == [thought, *calls]
