"""Who ends a call early, and what that says of the provider that was asked."""

import asyncio
import time
from pathlib import Path

import pytest

from gateway.upstream.breaker import CONSECUTIVE, FIRST_REST
from tests.running import KEY, Running, gateway, policies, until_idle
from tests.scripted import Act, Asked, Provider, answer, hang

SHORT = "timeouts: {total: 200ms}"


def begun(*parts: bytes) -> Act:
    """An answer of which only this much comes."""

    async def act(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n")
        writer.writelines(parts)
        await hang()(asked, writer)

    return act


async def at_once(running: Running, calls: int, **headers: str) -> list[int]:
    """Their statuses."""
    body = {"model": "smart", "messages": [{"role": "user", "content": "hi"}]}
    async with running.client() as client:
        came = [client.post("/v1/chat/completions", json=body, headers=headers) for _ in range(calls)]
        return [response.status_code for response in await asyncio.gather(*came)]


def circuit(running: Running, name: str = "p0/smart") -> object:
    return {row["target"]: row["circuit"] for row in running.house.breaker.report()}[name]


@pytest.mark.parametrize("act", [hang(), begun(), begun(b'{"id":')])
async def test_who_takes_all_the_time_of_call_after_call_is_left_alone(tmp_path: Path, act: Act) -> None:
    async with Provider([act]) as first, Provider() as second:
        async with gateway(tmp_path, policies(first.url, second.url, model=SHORT)) as running:
            assert await at_once(running, CONSECUTIVE) == [504] * CONSECUTIVE
            response = await running.chat()
            assert response.headers["x-gateway-target"] == "p1/smart"
            assert response.headers["x-gateway-attempts"] == "1"
            assert len(first.asked) == CONSECUTIVE


async def test_an_impatient_client_says_nothing_of_the_provider(tmp_path: Path) -> None:
    async with Provider([hang()]) as provider:
        async with gateway(tmp_path, policies(provider.url, model="timeouts: {total: 5s}")) as running:
            statuses = await at_once(running, CONSECUTIVE, **{"x-gateway-timeout": "0.1"})
            assert (statuses, circuit(running)) == ([504] * CONSECUTIVE, "closed")


async def test_a_client_that_would_wait_longer_than_the_call_may_take_is_not_impatient(
    tmp_path: Path,
) -> None:
    async with Provider([hang()]) as provider:
        async with gateway(tmp_path, policies(provider.url, model=SHORT)) as running:
            statuses = await at_once(running, CONSECUTIVE, **{"x-gateway-timeout": "5"})
            assert (statuses, circuit(running)) == ([504] * CONSECUTIVE, "open")


async def test_clients_that_hang_up_say_nothing_of_the_provider(tmp_path: Path) -> None:
    async with Provider([hang()]) as provider, gateway(tmp_path, policies(provider.url)) as running:
        calls = asyncio.ensure_future(at_once(running, CONSECUTIVE))
        while len(provider.asked) < CONSECUTIVE:
            await asyncio.sleep(0.002)
        calls.cancel()
        await until_idle(running)
        assert circuit(running) == "closed"


@pytest.mark.parametrize(("headers", "told"), [({}, "open"), ({"x-gateway-timeout": "0.1"}, "half_open")])
async def test_a_probe_fails_by_the_calls_own_time_and_not_by_its_clients(
    tmp_path: Path, headers: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Provider([hang()]) as provider:
        async with gateway(tmp_path, policies(provider.url, model=SHORT)) as running:
            await rested(running, monkeypatch)
            assert await at_once(running, 1, **headers) == [504]
            assert circuit(running) == told
            assert running.house.breaker.usable("p0/smart", "p0/smart") == (told == "half_open")


async def test_who_was_asked_late_is_not_the_one_that_took_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = answer({"error": {"message": "slow down"}}, 429, retry_after_ms="500")
    async with Provider([busy, hang()]) as provider:
        model = "timeouts: {total: 700ms}"
        async with gateway(tmp_path, policies(provider.url, model=model)) as running:
            await rested(running, monkeypatch)
            assert await at_once(running, 1) == [504]
            assert (len(provider.asked), circuit(running)) == (2, "half_open")


@pytest.mark.parametrize("whole", [True, False])
async def test_a_provider_is_waited_for_once_it_has_all_of_an_upload(
    tmp_path: Path, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = (b'name="model"\r\n\r\nsmart\r\n', b'name="file"; filename="a.wav"\r\n\r\n' + b"a" * 100_000)
    form = (
        b"".join(b"--cut\r\ncontent-disposition: form-data; " + part for part in parts) + b"\r\n--cut--\r\n"
    )
    head = (
        f"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
        f"content-type: multipart/form-data; boundary=cut\r\ncontent-length: {len(form)}\r\n\r\n"
    )
    async with Provider([hang()]) as provider:
        async with gateway(tmp_path, policies(provider.url, model=SHORT)) as running:
            await rested(running, monkeypatch)
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(head.encode() + (form if whole else form[:-1]))
            assert b" 504 " in await reader.readline()
            writer.close()
            await until_idle(running)
            assert circuit(running) == ("open" if whole else "half_open")


async def rested(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its circuit has been open for so long that the next call is a probe."""
    breaker = running.house.breaker
    while breaker.begin("p0/smart", "p0/smart"):
        breaker.fail("p0/smart")
    monkeypatch.setattr(breaker, "_clock", lambda: time.perf_counter() + FIRST_REST * 2)
