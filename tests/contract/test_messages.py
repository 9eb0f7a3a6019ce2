"""Exchanges recorded at Anthropic: untouched between equals, and nothing lost where a chat client asks."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from gateway.state.owners import Owner, Owners
from tests.contract.recorded import (
    Chunking,
    Record,
    answer_of,
    at_random,
    byte_by_byte,
    per_event,
    recorded,
    replayed,
    whole,
)
from tests.running import ACCESS, gateway
from tests.scripted import Provider

# What recorded calls name that must be the team's.
OBJECT = re.compile(rb"(?:file|container)_[A-Za-z0-9]{20,}")
REASONS = {"end_turn": "stop", "stop_sequence": "stop", "tool_use": "tool_calls", "max_tokens": "length"}
CHAT = {"model": "claude-x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}


def records(*, refused_key: bool = False) -> list[Record]:
    found = recorded("anthropic", "messages", "count_tokens")
    return [one for one in found if (one["response"]["status"] == 401) is refused_key]


def answered() -> list[Record]:
    return [one for one in records() if one["api"] == "messages" and one["response"]["status"] == 200]


def streams() -> list[Record]:
    return [one for one in records() if one["streaming"]]


def sent(record: Record) -> bytes:
    body = record["request"]["body"]
    return body.encode() if isinstance(body, str) else orjson.dumps(body)


def target_of(record: Record) -> str:
    url = httpx.URL(record["request"]["url"])
    return url.raw_path.decode()


@asynccontextmanager
async def before(tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Provider]]:
    """A client of a gateway before one provider of type anthropic."""
    async with Provider() as provider:
        text = f"""
kind: providers
providers: {{claude: {{type: anthropic, base_url: "{provider.url.removesuffix("/v1")}", api_key: sk-ours-alone}}}}
---
kind: models
models: {{"*": {{targets: [{{provider: claude}}]}}}}
---
{ACCESS}
"""
        async with gateway(tmp_path, text) as running, running.client() as client:
            objects = sorted({name.decode() for one in records() for name in OBJECT.findall(sent(one))})
            owners = Owners(running.house.database, lambda: 0.0)
            await owners.remember(objects, Owner("research", "claude"), "files")
            yield client, provider


async def test_every_call_reaches_anthropic_as_it_is_and_every_answer_the_client(tmp_path: Path) -> None:
    assert len(records()) >= 195
    async with before(tmp_path) as (client, provider):
        for record in records():
            provider.script[:] = [replayed(record, whole(record))]
            headers = {"content-type": "application/json", "anthropic-beta": "a-2026-01-01,b"}
            came = await client.post(target_of(record), content=sent(record), headers=headers)
            assert provider.asked, came.text
            asked = provider.asked.pop()
            assert asked.line == f"POST {target_of(record)} HTTP/1.1"
            assert asked.body == sent(record), record["id"]
            assert asked.headers["anthropic-version"] == "2023-06-01"
            assert asked.headers["anthropic-beta"] == "a-2026-01-01,b"
            assert asked.headers["x-api-key"] == "sk-ours-alone"
            assert "authorization" not in asked.headers
            assert came.content == answer_of(record), record["id"]
            assert came.status_code == record["response"]["status"], record["id"]


@pytest.mark.parametrize("chunking", [per_event, at_random, byte_by_byte])
async def test_every_stream_passes_byte_for_byte_whatever_its_chunks(
    tmp_path: Path, chunking: Chunking
) -> None:
    assert len(streams()) >= 40
    chosen = streams() if chunking is not byte_by_byte else streams()[::5]
    async with before(tmp_path) as (client, provider):
        for record in chosen:
            provider.script[:] = [replayed(record, chunking(record))]
            came = await client.post(target_of(record), content=sent(record))
            assert came.content == answer_of(record), record["id"]


async def test_a_key_of_ours_that_anthropic_refuses_is_our_failure(tmp_path: Path) -> None:
    async with before(tmp_path) as (client, provider):
        assert len(records(refused_key=True)) == 3
        for record in records(refused_key=True):
            provider.script[:] = [replayed(record, whole(record))]
            came = await client.post("/v1/messages", json=CHAT)
            assert (came.status_code, came.json()["error"]["type"]) == (502, "api_error")
            assert "x-api-key" not in came.text


class Told:
    """What an answer says, out of either format; written apart from the code under test."""

    def __init__(self) -> None:
        self.text = self.thought = ""
        self.signatures: list[str] = []
        self.calls: list[list[str]] = []
        self.reason: str | None = None
        self.usage: dict[str, int] = {}

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other)

    def __repr__(self) -> str:
        return repr(vars(self))


def events(text: str) -> list[dict[str, Any]]:
    data = [line[5:].strip() for line in text.split("\n") if line.startswith("data:")]
    return [orjson.loads(one) for one in data if one != "[DONE]"]


def of_blocks(message: Mapping[str, Any]) -> Told:
    """An Anthropic message."""
    told = Told()
    for block in message["content"]:
        if block["type"] == "text":
            told.text += block["text"]
        elif block["type"] == "thinking":
            told.thought += block["thinking"]
            told.signatures.append(block["signature"])
        elif block["type"] == "redacted_thinking":
            told.signatures.append(block["data"])
        elif block["type"] == "tool_use":
            told.calls.append([block["id"], block["name"], orjson.dumps(block["input"]).decode()])
    told.reason = REASONS.get(message["stop_reason"], message["stop_reason"])
    counts = message["usage"]
    cached, written = (
        counts.get("cache_read_input_tokens") or 0,
        counts.get("cache_creation_input_tokens") or 0,
    )
    told.usage = {
        "prompt": counts["input_tokens"] + cached + written,
        "cached": cached,
        "completion": counts["output_tokens"],
    }
    return told


def of_stream(text: str) -> Told:
    """An Anthropic stream, put together to the message it tells."""
    blocks: dict[int, dict[str, Any]] = {}
    message: dict[str, Any] = {"usage": {}}
    for event in events(text):
        if event["type"] == "message_start":
            message["usage"] |= event["message"]["usage"]
        elif event["type"] == "content_block_start":
            blocks[event["index"]] = dict(event["content_block"], json="")
        elif event["type"] == "content_block_delta":
            block, delta = blocks[event["index"]], event["delta"]
            for name in ("text", "thinking", "signature"):
                block[name] = block.get(name, "") + delta.get(name, "")
            block["json"] += delta.get("partial_json", "")
        elif event["type"] == "message_delta":
            message["stop_reason"] = event["delta"]["stop_reason"]
            message["usage"] |= {name: count for name, count in event["usage"].items() if count is not None}
    for block in blocks.values():
        if block["json"]:
            block["input"] = orjson.loads(block["json"])
    return of_blocks({**message, "content": list(blocks.values())})


def of_completion(completion: Mapping[str, Any]) -> Told:
    told = Told()
    choice = completion["choices"][0]
    message = choice["message"]
    told.text, told.thought = message["content"] or "", message.get("reasoning_content", "")
    for detail in message.get("reasoning_details", []):
        told.signatures.append(
            detail["data"] if detail["type"] == "reasoning.encrypted" else detail["signature"]
        )
    for call in message.get("tool_calls", []):
        arguments = orjson.dumps(orjson.loads(call["function"]["arguments"])).decode()
        told.calls.append([call["id"], call["function"]["name"], arguments])
    told.reason = choice["finish_reason"]
    usage = completion["usage"]
    told.usage = {
        "prompt": usage["prompt_tokens"],
        "cached": usage["prompt_tokens_details"]["cached_tokens"],
        "completion": usage["completion_tokens"],
    }
    return told


def of_chunks(text: str) -> Told:
    """A chat stream, put together to the completion it tells."""
    assert text.endswith("data: [DONE]\n\n")
    content = thought = ""
    details: dict[int, dict[str, Any]] = {}
    calls: dict[int, dict[str, Any]] = {}
    usage = reason = None
    for chunk in events(text):
        assert (chunk["object"], bool(chunk["id"]), chunk["created"] > 0) == (
            "chat.completion.chunk",
            True,
            True,
        )
        usage = chunk["usage"] or usage
        for choice in chunk["choices"]:
            delta = choice["delta"]
            content += delta.get("content") or ""
            thought += delta.get("reasoning_content") or ""
            reason = choice["finish_reason"] or reason
            for detail in delta.get("reasoning_details", []):
                details.setdefault(detail["index"], {}).update(detail)
            for call in delta.get("tool_calls", []):
                last = calls.setdefault(call["index"], {"id": call.get("id"), "name": "", "arguments": ""})
                last["name"] += call["function"].get("name", "")
                last["arguments"] += call["function"].get("arguments", "")
    made = [{"id": one["id"], "function": one} for one in calls.values()]
    message = {"content": content, "reasoning_content": thought, "tool_calls": made}
    message["reasoning_details"] = list(details.values())
    return of_completion({"choices": [{"message": message, "finish_reason": reason}], "usage": usage})


def expected(record: Record) -> Told:
    text = answer_of(record).decode()
    return of_stream(text) if record["streaming"] else of_blocks(orjson.loads(text))


@pytest.mark.parametrize("chunking", [whole, per_event, at_random, byte_by_byte])
async def test_a_chat_client_is_told_all_that_anthropic_said(tmp_path: Path, chunking: Chunking) -> None:
    """Text, thoughts and their signatures, calls with their ids and arguments, reason and usage."""
    chosen = answered() if chunking is whole else streams()
    assert len(chosen) >= 40
    async with before(tmp_path) as (client, provider):
        for record in chosen:
            provider.script[:] = [replayed(record, chunking(record))]
            asks = CHAT | {"stream": record["streaming"], "stream_options": {"include_usage": True}}
            came = await client.post("/v1/chat/completions", json=asks)
            assert came.status_code == 200, (record["id"], came.text)
            told = of_chunks(came.text) if record["streaming"] else of_completion(came.json())
            assert told == expected(record), record["id"]


async def test_a_refusal_of_anthropic_is_told_in_chats_words(tmp_path: Path) -> None:
    refused = [one for one in records() if one["response"]["status"] in (400, 404)]
    assert len(refused) >= 2
    async with before(tmp_path) as (client, provider):
        for record in refused:
            provider.script[:] = [replayed(record, whole(record))]
            came = await client.post("/v1/chat/completions", json=CHAT)
            said = orjson.loads(answer_of(record))["error"]
            assert came.status_code == record["response"]["status"]
            assert came.json() == {
                "error": {"message": said["message"], "type": said["type"], "param": None, "code": None}
            }
