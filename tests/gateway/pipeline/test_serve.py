"""The corridor, end to end over real sockets: what comes back, what is tried, what is settled."""

import asyncio
import gzip
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.upstream.breaker import CONSECUTIVE, FIRST_REST
from gateway.wire import sse
from tests.running import KEY, Running, gateway, policies, until_idle
from tests.scripted import CHAT, DONE, FINISH, USAGE, Act, Asked, Provider, answer, event, hang, stream, word

LIMITS = """
kind: rate-limits
rules:
  - {id: calls, limit: 100, unit: requests, per: day, for_each: [key]}
  - {id: words, limit: 10000, unit: tokens, per: day, for_each: [team]}
  - {id: at-once, limit: 2, unit: concurrent, for_each: [key]}
"""


async def limits_left(running: Running) -> dict[str, str]:
    """What the next call's headers say is left (that call included)."""
    response = await running.chat(max_tokens=1)
    return {
        name: value for name, value in response.headers.items() if name.startswith("x-ratelimit-remaining")
    }


async def test_a_call_is_answered_with_the_providers_own_bytes(tmp_path: Path) -> None:
    async with Provider() as provider, gateway(tmp_path, policies(provider.url)) as running:
        response = await running.chat()
        assert response.status_code == 200
        assert response.content == httpx.Response(200, json=CHAT).content or response.json() == CHAT
        assert response.headers["x-gateway-target"] == "p0/smart"
        assert response.headers["x-gateway-attempts"] == "1"
        assert response.headers["cache-control"] == "private, no-store"
        asked = provider.asked[0]
        assert asked.line == "POST /v1/chat/completions HTTP/1.1"
        assert "authorization" not in asked.headers, "the client's key stays here"
        assert asked.headers["accept-encoding"] == "identity"


async def test_the_request_goes_out_as_it_came_but_for_the_model(tmp_path: Path) -> None:
    text = policies("URL", model="").replace("{provider: p0}]", "{provider: p0, model: big}]")
    async with Provider() as provider, gateway(tmp_path, text.replace("URL", provider.url)) as running:
        body = (
            b'{ "messages":[{"role":"user","content":"\\u00e9 model"}] ,"x_new": 1.50,\n"model" : "smart" }'
        )
        async with running.client() as client:
            await client.post("/v1/chat/completions", content=body)
        assert provider.asked[0].body == body.replace(b'"smart"', b'"big"')


@pytest.mark.parametrize("wants_usage", [True, False])
async def test_usage_is_asked_of_a_stream_and_withheld_again(tmp_path: Path, wants_usage: bool) -> None:
    chunks = [word("a", usage=None), word("b", usage=None), FINISH, USAGE, DONE]
    async with Provider([stream(*chunks)]) as provider, gateway(tmp_path, policies(provider.url)) as running:
        more: dict[str, Any] = {"stream_options": {"include_usage": True}} if wants_usage else {}
        response = await running.chat(stream=True, **more)
        assert provider.asked[0].json["stream_options"] == {"include_usage": True}
        expected = chunks if wants_usage else [word("a"), word("b"), FINISH, DONE]
        assert response.content == b"".join(expected)
        total = (await running.usage())["total"]
        assert (total["calls"], total["prompt_tokens"], total["completion_tokens"]) == (1, 7, 3)


async def test_a_throttled_target_leads_on_to_the_next_and_is_left_alone(tmp_path: Path) -> None:
    busy = answer({"error": {"message": "slow down"}}, 429, retry_after="30")
    async with Provider([busy]) as first, Provider() as second:
        async with gateway(tmp_path, policies(first.url, second.url)) as running:
            responses = [await running.chat() for _ in range(3)]
            assert [one.status_code for one in responses] == [200, 200, 200]
            assert (len(first.asked), len(second.asked)) == (1, 3)
            counted = 'gateway_fallbacks_total{from="p0/smart",to="p1/smart",reason="throttled"} 1'
            assert counted in await running.metrics()


async def test_no_call_is_refused_when_all_targets_have_just_recovered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    async with Provider() as first, Provider() as second:
        async with gateway(tmp_path, policies(first.url, second.url)) as running:
            breaker = running.house.breaker
            monkeypatch.setattr(breaker, "_clock", lambda: now)
            monkeypatch.setattr(breaker, "_dice", lambda: 0.99)
            for name in ("p0/smart", "p1/smart"):
                while breaker.begin(name, name):
                    breaker.fail(name)
            now = FIRST_REST * 2
            assert [(await running.chat()).headers["x-gateway-target"] for _ in range(4)] == [
                "p0/smart", "p1/smart", "p1/smart", "p1/smart",
            ]  # fmt: skip


async def test_while_a_provider_wants_rest_it_is_told_how_long(tmp_path: Path) -> None:
    busy = answer({"error": {"message": "slow down"}}, 429, retry_after="20")
    async with Provider([busy]) as first, Provider() as second:
        async with gateway(tmp_path, policies(first.url, second.url)) as running:
            running.house.breaker.drain("p1/smart", True)
            assert (await running.chat()).status_code == 429
            refused = await running.chat()
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_target")
            assert refused.headers["retry-after"] == "20"
            assert "try again in 20 s" in refused.json()["error"]["message"]


async def test_a_provider_whose_account_is_empty_is_not_asked_again(tmp_path: Path) -> None:
    spent = answer({"error": {"message": "no money", "type": "insufficient_quota", "code": None}}, 429)
    async with Provider([spent]) as first, Provider() as second:
        async with gateway(tmp_path, policies(first.url, second.url)) as running:
            response = await running.chat()
            assert (response.status_code, response.headers["x-gateway-attempts"]) == (200, "2")
            response = await running.chat(model="mini")
            assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_error")
            assert "credential or account (status 429)" in response.json()["error"]["message"]
            assert len(first.asked) == 2


REFUSED, THROTTLED = answer({"error": {}}, 401), answer({"error": {}}, 429, retry_after="30")


def keys_shown(provider: Provider) -> list[str]:
    return [asked.headers["authorization"].removeprefix("Bearer ") for asked in provider.asked]


def with_keys(url: str, *keys: str, others: str) -> str:
    return policies(url, others, model="retry: {attempts: 1}").replace(
        f'base_url: "{url}"', f'base_url: "{url}", api_key: [{", ".join(keys)}]', 1
    )


async def test_the_keys_of_a_provider_take_turns_whatever_is_asked_of_others(tmp_path: Path) -> None:
    async with Provider([answer({}, 500)]) as first, Provider() as second:
        async with gateway(tmp_path, with_keys(first.url, "one", "two", others=second.url)) as running:
            for _ in range(4):
                await running.chat()
            assert keys_shown(first) == ["two", "one", "two", "one"]
            assert len(second.asked) == 4


@pytest.mark.parametrize("bad", [REFUSED, THROTTLED])
async def test_a_key_that_is_refused_or_throttled_makes_way_for_the_next(tmp_path: Path, bad: Act) -> None:
    async with Provider([bad, answer(CHAT), bad, bad]) as first, Provider() as second:
        async with gateway(tmp_path, with_keys(first.url, "one", "two", others=second.url)) as running:
            answers = [await running.chat() for _ in range(2)]
            assert [one.headers["x-gateway-target"] for one in answers] == ["p0/smart", "p1/smart"]
            assert keys_shown(first) == ["two", "one", "one", "two"]
            report: Any = {row["target"]: row for row in running.house.breaker.report()}["p0/smart"]
            assert report["in_flight"] == 0
            assert (report["cooling_s"] > 0) is (bad is THROTTLED), "once all keys have been"


@pytest.mark.parametrize("bad", [REFUSED, THROTTLED])
async def test_a_key_that_rests_is_not_shown_first_while_another_does_not(tmp_path: Path, bad: Act) -> None:
    async def act(asked: Asked, writer: asyncio.StreamWriter) -> None:
        is_bad = asked.headers["authorization"] == "Bearer one" and asked.json["model"] == "smart"
        await (bad if is_bad else answer(CHAT))(asked, writer)

    async with Provider([act]) as first, Provider() as second:
        async with gateway(tmp_path, with_keys(first.url, "one", "two", others=second.url)) as running:
            assert [(await running.chat()).status_code for _ in range(5)] == [200] * 5
            assert keys_shown(first) == ["two", "one", "two", "two", "two", "two"]
            assert [(await running.chat("mini")).status_code for _ in range(2)] == [200] * 2
            assert sorted(keys_shown(first)[6:]) == ["one", "two"], "of another model nothing was said"


async def test_a_key_that_is_refused_speaks_for_no_other_that_is_only_throttled(tmp_path: Path) -> None:
    async def by_key(asked: Asked, writer: asyncio.StreamWriter) -> None:
        refused = asked.headers["authorization"] == "Bearer two"
        await (REFUSED if refused else answer({"error": {"message": "slow down"}}, 429))(asked, writer)

    async with Provider([by_key]) as provider:
        text = policies(provider.url, model="retry: {attempts: 1}").replace(
            f'base_url: "{provider.url}"', f'base_url: "{provider.url}", api_key: [one, two]', 1
        )
        async with gateway(tmp_path, text) as running:
            for _ in range(6):
                assert (await running.chat()).status_code == 429
            report: Any = {row["target"]: row for row in running.house.breaker.report()}["p0/smart"]
            assert report["circuit"] == "closed"


@pytest.mark.parametrize("waits", [("20", "50"), ("50", "20"), ("20", "")])
async def test_a_target_whose_keys_are_all_throttled_is_back_with_the_first_of_them(
    tmp_path: Path, waits: tuple[str, str]
) -> None:
    busy = {"error": {"message": "slow down"}}
    script = [answer(busy, 429, **({"retry_after": wait} if wait else {})) for wait in waits]
    async with Provider(script) as first, Provider() as second:
        async with gateway(tmp_path, with_keys(first.url, "one", "two", others=second.url)) as running:
            running.house.breaker.drain("p1/smart", True)
            told = await running.chat()
            assert (told.status_code, told.headers["retry-after"]) == (429, "20")
            assert len(first.asked) == 2
            assert (await running.chat()).headers["retry-after"] == "20"
            assert len(first.asked) == 2


async def test_who_waits_for_a_throttled_target_shows_the_key_that_is_back_first(tmp_path: Path) -> None:
    busy = {"error": {"message": "slow down"}}
    script = [answer(busy, 429, retry_after_ms="50"), answer(busy, 429, retry_after="50"), answer(CHAT)]
    async with Provider(script) as provider:
        text = policies(provider.url).replace(
            f'base_url: "{provider.url}"', f'base_url: "{provider.url}", api_key: [one, two]', 1
        )
        async with gateway(tmp_path, text) as running:
            assert (await running.chat()).status_code == 200
            assert keys_shown(provider) == ["two", "one", "two"]


async def test_a_broken_target_is_tried_twice_before_the_next(tmp_path: Path) -> None:
    async with Provider([answer({}, 500)]) as first, Provider() as second:
        async with gateway(tmp_path, policies(first.url, second.url)) as running:
            response = await running.chat()
            assert (response.status_code, response.headers["x-gateway-attempts"]) == (200, "3")
            assert (await running.usage())["total"]["calls"] == 1, "one call, whatever the tries"


@pytest.mark.parametrize("status", [502, 520, 521, 522, 523, 524, 529])
async def test_an_outage_leads_on_by_whatever_number_it_goes(tmp_path: Path, status: int) -> None:
    async with Provider([answer({}, status)]) as first, Provider() as second:
        async with gateway(tmp_path, policies(first.url, second.url)) as running:
            response = await running.chat()
            assert (response.status_code, response.headers["x-gateway-target"]) == (200, "p1/smart")


async def test_a_status_that_the_policy_names_leads_on(tmp_path: Path) -> None:
    odd = [answer({"error": {"message": "gone"}}, 410), answer({"error": {"message": "failed"}}, 424)]
    async with Provider(odd) as first, Provider() as second:
        text = policies(first.url, second.url, model="retry: {attempts: 1, on: [424]}")
        async with gateway(tmp_path, text) as running:
            assert [(await running.chat()).status_code for _ in range(2)] == [410, 200]
            assert (len(first.asked), len(second.asked)) == (2, 1)


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422])
async def test_a_rejected_call_gets_the_providers_own_words_and_nothing_is_retried(
    tmp_path: Path, status: int
) -> None:
    words = b'{"error": {"message": "no",\n "type": "x", "param": null, "code": "context_length_exceeded"}}'
    async with Provider([answer(words, status)]) as first, Provider() as second:
        async with gateway(tmp_path, policies(first.url, second.url)) as running:
            response = await running.chat()
            assert (response.status_code, response.content) == (status, words)
            assert (len(first.asked), len(second.asked)) == (1, 0)


async def test_a_prompt_that_the_provider_flags_is_the_callers_own_matter(tmp_path: Path) -> None:
    flagged = {"reasons": ["violence"], "flagged_input": "hi", "provider_name": "OpenAI", "model_slug": "o/m"}
    words = json.dumps({"error": {"message": "flagged", "code": 403, "metadata": flagged}}).encode()
    async with Provider([answer(words, 403)]) as first, Provider() as second:
        text = policies(first.url, second.url).replace(
            f'compatible, base_url: "{first.url}"', f'openrouter, api_key: k, base_url: "{first.url}"'
        )
        async with gateway(tmp_path, text) as running:
            for _ in range(CONSECUTIVE + 1):
                response = await running.chat()
                assert (response.status_code, response.content) == (403, words)
            assert (len(first.asked), len(second.asked)) == (CONSECUTIVE + 1, 0)
            message = {"model": "smart", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
            async with running.client() as client:
                told = await client.post("/v1/messages", json=message)
            assert (told.status_code, told.json()["error"]["message"]) == (403, "flagged")


async def test_a_provider_that_refuses_our_key_is_a_502(tmp_path: Path) -> None:
    async with Provider([answer({"error": {"message": "bad key"}}, 401)]) as provider:
        async with gateway(tmp_path, policies(provider.url)) as running:
            response = await running.chat()
            assert response.status_code == 502
            assert response.json()["error"]["code"] == "upstream_error"
            assert response.headers["x-should-retry"] == "false"


async def test_the_last_outage_is_told_in_the_providers_words(tmp_path: Path) -> None:
    async with Provider([answer({"error": {"message": "overloaded"}}, 503)]) as provider:
        async with gateway(tmp_path, policies(provider.url)) as running:
            response = await running.chat()
            assert (response.status_code, response.json()["error"]["message"]) == (503, "overloaded")
            assert response.headers["x-should-retry"] == "false"


HELLO: dict[str, Any] = {"model": "smart", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
# A call in each dialect, and the kind of provider that speaks it.
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "/v1/chat/completions": ("compatible", HELLO),
    "/v1/messages": ("anthropic", HELLO),
    "/v1/responses": ("openai", {"model": "smart", "input": "hi"}),
    "/v1beta/models/smart:generateContent": ("gemini", {"contents": [{"parts": [{"text": "hi"}]}]}),
    "/v1/embeddings": ("compatible", {"model": "smart", "input": "hi"}),
}
PAGE = b"<html><title>502</title>nginx could not reach 10.0.0.7</html>"


async def told(tmp_path: Path, act: Act, path: str, kind: str) -> httpx.Response:
    """What such a provider's error comes to."""
    async with Provider([act]) as provider:
        own = f'{{type: {kind}, api_key: sk-of-ours, base_url: "{provider.url}"}}'
        text = policies(provider.url, model="retry: {attempts: 1}")
        text = text.replace(f'{{type: compatible, base_url: "{provider.url}"}}', own)
        async with gateway(tmp_path, text) as running, running.client() as client:
            return await client.post(path, json=ASKED[path][1])


def message_of(response: httpx.Response, path: str) -> str:
    """Which stands where the caller's dialect has it."""
    said: Any = response.json()
    assert response.headers["content-type"] == "application/json"
    if path.startswith("/v1beta"):
        assert said["error"]["code"] == response.status_code
    elif path == "/v1/messages":
        assert said["type"] == "error"
    else:
        assert set(said["error"]) == {"message", "type", "param", "code"}
    return str(said["error"]["message"])


@pytest.mark.parametrize("status", [400, 404, 422, 429, 500, 503, 504])
@pytest.mark.parametrize("path", ASKED)
async def test_an_error_without_a_word_keeps_its_status(tmp_path: Path, path: str, status: int) -> None:
    response = await told(tmp_path, answer(b"", status, retry_after="7"), path, ASKED[path][0])
    assert (response.status_code, response.headers["retry-after"]) == (status, "7")
    assert message_of(response, path) == f"the provider answered {status} and gave no reason"
    assert response.headers.get("x-should-retry") == ("false" if status >= 429 else None)


@pytest.mark.parametrize("kind", ["compatible", "anthropic", "gemini"])
@pytest.mark.parametrize("path", list(ASKED)[:4])
async def test_a_page_is_shown_to_nobody(tmp_path: Path, path: str, kind: str) -> None:
    response = await told(tmp_path, answer(PAGE, 502, "text/html"), path, kind)
    assert response.status_code == 502
    assert message_of(response, path) == "the provider answered 502 and gave no reason"


@pytest.mark.parametrize("kind", ["compatible", "anthropic"])
async def test_plain_text_is_told_without_our_credentials(tmp_path: Path, kind: str) -> None:
    path = "/v1/messages"
    response = await told(tmp_path, answer(b"not with sk-of-ours\n", 400, "text/plain"), path, kind)
    assert response.status_code == 400
    assert message_of(response, path) == "the provider answered 400: not with ***"


@pytest.mark.parametrize("kind", ["compatible", "anthropic", "gemini"])
@pytest.mark.parametrize("path", list(ASKED)[:4])
@pytest.mark.parametrize("around", [b"\xef\xbb\xbf%b", b"event: error\ndata: %b\n\ndata: [DONE]\n\n"])
async def test_an_error_that_comes_framed_keeps_its_words(
    tmp_path: Path, around: bytes, path: str, kind: str
) -> None:
    error = {"message": "not with sk-of-ours", "type": "invalid_request_error", "code": 400, "param": None}
    framed = around % json.dumps({"type": "error", "error": error | {"status": "INVALID_ARGUMENT"}}).encode()
    response = await told(tmp_path, answer(framed, 400, "text/event-stream"), path, kind)
    assert (response.status_code, response.json()["error"]["message"]) == (400, "not with ***")
    assert response.headers["content-type"] == "application/json"


async def test_an_error_that_comes_packed_is_the_providers_own(tmp_path: Path) -> None:
    path, packed = "/v1/chat/completions", gzip.compress(b'{"error": {"message": "no"}}')
    response = await told(tmp_path, answer(packed, 400, content_encoding="gzip"), path, "compatible")
    assert (response.status_code, response.json()) == (400, {"error": {"message": "no"}})
    response = await told(
        tmp_path, answer(packed, 400, "text/html", content_encoding="gzip"), path, "compatible"
    )
    assert message_of(response, path) == "the provider answered 400 and gave no reason"


async def test_a_refusal_without_a_word_is_in_the_books_as_one_with_words(tmp_path: Path) -> None:
    async with Provider([answer(b"", 404), answer(b"", 500)]) as provider:
        text = policies(provider.url, model="retry: {attempts: 1}")
        async with gateway(tmp_path, text) as running:
            assert [(await running.chat()).status_code for _ in range(2)] == [404, 500]
            metrics = await running.metrics()
            assert 'team="research",outcome="client_error"} 1' in metrics
            assert 'team="research",outcome="upstream_error"} 1' in metrics


async def cut(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def babble(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 smtp.inside\r\n\r\n")


def silent(*chunks: bytes) -> Act:
    """A stream that says no more than this, and stays open."""

    async def act(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + b"".join(chunks))
        await hang()(asked, writer)

    return act


PACKED = gzip.compress(b"data: {}")
EVENTS = b"text/event-stream\r\ncontent-encoding: gzip"


@pytest.mark.parametrize(
    ("act", "streamed", "why"),
    [
        (cut, False, "no provider answered: connection closed in mid-call (target p0/smart)"),
        (babble, False, "no provider answered: not an answer we accept"),
        (
            answer(b"<html>", content_type="text/html"),
            False,
            "it answered 200 with a body (text/html) that is no answer",
        ),
        (
            answer(PACKED, content_encoding="gzip"),
            False,
            "it answered 200 packed by gzip, which was not asked for",
        ),
        (
            stream(PACKED, content_type=EVENTS),
            True,
            "it answered 200 packed by gzip, which was not asked for",
        ),
        (
            answer(b"", 308, location="http://127.0.0.1/v2"),
            False,
            "it answered 308, a redirect; these are not followed",
        ),
        (
            answer(b"", 307, location="http://127.0.0.1/v2"),
            True,
            "it answered 307, a redirect; these are not followed",
        ),
        (hang(), True, "no provider answered in time: silent for too long (first byte) (target p0/smart)"),
        (silent(), True, "no provider answered in time: silent for too long (idle) (target p0/smart)"),
        (silent(word("a")), True, "stream broke: silent for too long (idle) (target p0/smart)"),
    ],
)
async def test_callers_are_told_which_target_failed_and_why_but_no_address(
    tmp_path: Path, act: Act, streamed: bool, why: str
) -> None:
    model = "timeouts: {first_token: 100ms, idle: 100ms}, retry: {attempts: 1}"
    async with Provider([act]) as provider:
        async with gateway(tmp_path, policies(provider.url, model=model)) as running:
            response = await running.chat(stream=streamed)
            assert why in response.text
            assert "p0/smart" in response.text
            assert "127.0.0.1" not in response.text


async def test_a_dead_provider_is_a_502_and_then_its_circuit_opens(tmp_path: Path) -> None:
    async with Provider() as provider:
        url = provider.url
    async with gateway(tmp_path, policies(url)) as running:
        codes = [(await running.chat()).json()["error"]["code"] for _ in range(5)]
        assert codes[0] == "upstream_error"
        assert codes[-1] == "no_target"
        assert 'gateway_circuit_state{deployment="p0/smart"} 2' in await running.metrics()


async def test_a_call_that_never_left_spends_nothing(tmp_path: Path) -> None:
    rule = "kind: rate-limits\nrules: [{id: one-a-day, limit: 1, unit: requests, per: day}]"
    async with Provider() as gone:
        url = gone.url
    async with gateway(tmp_path, policies(url, more=rule)) as running:
        answers = [await running.chat() for _ in range(3)]
        assert [one.status_code for one in answers] == [502, 502, 502]
        assert [one.headers["x-gateway-attempts"] for one in answers] == ["0", "0", "0"]
        assert (await running.usage())["total"]["prompt_tokens"] == 0


async def test_a_silent_provider_is_asked_once_and_the_next_answers(tmp_path: Path) -> None:
    model = "timeouts: {first_token: 100ms, total: 5s}"
    async with Provider([hang()]) as first, Provider([stream(word("hi"), FINISH, DONE)]) as second:
        async with gateway(tmp_path, policies(first.url, second.url, model=model)) as running:
            response = await running.chat(stream=True)
            assert b"hi" in response.content
            assert len(first.asked) == 1


async def test_a_call_that_takes_too_long_is_a_504(tmp_path: Path) -> None:
    async with Provider([hang()]) as provider:
        async with gateway(tmp_path, policies(provider.url, model="timeouts: {total: 200ms}")) as running:
            response = await running.chat()
            assert (response.status_code, response.json()["error"]["code"]) == (504, "upstream_timeout")


async def test_a_call_whose_time_is_over_before_the_next_try_is_charged_nothing(tmp_path: Path) -> None:
    busy = answer({"error": {"message": "slow down"}}, 429, retry_after="2")
    async with Provider([busy]) as provider:
        async with gateway(tmp_path, policies(provider.url, model="timeouts: {total: 200ms}")) as running:
            assert (await running.chat()).status_code == 504
            row = (await running.usage())["total"]
            assert (row["calls"], row["prompt_tokens"], row["estimated"]) == (1, 0, 0)


@pytest.mark.parametrize("end", [True, False])
async def test_a_stream_that_ends_early_ends_in_an_error_event(tmp_path: Path, end: bool) -> None:
    cut = stream(word("one"), word("two"), end=end)
    async with Provider([cut]) as provider, gateway(tmp_path, policies(provider.url)) as running:
        response = await running.chat(stream=True)
        blocks = response.content.split(b"\n\n")
        assert blocks[:2] == [word("one").strip(), word("two").strip()]
        error = json.loads(blocks[2].removeprefix(b"data: "))["error"]
        assert error["code"] == "upstream_stream_broken"
        assert b"[DONE]" not in response.content
        assert 'gateway_stream_truncated_total{model="smart"} 1' in await running.metrics()


async def test_a_target_that_cuts_stream_after_stream_is_left_alone(tmp_path: Path) -> None:
    cut, whole = stream(word("one"), end=False), stream(word("well"), FINISH, DONE)
    async with Provider([cut]) as first, Provider([whole]) as second:
        async with gateway(tmp_path, policies(first.url, second.url)) as running:
            texts = [(await running.chat(stream=True)).content for _ in range(7)]
            assert [b"well" in text for text in texts] == [False] * 5 + [True] * 2


@pytest.mark.parametrize("end", ["whole", "cut", "left"])
async def test_an_open_stream_is_a_call_in_flight_at_its_target(tmp_path: Path, end: str) -> None:
    go_on = asyncio.Event()
    told = stream(word("one"), go_on, *([FINISH, DONE] if end == "whole" else []), end=end == "whole")
    async with Provider([told]) as first, Provider() as second:
        text = policies(first.url, second.url, model="strategy: least-busy")
        async with gateway(tmp_path, text) as running, running.client() as client:
            body = {"model": "smart", "stream": True, "messages": []}
            async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                lines = response.aiter_lines()
                assert "one" in await anext(lines)
                assert running.house.breaker.in_flight("p0/smart") == 1
                assert (await running.chat()).headers["x-gateway-target"] == "p1/smart"
                if end != "left":
                    go_on.set()
                    assert [line async for line in lines]
            await until_idle(running)
            assert [row["in_flight"] for row in running.house.breaker.report()] == [0, 0]


async def test_a_whole_stream_without_its_last_word_is_whole(tmp_path: Path) -> None:
    async with Provider([stream(word("one"), FINISH)]) as provider:
        async with gateway(tmp_path, policies(provider.url)) as running:
            response = await running.chat(stream=True)
            assert b"error" not in response.content


async def test_between_its_reason_and_its_last_event_a_stream_may_be_silent_for_a_moment(
    tmp_path: Path,
) -> None:
    counted = asyncio.Event()
    async with Provider([stream(word("one"), FINISH, counted, USAGE, DONE)]) as provider:
        async with gateway(tmp_path, policies(provider.url)) as running:
            asyncio.get_running_loop().call_later(0.1, counted.set)
            response = await running.chat(stream=True, stream_options={"include_usage": True})
            assert response.content == word("one") + FINISH + USAGE + DONE


async def test_a_stream_that_begins_with_an_error_leads_on(tmp_path: Path) -> None:
    ill = stream(event(error={"message": "internal", "type": "server_error"}))
    async with Provider([ill]) as first, Provider([stream(word("well"), FINISH, DONE)]) as second:
        async with gateway(tmp_path, policies(first.url, second.url)) as running:
            response = await running.chat(stream=True)
            assert b"well" in response.content
            assert b"internal" not in response.content


SLOW = {"error": {"message": "slow down", "type": "rate_limit_error"}}


async def test_an_error_with_the_status_of_an_answer_leads_on(tmp_path: Path) -> None:
    async with Provider([answer(SLOW)]) as first, Provider() as second:
        async with gateway(tmp_path, policies(first.url, second.url)) as running:
            response = await running.chat()
            assert (response.status_code, response.headers["x-gateway-target"]) == (200, "p1/smart")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/v1/chat/completions", SLOW),
        ("/v1/messages", {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}),
    ],
)
async def test_it_is_told_with_its_status_in_the_clients_dialect(
    tmp_path: Path, path: str, told: object
) -> None:
    async with Provider([answer(SLOW)]) as provider:
        async with gateway(tmp_path, policies(provider.url)) as running, running.client() as client:
            body = {"model": "smart", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
            response = await client.post(path, json=body)
            assert (response.status_code, response.json()) == (429, told)


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_hangs_up_closes_the_upstream_and_is_settled(
    tmp_path: Path, streamed: bool
) -> None:
    act = stream(word("one"), then=asyncio.Event().wait) if streamed else hang()  # type: ignore[arg-type]
    async with Provider([act, answer(CHAT)]) as provider:
        async with gateway(tmp_path, policies(provider.url, more=LIMITS)) as running:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            body = json.dumps(
                {"model": "smart", "stream": streamed, "max_tokens": 50, "messages": []}
            ).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
            writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            if streamed:
                await reader.readuntil(b"one")
            else:
                async with asyncio.timeout(2):
                    while not provider.asked:
                        await asyncio.sleep(0.005)
            began = asyncio.get_running_loop().time()
            writer.close()
            async with asyncio.timeout(2):
                await until_idle(running)
                while running.house.upstream.stats() and any(
                    o for o, _ in running.house.upstream.stats().values()
                ):
                    await asyncio.sleep(0.005)
            assert asyncio.get_running_loop().time() - began < 1
            report = await running.usage(by="outcome")
            assert [(row["outcome"], row["calls"], row["estimated"]) for row in report["rows"]] == [
                ("client_cancelled", 1, 1)
            ]
            left = await limits_left(running)
            assert left["x-ratelimit-remaining-requests"] == "98"


@pytest.mark.parametrize(
    ("path", "last"),
    [
        ("/v1/messages", "event: message_stop"),
        ("/v1/responses", '"status":"completed"'),
        ("/v1beta/models/smart:streamGenerateContent?alt=sse", '"finishReason":"STOP"'),
    ],
)
async def test_who_asks_across_for_a_stream_gets_one_though_the_provider_does_not_stream(
    tmp_path: Path, path: str, last: str
) -> None:
    hi = [{"role": "user", "content": "hi"}]
    body: dict[str, Any] = {"model": "smart", "stream": True, "messages": hi, "input": "hi"}
    if "v1beta" in path:
        body = {"contents": [{"parts": [{"text": "hi"}]}]}
    async with Provider() as provider, gateway(tmp_path, policies(provider.url)) as running:
        async with running.client() as client:
            came = await client.post(path, json=body)
            assert came.headers["content-type"].startswith("text/event-stream")
            assert "hello" in came.text
            assert last in came.text
            total = (await running.usage())["total"]
            assert (total["prompt_tokens"], total["completion_tokens"], total["estimated"]) == (7, 3, 0)


async def test_an_answer_that_is_none_is_an_error_to_who_asks_for_a_stream_too(tmp_path: Path) -> None:
    async with Provider([answer({"error": {"message": "no", "type": "rate_limit_error"}})]) as provider:
        async with gateway(tmp_path, policies(provider.url)) as running, running.client() as client:
            came = await client.post("/v1/messages", json={"model": "smart", "messages": [], "stream": True})
            assert (came.status_code, came.json()["error"]["type"]) == (429, "rate_limit_error")


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses", "/v1beta/models/smart:generateContent"])
async def test_a_stream_that_nobody_asked_for_is_one_answer_across(tmp_path: Path, path: str) -> None:
    body: dict[str, Any] = {"model": "smart", "messages": [], "input": "hi"}
    if "v1beta" in path:
        body = {"contents": [{"parts": [{"text": "hi"}]}]}
    async with Provider([stream(word("hel"), word("lo"), FINISH, USAGE, DONE)]) as provider:
        async with gateway(tmp_path, policies(provider.url)) as running:
            async with running.client() as client:
                came = await client.post(path, json=body)
                assert (came.status_code, came.headers["content-type"]) == (200, "application/json")
                assert "hello" in came.text
                total = (await running.usage())["total"]
                assert (total["prompt_tokens"], total["completion_tokens"]) == (7, 3)


async def test_a_stream_that_nobody_asked_for_is_none_where_it_fails_or_breaks_off(tmp_path: Path) -> None:
    failed = event(error={"message": "no", "type": "rate_limit_error"})
    for events, status in (([word("hi"), failed], 429), ([word("hi")], 502)):
        async with Provider([stream(*events)]) as provider:
            async with gateway(tmp_path, policies(provider.url, model="retry: {attempts: 1}")) as running:
                async with running.client() as client:
                    came = await client.post("/v1/messages", json={"model": "smart", "messages": []})
                    assert came.status_code == status


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
async def test_a_prompt_that_was_counted_before_a_stream_broke_is_what_the_call_took(
    tmp_path: Path, path: str
) -> None:
    counts = {"input_tokens": 1000, "cache_read_input_tokens": 500, "output_tokens": 1}
    begun = event(type="message_start", message={"id": "m", "model": "c", "usage": counts})
    said = event(type="content_block_delta", index=0, delta={"type": "text_delta", "text": "hello there"})
    async with Provider([stream(begun, said, end=False)]) as provider:
        text = policies(provider.url.removesuffix("/v1")).replace(
            "type: compatible", "type: anthropic, api_key: k"
        )
        async with gateway(tmp_path, text) as running, running.client() as client:
            body = {"model": "smart", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
            came = await client.post(path, json=body | {"stream": True})
            assert "hello there" in came.text
            total = (await running.usage())["total"]
            assert (total["prompt_tokens"], total["estimated"]) == (1500, 1)
            assert 0 < total["completion_tokens"] < 9


async def test_reservations_are_settled_to_what_was_used(tmp_path: Path) -> None:
    async with Provider() as provider, gateway(tmp_path, policies(provider.url, more=LIMITS)) as running:
        first = await running.chat(max_tokens=500)
        assert int(first.headers["x-ratelimit-remaining-tokens"]) < 9600, "the estimate is reserved"
        second = await running.chat(max_tokens=1)
        assert int(second.headers["x-ratelimit-remaining-tokens"]) > 9980, "7 + 3 tokens were used"


async def test_a_limit_that_is_reached_names_its_rule_and_when_to_come_back(tmp_path: Path) -> None:
    rule = "kind: rate-limits\nrules: [{id: one-a-day, limit: 1, unit: requests, per: day}]"
    async with Provider() as provider, gateway(tmp_path, policies(provider.url, more=rule)) as running:
        assert (await running.chat()).status_code == 200
        refused = await running.chat()
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert "one-a-day" in refused.json()["error"]["message"]
        assert 86000 < int(refused.headers["retry-after"]) <= 86400
        told = {name: value for name, value in refused.headers.items() if name.startswith("x-ratelimit-")}
        reset = told.pop("x-ratelimit-reset-requests")
        assert reset.startswith(("1439m", "1440m"))
        assert told == {"x-ratelimit-limit-requests": "1", "x-ratelimit-remaining-requests": "0"}
        assert len(provider.asked) == 1


async def test_what_can_never_fit_is_a_400(tmp_path: Path) -> None:
    async with Provider() as provider, gateway(tmp_path, policies(provider.url, more=LIMITS)) as running:
        response = await running.chat(max_tokens=20000)
        assert response.status_code == 400
        assert "words" in response.json()["error"]["message"]


async def test_a_teams_output_cap_is_added_or_refused(tmp_path: Path) -> None:
    async with Provider() as provider, gateway(tmp_path, policies(provider.url)) as running:
        async with running.client("sk-poor") as client:
            body = {"model": "mini", "messages": []}
            assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
            assert provider.asked[0].json["max_tokens"] == 100
            over = await client.post("/v1/chat/completions", json=body | {"max_completion_tokens": 101})
            assert (over.status_code, over.json()["error"]["code"]) == (400, "max_output_tokens_exceeded")
            denied = await client.post("/v1/chat/completions", json=body | {"model": "smart"})
            assert (denied.status_code, denied.json()["error"]["code"]) == (403, "model_not_allowed")


async def test_a_full_house_turns_calls_away(tmp_path: Path) -> None:
    async with (
        Provider([hang()]) as provider,
        gateway(tmp_path, policies(provider.url), max_in_flight=1) as running,
    ):
        first = asyncio.ensure_future(running.chat())
        async with asyncio.timeout(2):
            while not provider.asked:
                await asyncio.sleep(0.005)
        refused = await running.chat()
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await until_idle(running)


@pytest.mark.parametrize("begun", [False, True])
async def test_a_stream_without_an_end_of_its_event_is_broken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    monkeypatch.setattr(sse, "MOST_EVENT", 1000)
    first = [word("hi")] if begun else []
    async with Provider([stream(*first, b"data: " + b"x" * 2000, end=False)]) as provider:
        async with gateway(tmp_path, policies(provider.url, model="retry: {attempts: 1}")) as running:
            response = await running.chat(stream=True)
    if begun:
        assert (response.status_code, b"upstream_stream_broken" in response.content) == (200, True)
        assert b"xxx" not in response.content
    else:
        assert response.status_code == 502


async def test_calls_that_wait_for_a_locked_database_hold_up_no_policies(tmp_path: Path) -> None:
    """More of them than an event loop has threads of its own."""
    async with Provider() as provider, gateway(tmp_path, policies(provider.url)) as running:
        old = running.house.policies.snapshot.version
        with closing(sqlite3.connect(tmp_path / "data" / "gatehouse.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            provider.script[:] = [answer({**CHAT, "id": f"c{number}"}) for number in range(50)]
            calls = [asyncio.ensure_future(running.chat(store=True)) for _ in range(40)]
            while len(provider.asked) < 40:
                await asyncio.sleep(0.005)
            (running.folder / "gateway.yaml").write_text(policies(provider.url, more=LIMITS))
            async with asyncio.timeout(3):  # a locked database is waited for for five seconds
                while running.house.policies.snapshot.version == old:
                    await asyncio.sleep(0.01)
            assert not any(call.done() for call in calls)
            other.execute("ROLLBACK")
        assert {(await call).status_code for call in calls} == {200}
