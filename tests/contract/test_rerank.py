"""Cohere's own client reranks through a whole gateway: before Cohere, before those who took its route over, and before
those who call it otherwise."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cohere
import httpx
import orjson
import pytest
from cohere.core.api_error import ApiError

from tests.contract.recorded import Record, answer_of, recorded, replayed, whole
from tests.contract.test_recordings import replay_server
from tests.running import ACCESS, KEY, Running, gateway
from tests.scripted import Provider, answer

ASKED = {"model": "ranks", "query": "why", "documents": ["ab", "cd", "ef"]}
LIMITS = """
kind: rate-limits
rules: [{id: few, limit: 20, unit: tokens, per: day}]
"""


class Scene(NamedTuple):
    http: httpx.AsyncClient
    provider: Provider
    running: Running
    bare: httpx.AsyncClient

    def first(self, key: str = KEY) -> cohere.AsyncClient:
        return cohere.AsyncClient(key, base_url=self.running.url, httpx_client=self.bare, max_retries=0)

    def second(self, key: str = KEY) -> cohere.AsyncClientV2:
        return cohere.AsyncClientV2(key, base_url=self.running.url, httpx_client=self.bare, max_retries=0)


@asynccontextmanager
async def before(tmp_path: Path, kind: str, path: str = "", more: str = "") -> AsyncIterator[Scene]:
    """A gateway before one provider of this type, and one that has no such endpoint."""
    async with Provider() as provider:
        url = provider.url.removesuffix("/v1") + path
        text = f"""
kind: providers
providers:
  it: {{type: {kind}, base_url: "{url}", api_key: key-ours-alone}}
  other: {{type: openai, base_url: "{provider.url}", api_key: sk-of-the-other}}
---
kind: models
models:
  "*": {{targets: [{{provider: it}}], retry: {{attempts: 1}}}}
  chats: {{targets: [{{provider: other}}]}}
  both: {{targets: [{{provider: other}}, {{provider: it}}]}}
---
{ACCESS}
{"---" if more else ""}
{more}
"""
        async with (
            gateway(tmp_path, text) as running,
            running.client() as client,
            httpx.AsyncClient(trust_env=False) as bare,
        ):
            yield Scene(client, provider, running, bare)


def of_version(version: str) -> list[Record]:
    return [one for one in recorded("cohere", "rerank") if f"/{version}/" in one["request"]["url"]]


def ranks(results: Any) -> list[tuple[int, float]]:
    return [(one.index, one.relevance_score) for one in results]


def ranked(record: Record) -> list[tuple[int, float]]:
    listed = orjson.loads(answer_of(record))
    return [(one["index"], one["relevance_score"]) for one in listed.get("results") or listed["data"]]


async def test_the_official_client_of_the_second_version_is_told_what_cohere_said(tmp_path: Path) -> None:
    [record] = of_version("v2")
    async with before(tmp_path, "cohere") as here:
        here.provider.script[:] = [replayed(record, whole(record))]
        came = await here.second().rerank(**record["request"]["body"])
        assert ranks(came.results) == ranked(record)
        assert came.meta is not None
        assert came.meta.billed_units is not None
        assert came.meta.billed_units.search_units == 1
        asked = here.provider.asked.pop()
        assert asked.line == "POST /v2/rerank HTTP/1.1"
        assert asked.json == record["request"]["body"]
        assert asked.headers["authorization"] == "Bearer key-ours-alone"


async def test_the_official_client_of_the_first_version_is_told_it_too(tmp_path: Path) -> None:
    assert len(of_version("v1")) == 3
    async with before(tmp_path, "cohere") as here:
        for record in of_version("v1"):
            here.provider.script[:] = [replayed(record, whole(record))]
            came = await here.first().rerank(**record["request"]["body"])
            assert ranks(came.results) == ranked(record), record["id"]
            asked = here.provider.asked.pop()
            assert (asked.line, asked.json) == ("POST /v1/rerank HTTP/1.1", record["request"]["body"])


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_between_equals_both_pass_byte_for_byte_and_searches_are_counted(
    tmp_path: Path, version: str
) -> None:
    async with before(tmp_path, "cohere") as here:
        for record in of_version(version):
            here.provider.script[:] = [replayed(record, whole(record))]
            body = orjson.dumps(record["request"]["body"], option=orjson.OPT_INDENT_2)
            came = await here.http.post(f"/{version}/rerank", content=body)
            assert here.provider.asked.pop().body == body
            assert came.content == answer_of(record)
            assert came.headers["x-gateway-target"] == f"it/{record['request']['body']['model']}"
        total = (await here.running.usage("route"))["rows"][0]
        assert total["route"] == "rerank"
        assert (total["calls"], total["search_units"]) == (len(of_version(version)),) * 2
        assert total["estimated"] == total["calls"], "Cohere tells searches, not tokens"


@pytest.mark.parametrize("kind", ["compatible", "vllm", "jina", "openrouter", "together", "llama.cpp"])
async def test_who_took_the_route_over_is_asked_and_answers_as_it_is(tmp_path: Path, kind: str) -> None:
    [record] = recorded("openrouter", "rerank")
    async with before(tmp_path, kind, "/v1") as here:
        here.provider.script[:] = [replayed(record, whole(record))]
        came = await here.second().rerank(**record["request"]["body"])
        assert ranks(came.results) == ranked(record)
        asked = here.provider.asked.pop()
        assert (asked.line, asked.json) == ("POST /v1/rerank HTTP/1.1", record["request"]["body"])
        total = (await here.running.usage())["total"]
        assert (total["prompt_tokens"], total["estimated"]) == (17, 0)


async def test_what_voyage_said_is_told_as_cohere_would_say_it(tmp_path: Path) -> None:
    [record] = recorded("voyage", "rerank")
    body = record["request"]["body"]
    asks = {"model": body["model"], "query": body["query"], "documents": body["documents"], "top_n": 3}
    async with before(tmp_path, "voyage", "/v1") as here:
        here.provider.script[:] = [replayed(record, whole(record))]
        options: Any = {"additional_body_parameters": {"truncation": True}}
        came = await here.second().rerank(**asks, request_options=options)
        assert ranks(came.results) == ranked(record)
        asked = here.provider.asked.pop()
        assert (asked.line, asked.json) == ("POST /v1/rerank HTTP/1.1", body | {"return_documents": False})
        here.provider.script[:] = [replayed(record, whole(record))]
        shown = await here.first().rerank(**asks, return_documents=True)
        assert [one.document.text for one in shown.results if one.document] == [
            body["documents"][index] for index, _ in ranked(record)
        ]
        total = (await here.running.usage())["total"]
        assert (total["prompt_tokens"], total["estimated"]) == (2 * 57, 0)


OTHERS = {
    "tei": ("/rerank", {"texts": ASKED["documents"], "return_text": False, "truncate": True}),
    "sglang": ("/v1/rerank", {"documents": ASKED["documents"], "return_documents": False, "top_n": 2}),
    "fireworks": ("/v1/rerank", {"documents": ASKED["documents"], "return_documents": False, "top_n": 2}),
}


@pytest.mark.parametrize("kind", OTHERS)
async def test_who_calls_it_otherwise_is_asked_in_its_own_words(tmp_path: Path, kind: str) -> None:
    """By their documentation: nothing of them is on record."""
    listed: Any = [{"index": 0, "score": 0.2}, {"index": 2, "score": 0.9}, {"index": 1, "score": 0.1}]
    if kind == "fireworks":
        listed = {"data": [{"index": 2, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.2}]}
    path, words = OTHERS[kind]
    async with before(tmp_path, kind, "/v1") as here:
        here.provider.script[:] = [answer(listed)]
        came = await here.second().rerank(model="ranks", query="why", documents=["ab", "cd", "ef"], top_n=2)
        assert ranks(came.results) == [(2, 0.9), (0, 0.2)]
        asked = here.provider.asked.pop()
        assert (asked.line, asked.json) == (
            f"POST {path} HTTP/1.1",
            {"model": "ranks", "query": "why", **words},
        )


async def test_a_target_without_such_an_endpoint_is_passed_over_and_alone_refused(tmp_path: Path) -> None:
    [record] = of_version("v2")
    async with before(tmp_path, "cohere") as here:
        here.provider.script[:] = [replayed(record, whole(record))]
        came = await here.http.post("/v2/rerank", json=ASKED | {"model": "both"})
        assert came.headers["x-gateway-target"] == "it/both"
        with pytest.raises(ApiError) as refusal:
            await here.second().rerank(model="chats", query="why", documents=["ab"])
        assert refusal.value.status_code == 400
        assert refusal.value.body["error"]["code"] == "unsupported_endpoint"


async def test_what_the_first_version_knows_of_a_document_is_no_file_of_ours(tmp_path: Path) -> None:
    documents = [{"text": "ab", "file_id": "file-of-the-client"}]
    async with before(tmp_path, "cohere") as here:
        here.provider.script[:] = [answer({"results": []})]
        asks = ASKED | {"documents": documents, "rank_fields": ["text"]}
        assert (await here.http.post("/v1/rerank", json=asks)).status_code == 200
        assert here.provider.asked.pop().json == asks


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
async def test_keys_teams_and_bodies_are_judged_as_everywhere(tmp_path: Path, path: str) -> None:
    async with before(tmp_path, "cohere") as here:

        async def refused(body: Any, key: str = KEY) -> tuple[int, str]:
            headers = {"authorization": f"Bearer {key}"}
            came = await here.http.post(path, json=body, headers=headers)
            said = came.json()
            assert (said["message"], said["id"]) == (said["error"]["message"], came.headers["x-request-id"])
            return came.status_code, said["error"]["code"]

        assert await refused(ASKED, "sk-nobody") == (401, "invalid_api_key")
        assert await refused(ASKED, "sk-poor") == (403, "model_not_allowed")
        assert await refused(ASKED | {"query": 1}) == (400, "invalid_type")
        assert await refused({"model": "ranks", "query": "q"}) == (400, "missing_required_parameter")
        wrong = await here.http.get(path)
        assert (wrong.status_code, "message" in wrong.json()) == (405, True)
        assert not here.provider.asked


async def test_the_clients_own_error_is_raised_for_a_key_that_is_none(tmp_path: Path) -> None:
    async with before(tmp_path, "cohere") as here:
        with pytest.raises(cohere.UnauthorizedError):
            await here.second("sk-nobody").rerank(model="ranks", query="why", documents=["ab"])


async def test_limits_count_what_is_read_and_refuse_what_is_too_much(tmp_path: Path) -> None:
    [record] = recorded("openrouter", "rerank")  # it reads 17 tokens
    async with before(tmp_path, "vllm", "/v1", LIMITS) as here:
        here.provider.script[:] = [replayed(record, whole(record))]
        first = await here.http.post("/v2/rerank", json=ASKED)
        assert first.headers["x-ratelimit-limit-tokens"] == "20"
        second = await here.http.post("/v2/rerank", json=ASKED)
        assert (second.status_code, second.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert "few" in second.json()["message"]
        never = await here.http.post("/v2/rerank", json=ASKED | {"documents": ["long " * 100]})
        assert (never.status_code, len(here.provider.asked)) == (400, 1)


async def test_a_refusal_is_the_providers_own_bytes_or_in_coheres_words(tmp_path: Path) -> None:
    own = {"id": "i", "message": "no such model"}
    async with before(tmp_path, "cohere") as here:
        here.provider.script[:] = [answer(own, 404)]
        with pytest.raises(cohere.NotFoundError) as refusal:
            await here.second().rerank(model="ranks", query="why", documents=["ab"])
        assert refusal.value.body == own
    (tmp_path / "voyage").mkdir()
    async with before(tmp_path / "voyage", "voyage", "/v1") as here:
        here.provider.script[:] = [answer({"detail": "no such model"}, 400)]
        with pytest.raises(cohere.BadRequestError) as refused:
            await here.second().rerank(model="ranks", query="why", documents=["ab"])
        assert refused.value.body["message"] == "no such model"


async def test_an_answer_that_is_none_is_a_failure_of_the_provider(tmp_path: Path) -> None:
    for kind, path in (("cohere", ""), ("tei", "")):
        (tmp_path / kind).mkdir()
        async with before(tmp_path / kind, kind, path) as here:
            here.provider.script[:] = [answer(b'"no object"')]
            came = await here.http.post("/v2/rerank", json=ASKED)
            assert (came.status_code, came.json()["error"]["code"]) == (502, "upstream_error")


async def test_the_replay_server_sees_what_was_recorded_and_its_answer_arrives(tmp_path: Path) -> None:
    """It compares each request with the recording itself. Takes seconds, most of them to read the recordings."""
    async with replay_server() as replay:
        text = f"""
kind: providers
providers: {{it: {{type: cohere, base_url: "{replay.base_url}/cohere", api_key: key-ours-alone}}}}
---
kind: models
models: {{"*": {{targets: [{{provider: it}}]}}}}
---
{ACCESS}
"""
        async with gateway(tmp_path, text) as running, httpx.AsyncClient(trust_env=False) as bare:
            here = Scene(bare, Provider(), running, bare)
            for record in recorded("cohere", "rerank"):
                await replay.post("/__replay__/arm", json={"id": record["id"]})
                client = here.second() if record in of_version("v2") else here.first()
                came = await client.rerank(**record["request"]["body"])
                assert ranks(came.results) == ranked(record)
        report = (await replay.get("/__replay__/report")).json()
    assert [(line["match"], line["diff"]) for line in report] == [("armed", [])] * 4
    for line in report:
        assert not {"path_recorded", "query_diff", "request_json_error"} & line.keys()
