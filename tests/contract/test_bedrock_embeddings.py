"""Embeddings recorded at Amazon Bedrock, asked for by clients of OpenAI's."""

from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson

from tests.contract.recorded import Record, answer_of, recorded, replayed, whole
from tests.contract.test_bedrock import before

OWN = {"dimensions": "dimensions", "output_dimension": "dimensions"}


def embedded(maker: str) -> list[Record]:
    return [one for one in recorded("bedrock", "invoke") if maker in one["request"]["url"]]


async def test_titan_and_cohere_are_asked_as_recorded_and_tell_their_numbers(tmp_path: Path) -> None:
    titan, cohere = embedded("amazon.titan-embed-text"), embedded("cohere.embed")
    assert (len(titan) >= 6, len(cohere) >= 6) == (True, True)
    async with before(tmp_path) as (client, provider):
        for record in titan + cohere:
            path = unquote(record["request"]["url"].partition(".com")[2])
            body: dict[str, Any] = dict(record["request"]["body"])
            asks = {OWN.get(name, name): value for name, value in body.items()}
            asks["input"] = asks.pop("inputText", None) or asks.pop("texts")
            provider.script[:] = [replayed(record, whole(record))]
            model = path.removeprefix("/model/").removesuffix("/invoke")
            came = await client.post("/v1/embeddings", json=asks | {"model": model})
            assert came.status_code == 200, (record["id"], came.text)
            asked = provider.asked.pop()
            assert (unquote(asked.line), asked.json) == (f"POST {path} HTTP/1.1", body), record["id"]
            answer = orjson.loads(answer_of(record))
            said = answer.get("embeddings") or [answer["embedding"]]
            told = came.json()
            assert [one["embedding"] for one in told["data"]] == (
                said["float"] if isinstance(said, dict) else said
            )
            if "inputTextTokenCount" in answer:
                assert told["usage"]["prompt_tokens"] == answer["inputTextTokenCount"]


async def test_models_that_embed_nothing_say_so(tmp_path: Path) -> None:
    async with before(tmp_path) as (client, provider):
        came = await client.post("/v1/embeddings", json={"model": "amazon.nova-lite-v1:0", "input": "a"})
        assert (came.status_code, came.json()["error"]["code"]) == (400, "unsupported_endpoint")
        assert not provider.asked
