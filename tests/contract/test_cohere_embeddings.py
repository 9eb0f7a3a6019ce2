"""OpenAI's client embeds with Cohere's models: what was recorded of Cohere's embeddings, asked and told anew."""

import base64
import struct
from pathlib import Path

import orjson
import pytest
from openai import AsyncOpenAI, NotFoundError

from tests.contract.cohere import embeddings_of, is_embed, set_only
from tests.contract.recorded import Record, answer_of, recorded, replayed, whole
from tests.contract.test_cohere import before
from tests.running import KEY


def records(status: int = 200) -> list[Record]:
    return [
        one for one in recorded("cohere", "embed") if is_embed(one) and one["response"]["status"] == status
    ]


@pytest.mark.parametrize("form", ["float", "base64"])
async def test_an_openai_client_is_told_the_numbers_that_cohere_told(tmp_path: Path, form: str) -> None:
    assert len(records()) >= 6
    async with before(tmp_path) as (client, provider, running):
        spent = 0
        for record in records():
            provider.script[:] = [replayed(record, whole(record))]
            asks = embeddings_of(record["request"]["body"])
            came = await client.post("/v1/embeddings", json=asks | {"encoding_format": form})
            assert came.status_code == 200, came.text
            asked = provider.asked.pop()
            assert asked.line == "POST /v2/embed HTTP/1.1"
            assert asked.json == set_only(record["request"]["body"])
            told = orjson.loads(answer_of(record))
            for one, values in zip(came.json()["data"], told["embeddings"]["float"], strict=True):
                got = one["embedding"]
                if form == "base64":
                    got = list(struct.unpack(f"<{len(values)}f", base64.b64decode(got)))
                assert got == pytest.approx(values, rel=1e-6)
            spent += told["meta"]["billed_units"]["input_tokens"]
            assert came.json()["usage"]["prompt_tokens"] == told["meta"]["billed_units"]["input_tokens"]
        total = (await running.usage())["total"]
        assert (total["prompt_tokens"], total["estimated"]) == (spent, 0)


async def test_the_official_client_embeds_and_is_refused_in_its_own_words(tmp_path: Path) -> None:
    [unknown] = records(404)
    async with before(tmp_path) as (http, provider, _):
        provider.script[:] = [replayed(records()[0], whole(records()[0])), replayed(unknown, whole(unknown))]
        async with AsyncOpenAI(base_url=f"{http.base_url}/v1", api_key=KEY, max_retries=0) as client:
            came = await client.embeddings.create(model="embed-v4.0", input="x", dimensions=1024)
            wanted = orjson.loads(answer_of(records()[0]))["embeddings"]["float"]
            assert came.data[0].embedding == pytest.approx(wanted[0], rel=1e-6)
            assert provider.asked[0].json["output_dimension"] == 1024
            with pytest.raises(NotFoundError, match="model 'nonexistent' not found"):
                await client.embeddings.create(model="nonexistent", input="x")
