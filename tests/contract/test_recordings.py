"""Calls that were recorded at OpenAI pass through a whole gateway: what goes out is what came in, both ways."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
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
    per_event,
    recorded,
    replayed,
    whole,
)
from tests.running import ACCESS, Running, gateway, plain_client
from tests.scripted import Provider
from tests.shared import shared

APIS = ("chat.completions", "completions", "embeddings", "responses", "moderations")
# Files that recorded calls name: they must be the team's.
FILES = ("file-7qh8AjzrjyRGiQ7kaFybfG", "file-BVTjj4CLd1Z7cgppk5sL45", "file-BCuhT1HQ24kmtsuuzF1mh2")


def records(*, refused_key: bool = False) -> list[Record]:
    """All of them but those with a 401: that is about the gateway's own key, and no client sees it as it is; nor is a
    stream shown to who asked for none (openai-completions-966b3213d2, whose head was another one)."""
    found = [one for one in recorded("openai", *APIS) if is_as_asked(one)]
    return [one for one in found if (one["response"]["status"] == 401) is refused_key]


def is_as_asked(record: Record) -> bool:
    return not record["streaming"] or record["request"]["body"].get("stream") is True


def streams() -> list[Record]:
    return [one for one in records() if one["streaming"]]


@asynccontextmanager
async def before(url: str, tmp_path: Path, renamed: Sequence[str] = ()) -> AsyncIterator[Running]:
    """A gateway before one provider of type openai, which leaves the usage of streams as it is. `renamed` models
    are asked for by the names that `ours` gives them."""
    aliases = [
        f"{orjson.dumps(ours(model)).decode()}: {{targets: [{{provider: openai, model: {model}}}]}}"
        for model in renamed
    ]
    text = f"""
kind: providers
providers: {{openai: {{type: openai, base_url: "{url}", api_key: sk-ours-alone, stream_usage: leave}}}}
---
kind: models
models: {{{", ".join([*aliases, '"*": {targets: [{provider: openai}]}'])}}}
---
{ACCESS}
"""
    async with gateway(tmp_path, text) as running:
        owners = Owners(running.house.database, lambda: 0.0)
        await owners.remember(FILES, Owner("research", "openai"), "files")
        yield running


def ours(model: str) -> str:
    return f'our "{model}" für alle'


def path_of(record: Record) -> str:
    return httpx.URL(record["request"]["url"]).path


async def call(client: httpx.AsyncClient, record: Record, body: bytes) -> httpx.Response:
    headers = {"content-type": "application/json"}
    return await client.post(path_of(record), content=body, headers=headers)


async def test_every_request_reaches_the_provider_as_it_is_and_every_answer_the_client(
    tmp_path: Path,
) -> None:
    async with Provider() as provider, before(provider.url, tmp_path) as running, running.client() as client:
        assert len(records()) >= 425
        for record in records():
            provider.script[:] = [replayed(record, whole(record))]
            body = orjson.dumps(record["request"]["body"])
            came = await call(client, record, body)
            asked = provider.asked.pop()
            assert not provider.asked, f"{record['id']} went out once"
            assert asked.line == f"POST {path_of(record)} HTTP/1.1"
            assert asked.body == body, record["id"]
            assert asked.json == record["request"]["body"], record["id"]
            assert came.content == answer_of(record), record["id"]
            assert came.status_code == record["response"]["status"], record["id"]
            assert came.headers["content-type"] == record["response"]["headers"]["content-type"]


@pytest.mark.parametrize("chunking", [whole, per_event, at_random])
async def test_every_stream_passes_byte_for_byte_whatever_its_chunks(
    tmp_path: Path, chunking: Chunking
) -> None:
    """Takes some seconds: eighty streams of 1.8 MB together, in up to 86,000 chunks."""
    async with Provider() as provider, before(provider.url, tmp_path) as running, running.client() as client:
        assert len(streams()) >= 79
        for record in streams():
            provider.script[:] = [replayed(record, chunking(record))]
            came = await call(client, record, orjson.dumps(record["request"]["body"]))
            assert came.content == answer_of(record), record["id"]


@pytest.mark.parametrize(
    "style", [{}, {"indent": 3}, {"separators": (" ,\t", "\r\n:"), "ensure_ascii": False}]
)
async def test_a_model_by_another_name_changes_the_name_and_no_other_byte(
    tmp_path: Path, style: dict[str, Any]
) -> None:
    """However the client writes its JSON: in a line or spread out, with escapes or without."""
    named = [one for one in records() if "model" in one["request"]["body"]]
    models = {one["request"]["body"]["model"] for one in named}
    async with (
        Provider() as provider,
        before(provider.url, tmp_path, sorted(models)) as running,
        running.client() as client,
    ):
        for record in named:
            provider.script[:] = [replayed(record, whole(record))]
            body = record["request"]["body"]
            asks = json.dumps(body | {"model": ours(body["model"])}, **style).encode()
            expected = json.dumps(body, **style).encode()
            came = await call(client, record, asks)
            assert provider.asked.pop().body == expected, record["id"]
            assert came.content == answer_of(record), record["id"]


async def test_a_key_of_ours_that_the_provider_refuses_is_our_failure_and_says_nothing_of_it(
    tmp_path: Path,
) -> None:
    async with Provider() as provider, before(provider.url, tmp_path) as running, running.client() as client:
        assert len(records(refused_key=True)) == 4
        for record in records(refused_key=True):
            provider.script[:] = [replayed(record, whole(record))]
            came = await call(client, record, orjson.dumps(record["request"]["body"]))
            assert came.status_code == 502
            assert came.json()["error"]["code"] == "upstream_error"
            assert b"Incorrect API key" not in came.content


@asynccontextmanager
async def replay_server() -> AsyncIterator[httpx.AsyncClient]:
    """The recordings' own upstream, as a program of its own."""
    program, data = shared("recordings/replay_server.py"), shared("recordings/dev.jsonl.gz")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, program, "--data", data, "--port", "0"), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        url = (await process.stdout.readline()).split()[-1].decode()
        async with plain_client(url) as client:
            yield client
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.parametrize("chunking", ["whole", "event", "random:1-40"])
async def test_the_replay_server_sees_what_was_recorded_and_its_answer_arrives(
    tmp_path: Path, chunking: str
) -> None:
    """It compares each request with the recording itself. Takes seconds, most of them to read the recordings."""
    async with (
        replay_server() as replay,
        before(f"{replay.base_url}/openai/v1", tmp_path) as running,
        running.client() as client,
    ):
        await replay.post("/__replay__/config", json={"chunking": chunking})
        played = records() if chunking == "whole" else streams()
        for record in played:
            await replay.post("/__replay__/arm", json={"id": record["id"]})
            came = await call(client, record, orjson.dumps(record["request"]["body"]))
            assert came.content == answer_of(record), record["id"]
        report = (await replay.get("/__replay__/report")).json()
    assert [line["id"] for line in report] == [record["id"] for record in played]
    for line in report:
        assert line["match"] == "armed"
        assert line["diff"] == [], line["id"]
        assert not {"path_recorded", "query_diff", "headers_missing", "request_json_error"} & line.keys()
