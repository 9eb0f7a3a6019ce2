"""Models as each dialect lists them, to those who may use them."""

from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from anthropic import AsyncAnthropic
from google import genai
from google.genai import errors, types

from tests.running import KEY, Running, gateway, plain_client, policies

CLAUDES = {"anthropic-version": "2023-06-01"}


@pytest.fixture
def text() -> str:
    """Two models, and all names that providers may know."""
    return policies("http://127.0.0.1:9/v1").replace("mini:", '"*": {targets: [{provider: p0}]}\n  mini:')


def of_openai(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "gatehouse"}


def of_anthropic(name: str) -> dict[str, Any]:
    return {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}


METHODS = ["generateContent", "streamGenerateContent", "embedContent", "batchEmbedContents"]


def of_gemini(name: str, methods: list[str] = METHODS) -> dict[str, Any]:
    return {"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": methods}


async def test_one_model_and_all_come_in_the_dialect_of_whoever_asks(tmp_path: Path, text: str) -> None:
    async with gateway(tmp_path, text) as running, running.client() as client:
        every = (await client.get("/v1/models")).json()
        assert every == {"object": "list", "data": [of_openai("mini"), of_openai("smart")]}
        assert (await client.get("/v1/models/smart")).json() == of_openai("smart")
        every = (await client.get("/v1/models", headers=CLAUDES)).json()
        assert (every["data"], every["first_id"]) == ([of_anthropic("mini"), of_anthropic("smart")], "mini")
        assert (await client.get("/v1/models/smart", headers=CLAUDES)).json() == of_anthropic("smart")


MANY = [*(f"m{number:02}" for number in range(25)), "mini", "smart"]


def many() -> str:
    listed = ", ".join(f"{name}: {{targets: [{{provider: p0}}]}}" for name in MANY[:25])
    return policies("http://127.0.0.1:9/v1", more=f"kind: models\nmodels: {{{listed}}}")


async def test_anthropics_sdk_finds_all_models_page_by_page_and_back(tmp_path: Path) -> None:
    async with gateway(tmp_path, many()) as running:
        async with AsyncAnthropic(base_url=running.url, api_key=KEY, max_retries=0) as client:
            assert [model.id async for model in client.models.list()] == MANY
            assert [model.id async for model in client.models.list(limit=4)] == MANY
            assert [model.id async for model in client.models.list(limit=1000, after_id="m23")] == MANY[24:]
            first = await client.models.list()
            assert (len(first.data), first.has_more, first.last_id) == (20, True, "m19")
            second = await first.get_next_page()
            assert (len(second.data), second.has_more, second.first_id) == (7, False, "m20")
            back = await client.models.list(before_id="m20", limit=8)
            assert ([model.id for model in back.data], back.has_more) == (MANY[12:20], True)
            back = await back.get_next_page()
            assert (back.first_id, back.last_id, back.has_more) == ("m04", "m11", True)
            assert not (await back.get_next_page()).has_more


async def test_a_model_that_left_the_policies_still_tells_where_its_list_goes_on(tmp_path: Path) -> None:
    async with gateway(tmp_path, many()) as running, running.client() as client:
        answered = await client.get(
            "/v1/models", params={"limit": 2, "after_id": "m05-gone"}, headers=CLAUDES
        )
        assert [model["id"] for model in answered.json()["data"]] == ["m06", "m07"]


async def test_behind_the_last_model_there_is_none(tmp_path: Path, text: str) -> None:
    async with gateway(tmp_path, text) as running, running.client() as client:
        answered = await client.get("/v1/models?after_id=smart", headers=CLAUDES)
        assert answered.json() == {"data": [], "has_more": False, "first_id": None, "last_id": None}


LIMITS = [f"limit={limit}" for limit in ("0", "1001", "-1", "2.5", "x", "%C2%B2", "9" * 5000)]


@pytest.mark.parametrize("query", [*LIMITS, "after_id=mini&before_id=smart"])
async def test_a_page_that_nobody_can_give_is_refused_in_anthropics_words(
    tmp_path: Path, text: str, query: str
) -> None:
    async with gateway(tmp_path, text) as running, running.client() as client:
        assert refused_by_anthropic(await client.get(f"/v1/models?{query}", headers=CLAUDES)) == (
            400,
            "invalid_request_error",
        )


def refused_by_anthropic(answered: httpx.Response) -> tuple[int, str]:
    told = answered.json()
    assert told == {"type": "error", "error": told["error"], "request_id": answered.headers["x-request-id"]}
    assert set(told["error"]) == {"type", "message"}
    return answered.status_code, told["error"]["type"]


async def test_refusals_too_come_in_the_dialect_of_whoever_asks(tmp_path: Path, text: str) -> None:
    async with gateway(tmp_path, text.replace('"*": {targets', '"gpt-*": {targets')) as running:
        async with running.client() as client, running.client("sk-nobody") as nobody:
            for answered, told in (
                (await client.get("/v1/models/dumb", headers=CLAUDES), (404, "not_found_error")),
                (await client.get("/v1/models/", headers=CLAUDES), (404, "not_found_error")),
                (await client.post("/v1/models", headers=CLAUDES), (405, "invalid_request_error")),
                (await nobody.get("/v1/models", headers=CLAUDES), (401, "authentication_error")),
                (await nobody.get("/v1/models/mini", headers=CLAUDES), (401, "authentication_error")),
            ):
                assert refused_by_anthropic(answered) == told
            for path in ("/v1/models/dumb", "/v1/models/"):
                assert set((await client.get(path)).json()["error"]) == {"message", "type", "param", "code"}
            elsewhere = await client.get("/v1/modelsx", headers=CLAUDES)
            assert elsewhere.json()["error"]["code"] == "route_not_found", "there the path decides"
        async with AsyncAnthropic(base_url=running.url, api_key=KEY, max_retries=0) as claude:
            assert (await claude.models.retrieve("smart")).display_name == "smart"
            with pytest.raises(anthropic.NotFoundError, match="not_found_error"):
                await claude.models.retrieve("dumb")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/meta%2Fllama"])
async def test_an_answer_has_the_id_of_its_request_and_the_version_of_the_policies(
    tmp_path: Path, text: str, path: str
) -> None:
    async with gateway(tmp_path, text) as running, running.client() as client:
        answered = await client.get(path, headers={"x-request-id": "mine"})
        assert answered.status_code == 200
        assert answered.headers["x-request-id"] == "mine"
        assert answered.headers["x-gateway-policies"] == running.house.policies.snapshot.version
        assert len((await client.get(path)).headers["x-request-id"]) == 32


async def test_no_model_is_without_a_name(tmp_path: Path, text: str) -> None:
    async with gateway(tmp_path, text) as running, running.client() as client:
        answered = await client.get("/v1/models/")
        assert (answered.status_code, answered.json()["error"]["code"]) == (404, "route_not_found")


def google(running: Running, version: str | None = None) -> genai.client.AsyncClient:
    options = types.HttpOptions(
        base_url=running.url, api_version=version, async_client_args={"trust_env": False}
    )
    return genai.Client(api_key=KEY, vertexai=False, http_options=options).aio


@pytest.mark.parametrize("version", [None, "v1", "v1beta"])
async def test_googles_sdk_finds_all_models_page_by_page_and_each_by_its_name(
    tmp_path: Path, version: str | None
) -> None:
    async with gateway(tmp_path, many()) as running, google(running, version) as sdk:
        for size in (None, 4, 26, 1000):
            found = [one async for one in await sdk.models.list(config={"page_size": size})]
            assert [one.name for one in found] == [f"models/{name}" for name in MANY]
        one = await sdk.models.get(model="smart")
        assert (one.name, one.display_name, one.supported_actions) == ("models/smart", "smart", METHODS)
        with pytest.raises(errors.ClientError, match="404 NOT_FOUND"):
            await sdk.models.get(model="dumb")


async def test_the_path_or_a_key_in_googles_header_alone_tells_that_google_is_meant(
    tmp_path: Path, text: str
) -> None:
    keyed = {"x-goog-api-key": KEY}
    async with gateway(tmp_path, text) as running:
        async with running.client() as client, plain_client(running.url) as bare:
            for answered in (
                await client.get("/v1beta/models"),
                await client.get("/v1beta/models", headers=CLAUDES),
                await bare.get("/v1/models", headers=keyed),
            ):
                assert answered.json() == {"models": [of_gemini("mini"), of_gemini("smart")]}
            assert (await bare.get("/v1/models/smart", headers=keyed)).json() == of_gemini("smart")
            both = await client.get("/v1/models", headers=keyed)
            assert both.json()["object"] == "list", "OpenAI's clients send a bearer, whatever else"
            assert (await bare.get("/v1/models/", headers=keyed)).json()["error"]["status"] == "NOT_FOUND"
            nobody = await bare.get("/v1/models", headers={"x-goog-api-key": "sk-nobody"})
            assert (nobody.status_code, nobody.json()["error"]["status"]) == (401, "UNAUTHENTICATED")


async def test_google_is_told_what_the_key_may_use_and_the_methods_that_a_target_has(tmp_path: Path) -> None:
    text = policies("http://127.0.0.1:9/v1").replace(
        "providers: {", 'providers: {c: {type: anthropic, api_key: k}, g: {type: gemini, api_key: k}, '
    )  # fmt: skip
    text = text.replace("smart: {targets: [", "smart: {targets: [{provider: g}, ").replace(
        "models:\n  smart", 'models:\n  "claude-*": {targets: [{provider: c}]}\n  smart'
    )
    async with gateway(tmp_path, text) as running, running.client("sk-poor") as poor:
        assert (await poor.get("/v1beta/models")).json() == {"models": [of_gemini("mini")]}
        denied = await poor.get("/v1beta/models/smart")
        assert (denied.status_code, denied.json()["error"]["status"]) == (403, "PERMISSION_DENIED")
        async with running.client() as client:
            every = [*METHODS[:2], "countTokens", *METHODS[2:]]
            assert (await client.get("/v1beta/models/smart")).json() == of_gemini("smart", every)
            claude = await client.get("/v1beta/models/claude-opus-4-5")
            assert claude.json() == of_gemini("claude-opus-4-5", METHODS[:2])


async def test_googles_pages_are_of_fifty_unless_said_and_never_of_more_than_a_thousand(
    tmp_path: Path,
) -> None:
    listed = ", ".join(f"n{number:04}: {{targets: [{{provider: p0}}]}}" for number in range(1001))
    text = policies("http://127.0.0.1:9/v1", more=f"kind: models\nmodels: {{{listed}}}")
    async with gateway(tmp_path, text) as running, running.client() as client:
        for query, size in (("", 50), ("?pageSize=0", 50), ("?pageSize=", 50), ("?pageSize=5000", 1000)):
            page = (await client.get(f"/v1beta/models{query}")).json()
            assert len(page["models"]) == size
            rest = (await client.get(f"/v1beta/models?pageToken={page['nextPageToken']}")).json()
            assert rest["models"][0]["displayName"] == f"n{size - 1:04}", "mini comes before them"


@pytest.mark.parametrize("size", ["-1", "x", "2.5", "%C2%B2", "9" * 5000])
async def test_a_page_of_a_size_that_is_none_is_refused_in_googles_words(
    tmp_path: Path, text: str, size: str
) -> None:
    async with gateway(tmp_path, text) as running, running.client() as client:
        answered = await client.get(f"/v1beta/models?pageSize={size}")
        assert (answered.status_code, answered.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
