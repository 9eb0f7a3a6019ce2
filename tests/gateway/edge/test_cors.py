"""Web pages as clients: the browser asks first whether they may, and shows them only what it is let."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.running import Running, gateway, plain_client, policies
from tests.scripted import CHAT, DONE, FINISH, Provider, answer, stream, word

PAGE, OTHER = "https://app.example", "https://other.example"
ASKS = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type",
}
BODY = {"model": "smart", "messages": [{"role": "user", "content": "hi"}]}
ALLOWED = "access-control-allow-origin"


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with Provider() as one:
        yield one


async def preflight(running: Running, origin: str) -> httpx.Response:
    async with plain_client(running.url) as client:
        return await client.options("/v1/chat/completions", headers={"origin": origin, **ASKS})


async def test_a_page_that_is_listed_may_ask_and_see_every_header(tmp_path: Path, provider: Provider) -> None:
    provider.script[:] = [answer(CHAT)]
    async with gateway(
        tmp_path, policies(provider.url), cors_origins=f"{PAGE}, https://b.example"
    ) as running:
        told = await preflight(running, PAGE)
        assert (told.status_code, told.headers[ALLOWED]) == (200, PAGE)
        assert told.headers["access-control-allow-headers"] == ASKS["access-control-request-headers"]
        async with running.client() as client:
            came = await client.post("/v1/chat/completions", json=BODY, headers={"origin": PAGE})
    assert (came.status_code, came.headers[ALLOWED]) == (200, PAGE)
    assert came.headers["access-control-expose-headers"] == "*"
    assert "Origin" in came.headers["vary"]


async def test_a_page_may_read_a_stream_and_why_it_was_refused(tmp_path: Path, provider: Provider) -> None:
    provider.script[:] = [stream(word("hi"), FINISH, DONE)]
    async with gateway(tmp_path, policies(provider.url), cors_origins=PAGE) as running:
        async with running.client() as client:
            came = await client.post(
                "/v1/chat/completions", json={**BODY, "stream": True}, headers={"origin": PAGE}
            )
        async with running.client("sk-of-nobody") as client:
            refused = await client.post("/v1/chat/completions", json=BODY, headers={"origin": PAGE})
    assert came.headers[ALLOWED] == PAGE
    assert came.text.endswith("data: [DONE]\n\n")
    assert (refused.status_code, refused.headers[ALLOWED]) == (401, PAGE)
    assert refused.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(("origins", "origin"), [(PAGE, OTHER), ("", PAGE)])
async def test_no_other_page_is_let_in(tmp_path: Path, provider: Provider, origins: str, origin: str) -> None:
    async with gateway(tmp_path, policies(provider.url), cors_origins=origins) as running:
        told = await preflight(running, origin)
        assert told.status_code in (400, 401, 405)
        assert ALLOWED not in told.headers
    assert not provider.asked


async def test_a_star_lets_every_page_in(tmp_path: Path, provider: Provider) -> None:
    async with gateway(tmp_path, policies(provider.url), cors_origins="*") as running:
        assert (await preflight(running, OTHER)).headers[ALLOWED] == "*"


async def test_what_is_malformed_is_refused_before_it_is_asked_whose_page_it_is(
    tmp_path: Path, provider: Provider
) -> None:
    async with gateway(tmp_path, policies(provider.url), cors_origins=PAGE) as running:
        async with plain_client(running.url) as client:
            told = await client.options("/v1//chat", headers={"origin": PAGE, **ASKS})
    assert (told.status_code, told.content) == (400, b"")
