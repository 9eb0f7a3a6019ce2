"""OpenAI's clients embed with Gemini models, and what was recorded of Gemini's embeddings passes."""

import base64
import struct
from pathlib import Path

import orjson
import pytest

from tests.contract.recorded import answer_of, recorded, replayed, whole
from tests.contract.test_gemini import before


@pytest.mark.parametrize("form", ["float", "base64"])
async def test_an_openai_client_is_told_the_numbers_that_gemini_told(tmp_path: Path, form: str) -> None:
    chosen = [one for one in recorded("gemini", "embedContent") if one["response"]["status"] == 200]
    assert len(chosen) >= 7
    async with before(tmp_path) as (client, provider):
        for record in chosen:
            provider.script[:] = [replayed(record, whole(record))]
            texts = [one["content"]["parts"][0]["text"] for one in record["request"]["body"]["requests"]]
            asks = {"model": "gemini-embedding-001", "input": texts, "encoding_format": form}
            came = await client.post("/v1/embeddings", json=asks)
            assert came.status_code == 200, came.text
            asked = provider.asked.pop()
            assert asked.line == "POST /v1beta/models/gemini-embedding-001:batchEmbedContents HTTP/1.1"
            assert [one["content"]["parts"] for one in asked.json["requests"]] == [
                [{"text": one}] for one in texts
            ]
            wanted = [one["values"] for one in orjson.loads(answer_of(record))["embeddings"]]
            for one, values in zip(came.json()["data"], wanted, strict=True):
                got = one["embedding"]
                if form == "base64":
                    got = list(struct.unpack(f"<{len(values)}f", base64.b64decode(got)))
                assert got == pytest.approx(values, rel=1e-6)


async def test_what_gemini_cannot_embed_is_refused_by_name(tmp_path: Path) -> None:
    async with before(tmp_path) as (client, _):
        came = await client.post("/v1/embeddings", json={"model": "m", "input": [1, 2]})
        assert (came.status_code, came.json()["error"]["param"]) == (400, "input")


async def test_a_refusal_is_told_in_openais_words(tmp_path: Path) -> None:
    [record] = [one for one in recorded("gemini", "embedContent") if one["response"]["status"] == 404]
    async with before(tmp_path) as (client, provider):
        provider.script[:] = [replayed(record, whole(record))]
        came = await client.post("/v1/embeddings", json={"model": "m", "input": "x"})
        assert came.status_code == 404
        assert came.json()["error"]["message"] == orjson.loads(answer_of(record))["error"]["message"]
