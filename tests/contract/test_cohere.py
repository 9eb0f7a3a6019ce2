"""Exchanges recorded at Cohere: what it was asked can be asked of it in chat, and nothing is lost of what it said."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from tests.contract import test_gemini as gemini
from tests.contract import test_messages as anthropic
from tests.contract.cohere import Heard, chat_of, expected, is_embed, plain
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
from tests.running import ACCESS, Running, gateway
from tests.scripted import Provider, answer, event, stream

CHAT = {"model": "command-x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}
START = event(type="message-start", id="i", delta={"message": {"role": "assistant"}})


def records() -> list[Record]:
    found = recorded("cohere", "chat v2")
    assert len(found) >= 49
    return found


def answered() -> list[Record]:
    return [one for one in records() if one["response"]["status"] == 200]


def streams() -> list[Record]:
    found = [one for one in records() if one["streaming"]]
    assert len(found) >= 10
    return found


@asynccontextmanager
async def before(tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Provider, Running]]:
    """A client of a gateway before one provider of type cohere."""
    async with Provider() as provider:
        text = f"""
kind: providers
providers: {{it: {{type: cohere, base_url: "{provider.url.removesuffix("/v1")}", api_key: key-ours-alone}}}}
---
kind: models
models: {{"*": {{targets: [{{provider: it}}], retry: {{attempts: 1}}}}}}
---
{ACCESS}
"""
        async with gateway(tmp_path, text) as running, running.client() as client:
            yield client, provider, running


async def test_every_recorded_call_can_be_asked_in_chat(tmp_path: Path) -> None:
    async with before(tmp_path) as (client, provider, _):
        for record in answered():
            provider.script[:] = [replayed(record, whole(record))]
            body = record["request"]["body"]
            came = await client.post("/v1/chat/completions", json=chat_of(body))
            assert came.status_code == 200, (record["id"], came.text)
            asked = provider.asked.pop()
            assert asked.line == "POST /v2/chat HTTP/1.1"
            assert asked.headers["authorization"] == "Bearer key-ours-alone"
            assert plain(asked.json) == plain(body), record["id"]


def cited(message: dict[str, Any]) -> list[tuple[int, int, str]]:
    found = []
    for one in message.get("annotations", []):
        place = one["url_citation"]
        found.append((place["start_index"], place["end_index"], one["source"]["id"]))
    return found


def of_completion(completion: dict[str, Any]) -> Heard:
    told = Heard()
    vars(told).update(vars(anthropic.of_completion(completion)))
    told.cited = cited(completion["choices"][0]["message"])
    return told


def of_chunks(text: str) -> Heard:
    told = Heard()
    vars(told).update(vars(anthropic.of_chunks(text)))
    for chunk in gemini.events(text):
        for choice in chunk["choices"]:
            told.cited += cited(choice["delta"])
    return told


@pytest.mark.parametrize("chunking", [whole, per_event, at_random, byte_by_byte])
async def test_a_chat_client_is_told_all_that_cohere_said(tmp_path: Path, chunking: Chunking) -> None:
    """Plan and text, calls with their ids and arguments, citations, reason and usage."""
    async with before(tmp_path) as (client, provider, _):
        for record in answered() if chunking is whole else streams():
            provider.script[:] = [replayed(record, chunking(record))]
            asks = CHAT | {"stream": record["streaming"], "stream_options": {"include_usage": True}}
            came = await client.post("/v1/chat/completions", json=asks)
            assert came.status_code == 200, (record["id"], came.text)
            told = of_chunks(came.text) if record["streaming"] else of_completion(came.json())
            assert told == expected(record), record["id"]
            named = gemini.events(came.text)[0] if record["streaming"] else came.json()
            assert named["model"] == "command-x", "Cohere names none"


@pytest.mark.parametrize("chunking", [whole, at_random])
async def test_an_anthropic_client_is_told_all_that_cohere_said(tmp_path: Path, chunking: Chunking) -> None:
    async with before(tmp_path) as (client, provider, _):
        for record in answered() if chunking is whole else streams():
            provider.script[:] = [replayed(record, chunking(record))]
            came = await client.post("/v1/messages", json=CHAT | {"stream": record["streaming"]})
            assert came.status_code == 200, (record["id"], came.text)
            told = anthropic.of_stream(came.text) if record["streaming"] else anthropic.of_blocks(came.json())
            wanted = expected(record)
            del wanted.cited
            assert told == wanted, record["id"]


async def test_a_gemini_client_is_told_all_that_cohere_said(tmp_path: Path) -> None:
    async with before(tmp_path) as (client, provider, _):
        for record in answered():
            provider.script[:] = [replayed(record, at_random(record))]
            came = await client.post(gemini.asked_path(record, "sse"), json=gemini.ASKED)
            assert came.status_code == 200, (record["id"], came.text)
            wanted = expected(record)
            del wanted.cited
            assert gemini.of_gemini(came, record, "sse") == wanted, record["id"]


async def test_a_conversation_sends_back_what_cohere_said(tmp_path: Path) -> None:
    """The plan is a plan again, the calls are as they came."""
    called = [one for one in answered() if "tool_call" in one["features"] and not one["streaming"]]
    async with before(tmp_path) as (client, provider, _):
        for record in called:
            provider.script[:] = [replayed(record, whole(record))]
            first = await client.post("/v1/chat/completions", json=CHAT)
            said = first.json()["choices"][0]["message"]
            results = [
                {"role": "tool", "tool_call_id": call["id"], "content": "r"} for call in said["tool_calls"]
            ]
            asks = CHAT | {"messages": [*CHAT["messages"], said, *results]}  # type: ignore[misc]
            await client.post("/v1/chat/completions", json=asks)
            message = orjson.loads(answer_of(record))["message"]
            assert provider.asked[-1].json["messages"][1] == message, record["id"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_a_key_of_ours_that_cohere_refuses_is_our_failure(tmp_path: Path, path: str) -> None:
    [record] = [one for one in records() if one["response"]["status"] == 401]
    async with before(tmp_path) as (client, provider, _):
        provider.script[:] = [replayed(record, whole(record))]
        came = await client.post(path, json=CHAT)
        assert came.status_code == 502
        assert "Incorrect API key" not in came.text


async def test_a_refusal_of_cohere_is_told_in_the_clients_words(tmp_path: Path) -> None:
    too_long = {"id": "i", "message": "too many tokens", "error_type": "TOO_MANY_TOKENS"}
    async with before(tmp_path) as (client, provider, _):
        provider.script[:] = [answer(too_long, 400)]
        chat = await client.post("/v1/chat/completions", json=CHAT)
        assert (chat.status_code, chat.json()["error"]) == (
            400,
            {
                "message": "too many tokens",
                "type": "invalid_request_error",
                "param": None,
                "code": "TOO_MANY_TOKENS",
            },
        )
        messages = await client.post("/v1/messages", json=CHAT)
        assert messages.json()["error"] == {"type": "invalid_request_error", "message": "too many tokens"}


async def test_a_generation_that_fails_in_its_stream_ends_in_an_error(tmp_path: Path) -> None:
    said = event(type="content-delta", index=0, delta={"message": {"content": {"text": "he"}}})
    usage = {"tokens": {"input_tokens": 7, "output_tokens": 3}, "billed_units": {"input_tokens": 1}}
    failed = {"finish_reason": "ERROR", "error": "bad tool", "error_type": "INVALID_TOOL_GENERATION"}
    end = event(type="message-end", delta={**failed, "usage": usage})
    async with before(tmp_path) as (client, provider, running):
        for path in ("/v1/chat/completions", "/v1/messages"):
            heard, lines = asyncio.Event(), []
            provider.script[:] = [stream(START, said, heard, end)]
            async with client.stream("POST", path, json=CHAT | {"stream": True}) as came:
                async for line in came.aiter_lines():
                    heard.set()
                    lines.append(line)
            error = gemini.events("\n".join(lines))[-1]["error"]
            assert error["message"] == "bad tool"
            assert error.get("code", "") in ("INVALID_TOOL_GENERATION", "")
            assert "data: [DONE]" not in lines
        assert (await running.usage())["total"]["prompt_tokens"] == 2 * 7, "it is charged all the same"


async def test_a_generation_that_fails_at_once_is_no_answer(tmp_path: Path) -> None:
    end = event(type="message-end", delta={"finish_reason": "ERROR", "error": "bad tool"})
    async with before(tmp_path) as (client, provider, _):
        provider.script[:] = [stream(START + end)]
        came = await client.post("/v1/chat/completions", json=CHAT | {"stream": True})
        assert (came.status_code, came.json()["error"]["message"]) == (500, "bad tool")


@pytest.mark.parametrize("cut", [1, 3, 20])
async def test_a_stream_that_is_cut_ends_in_an_error(tmp_path: Path, cut: int) -> None:
    events = per_event(streams()[0])[:-2]  # all but the last event and [DONE]
    async with before(tmp_path) as (client, provider, _):
        provider.script[:] = [stream(*events[:cut], end=False)]
        came = await client.post("/v1/chat/completions", json=CHAT | {"stream": True})
        assert "error" in gemini.events(came.text)[-1]


async def test_usage_is_what_the_model_read_and_wrote_and_tells_what_is_billed(tmp_path: Path) -> None:
    [record] = [one for one in answered() if one["id"].endswith("01ae14c5d2")]
    async with before(tmp_path) as (client, provider, running):
        provider.script[:] = [replayed(record, whole(record))]
        came = await client.post("/v1/chat/completions", json=CHAT)
        usage = came.json()["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (34 + 259, 56)
        assert usage["prompt_tokens_details"] == {"cached_tokens": 0, "image_tokens": 259}
        assert usage["billed_units"] == {"input_tokens": 267, "output_tokens": 52}
        total = (await running.usage())["total"]
        assert (total["prompt_tokens"], total["completion_tokens"], total["estimated"]) == (293, 56, 0)


async def test_a_client_of_responses_is_told_what_cohere_said(tmp_path: Path) -> None:
    whole_ones = [one for one in answered() if not one["streaming"]]
    async with before(tmp_path) as (client, provider, _):
        for record in whole_ones:
            provider.script[:] = [replayed(record, whole(record))]
            came = await client.post(
                "/v1/responses", json={"model": "command-x", "input": "hi", "store": False}
            )
            assert came.status_code == 200, (record["id"], came.text)
            output, wanted = came.json()["output"], expected(record)
            texts = [part["text"] for item in output for part in item.get("content", [])]
            assert "".join(texts) == wanted.text
            calls = [[one["call_id"], one["name"]] for one in output if one["type"] == "function_call"]
            assert calls == [call[:2] for call in wanted.calls], record["id"]
            assert came.json()["usage"]["input_tokens"] == wanted.usage["prompt"]


async def test_what_of_cohere_has_no_route_here_is_a_404_and_goes_nowhere(tmp_path: Path) -> None:
    """The first version's chat, generate, embed and tokenize, and transcriptions of the second."""
    apis = ("chat v1", "generate", "embed", "tokenize", "audio.transcriptions")
    others = [one for one in recorded("cohere", *apis) if not is_embed(one)]
    assert len(others) == 10
    async with before(tmp_path) as (client, provider, _):
        for record in others:
            path = httpx.URL(record["request"]["url"]).path
            came = await client.post(path, json=record["request"].get("body") or {})
            assert (came.status_code, came.json()["error"]["code"]) == (404, "route_not_found"), path
        assert not provider.asked
