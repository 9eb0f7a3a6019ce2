"""Whatever stands in place of a member of a call, a translation carries it over or refuses it: never a fault."""

import copy
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from gateway.core.exchange import Call
from gateway.core.failure import BadRequest
from gateway.wire.base import Changes
from gateway.wire.crossing import Crossing
from gateway.wire.registry import BACKS, DIALECTS, FRONTS, between

ODD: tuple[Any, ...] = (None, 1, -1.5, True, "x", [], [1], {}, {"x": 1}, [None], [[]])
PNG = "iVBORw0KGgo="
TOOL = {"name": "f", "description": "d", "parameters": {"type": "object"}}
CHAT = {
    "messages": [
        {"role": "system", "content": "s"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
            ],
        },
        {
            "role": "assistant",
            "content": "b",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            "reasoning_details": [
                {
                    "type": "reasoning.text",
                    "text": "t",
                    "signature": "s",
                    "format": "anthropic-claude-v1",
                    "index": 0,
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "r"},
    ],
    "tools": [{"type": "function", "function": TOOL}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    "stop": ["x"],
    "max_tokens": 5,
    "reasoning_effort": "low",
}
MESSAGES = {
    "max_tokens": 2000,
    "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "t", "signature": "s"},
                {"type": "tool_use", "id": "c1", "name": "f", "input": {}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "r"}]},
    ],
    "tools": [{"name": "f", "input_schema": {"type": "object"}}],
    "tool_choice": {"type": "tool", "name": "f"},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "stop_sequences": ["x"],
}
GEMINI = {
    "systemInstruction": {"parts": [{"text": "s"}]},
    "contents": [
        {"role": "user", "parts": [{"text": "a"}, {"inlineData": {"mimeType": "image/png", "data": PNG}}]},
        {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "c2ln"}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"a": 1}}}]},
    ],
    "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT"}}]}],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
    "generationConfig": {
        "stopSequences": ["x"],
        "maxOutputTokens": 5,
        "thinkingConfig": {"thinkingBudget": 10},
        "responseMimeType": "application/json",
        "responseSchema": {"type": "OBJECT"},
    },
    "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
}
RESPONSES = {
    "instructions": "s",
    "input": [
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "a"},
                {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
            ],
        },
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "r"},
    ],
    "tools": [{"type": "function", **TOOL}],
    "tool_choice": {"type": "function", "name": "f"},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
    "reasoning": {"effort": "low"},
    "max_output_tokens": 2000,
}
WHOLE: dict[str, dict[str, Any]] = {
    "openai.chat": CHAT,
    "openai.responses": RESPONSES,
    "anthropic.messages": MESSAGES,
    "gemini.generate": GEMINI,
    "gemini.array": GEMINI,
}
PAIRS = [(front, back) for front in FRONTS for back in BACKS if front != back]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    members = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for name, member in members:
        yield (*path, name)
        yield from places(member, (*path, name))


def odd_calls(whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in places(whole):
        for odd in ODD:
            call = copy.deepcopy(whole)
            at: Any = call
            for name in path[:-1]:
                at = at[name]
            at[path[-1]] = odd
            yield call


@pytest.mark.parametrize(("front", "back"), PAIRS)
def test_an_odd_value_is_carried_over_or_refused(front: str, back: str) -> None:
    try:
        way = between(front, back)
    except BadRequest:
        return  # two forms of one dialect
    carried = refused = 0
    for payload in odd_calls({"model": "m", **WHOLE[front]}):
        call = Call("chat", front, "POST", "/x", orjson.dumps(payload), payload, "m", False)
        try:
            assert isinstance(orjson.loads(way.write(call, Changes("m"))), dict)
            carried += 1
        except BadRequest:
            refused += 1
    assert carried
    assert refused or not isinstance(way, Crossing)  # of what is only framed anew the provider is the judge


RERANK = {"query": "q", "documents": ["a", {"text": "b"}], "top_n": 1, "return_documents": True}
EMBED = {"input": ["a"], "dimensions": 5, "encoding_format": "base64"}
WHOLES = [
    ("cohere.rerank", "voyage.rerank", RERANK),
    ("cohere.rerank_v1", "tei.rerank", RERANK),
    ("openai.embeddings", "bedrock.cohere_embed", EMBED),
    ("openai.embeddings", "bedrock.titan_embed", EMBED),
    ("openai.embeddings", "cohere.chat", EMBED),
    ("openai.embeddings", "gemini.generate", EMBED),
]


@pytest.mark.parametrize(("front", "back", "whole"), WHOLES)
def test_an_odd_value_of_what_is_no_conversation_is_carried_over_or_refused(
    front: str, back: str, whole: dict[str, Any]
) -> None:
    dialect, way = DIALECTS[front], between(front, back)
    carried = refused = 0
    for payload in odd_calls({"model": "m", **whole}):
        body = orjson.dumps(payload)
        try:
            read = dialect.read(body)
            dialect.shape(read.payload, len(body))
            call = Call("r", front, "POST", "/x", body, read.payload, read.model, False)
            assert isinstance(orjson.loads(way.write(call, Changes("m"))), dict)
            carried += 1
        except BadRequest:
            refused += 1
    assert carried
    assert refused
