from pathlib import Path

import pytest

from gateway.edge.models import METHODS
from gateway.wire.envelope import GEMINI_METHODS, envelope_of, gemini_method
from tests.running import gateway, policies
from tests.scripted import Provider


def test_every_method_that_a_path_may_name_is_served() -> None:
    assert METHODS.keys() == GEMINI_METHODS


def test_a_models_method_is_geminis_under_either_version() -> None:
    assert gemini_method("/v1/models/m:generateContent") == "generateContent"
    assert gemini_method("/v1/models/m:predict") == gemini_method("/v1/other/m:generateContent") == ""
    assert envelope_of("/v1/models/m:countTokens") == "gemini"
    assert envelope_of("/v1/models/m") == "openai"


async def test_who_cannot_count_tokens_is_not_asked_to(tmp_path: Path) -> None:
    async with Provider() as provider, gateway(tmp_path, policies(provider.url)) as running:
        async with running.client() as client:
            for path, body in (
                ("/v1/messages/count_tokens", {"model": "smart", "messages": []}),
                ("/v1beta/models/smart:countTokens", {"contents": []}),
            ):
                answer = await client.post(path, json=body)
                assert answer.status_code == 400, path
                assert "this model's provider has no such endpoint" in answer.json()["error"]["message"]
            assert (await client.post("/v1/messages/batches", json={"requests": []})).status_code == 404
        assert provider.asked == []


@pytest.mark.parametrize(
    "query",
    [
        "fields=candidates",
        "alt=sse&%24fields=candidates",
        "f%69elds=*",
        "callback=x",
        "alt=proto",
        "%24alt=proto;x=json",
        "model=m",
    ],
)
async def test_what_would_hide_the_usage_of_an_answer_is_refused(tmp_path: Path, query: str) -> None:
    async with Provider() as provider, gateway(tmp_path, policies(provider.url)) as running:
        async with running.client() as client:
            path = f"/v1beta/models/smart:streamGenerateContent?{query}"
            told = await client.post(path, json={"contents": []})
            assert (told.status_code, told.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
        assert provider.asked == []
