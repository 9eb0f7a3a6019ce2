"""A client that speaks Anthropic's Messages before real answers of some twenty chat providers: nothing is lost."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.contract.recorded import (
    Chunking,
    Record,
    answer_of,
    at_random,
    per_event,
    recorded,
    replayed,
    whole,
)
from tests.contract.test_messages import Told, events, of_blocks, of_stream
from tests.running import gateway, policies
from tests.scripted import DONE, FINISH, USAGE, Provider, answer, event, stream, word

PROVIDERS = (
    "azure", "cerebras", "crusoe", "deepseek", "groq", "huggingface", "mistral", "ollama", "openai", "openrouter",
    "perplexity", "snowflake", "together", "zai",
)  # fmt: skip
ASKS = {"model": "smart", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}


def records(status: int = 200) -> list[Record]:
    found = [one for name in PROVIDERS for one in recorded(name, "chat_completions", "chat.completions")]
    kept = [one for one in found if one["response"]["status"] == status]
    return [one for one in kept if can_be_asked(asked(one))]


def can_be_asked(body: Mapping[str, Any]) -> bool:
    """Whether a Messages client has words for such a call: not for several choices, sound or tools without JSON."""
    custom = [tool for tool in body.get("tools") or [] if tool.get("type") == "custom"]
    return not custom and not body.keys() & {"n", "audio"}


def asked(record: Record) -> Mapping[str, Any]:
    body = record["request"].get("body")
    return body if isinstance(body, dict) else {}


def streams() -> list[Record]:
    return [one for one in records() if one["streaming"]]


def words(content: Any) -> tuple[str, str]:
    """(text, thoughts) of a content; Mistral writes lists."""
    if not isinstance(content, list):
        return content or "", ""
    text = "".join(part.get("text", "") for part in content if part["type"] == "text")
    thoughts = [one["text"] for part in content if part["type"] == "thinking" for one in part["thinking"]]
    return text, "".join(thoughts)


def tell(told: Told, message: Mapping[str, Any]) -> None:
    text, thought = words(message.get("content"))
    told.text += text + (message.get("refusal") or "")
    details = "".join(one.get("text") or "" for one in message.get("reasoning_details") or [])
    told.thought += thought or message.get("reasoning_content") or message.get("reasoning") or details


def count(told: Told, usage: Mapping[str, Any] | None) -> None:
    if not usage:
        return
    details = usage.get("prompt_tokens_details") or {}
    cached = details.get("cached_tokens") or 0
    told.usage = {
        "prompt": usage["prompt_tokens"],
        "cached": cached,
        "completion": usage["completion_tokens"],
    }


def expected(record: Record) -> Told:
    told, text = Told(), answer_of(record).decode()
    calls: list[dict[str, Any]] = []
    pieces = events(text) if record["streaming"] else [orjson.loads(text)]
    for piece in pieces:
        groq = (piece.get("x_groq") or {}).get("usage")
        count(told, piece.get("usage") or groq)
        for choice in piece.get("choices", [])[:1]:
            message = choice.get("delta") if record["streaming"] else choice["message"]
            tell(told, message or {})
            told.reason = choice.get("finish_reason") or told.reason
            for place, call in enumerate((message or {}).get("tool_calls") or []):
                index = call.get("index", place) if record["streaming"] else len(calls)
                while len(calls) <= index:
                    calls.append({"id": "", "name": "", "arguments": ""})
                made = calls[index]
                made["id"] = made["id"] or call.get("id") or ""
                made["name"] += call["function"].get("name") or ""
                made["arguments"] += call["function"].get("arguments") or ""
    for call in calls:
        arguments = orjson.dumps(orjson.loads(call["arguments"] or "{}")).decode()
        told.calls.append([call["id"], call["name"], arguments])
    return told


def simplified(told: Told) -> dict[str, Any]:
    """What both formats have a word for. Signatures are Anthropic's alone; usage may be missing at the source."""
    usage = {name: told.usage.get(name, 0) for name in ("prompt", "cached", "completion")}
    # Some providers count more tokens as cached than they count at all.
    usage["prompt"] = max(usage["prompt"], usage["cached"])
    return {"text": told.text, "thought": told.thought, "calls": told.calls, "usage": usage}


@pytest.mark.parametrize("chunking", [whole, per_event, at_random])
async def test_a_messages_client_is_told_all_that_a_chat_provider_said(
    tmp_path: Path, chunking: Chunking
) -> None:
    chosen = records() if chunking is whole else streams()
    assert len(chosen) >= (340 if chunking is whole else 79)
    async with Provider() as provider, gateway(tmp_path, policies(provider.url)) as running:
        async with running.client() as client:
            for record in chosen:
                provider.script[:] = [replayed(record, chunking(record))]
                came = await client.post("/v1/messages", json=ASKS | {"stream": record["streaming"]})
                assert came.status_code == 200, (record["id"], came.text)
                told = of_stream(came.text) if record["streaming"] else of_blocks(came.json())
                assert simplified(told) == simplified(expected(record)), record["id"]
                if told.calls:
                    assert told.reason == "tool_calls", record["id"]


async def test_a_whole_answer_to_a_call_for_a_stream_is_told_as_one(tmp_path: Path) -> None:
    chosen = [one for one in records() if not one["streaming"]]
    async with Provider() as provider, gateway(tmp_path, policies(provider.url)) as running:
        async with running.client() as client:
            for record in chosen:
                provider.script[:] = [replayed(record, whole(record))]
                came = await client.post("/v1/messages", json=ASKS | {"stream": True})
                assert came.headers["content-type"].startswith("text/event-stream"), record["id"]
                assert simplified(of_stream(came.text)) == simplified(expected(record)), record["id"]


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
async def test_a_generation_that_failed_is_told_to_have_failed(tmp_path: Path, path: str) -> None:
    """A whole answer leads on like any other failure; what has begun ends in an error."""
    ended = event(choices=[{"index": 0, "delta": {}, "finish_reason": "error"}])
    failed = {"choices": [{"index": 0, "message": {"content": None}, "finish_reason": "error"}]}
    async with Provider() as provider, gateway(tmp_path, policies(provider.url)) as running:
        async with running.client() as client:
            provider.script[:] = [answer(failed)]
            came = await client.post(path, json={**ASKS, "input": "hi"})
            assert (came.status_code, came.headers["x-gateway-attempts"]) == (502, "2")
            assert "the generation failed (error)" in came.text
            said = asyncio.Event()
            provider.script[:] = [stream(word("a"), said, ended, USAGE, DONE)]
            async with client.stream("POST", path, json={**ASKS, "input": "hi", "stream": True}) as came:
                told = came.aiter_text()
                begun = await anext(told)
                said.set()
                found = events(begun + "".join([text async for text in told]))
            assert found[-1]["type"] == ("error" if "messages" in path else "response.failed")
        (row,) = (await running.usage(by="outcome"))["rows"]
        assert (row["outcome"], row["calls"]) == ("upstream_error", 2)


@pytest.mark.parametrize("done", [False, True])
async def test_a_stream_that_is_cut_within_an_event_is_told_to_have_broken(
    tmp_path: Path, done: bool
) -> None:
    end = [FINISH, DONE] if done else []
    async with Provider([stream(word("a"), *end, b"data: {")]) as provider:
        async with gateway(tmp_path, policies(provider.url)) as running, running.client() as client:
            came = await client.post("/v1/messages", json=ASKS | {"stream": True})
    last = events(came.text)[-1]
    if done:
        assert last["type"] == "message_stop"
    else:
        assert "the provider's stream ended before its end" in last["error"]["message"]


async def test_a_refusal_of_a_chat_provider_is_told_in_anthropics_words(tmp_path: Path) -> None:
    async with Provider() as provider, gateway(tmp_path, policies(provider.url)) as running:
        async with running.client() as client:
            for record in [*records(400), *records(404)]:
                provider.script[:] = [replayed(record, whole(record))]
                came = await client.post("/v1/messages", json=ASKS)
                assert came.status_code == record["response"]["status"]
                error = came.json()["error"]
                kind = "not_found_error" if came.status_code == 404 else "invalid_request_error"
                assert (came.json()["type"], error["type"]) == ("error", kind)
                assert len(error["message"]) > 10
