"""Exchanges recorded at OpenAI and others that speak Responses: untouched between equals."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

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

SPEAKERS = ("openai", "xai", "azure", "deepseek", "bedrock", "openrouter")
NAMED = re.compile(
    rb'"((?:resp|file|conv|vs|cntr|rs|msg|fc|ws|tsc|tso)_[\w-]+|file-[\w-]+)"'
)  # ids of a team's objects


def records(*providers: str) -> list[Record]:
    found = [one for name in providers or SPEAKERS for one in recorded(name, "responses")]
    return [one for one in found if one["response"]["status"] != 401]


def sent(record: Record) -> bytes:
    body = record["request"]["body"]
    return body.encode() if isinstance(body, str) else orjson.dumps(body)


@asynccontextmanager
async def before(tmp_path: Path, kind: str = "openai") -> AsyncIterator[tuple[httpx.AsyncClient, Provider]]:
    """A client of a gateway before one provider that speaks Responses."""
    async with Provider() as provider:
        own = "type: openai" if kind == "openai" else f"type: {kind}, responses: true"
        text = f"""
kind: providers
providers: {{p: {{{own}, base_url: "{provider.url}", api_key: sk-ours-alone}}}}
---
kind: models
models: {{"*": {{targets: [{{provider: p}}]}}}}
---
{ACCESS}
"""
        async with gateway(tmp_path, text) as running, running.client() as client:
            names = {name.decode() for one in records() for name in NAMED.findall(sent(one))}
            owners = Owners(running.house.database, lambda: 0.0)
            await owners.remember(sorted(names), Owner("research", "p"), "responses")
            yield client, provider


@pytest.mark.parametrize(("kind", "speakers"), [("openai", SPEAKERS[:1]), ("compatible", SPEAKERS[1:])])
async def test_every_call_and_every_answer_passes_as_it_is(
    tmp_path: Path, kind: str, speakers: tuple[str, ...]
) -> None:
    assert len(records(*speakers)) >= 40
    async with before(tmp_path, kind) as (client, provider):
        for record in records(*speakers):
            provider.script[:] = [replayed(record, whole(record))]
            came = await client.post("/v1/responses", content=sent(record))
            assert provider.asked, (record["id"], came.text)
            asked = provider.asked.pop()
            assert asked.line == "POST /v1/responses HTTP/1.1"
            assert asked.body == sent(record), record["id"]
            assert (came.status_code, came.content) == (
                record["response"]["status"],
                answer_of(record),
            ), record["id"]


@pytest.mark.parametrize("chunking", [per_event, at_random, byte_by_byte])
async def test_every_stream_passes_byte_for_byte_whatever_its_chunks(
    tmp_path: Path, chunking: Chunking
) -> None:
    streams = [one for one in records() if one["streaming"]]
    assert len(streams) >= 38
    async with before(tmp_path) as (client, provider):
        for record in streams if chunking is not byte_by_byte else streams[::8]:
            provider.script[:] = [replayed(record, chunking(record))]
            came = await client.post("/v1/responses", content=sent(record))
            assert came.content == answer_of(record), record["id"]
