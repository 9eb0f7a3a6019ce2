"""Clients of Anthropic's before Claude on Bedrock: nothing of a call or an answer is lost on the way."""

import base64
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import MessageParam

from tests.contract import aws
from tests.contract import test_messages as anthropic
from tests.contract.recorded import (
    Chunking,
    Record,
    answer_of,
    at_random,
    byte_by_byte,
    recorded,
    replayed,
    whole,
)
from tests.contract.test_bedrock import before, error_of
from tests.gateway.wire import frames
from tests.running import KEY
from tests.scripted import answer

CLAUDE = "eu.anthropic.claude-x-v1:0"
PATH = "/model/eu.anthropic.claude-x-v1%3A0"
HI: list[MessageParam] = [{"role": "user", "content": "hi"}]


def invoked() -> list[Record]:
    """What Claude was asked on Bedrock, in messages."""
    every = recorded("bedrock", "invoke", "invoke-with-response-stream")
    found = [one for one in every if "anthropic.claude" in one["request"]["url"]]
    found = [one for one in found if "messages" in one["request"]["body"]]
    assert len(found) >= 15
    return [aws.as_streamed(one) if one["streaming"] else one for one in found]


def framed(record: Record) -> Record:
    """A stream of Anthropic's as Bedrock would send it: an event in each frame."""
    told = [orjson.dumps(event) for event in anthropic.events(answer_of(record).decode())]
    raw = b"".join(frames.event("chunk", bytes=base64.b64encode(one).decode(), p="abcd") for one in told)
    headers = {"content-type": aws.EVENT_STREAM}
    response = record["response"] | {
        "headers": headers,
        "body_text": "",
        "body_base64": base64.b64encode(raw),
    }
    return record | {"response": response}


def unframed(record: Record) -> list[dict[str, Any]]:
    chunks = [orjson.loads(payload) for _, payload in aws.frames(answer_of(record))]
    return [orjson.loads(base64.b64decode(chunk["bytes"])) for chunk in chunks]


def named(text: str) -> list[str]:
    return [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]


@pytest.mark.parametrize("chunking", [whole, aws.pieces, at_random, byte_by_byte])
async def test_what_was_recorded_there_is_asked_and_told_again(tmp_path: Path, chunking: Chunking) -> None:
    async with before(tmp_path) as (client, provider):
        for record in invoked():
            if chunking is not whole and not record["streaming"]:
                continue
            path = unquote(record["request"]["url"].partition(".com")[2])
            model, operation = path.removeprefix("/model/").rsplit("/", 1)
            body = {name: value for name, value in record["request"]["body"].items() if value is not None}
            provider.script[:] = [replayed(record, chunking(record))]
            asks = body | {"model": model, "stream": operation == "invoke-with-response-stream"}
            came = await client.post("/v1/messages", json=asks, headers={"anthropic-version": "2023-06-01"})
            assert came.status_code == 200, (record["id"], came.text)
            asked = provider.asked.pop()
            assert unquote(asked.line) == f"POST {path} HTTP/1.1"
            assert asked.json == body, record["id"]
            assert "anthropic-version" not in asked.headers
            if record["streaming"]:
                events = unframed(record)
                assert anthropic.events(came.text) == events, record["id"]
                assert named(came.text) == [event["type"] for event in events]
            else:
                assert came.content == answer_of(record), record["id"]


@pytest.mark.parametrize("chunking", [whole, at_random])
async def test_all_that_anthropic_itself_was_recorded_to_say_would_come_through(
    tmp_path: Path, chunking: Chunking
) -> None:
    """Signed and encrypted thoughts, citations, tools that the provider runs, caches: as from Anthropic."""
    seen = b""
    async with before(tmp_path) as (client, provider):
        for record in anthropic.answered():
            body = orjson.loads(anthropic.sent(record)) | {"model": CLAUDE}
            if b"file_" in anthropic.sent(record):
                continue  # files are another provider's
            stream = bool(body.get("stream"))
            if chunking is not whole and not stream:
                continue
            played = framed(record) if stream else record
            provider.script[:] = [replayed(played, chunking(played))]
            betas = ["context-management-2025-06-27", "compact-2026-01-12"]
            headers = {"anthropic-beta": ", ".join(betas)}
            came = await client.post("/v1/messages", json=body, headers=headers)
            asked = provider.asked.pop()
            operation = "invoke-with-response-stream" if stream else "invoke"
            assert asked.line == f"POST {PATH}/{operation} HTTP/1.1"
            kept = {name: value for name, value in body.items() if name not in ("model", "stream")}
            assert asked.json == {"anthropic_version": "bedrock-2023-05-31", **kept, "anthropic_beta": betas}
            if stream:
                events = anthropic.events(answer_of(record).decode())
                assert anthropic.events(came.text) == events, record["id"]
                assert named(came.text) == [event["type"] for event in events]
            else:
                assert came.content == answer_of(record), (record["id"], came.text)
            seen += asked.body + came.content
    words = (b'"signature"', b'"redacted_thinking"', b'"citations"', b'"cache_control"')
    assert chunking is not whole or all(word in seen for word in words)


async def test_the_official_sdk_puts_a_stream_together(tmp_path: Path) -> None:
    records = [one for one in invoked() if one["streaming"]]
    signed = next(one for one in anthropic.streams() if b"signature_delta" in answer_of(one))
    async with before(tmp_path) as (client, provider):
        url = str(client.base_url).rstrip("/")
        async with AsyncAnthropic(base_url=url, api_key=KEY, max_retries=0) as sdk:
            for record in (*records, framed(signed)):
                provider.script[:] = [replayed(record, at_random(record))]
                async with sdk.messages.stream(model=CLAUDE, max_tokens=9, messages=HI) as events:
                    message = await events.get_final_message()
                told = anthropic.of_blocks(message.to_dict(mode="json", warnings=False))
                said = unframed(record)[0]["message"]
                assert (message.id, message.model) == (said["id"], said["model"])
                if record["id"] == signed["id"]:
                    assert told == anthropic.expected(signed)


async def test_refusals_and_exceptions_are_told_in_anthropics_envelope(tmp_path: Path) -> None:
    [refused] = [
        one for one in recorded("bedrock", "invoke-with-response-stream") if one["response"]["status"] == 400
    ]
    stream = next(one for one in invoked() if one["streaming"])
    threw = frames.exception("throttlingException", b'{"message":"Too many requests."}')
    asks = {"model": CLAUDE, "max_tokens": 9, "messages": HI, "stream": True}
    async with before(tmp_path) as (client, provider):
        provider.script[:] = [replayed(refused, whole(refused))]
        came = await client.post("/v1/messages", json=asks)
        said = {"type": "invalid_request_error", "message": orjson.loads(answer_of(refused))["message"]}
        assert (came.status_code, came.json()) == (400, {"type": "error", "error": said})
        provider.script[:] = [replayed(stream, [*aws.pieces(stream)[:2], threw])]
        error = error_of((await client.post("/v1/messages", json=asks)).text)
        assert (error["type"], error["message"]) == (
            "rate_limit_error",
            "throttlingException: Too many requests.",
        )
        provider.script[:] = [replayed(stream, [threw])]
        came = await client.post("/v1/messages", json=asks)
        assert (came.status_code, came.json()["error"]["type"]) == (429, "rate_limit_error")
        provider.script[:] = [replayed(stream, aws.pieces(stream)[:-2])]
        assert "before its end" in error_of((await client.post("/v1/messages", json=asks)).text)["message"]


async def test_tokens_are_counted_for_the_model_of_a_profile(tmp_path: Path) -> None:
    counted = [
        one for one in recorded("bedrock", "count_tokens") if "invokeModel" in one["request"]["body"]["input"]
    ]
    assert len(counted) >= 3
    async with before(tmp_path) as (client, provider):
        url = str(client.base_url).rstrip("/")
        async with AsyncAnthropic(base_url=url, api_key=KEY, max_retries=0) as sdk:
            provider.script[:] = [answer({"inputTokens": 18})]
            assert (await sdk.messages.count_tokens(model=CLAUDE, messages=HI)).input_tokens == 18
        assert provider.asked.pop().line == "POST /model/anthropic.claude-x-v1%3A0/count-tokens HTTP/1.1"
        for record in counted:
            body = orjson.loads(base64.b64decode(record["request"]["body"]["input"]["invokeModel"]["body"]))
            provider.script[:] = [replayed(record, whole(record))]
            came = await client.post("/v1/messages/count_tokens", json={"model": CLAUDE, **body})
            told = orjson.loads(answer_of(record))
            asked = orjson.loads(base64.b64decode(provider.asked.pop().json["input"]["invokeModel"]["body"]))
            assert asked == body
            if record["response"]["status"] == 200:
                assert came.json() == {"input_tokens": told["inputTokens"]}
            else:
                assert (came.status_code, came.json()["error"]["message"]) == (400, told["message"])
