"""Gemini and Claude models at Vertex AI, opened by tokens of a service account."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import orjson
import pytest

from gateway.upstream import credentials
from tests.contract import test_gemini as gemini
from tests.contract import test_messages as anthropic
from tests.contract.recorded import answer_of, at_random, recorded, replayed, whole
from tests.gateway.providers.vertex.accounts import account
from tests.running import ACCESS, gateway
from tests.scripted import Provider, answer

TOKEN = {"access_token": "ya29.short-lived", "expires_in": 3599}
PROJECT = "/v1beta1/projects/p/locations/global/publishers"


@asynccontextmanager
async def before(
    tmp_path: Path, *, status: int = 200
) -> AsyncIterator[tuple[httpx.AsyncClient, Provider, Provider]]:
    """A client of a gateway before Vertex, and the endpoint where it gets its tokens."""
    async with Provider() as provider, Provider([answer(TOKEN, status)]) as tokens:
        secret = tmp_path / "sa.json"
        secret.write_text(account(token_uri=tokens.url.removesuffix("/v1") + "/token"))
        text = f"""
kind: providers
providers:
  it:
    type: vertex
    project: p
    location: global
    base_url: "{provider.url.removesuffix("/v1")}/v1beta1"
    credentials: "${{file:{secret}}}"
---
kind: models
models: {{"*": {{targets: [{{provider: it}}], retry: {{attempts: 1}}}}}}
---
{ACCESS}
"""
        async with gateway(tmp_path, text) as running, running.client() as client:
            yield client, provider, tokens


async def test_what_was_asked_of_gemini_at_vertex_passes_as_it_is(tmp_path: Path) -> None:
    chosen = recorded("vertex", "generateContent", "streamGenerateContent", "countTokens")
    assert len(chosen) >= 70
    async with before(tmp_path) as (client, provider, tokens):
        for record in chosen:
            provider.script[:] = [replayed(record, at_random(record))]
            path = gemini.path_of(record)
            body = orjson.dumps(record["request"]["body"])
            came = await client.post(path, content=body)
            asked = provider.asked.pop()
            assert asked.line == f"POST {PROJECT}/google{path.removeprefix('/v1beta')} HTTP/1.1"
            assert (asked.body, came.content) == (body, gemini.told_of(record)), record["id"]
            assert asked.headers["authorization"] == "Bearer ya29.short-lived"
        assert len(tokens.asked) == 1, "one token for all"


async def test_claude_at_vertex_answers_as_anthropic_does(tmp_path: Path) -> None:
    """No exchange with Claude on Vertex is on record: Anthropic's own stand in, as Google documents the bodies."""
    chosen = anthropic.answered()[::3]
    async with before(tmp_path) as (client, provider, _):
        for record in chosen:
            provider.script[:] = [replayed(record, whole(record))]
            body = orjson.loads(anthropic.sent(record)) | {"model": "claude-x"}
            if b"file_" in anthropic.sent(record):
                continue  # files are another provider's
            came = await client.post("/v1/messages", json=body)
            assert came.content == answer_of(record), (record["id"], came.text)
            asked = provider.asked.pop()
            method = "streamRawPredict" if body.get("stream") else "rawPredict"
            assert asked.line == f"POST {PROJECT}/anthropic/models/claude-x:{method} HTTP/1.1"
            del body["model"]
            assert asked.json == {"anthropic_version": "vertex-2023-10-16", **body}


async def test_a_chat_client_reaches_claude_and_gemini_at_vertex(tmp_path: Path) -> None:
    async with before(tmp_path) as (client, provider, _):
        record = anthropic.answered()[0]
        provider.script[:] = [replayed(record, whole(record))]
        asks = gemini.CHAT | {"model": "claude-x", "stream": record["streaming"]}
        assert (await client.post("/v1/chat/completions", json=asks)).status_code == 200
        assert "/anthropic/models/claude-x:" in provider.asked.pop().line
        record = gemini.answered()[0]
        provider.script[:] = [replayed(record, whole(record))]
        came = await client.post("/v1/chat/completions", json=gemini.CHAT)
        assert gemini.of_completion(came.json()) == gemini.expected(record)


async def test_without_a_token_the_operator_is_told_and_the_client_that_it_is_not_its_fault(
    tmp_path: Path,
) -> None:
    async with before(tmp_path, status=403) as (client, provider, _):
        came = await client.post("/v1/chat/completions", json=gemini.CHAT)
        assert (came.status_code, came.json()["error"]["code"]) == (502, "upstream_error")
        assert "no credential to show to the provider" in came.text
        assert "sa@p" not in came.text, "whose account it is concerns no client"
        assert not provider.asked


async def test_a_token_that_is_refused_is_renewed_once_and_the_call_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "FRESH", 0.0)
    refused = answer({"error": {"code": 401, "message": "expired", "status": "UNAUTHENTICATED"}}, 401)
    said = {"candidates": [{"content": {"parts": [{"text": "yes"}]}, "finishReason": "STOP"}]}
    async with before(tmp_path) as (client, provider, tokens):
        tokens.script[:] = [answer(TOKEN), answer(TOKEN | {"access_token": "ya29.another"})]
        provider.script[:] = [refused, answer(said)]
        came = await client.post("/v1/chat/completions", json=gemini.CHAT)
        assert (came.status_code, came.headers["x-gateway-attempts"]) == (200, "2")
        assert [one.headers["authorization"][-8:] for one in provider.asked] == ["rt-lived", ".another"]
        provider.script[:] = [refused]
        came = await client.post("/v1/chat/completions", json=gemini.CHAT)
        assert (came.status_code, came.headers["x-gateway-attempts"]) == (502, "2")
