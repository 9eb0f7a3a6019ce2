"""Exchanges recorded at Amazon Bedrock: what chat clients and Anthropic's clients are told of them."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from gateway.wire.eventstream import Splitter
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
from tests.gateway.wire.frames import exception
from tests.running import ACCESS, gateway
from tests.scripted import Act, Asked, Provider

CHAT: dict[str, Any] = {
    "model": "m.x-v1:0",
    "messages": [{"role": "user", "content": "hi"}],
    "max_tokens": 50,
}
NOTHING = {"prompt_tokens": 0, "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens": 0}


def conversed() -> list[Record]:
    found = recorded("bedrock", "converse", "converse-stream")
    assert len(found) >= 142
    return [aws.as_streamed(one) if one["streaming"] else one for one in found]


def answered() -> list[Record]:
    return [one for one in conversed() if one["response"]["status"] == 200]


def streams() -> list[Record]:
    found = [one for one in answered() if one["streaming"]]
    assert len(found) >= 23
    return found


def per_event(record: Record) -> list[bytes]:
    return aws.pieces(record)


@asynccontextmanager
async def before(
    tmp_path: Path, how: str = "api_key: sk-ours-alone", environ: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[httpx.AsyncClient, Provider]]:
    """A client of a gateway before Bedrock."""
    async with Provider() as provider:
        text = f"""
kind: providers
providers:
  it: {{type: bedrock, region: eu-central-1, endpoint: "{provider.url.removesuffix("/v1")}", {how}}}
---
kind: models
models: {{"*": {{targets: [{{provider: it}}], retry: {{attempts: 1}}}}}}
---
{ACCESS}
"""
        async with gateway(tmp_path, text, environ) as running, running.client() as client:
            yield client, provider


def test_amazons_own_parser_reads_the_same_messages_whatever_the_chunks() -> None:
    apis = ("converse-stream", "invoke-with-response-stream")
    every = [one for one in recorded("bedrock", *apis) if one["streaming"]]
    assert len(every) >= 30
    for record in every:
        theirs = aws.frames(answer_of(record))
        for chunking in (whole, per_event, at_random, byte_by_byte):
            splitter = Splitter()
            ours = [message for piece in chunking(record) for message in splitter.feed(piece)]
            assert [(dict(one.headers), one.payload) for one in ours] == theirs, record["id"]
            assert splitter.held == 0


def of_completion(completion: dict[str, Any]) -> aws.Heard:
    told = aws.Heard()
    message = completion["choices"][0]["message"]
    details = [{"signature": "", **one} for one in message.get("reasoning_details", [])]
    message["reasoning_details"] = details
    vars(told).update(vars(anthropic.of_completion({"usage": NOTHING} | completion)))
    told.cited = message.get("annotations", [])
    return told


def of_chunks(text: str) -> aws.Heard:
    told = aws.Heard()
    vars(told).update(vars(anthropic.of_chunks(text)))
    told.cited = [
        one
        for chunk in anthropic.events(text)
        for choice in chunk["choices"]
        for one in choice["delta"].get("annotations", [])
    ]
    return told


@pytest.mark.parametrize("chunking", [whole, per_event, at_random, byte_by_byte])
async def test_a_chat_client_is_told_all_that_converse_said(tmp_path: Path, chunking: Chunking) -> None:
    """Text, thoughts and their signatures, calls with ids and arguments, sources, reason and usage."""
    async with before(tmp_path) as (client, provider):
        for record in answered() if chunking is whole else streams():
            provider.script[:] = [replayed(record, chunking(record))]
            asks = CHAT | {"stream": record["streaming"], "stream_options": {"include_usage": True}}
            came = await client.post("/v1/chat/completions", json=asks)
            assert came.status_code == 200, (record["id"], came.text)
            operation = "converse-stream" if record["streaming"] else "converse"
            asked = provider.asked.pop()
            assert asked.line == f"POST /model/m.x-v1%3A0/{operation} HTTP/1.1"
            assert asked.headers["authorization"] == "Bearer sk-ours-alone"
            told = of_chunks(came.text) if record["streaming"] else of_completion(came.json())
            assert told == aws.expected(record), record["id"]


def stopped_and_cited(came: httpx.Response, *, stream: bool) -> tuple[str, list[dict[str, Any]]]:
    """The stop reason and the sources of Anthropic's message, or of its stream."""
    if not stream:
        message = came.json()
        cited = [one for block in message["content"] for one in block.get("citations", [])]
        return message["stop_reason"], cited
    events = anthropic.events(came.text)
    [stopped] = [event["delta"]["stop_reason"] for event in events if event["type"] == "message_delta"]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    return stopped, [delta["citation"] for delta in deltas if delta["type"] == "citations_delta"]


@pytest.mark.parametrize("chunking", [whole, per_event, at_random, byte_by_byte])
async def test_a_client_of_anthropics_is_told_all_that_converse_said(
    tmp_path: Path, chunking: Chunking
) -> None:
    async with before(tmp_path) as (client, provider):
        for record in answered() if chunking is whole else streams():
            provider.script[:] = [replayed(record, chunking(record))]
            stream, told = record["streaming"], aws.Heard()
            came = await client.post("/v1/messages", json=CHAT | {"stream": stream})
            assert came.status_code == 200, (record["id"], came.text)
            heard = anthropic.of_stream(came.text) if stream else anthropic.of_blocks(came.json())
            vars(told).update(vars(heard))
            stopped, told.cited = stopped_and_cited(came, stream=stream)
            said = aws.stop_reason(record)
            assert stopped == {"guardrail_intervened": "refusal"}.get(said, said), record["id"]
            told.reason = aws.REASONS[said]
            assert told == aws.expected(record), record["id"]


async def test_a_refusal_of_bedrock_is_told_in_the_clients_words(tmp_path: Path) -> None:
    refused = [one for one in conversed() if one["response"]["status"] == 400]
    assert len(refused) >= 14
    async with before(tmp_path) as (client, provider):
        for record in refused:
            said = orjson.loads(answer_of(record))["message"]
            for path in ("/v1/chat/completions", "/v1/messages"):
                provider.script[:] = [replayed(record, whole(record))]
                came = await client.post(path, json=CHAT)
                error = came.json()["error"]
                told = (came.status_code, error["message"], error["type"])
                assert told == (400, said, "invalid_request_error")


async def test_a_key_of_ours_that_bedrock_refuses_is_our_failure(tmp_path: Path) -> None:
    [record] = [one for one in recorded("bedrock", "invoke") if one["response"]["status"] == 403]
    async with before(tmp_path) as (client, provider):
        provider.script[:] = [replayed(record, whole(record))]
        came = await client.post("/v1/chat/completions", json=CHAT)
        assert (came.status_code, came.json()["error"]["code"]) == (502, "upstream_error")


@pytest.mark.parametrize("name", ["x?a=1", "x\r\nx-evil: 1", "x%0D%0Ax-evil: 1", "..", "a/../../b", "x#y"])
async def test_a_models_name_cannot_write_bedrocks_path_or_head(tmp_path: Path, name: str) -> None:
    async with before(tmp_path) as (client, provider):
        for path in ("/v1/chat/completions", "/v1/messages"):
            came = await client.post(path, json=CHAT | {"model": name})
            assert came.status_code == 400, path
            assert "no model of Bedrock's" in came.json()["error"]["message"]
        assert not provider.asked


def error_of(text: str) -> dict[str, Any]:
    """That of the last event, and there is no [DONE] after it."""
    error: dict[str, Any] = anthropic.events(text)[-1]["error"]
    assert "[DONE]" not in text
    return error


def begun(first: bytes, heard: asyncio.Event, broken: bytes) -> Act:
    """A stream whose first message has been heard by the client before the rest comes."""

    async def act(asked: Asked, writer: asyncio.StreamWriter) -> None:
        head = (
            f"HTTP/1.1 200 OK\r\ncontent-type: {aws.EVENT_STREAM}\r\ntransfer-encoding: chunked\r\n\r\n"
        ).encode()
        writer.write(b"%b%x\r\n%b\r\n" % (head, len(first), first))
        await heard.wait()
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(broken), broken))

    return act


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_a_stream_that_is_corrupted_or_cut_ends_in_an_error(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bit turned over in any message after the first, and a cut at any place before it says why it stops."""
    for bound in ("CONSECUTIVE", "ENOUGH"):  # so many in a row would open the circuit
        monkeypatch.setattr(f"gateway.upstream.breaker.{bound}", 1000)
    record = next(one for one in streams() if len(aws.pieces(one)) >= 8)
    first, *rest = aws.pieces(record)
    raw, dice = b"".join(rest), random.Random(1)
    meant = len(raw) - len(rest[-1]) - len(rest[-2])
    async with before(tmp_path) as (client, provider):
        for _ in range(25):
            place = dice.randrange(1, meant)
            turned = raw[:place] + bytes([raw[place] ^ 1 << dice.randrange(8)]) + raw[place + 1 :]
            for broken in (turned, raw[:place]):
                heard, text = asyncio.Event(), ""
                provider.script[:] = [begun(first, heard, broken)]
                async with client.stream("POST", path, json=CHAT | {"stream": True}) as came:
                    async for piece in came.aiter_text():
                        heard.set()
                        text += piece
                error = error_of(text)
                assert error["type"] == "api_error"
                assert "stream broke" in error["message"] or "before its end" in error["message"]


async def test_an_exception_in_a_stream_is_told_and_before_the_first_event_is_a_status(
    tmp_path: Path,
) -> None:
    record = streams()[0]
    threw = exception("throttlingException", b'{"message":"Too many requests, please wait."}')
    begins = [*aws.pieces(record)[:2], threw]
    async with before(tmp_path) as (client, provider):
        provider.script[:] = [replayed(record, begins)]
        came = await client.post("/v1/chat/completions", json=CHAT | {"stream": True})
        error = error_of(came.text)
        assert error["message"] == "throttlingException: Too many requests, please wait."
        assert (error["type"], error["code"]) == ("rate_limit_error", 429)
        provider.script[:] = [replayed(record, begins)]
        came = await client.post("/v1/messages", json=CHAT | {"stream": True})
        assert error_of(came.text)["type"] == "rate_limit_error"
        for path, named in (("chat/completions", "rate_limit_error"), ("messages", "rate_limit_error")):
            provider.script[:] = [replayed(record, [threw])]
            came = await client.post(f"/v1/{path}", json=CHAT | {"stream": True})
            assert (came.status_code, came.json()["error"]["type"]) == (429, named)
            assert came.json()["error"]["message"].endswith("Too many requests, please wait.")
        provider.script[:] = [replayed(record, [threw])]
        came = await client.post(
            "/v1beta/models/smart:streamGenerateContent?alt=sse",
            json={"contents": [{"parts": [{"text": "hi"}]}]},
        )
        assert (came.status_code, came.json()["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
        provider.script[:] = [replayed(record, [threw])]
        came = await client.post("/v1/responses", json={"model": "smart", "input": "hi", "stream": True})
        assert (came.status_code, came.json()["error"]["type"]) == (429, "rate_limit_error")


async def test_keys_of_the_environment_sign_each_request(tmp_path: Path) -> None:
    record = next(one for one in answered() if not one["streaming"])
    environ = {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "tok",
    }
    async with before(tmp_path, "profile: ''", environ) as (client, provider):
        provider.script[:] = [replayed(record, whole(record))]
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
        asked = provider.asked.pop()
        assert asked.headers["x-amz-security-token"] == "tok"
        assert aws.signature(asked, "secret") == asked.headers["authorization"].rpartition("Signature=")[2]


async def test_without_keys_the_operator_is_told_and_the_client_that_it_is_not_its_fault(
    tmp_path: Path,
) -> None:
    environ = {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
    async with before(tmp_path, "profile: ''", environ) as (client, provider):
        came = await client.post("/v1/chat/completions", json=CHAT)
        assert (came.status_code, came.json()["error"]["code"]) == (502, "upstream_error")
        assert not provider.asked
