"""Chat and Anthropic's clients before an endpoint of SageMaker's. No exchange with one is on record: what
OpenAI-compatible servers were recorded to say stands in, in the frames of Amazon's API model."""

import base64
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from tests.contract import aws
from tests.contract import test_messages as anthropic
from tests.contract.recorded import Chunking, Record, answer_of, at_random, recorded, replayed, whole
from tests.contract.test_bedrock import error_of
from tests.gateway.wire import frames
from tests.running import ACCESS, gateway
from tests.scripted import Provider, answer

ENVIRON = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
CHAT: dict[str, Any] = {
    "model": "my-llama",
    "messages": [{"role": "user", "content": "hi"}],
    "max_tokens": 50,
}


@asynccontextmanager
async def before(tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Provider]]:
    async with Provider() as provider:
        text = f"""
kind: providers
providers:
  it: {{type: sagemaker, region: eu-central-1, endpoint: "{provider.url.removesuffix("/v1")}"}}
---
kind: models
models:
  "*": {{targets: [{{provider: it}}], retry: {{attempts: 1}}}}
  safe: {{targets: [{{provider: it, model: first}}, {{provider: it, model: second}}], retry: {{attempts: 1}}}}
---
{ACCESS}
"""
        async with gateway(tmp_path, text, ENVIRON) as running, running.client() as client:
            yield client, provider


def part(payload: bytes) -> bytes:
    return frames.message(
        payload, frames.text(":event-type", "PayloadPart") + frames.text(":message-type", "event")
    )


def framed(record: Record) -> Record:
    """A recorded stream as the endpoint would send it: cut anywhere, a piece in each frame."""
    answer, dice, at, raw = answer_of(record), random.Random(record["id"]), 0, b""
    while at < len(answer):
        size = dice.randint(1, 300)
        raw += part(answer[at : at + size])
        at += size
    response = {
        "status": 200,
        "headers": {"content-type": aws.EVENT_STREAM},
        "body_base64": base64.b64encode(raw),
    }
    return record | {"response": response}


def said() -> list[Record]:
    """Answers of one choice, by servers that end their streams as OpenAI does."""
    every = recorded("openai", "chat.completions") + recorded("together", "chat.completions")
    found = [
        one
        for one in every
        if one["response"]["status"] == 200 and (one["request"]["body"] or {}).get("n", 1) == 1
    ]
    found = [one for one in found if not one["streaming"] or answer_of(one).endswith(b"data: [DONE]\n\n")]
    assert len(found) >= 100
    return found


@pytest.mark.parametrize("chunking", [whole, at_random])
async def test_what_the_container_says_comes_through_byte_for_byte(
    tmp_path: Path, chunking: Chunking
) -> None:
    streamed = 0
    async with before(tmp_path) as (client, provider):
        for record in said()[::4]:
            if chunking is not whole and not record["streaming"]:
                continue
            played = framed(record) if record["streaming"] else record
            provider.script[:] = [replayed(played, chunking(played))]
            asks = CHAT | {"stream": record["streaming"]}
            asks |= {"stream_options": {"include_usage": True}} if record["streaming"] else {}
            came = await client.post("/v1/chat/completions", json=asks)
            assert came.content == answer_of(record), record["id"]
            asked = provider.asked.pop()
            operation = "invocations-response-stream" if record["streaming"] else "invocations"
            assert asked.line == f"POST /endpoints/my-llama/{operation} HTTP/1.1"
            assert asked.json == {name: value for name, value in asks.items() if name != "model"}
            signature = aws.signature(asked, "secret", "sagemaker")
            assert signature == asked.headers["authorization"].rpartition("Signature=")[2]
            streamed += record["streaming"]
    assert streamed >= 10


async def test_a_client_of_anthropics_is_told_the_same_words(tmp_path: Path) -> None:
    async with before(tmp_path) as (client, provider):
        for record in [one for one in said() if one["streaming"]][::4]:
            played = framed(record)
            provider.script[:] = [replayed(played, at_random(played))]
            came = await client.post("/v1/messages", json=CHAT | {"stream": True})
            chunks = anthropic.events(answer_of(record).decode())
            deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
            names = [call["function"]["name"] for delta in deltas for call in delta.get("tool_calls") or []
                     if call["function"].get("name")]  # fmt: skip
            heard = anthropic.of_stream(came.text)
            assert heard.text == "".join(
                delta.get("content") or delta.get("refusal") or "" for delta in deltas
            )
            assert [name for _, name, _ in heard.calls] == names, record["id"]


async def test_a_container_that_refuses_or_breaks_is_told_in_the_clients_words(tmp_path: Path) -> None:
    own = {"object": "error", "message": "the prompt is too long", "type": "BadRequestError", "code": 400}
    told = {
        "Message": "Received client error (400) from primary, in account 123456789012",
        "OriginalStatusCode": 400,
    }
    async with before(tmp_path) as (client, provider):
        provider.script[:] = [answer(told | {"OriginalMessage": orjson.dumps(own).decode()}, 424)]
        came = await client.post("/v1/chat/completions", json=CHAT)
        assert (came.status_code, came.json()["error"]["message"]) == (400, "the prompt is too long")
        provider.script[:] = [answer(told, 424)]
        came = await client.post("/v1/messages", json=CHAT)
        assert came.json()["error"]["message"] == "Received client error (400) from primary, in account ***"
        record = framed(next(one for one in said() if one["streaming"]))
        broke = frames.exception("ModelStreamError", b'{"Message":"the container broke"}')
        provider.script[:] = [replayed(record, [aws.pieces(record)[0], *aws.pieces(record)[1:4], broke])]
        came = await client.post("/v1/chat/completions", json=CHAT | {"stream": True})
        assert error_of(came.text)["message"] == "ModelStreamError: the container broke"
        cut = [*aws.pieces(record)[:4], aws.pieces(record)[4][:-1]]
        provider.script[:] = [replayed(record, cut)]
        came = await client.post("/v1/chat/completions", json=CHAT | {"stream": True})
        assert "before its end" in error_of(came.text)["message"]
        assert (await client.post("/v1/chat/completions", json=CHAT | {"model": "a/b"})).status_code == 400


async def test_a_container_that_fails_leads_on_to_the_next_target(tmp_path: Path) -> None:
    record = next(one for one in said() if not one["streaming"])
    failed = {"Message": "Received server error (503) from primary", "OriginalStatusCode": 503}
    async with before(tmp_path) as (client, provider):
        provider.script[:] = [answer(failed, 424), replayed(record, whole(record))]
        came = await client.post("/v1/chat/completions", json=CHAT | {"model": "safe"})
        assert came.content == answer_of(record)
        assert [asked.line.split("/")[2] for asked in provider.asked] == ["first", "second"]
