"""Every provider of the OpenAI family, by its row of the registry: plain, streamed, throttled, broken, cut."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from gateway.providers.registry import PROVIDERS
from tests.contract.recorded import Record, answer_of, at_random, recorded, replayed
from tests.running import ACCESS, gateway
from tests.scripted import CHAT, DONE, FINISH, USAGE, Provider, answer, event, stream, word

KINDS = [kind for kind, provider in PROVIDERS.items() if "openai.chat" in provider.dialects]
SECRET = "sk-ours-alone-0123456789"
ASKS = {"messages": [{"role": "user", "content": "hi"}]}
ONCE = "retry: {attempts: 1}"


def fields(kind: str, url: str) -> dict[str, Any]:
    """A provider of this type at an address of the test's."""
    known = {one.name for one in dataclasses.fields(PROVIDERS[kind].spec)}
    all_ = {"base_url": url, "endpoint": url, "address": url, "api_key": SECRET, "account": "acme-account"}
    return {"type": kind} | {name: value for name, value in all_.items() if name in known}


@asynccontextmanager
async def before(tmp_path: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Provider]]:
    """A client of a gateway that knows the scripted provider by every type; the model has the type's name."""
    async with Provider() as provider:
        named = {kind.replace(".", "-"): fields(kind, provider.url) for kind in KINDS}
        models = ", ".join(
            f'"{kind}": {{targets: [{{provider: {kind.replace(".", "-")}, model: m}}], {ONCE}}}'
            for kind in KINDS
        )
        text = f"""
kind: providers
providers: {orjson.dumps(named).decode()}
---
kind: models
models: {{{models}}}
---
{ACCESS}
"""
        async with gateway(tmp_path, text) as running, running.client() as client:
            yield client, provider


async def ask(client: httpx.AsyncClient, kind: str, **more: Any) -> httpx.Response:
    return await client.post("/v1/chat/completions", json={"model": kind, **ASKS, **more})


def test_there_are_some() -> None:
    assert len(KINDS) >= 29


async def test_a_plain_answer_passes_byte_for_byte_under_our_key_alone(tmp_path: Path) -> None:
    async with before(tmp_path) as (client, provider):
        for kind in KINDS:
            came = await ask(client, kind)
            asked = provider.asked.pop()
            assert came.content == orjson.dumps(CHAT), kind
            assert "chat/completions" in asked.line, kind
            assert asked.json == {"model": "m", **ASKS}, kind
            shown = [name for name, value in asked.headers.items() if SECRET in value]
            assert shown == (
                [] if kind == "local" else ["api-key"] if kind == "azure" else ["authorization"]
            ), kind
            assert came.headers["x-gateway-target"].endswith("/m")


@pytest.mark.parametrize("cut", [None, 1], ids=["by event", "at every byte"])
async def test_a_stream_passes_and_usage_is_asked_for_where_it_must_be(
    tmp_path: Path, cut: int | None
) -> None:
    said = [word("hel"), word("lo"), FINISH, USAGE, DONE]
    split = [bytes([byte]) for byte in b"".join(said)] if cut else said
    async with before(tmp_path) as (client, provider):
        for kind in KINDS:
            provider.script[:] = [stream(*split)]
            came = await ask(client, kind, stream=True)
            asked = provider.asked.pop()
            gives = PROVIDERS[kind].quirks.gives_usage
            assert ("stream_options" in asked.json) is not gives, kind
            kept = said if gives else [one for one in said if one != USAGE]
            assert came.content == b"".join(kept), kind


async def test_padding_keep_alives_and_line_ends_of_all_kinds_pass(tmp_path: Path) -> None:
    """OpenRouter's comments (openrouter-chat_completions-4101723de3), OpenAI's and Mistral's padding, CRLF as of
    Perplexity (perplexity-chat_completions-dfae2e1008)."""
    said = b": OPENROUTER PROCESSING\n\n" + word("a", p="abc", obfuscation="x9") + FINISH + DONE
    async with before(tmp_path) as (client, provider):
        for kind in KINDS:
            for body in (said, said.replace(b"\n", b"\r\n")):
                provider.script[:] = [stream(body)]
                came = await ask(client, kind, stream=True, stream_options={"include_usage": True})
                assert came.content == body, kind


async def test_white_space_before_a_plain_answer_is_no_harm(tmp_path: Path) -> None:
    """openrouter-chat_completions-215645e348"""
    async with before(tmp_path) as (client, provider):
        provider.script[:] = [answer(b"\n         \n" + orjson.dumps(CHAT))]
        for kind in KINDS:
            assert (await ask(client, kind)).json() == CHAT
            told = await client.post("/v1/messages", json={"model": kind, "max_tokens": 9, **ASKS})
            assert told.json()["content"] == [{"type": "text", "text": "hello"}], kind


async def test_a_client_of_messages_is_served_by_each(tmp_path: Path) -> None:
    async with before(tmp_path) as (client, provider):
        for kind in KINDS:
            asks = {"model": kind, "max_tokens": 9, "metadata": {"user_id": "u"}, **ASKS}
            came = await client.post("/v1/messages", json=asks)
            sent = provider.asked.pop().json
            assert came.json()["content"] == [{"type": "text", "text": "hello"}], kind
            assert sent[PROVIDERS[kind].cap_name] == 9, kind
            assert ("user" in sent) is ("user" not in PROVIDERS[kind].quirks.refuses), kind


async def test_throttling_is_told_with_the_wait_and_without_key_or_account(tmp_path: Path) -> None:
    said = {
        "error": {
            "message": f"slow down, {SECRET} of org-AbCdEf123456",
            "type": "tokens",
            "code": "rate_limit",
        }
    }
    async with before(tmp_path) as (client, provider):
        provider.script[:] = [answer(said, 429, retry_after="7", x_request_id="req-1")]
        for kind in KINDS:
            came = await ask(client, kind)
            assert came.status_code == 429, kind
            assert came.headers["retry-after"] == "7", kind
            assert came.headers["x-should-retry"] == "false", kind
            assert came.headers["x-upstream-request-id"] == "req-1", kind
            assert "org-***" in came.text, kind
            if kind != "local":
                assert SECRET not in came.text, kind


async def test_who_only_says_when_its_limits_are_free_again_is_waited_for_all_the_same(
    tmp_path: Path,
) -> None:
    limits = {"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "1m2.5s", "cf_ray": "8f-FRA"}
    async with before(tmp_path) as (client, provider):
        provider.script[:] = [answer({"error": {"message": "slow"}}, 429, **limits)]
        for kind in KINDS:
            came = await ask(client, kind)
            assert (came.headers["retry-after"], came.headers["x-upstream-request-id"]) == ("63", "8f-FRA"), (
                kind
            )


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_an_outage_is_told_in_the_clients_dialect(tmp_path: Path, status: int) -> None:
    async with before(tmp_path) as (client, provider):
        provider.script[:] = [answer({"error": {"message": "down", "type": "server_error"}}, status)]
        for kind in KINDS:
            assert (await ask(client, kind)).status_code == status, kind
            told = await client.post("/v1/messages", json={"model": kind, "max_tokens": 9, **ASKS})
            assert (told.status_code, told.json()["error"]["message"]) == (status, "down"), kind


async def test_our_own_key_refused_is_our_failure(tmp_path: Path) -> None:
    async with before(tmp_path) as (client, provider):
        provider.script[:] = [answer({"error": {"message": f"bad key {SECRET}"}}, 401)]
        for kind in KINDS:
            came = await ask(client, kind)
            assert (came.status_code, came.json()["error"]["code"]) == (502, "upstream_error"), kind
            assert SECRET not in came.text, kind


async def test_a_stream_cut_in_the_middle_of_an_event_ends_in_an_error(tmp_path: Path) -> None:
    async with before(tmp_path) as (client, provider):
        provider.script[:] = [stream(word("hel"), word("lo")[:20], end=False)]
        for kind in KINDS:
            came = await ask(client, kind, stream=True)
            whole, _, last = came.text.rstrip().rpartition("\n\n")
            assert whole == word("hel").decode().rstrip(), kind
            assert orjson.loads(last[6:])["error"]["code"] == "upstream_stream_broken", kind


async def streamed(client: httpx.AsyncClient, provider: Provider, path: str, body: Any, last: bytes) -> str:
    """What a client gets of a stream whose `last` comes once the client has its first word."""
    gate = asyncio.Event()
    provider.script[:] = [stream(word("a"), gate, last)]
    said = b""
    async with client.stream("POST", path, json={**body, **ASKS, "stream": True}) as came:
        async for chunk in came.aiter_raw():
            said += chunk
            gate.set()
    return said.decode()


async def test_an_error_after_a_200_is_told_in_either_dialect(tmp_path: Path) -> None:
    """Groq's `event: error` (groq-chat_completions-8e947bc80e), OpenRouter's chunk with an error."""
    error = {"message": "Failed to call a function", "code": "tool_use_failed"}
    by_name, in_chunk = b"event: error\n" + event(error=error), event(id="c", choices=[], error=error) + DONE
    async with before(tmp_path) as (client, provider):
        for kind in KINDS:
            for last in (by_name, in_chunk):
                asks = {"model": kind, "max_tokens": 9}
                told = await streamed(client, provider, "/v1/messages", asks, last)
                assert '"message":"Failed to call a function"' in told, kind
                assert "message_stop" not in told, kind
                assert "tool_use_failed" in await streamed(
                    client, provider, "/v1/chat/completions", asks, last
                ), kind


def of_kind(kind: str) -> list[Record]:
    """Its recorded calls; a 401 is about our own key and no client's affair."""
    found = recorded(kind, "chat.completions", "completions", "embeddings")
    answered = [one for one in found if one["response"]["status"] not in (401, 403)]
    return [one for one in answered if (one["request"].get("body") or {}).get("model")]


async def test_recorded_calls_pass_their_own_row_untouched_both_ways(tmp_path: Path) -> None:
    """Requests equal as JSON, answers byte by byte, streams in chunks of 1 to 40 bytes, which takes three seconds.
    OpenAI's own are in test_recordings."""
    played = 0
    for kind in KINDS:
        records = of_kind(kind)
        if records and kind != "openai":
            (tmp_path / kind).mkdir()
            await play(tmp_path / kind, kind, records)
            played += len(records)
    assert played >= 200


async def play(folder: Path, kind: str, records: list[Record]) -> None:
    async with Provider() as provider:
        row = fields(kind, provider.url) | {"stream_usage": "leave"}
        text = f"""
kind: providers
providers: {{one: {orjson.dumps(row).decode()}}}
---
kind: models
models: {{"*": {{targets: [{{provider: one}}], {ONCE}}}}}
---
{ACCESS}
"""
        async with gateway(folder, text) as running, running.client() as client:
            for record in records:
                provider.script[:] = [replayed(record, at_random(record))]
                path = "/v1/" + record["api"].replace(".", "/")
                came = await client.post(path, json=record["request"]["body"])
                assert provider.asked.pop().json == record["request"]["body"], record["id"]
                assert came.content == answer_of(record), record["id"]
                assert came.status_code == record["response"]["status"], record["id"]


async def test_a_target_that_cannot_see_is_passed_over_for_one_that_can(tmp_path: Path) -> None:
    text = """
kind: providers
providers:
  blind: {{type: compatible, base_url: "{url}", capabilities: {{images: false}}}}
  seeing: {{type: compatible, base_url: "{url}"}}
---
kind: models
models:
  both: {{targets: [{{provider: blind}}, {{provider: seeing}}]}}
  none: {{targets: [{{provider: blind}}, {{provider: blind, model: other}}]}}
---
"""
    shown = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a/b"}}]}]
    async with Provider() as provider:
        async with gateway(tmp_path, text.format(url=provider.url) + ACCESS) as running:
            went = [
                (await running.chat(model, **more)).headers["x-gateway-target"]
                for model, more in (
                    ("both", {}),
                    ("both", {"messages": shown}),
                    ("none", {"messages": shown}),
                )
            ]
    assert went == ["blind/both", "seeing/both", "blind/none"]


async def test_azure_is_shown_a_token_of_entra_that_was_had_for_the_apps_secret(tmp_path: Path) -> None:
    async with (
        Provider() as provider,
        Provider([answer({"access_token": "ey-1", "expires_in": 3600})]) as login,
    ):
        text = f"""
kind: providers
providers:
  azure: {{type: azure, endpoint: "{provider.url.removesuffix("/v1")}", api_version: "2024-10-21",
          tenant_id: acme, client_id: app, client_secret: app-secret-0123,
          authority: "{login.url.removesuffix("/v1")}"}}
---
kind: models
models: {{smart: {{targets: [{{provider: azure, model: gpt}}]}}}}
---
{ACCESS}
"""
        async with gateway(tmp_path, text) as running:
            for _ in range(2):
                assert (await running.chat()).json() == CHAT
    assert [asked.line for asked in login.asked] == ["POST /acme/oauth2/v2.0/token HTTP/1.1"]
    assert b"client_secret=app-secret-0123" in login.asked[0].body
    for asked in provider.asked:
        assert asked.line == "POST /openai/deployments/gpt/chat/completions?api-version=2024-10-21 HTTP/1.1"
        assert asked.headers["authorization"] == "Bearer ey-1"
        assert "api-key" not in asked.headers


async def test_without_a_token_the_operator_is_told_why_and_nobody_a_secret(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with Provider(
        [answer({"error": "invalid_client", "error_description": "app-secret-0123"}, 401)]
    ) as login:
        text = f"""
kind: providers
providers:
  azure: {{type: azure, endpoint: "{login.url}", tenant_id: acme, client_id: app, client_secret: app-secret-0123,
          authority: "{login.url.removesuffix("/v1")}"}}
---
kind: models
models: {{smart: {{targets: [{{provider: azure, model: gpt}}]}}}}
---
{ACCESS}
"""
        async with gateway(tmp_path, text) as running:
            came = await running.chat()
    assert came.status_code == 502
    assert 'no credential to show to the provider \\"azure\\"' in came.text
    assert "invalid_client" not in came.text
    log = capfd.readouterr().err
    assert "invalid_client" in log
    assert "app-secret" not in came.text + log
