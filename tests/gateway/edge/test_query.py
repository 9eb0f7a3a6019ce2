"""No provider sees the key that a client has for the gateway, also not in a query."""

from pathlib import Path
from typing import Any

import pytest

from gateway.core.failure import BadRequest
from gateway.edge.query import query_of, with_query
from tests.gateway.edge.teams import text
from tests.running import KEY, gateway
from tests.scripted import CHAT, Provider, answer

PRESENTED = {b"x-api-key": b"sk-1+2/3"}


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        (b"", b""),
        (b"a=b&c=%20d&e", b"a=b&c=%20d&e"),
        (b"key=sk-1+2/3", b""),
        (b"api_key=sk-1%2B2%2f3&a=b&%73k-1+2/3", b"a=b"),
        (b"a=b;access_token=sk-1+2/3", b""),
        (b"x=Bearer%20sk-1%2B2/3&key=another", b"key=another"),
    ],
)
def test_a_parameter_that_holds_the_key_is_left_out(query: bytes, kept: bytes) -> None:
    scope = {"method": "POST", "query_string": query, "gateway.head": PRESENTED}
    assert query_of(scope) == kept
    assert with_query("/files", scope) == "/files" + (f"?{kept.decode()}" if kept else "")


def test_a_key_that_is_shorter_than_a_secret_is_only_what_is_all_of_a_value() -> None:
    scope = {
        "method": "POST",
        "query_string": b"api-version=2024&alt=x&key=a&b=%61",
        "gateway.head": {b"x-api-key": b"a"},
    }
    assert query_of(scope) == b"api-version=2024&alt=x"


@pytest.mark.parametrize("name", [b"model", b"%6dodel", b"m%6Fde%6c"])
def test_a_model_in_the_query_of_a_call_is_refused_and_one_that_filters_a_list_is_not(name: bytes) -> None:
    """LiteLLM would ask it, and not the one of the body."""
    scope = {"method": "POST", "query_string": b"a=b&%b=secret" % name, "gateway.head": PRESENTED}
    with pytest.raises(BadRequest) as refused:
        query_of(scope)
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "model")
    assert query_of({**scope, "method": "GET"}) == scope["query_string"]


CALLS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "gpt-5", "messages": []},
    "/v1/responses": {"model": "gpt-5", "input": "hi"},
    "/v1/moderations": {"model": "gpt-5", "input": "hi"},
    "/v1/images/generations": {"model": "gpt-5", "prompt": "hi"},
}


async def test_a_key_in_the_query_goes_to_no_provider(tmp_path: Path) -> None:
    asks = f"a=b&api_key={KEY}&key={KEY.replace('-', '%2D')}"
    pages = [
        answer({"object": "list", "data": [{"id": "file-1"}], "has_more": more}) for more in (True, False)
    ]
    async with Provider() as provider, gateway(tmp_path, text(provider.url)) as running:
        async with running.client() as client:
            provider.script[:] = [answer(CHAT)]
            for path, body in CALLS.items():
                assert (await client.post(f"{path}?{asks}", json=body)).status_code == 200, path
            provider.script[:] = pages
            assert (await client.get(f"/v1/files?{asks}")).status_code == 200
    lines = [asked.line.split(" ")[1] for asked in provider.asked]
    assert len(lines) == len(CALLS) + 2
    assert all(line.partition("?")[2].startswith("a=b") for line in lines)
    assert not any("key" in line for line in lines)


async def test_a_key_in_a_query_of_geminis_goes_to_no_provider(tmp_path: Path) -> None:
    async with Provider([answer({"candidates": []})]) as provider:
        host = provider.url.removesuffix("/v1")
        providers = f"kind: providers\nproviders: {{g: {{type: gemini, api_key: k, base_url: '{host}'}}}}\n"
        models = 'kind: models\nmodels: {"gemini-*": {targets: [{provider: g}]}}\n'
        access = text("http://unused/v1").split("---")[2]
        async with gateway(tmp_path, f"{providers}---\n{models}---\n{access}") as running:
            async with running.client() as client:
                path = "/v1beta/models/gemini-3:generateContent"
                told = await client.post(
                    f"{path}?a=b&%6bey={KEY}&key=other&%6bey=another&$access_token=x&%24alt=json%3Benum-encoding=int",
                    json={"contents": []},
                )
            assert told.status_code == 200
    assert [asked.line for asked in provider.asked] == [
        f"POST {path}?a=b&%24alt=json%3Benum-encoding=int HTTP/1.1"
    ]
