"""Health is each model's own, also where many pass through one target."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.upstream.breaker import CONSECUTIVE, FIRST_REST
from gateway.upstream.budgets import RetryBudgets
from tests.running import ACCESS, Running, gateway, until_idle
from tests.scripted import CHAT, DONE, FINISH, Act, Asked, Provider, answer, stream, word

BUSY = answer({"error": {"message": "slow down"}}, 429, retry_after="7")
BROKEN = answer({"error": {"message": "broken"}}, 500)
UNKNOWN = answer({"error": {"message": "no such model"}}, 404)


def passing(*urls: str, model: str = "", more: str = "") -> str:
    """`gpt-*` goes to a target per address, and `text-*` to the first."""
    providers = ", ".join(
        f'p{i}: {{type: compatible, base_url: "{url}", default: {"false" if i else "true"}}}'
        for i, url in enumerate(urls)
    )
    listed = ", ".join(f"{{provider: p{i}}}" for i in range(len(urls)))
    return f"""
kind: providers
providers: {{{providers}}}
---
kind: models
models:
  "gpt-*": {{targets: [{listed}]{", " if model else ""}{model}}}
  "text-*": {{targets: [{{provider: p0}}]}}
  {more}
---
{ACCESS}
"""


def of_models(acts: dict[str, Act]) -> Act:
    """Each model as it is said, every other answers."""

    async def act(asked: Asked, writer: asyncio.StreamWriter) -> None:
        model = asked.json["model"] if asked.body else ""
        well = answer(CHAT if model else {"object": "list", "data": [], "has_more": False})
        await acts.get(model, well)(asked, writer)

    return act


async def post(running: Running, path: str, **body: Any) -> httpx.Response:
    async with running.client() as client:
        return await client.post(path, json=body)


async def files(running: Running) -> int:
    async with running.client() as client:
        return (await client.get("/v1/files")).status_code


async def targets(running: Running) -> dict[str, Any]:
    async with running.admin() as admin:
        told = (await admin.get("/admin/v1/targets")).json()["targets"]
    return {row["target"]: row for row in told}


async def circuits(running: Running) -> list[str]:
    lines = (await running.metrics()).splitlines()
    return [
        line.removeprefix("gateway_circuit_state") for line in lines if line.startswith("gateway_circuit")
    ]


async def statuses(running: Running, model: str, calls: int) -> list[int]:
    return [(await running.chat(model)).status_code for _ in range(calls)]


async def test_a_model_that_wants_rest_holds_up_no_other_of_its_provider(
    tmp_path: Path, provider: Provider
) -> None:
    provider.script = [of_models({"gpt-a": BUSY})]
    async with gateway(tmp_path, passing(provider.url)) as running:
        assert (await running.chat("gpt-a")).status_code == 429
        again = await running.chat("gpt-a")
        assert (again.status_code, again.json()["error"]["code"]) == (503, "no_target")
        assert again.headers["retry-after"] == "7"
        assert (await running.chat("gpt-b")).status_code == 200
        assert (await post(running, "/v1/embeddings", model="text-e", input="hi")).status_code == 200
        assert await files(running) == 200
        told = await targets(running)
        assert list(told) == ["p0/*", "p0/gpt-a"]
        assert 6 < told["p0/gpt-a"]["cooling_s"] <= 7


@pytest.mark.parametrize("status", [429, 503, 529])
async def test_who_is_down_or_has_too_much_to_do_rests_for_as_long_as_it_says(
    tmp_path: Path, provider: Provider, status: int
) -> None:
    provider.script = [answer({"error": {"message": "later"}}, status, retry_after="30")]
    async with Provider() as other, gateway(tmp_path, passing(provider.url, other.url)) as running:
        for _ in range(2):
            assert (await running.chat("gpt-a")).headers["x-gateway-target"] == "p1/gpt-a"
        assert len(provider.asked) == 1
        told = (await targets(running))["p0/gpt-a"]
        assert 29 < told["cooling_s"] <= 30


async def test_what_has_recovered_is_not_spared_while_no_other_takes_calls(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    provider.script = [*[BROKEN] * CONSECUTIVE, answer(CHAT)]
    async with Provider([BROKEN]) as other:
        text = passing(provider.url, other.url, model="retry: {attempts: 1}")
        async with gateway(tmp_path, text) as running:
            monkeypatch.setattr(running.house.breaker, "_clock", lambda: now)
            monkeypatch.setattr(running.house.breaker, "_dice", lambda: 0.99)
            assert await statuses(running, "gpt-a", CONSECUTIVE) == [500] * CONSECUTIVE
            now += 2 * FIRST_REST
            assert await statuses(running, "gpt-a", 10) == [200, 500, *[200] * 8]
            assert len(other.asked) == CONSECUTIVE + 1, "which is still down: its probe told"


async def test_one_fault_that_names_a_time_closes_no_target_that_stands_alone(
    tmp_path: Path, provider: Provider
) -> None:
    provider.script = [
        answer({"error": {"message": "later"}}, 500, retry_after="30"),
        answer({"choices": []}),
    ]
    async with gateway(tmp_path, passing(provider.url)) as running:
        assert await statuses(running, "gpt-a", 2) == [500, 200]


async def test_it_fails_besides_and_none_rests_for_more_than_a_minute(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    provider.script = [answer({"error": {"message": "later"}}, 503, retry_after="900")]
    async with gateway(tmp_path, passing(provider.url)) as running:
        monkeypatch.setattr(running.house.breaker, "_clock", lambda: now)
        for _ in range(CONSECUTIVE):
            assert await statuses(running, "gpt-a", 2) == [503, 503]
            assert (await targets(running))["p0/gpt-a"]["cooling_s"] == 60
            now += 60
        assert len(provider.asked) == CONSECUTIVE
        assert (await targets(running))["p0/gpt-a"]["circuit"] == "open"


async def test_the_call_that_waits_as_told_is_the_first_to_come_back(
    tmp_path: Path, provider: Provider
) -> None:
    provider.script = [answer({"error": {"message": "later"}}, 503, retry_after_ms="50"), answer(CHAT)]
    async with gateway(tmp_path, passing(provider.url)) as running:
        response = await running.chat("gpt-a")
        assert (response.status_code, response.headers["x-gateway-attempts"]) == (200, "2")


async def test_a_call_that_is_at_fault_gives_nobody_rest(tmp_path: Path, provider: Provider) -> None:
    provider.script = [answer({"error": {"message": "no"}}, 409, retry_after="30"), answer(CHAT)]
    async with gateway(tmp_path, passing(provider.url)) as running:
        response = await running.chat("gpt-a")
        assert (response.status_code, response.headers["retry-after"]) == (409, "30")
        assert (await running.chat("gpt-a")).status_code == 200


async def test_clients_are_not_told_to_come_back_at_a_time_that_is_none(
    tmp_path: Path, provider: Provider
) -> None:
    provider.script = [answer({"error": {"message": "slow down"}}, 429, retry_after="1_0")]
    async with gateway(tmp_path, passing(provider.url)) as running:
        response = await running.chat("gpt-a")
        assert (response.status_code, response.headers.get("retry-after")) == (429, None)
        assert len(provider.asked) == 2, "nor is it believed"


async def test_a_model_that_fails_opens_the_circuit_of_no_other(tmp_path: Path, provider: Provider) -> None:
    provider.script = [of_models({"gpt-a": BROKEN})]
    async with gateway(tmp_path, passing(provider.url, model="retry: {attempts: 1}")) as running:
        assert await statuses(running, "gpt-a", CONSECUTIVE + 1) == [500] * CONSECUTIVE + [503]
        assert await statuses(running, "gpt-b", 2) == [200, 200]
        assert await circuits(running) == ['{deployment="p0/*"} 2'], "the worst of its models"
        told = {name: row["circuit"] for name, row in (await targets(running)).items()}
        assert told == {"p0/*": "open", "p0/gpt-a": "open"}
        async with running.client() as client:
            assert (await client.get("/health/ready")).json()["degraded"] == ["provider:p0"]


async def test_a_model_that_fails_spends_the_second_tries_of_no_other(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RetryBudgets, "LEAST", 1)
    provider.script = [BROKEN]
    async with gateway(tmp_path, passing(provider.url)) as running:
        tries = [
            (await running.chat(model)).headers["x-gateway-attempts"]
            for model in ("gpt-a", "gpt-a", "gpt-b", "gpt-b")
        ]
        assert tries == ["2", "1", "2", "1"]


async def test_a_model_is_as_well_by_its_name_as_it_is_under_a_glob(
    tmp_path: Path, provider: Provider
) -> None:
    provider.script = [of_models({"gpt-a": BUSY})]
    text = passing(provider.url, more="smart: {targets: [{provider: p0, model: gpt-a}]}")
    async with gateway(tmp_path, text) as running:
        assert [(await running.chat(model)).status_code for model in ("gpt-a", "smart")] == [429, 503]
        assert list(await targets(running)) == ["p0/*", "p0/gpt-a"]


async def test_calls_that_name_no_model_share_one_condition(tmp_path: Path, provider: Provider) -> None:
    provider.script = [BUSY, answer(CHAT)]
    async with gateway(tmp_path, passing(provider.url)) as running:
        assert [await files(running), await files(running)] == [429, 503]
        assert (await running.chat("gpt-a")).status_code == 200
        assert list(await targets(running)) == ["p0/*"]


@pytest.mark.parametrize("strategy", ["least-busy", "prefix-aware"])
async def test_calls_in_flight_are_those_for_the_model_that_is_asked_for(
    tmp_path: Path, provider: Provider, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.policy.affinity.SPARE", 1)
    go_on = asyncio.Event()
    open_stream = stream(word("one"), go_on, FINISH, DONE)

    async def act(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await (open_stream if asked.json.get("stream") else answer(CHAT))(asked, writer)

    provider.script = [act]
    async with Provider([act]) as other:
        text = passing(provider.url, other.url, model=f"strategy: {strategy}")
        async with gateway(tmp_path, text) as running, running.client() as client:
            body = {"model": "gpt-a", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
            async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                lines = response.aiter_lines()
                assert "one" in await anext(lines)
                home = response.headers["x-gateway-target"].partition("/")[0]
                assert (await targets(running))[f"{home}/*"]["in_flight"] == 1
                went = {
                    model: (await running.chat(model)).headers["x-gateway-target"]
                    for model in ("gpt-a", "gpt-b")
                }
                away = "p1" if home == "p0" else "p0"
                assert went == {"gpt-a": f"{away}/gpt-a", "gpt-b": f"{home}/gpt-b"}
                go_on.set()
                assert [line async for line in lines]
            await until_idle(running)
            assert (await targets(running))[f"{home}/*"]["in_flight"] == 0


async def test_the_fastest_is_the_one_that_is_so_for_the_model_that_is_asked_for(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.policy.routing.EXPLORE", 0.0)
    async with Provider() as other:
        text = passing(provider.url, other.url, model="strategy: fastest")
        async with gateway(tmp_path, text) as running:
            breaker = running.house.breaker
            for name, seconds in (("p0/gpt-a", 0.1), ("p1/gpt-a", 9), ("p0/gpt-b", 9), ("p1/gpt-b", 0.1)):
                assert breaker.begin(name, f"{name[:2]}/*")
                breaker.succeed(name, seconds)
                breaker.leave(name)
            went = [(await running.chat(model)).headers["x-gateway-target"] for model in ("gpt-a", "gpt-b")]
            assert went == ["p0/gpt-a", "p1/gpt-b"]


async def test_names_that_the_provider_does_not_know_leave_no_trace(
    tmp_path: Path, provider: Provider
) -> None:
    provider.script = [UNKNOWN]
    async with gateway(tmp_path, passing(provider.url)) as running:
        before = await running.metrics()
        for n in range(3 * CONSECUTIVE):
            assert (await running.chat(f"gpt-{n}")).status_code == 404
        assert "gpt-0" not in before + await running.metrics()
        assert await circuits(running) == ['{deployment="p0/*"} 0']
        assert list(await targets(running)) == ["p0/*"]


async def test_a_target_that_is_drained_takes_none_of_the_models_it_passes_through(
    tmp_path: Path, provider: Provider
) -> None:
    text = passing(provider.url, more="smart: {targets: [{provider: p0}]}")
    async with gateway(tmp_path, text) as running, running.admin() as admin:
        assert await statuses(running, "gpt-a", 1) == [200]
        assert (await admin.post("/admin/v1/targets/drain", json={"target": "p0/*"})).status_code == 200
        assert [(await running.chat(model)).status_code for model in ("gpt-a", "gpt-b")] == [503, 503]
        assert (await post(running, "/v1/embeddings", model="text-e", input="hi")).status_code == 503
        assert await files(running) == 503
        assert (await running.chat("smart")).status_code == 200, "it has a name of its own"
        assert {name: row["drained"] for name, row in (await targets(running)).items()} == {
            "p0/*": True,
            "p0/smart": False,
        }
        await admin.post("/admin/v1/targets/undrain", json={"target": "p0/*"})
        assert (await running.chat("gpt-b")).status_code == 200


async def test_a_model_under_a_glob_that_is_not_well_may_be_drained_by_itself(
    tmp_path: Path, provider: Provider
) -> None:
    provider.script = [BUSY, answer(CHAT)]
    async with gateway(tmp_path, passing(provider.url)) as running, running.admin() as admin:
        assert (await running.chat("gpt-a")).status_code == 429
        assert (await admin.post("/admin/v1/targets/drain", json={"target": "p0/gpt-a"})).status_code == 200
        assert (await targets(running))["p0/gpt-a"]["drained"]
        assert [(await running.chat(model)).status_code for model in ("gpt-a", "gpt-b")] == [503, 200]
