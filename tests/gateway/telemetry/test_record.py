"""What a call leaves in the metrics of a whole gateway: exactly what happened, and nothing else."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.core.exchange import Call, Caller, Exchange
from gateway.core.meters import Meters
from gateway.providers.compatible import Compatible
from gateway.telemetry.logs import Log
from gateway.telemetry.record import MOST_TEAMS, Recorder
from tests.gateway.telemetry.scrape import Scrape
from tests.running import KEY, Running, gateway, policies
from tests.scripted import CHAT, DONE, FINISH, USAGE, Provider, answer, hang, stream, word

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
SLOW = 0.4  # seconds that somebody else takes
ONE_ROW = {
    "gateway_usage_events_total{result=written,sink=spool}": 2,
    "gateway_usage_events_total{result=written,sink=ledger}": 1,
}
ANSWERED = {
    "gateway_tokens_total{model=smart,provider=p0,team=research,type=input}": 7,
    "gateway_tokens_total{model=smart,provider=p0,team=research,type=output}": 3,
    "gateway_finish_reason_total{model=smart,reason=stop}": 1,
}


async def scrape(running: Running) -> Scrape:
    """The metrics once all calls are over and their accounts are in the ledger."""
    async with asyncio.timeout(5):
        while running.house.reception.in_flight:
            await asyncio.sleep(0.005)
    await running.collector.flush()
    return Scrape(await running.metrics())


class Moved:
    """What moved in the block, by series."""

    series: dict[str, float]


@asynccontextmanager
async def moved(running: Running) -> AsyncIterator[Moved]:
    """Fills what it gives when the block ends."""
    told, before = Moved(), await scrape(running)
    yield told
    told.series = (await scrape(running)).since(before)


def ended(outcome: str, *, model: str = "smart", stream: str = "false") -> dict[str, float]:
    """A call of a known key that ended so."""
    return {
        f"gateway_requests_total{{model={model},outcome={outcome},route=chat,team=research}}": 1,
        f"gateway_request_duration_seconds_count{{model={model},route=chat,stream={stream}}}": 1,
        "gateway_overhead_seconds_count{phase=total}": 1,
    }


def refused(outcome: str, team: str = "research") -> dict[str, float]:
    """A call that was turned away before it was one."""
    return {f"gateway_requests_total{{model=_other,outcome={outcome},route=chat,team={team}}}": 1}


def attempts(result: str, number: int = 1, deployment: str = "p0/smart") -> dict[str, float]:
    provider = deployment.split("/")[0]
    labels = f"deployment={deployment},provider={provider},result={result}"
    return {f"gateway_upstream_attempts_total{{{labels}}}": number}


def raw_request(**more: Any) -> bytes:
    body = json.dumps({"model": "smart", "messages": [], **more}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def test_a_call_that_goes_well(tmp_path: Path) -> None:
    details = {
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    told = {**CHAT, "usage": {**CHAT["usage"], **details}}  # type: ignore[dict-item]
    async with Provider([answer(told)]) as provider, gateway(tmp_path, policies(provider.url)) as running:
        async with moved(running) as what:
            await running.chat()
        tokens = "gateway_tokens_total{model=smart,provider=p0,team=research,type="
        assert what.series == (
            ended("ok")
            | attempts("ok")
            | ANSWERED
            | ONE_ROW
            | {f"{tokens}cache_read}}": 4, f"{tokens}reasoning}}": 2}
        )


async def test_a_stream_that_goes_well_tells_its_pace_too(tmp_path: Path) -> None:
    act = stream(word("a"), word("b"), FINISH, USAGE, DONE)
    async with Provider([act]) as provider, gateway(tmp_path, policies(provider.url)) as running:
        async with moved(running) as what:
            await running.chat(stream=True)
        pace = {
            "gateway_time_to_first_token_seconds_count{model=smart,provider=p0}": 1,
            "gateway_inter_token_seconds_count{model=smart,provider=p0}": 1,
        }
        what.series.setdefault(
            next(key for key in pace if "inter" in key), 1
        )  # chunks that came as one have no pace
        assert what.series == ended("ok", stream="true") | attempts("ok") | ANSWERED | ONE_ROW | pace


async def test_what_no_provider_meters_is_not_estimated_either(tmp_path: Path) -> None:
    async with Provider([answer({"object": "list", "data": [], "has_more": False})]) as provider:
        async with gateway(tmp_path, policies(provider.url)) as running, running.client() as client:
            async with moved(running) as what:
                body = {"model": "smart", "messages": [{"role": "user", "content": "hi"}]}
                assert (await client.post("/v1/messages/count_tokens", json=body)).status_code < 500
                body = {"model": "smart", "input": "is this fine?"}
                assert (await client.post("/v1/moderations", json=body)).status_code == 200
            assert not [series for series in what.series if "estimated" in series]
            assert (await running.usage())["total"]["estimated"] == 0


async def test_a_call_whose_usage_nobody_reports_is_counted_as_estimated(tmp_path: Path) -> None:
    bare = {name: value for name, value in CHAT.items() if name != "usage"}
    async with Provider([answer(bare)]) as provider, gateway(tmp_path, policies(provider.url)) as running:
        async with moved(running) as what:
            await running.chat()
        assert what.series["gateway_usage_estimated_total{model=smart}"] == 1
        assert what.series["gateway_tokens_total{model=smart,provider=p0,team=research,type=input}"] > 0


@pytest.mark.parametrize(
    ("key", "body", "outcome", "team"),
    [
        (KEY, b'{"model": ', "client_error", "research"),
        (KEY, b'{"model": "unheard-of", "messages": []}', "client_error", "research"),
        ("sk-nobody", b'{"model": "smart", "messages": []}', "auth_denied", "_other"),
        ("sk-poor", b'{"model": "smart", "messages": []}', "policy_denied", "free"),
    ],
)
async def test_a_call_at_fault_is_counted_and_reaches_nobody(
    tmp_path: Path, key: str, body: bytes, outcome: str, team: str
) -> None:
    async with Provider() as provider, gateway(tmp_path, policies(provider.url)) as running:
        async with moved(running) as what, running.client(key) as client:
            answered = await client.post("/v1/chat/completions", content=body)
        assert (what.series, provider.asked) == (refused(outcome, team), [])
        version = running.house.policies.snapshot.version
        assert answered.headers.get("x-gateway-policies") == (version if team != "_other" else None)


async def test_a_wrong_time_limit_is_counted_as_the_clients_error(tmp_path: Path) -> None:
    async with Provider() as provider, gateway(tmp_path, policies(provider.url)) as running:
        async with moved(running) as what, running.client() as client:
            head = {"x-gateway-timeout": "soon"}
            answered = await client.post(
                "/v1/chat/completions", json={"model": "smart", "messages": []}, headers=head
            )
            assert answered.status_code == 400
        assert what.series == refused("client_error")


async def test_a_provider_that_rejects_a_call_is_asked_once(tmp_path: Path) -> None:
    async with (
        Provider([answer({"error": {}}, 400)]) as provider,
        gateway(tmp_path, policies(provider.url)) as running,
    ):
        async with moved(running) as what:
            await running.chat()
        assert what.series == ended("client_error") | attempts("rejected") | ONE_ROW


async def test_a_retry_is_counted_by_its_reason(tmp_path: Path) -> None:
    async with Provider([answer({}, 500), answer(CHAT)]) as provider:
        async with gateway(tmp_path, policies(provider.url)) as running:
            async with moved(running) as what:
                await running.chat()
            tries = attempts("broken") | attempts("ok") | {"gateway_retries_total{reason=broken}": 1}
            assert what.series == ended("ok") | tries | ANSWERED | ONE_ROW


async def test_a_fallback_is_counted_from_where_to_where_and_why(tmp_path: Path) -> None:
    async with Provider([answer({}, 429, retry_after="30")]) as first, Provider() as second:
        async with gateway(tmp_path, policies(first.url, second.url)) as running:
            async with moved(running) as what:
                await running.chat()
            there = {key.replace("p0", "p1"): value for key, value in ANSWERED.items()}
            tries = attempts("throttled") | attempts("ok", 1, "p1/smart")
            led_on = {"gateway_fallbacks_total{from=p0/smart,reason=throttled,to=p1/smart}": 1}
            assert what.series == ended("ok") | tries | led_on | there | ONE_ROW


async def test_a_dead_provider_is_an_upstream_error_until_its_circuit_opens(tmp_path: Path) -> None:
    async with Provider() as provider:
        url = provider.url
    model = "retry: {attempts: 1}"
    async with gateway(tmp_path, policies(url, model=model)) as running:
        async with moved(running) as what:
            for _ in range(5):
                await running.chat()
        five = {
            key: 5 * value for key, value in (ended("upstream_error") | attempts("connect") | ONE_ROW).items()
        }
        assert what.series == five | {"gateway_circuit_state{deployment=p0/smart}": 2}
        async with moved(running) as what:
            await running.chat()
        assert what.series == ended("upstream_error"), "nobody was asked: no attempt, no row"


async def test_a_stream_that_breaks_is_counted_as_truncated(tmp_path: Path) -> None:
    async with Provider([stream(word("one"), end=False)]) as provider:
        async with gateway(tmp_path, policies(provider.url)) as running:
            async with moved(running) as what:
                await running.chat(stream=True)
            assert what.series["gateway_stream_truncated_total{model=smart}"] == 1
            assert ended("upstream_error", stream="true").items() <= what.series.items()
            assert attempts("cut").items() <= what.series.items()


async def test_a_call_that_takes_too_long_is_a_timeout(tmp_path: Path) -> None:
    async with Provider([hang()]) as provider:
        async with gateway(tmp_path, policies(provider.url, model="timeouts: {total: 100ms}")) as running:
            async with moved(running) as what:
                await running.chat()
            assert (ended("timeout") | attempts("overran")).items() <= what.series.items()
            assert what.series["gateway_usage_estimated_total{model=smart}"] == 1
            assert (await running.usage())["total"]["estimated"] == 1


# Whose time it is


async def own_seconds(running: Running) -> float:
    return (await scrape(running)).value("gateway_overhead_seconds_sum", phase="total")


async def test_the_time_in_which_a_body_arrives_is_not_the_gateways(tmp_path: Path) -> None:
    async with Provider() as provider, gateway(tmp_path, policies(provider.url)) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        raw = raw_request()
        writer.write(raw[:-5])
        await asyncio.sleep(SLOW)
        writer.write(raw[-5:])
        head = await reader.readuntil(b"\r\n\r\n")
        told = re.search(rb"server-timing: gateway;dur=([0-9.]+)", head)
        assert told is not None
        assert float(told[1]) < SLOW * 500
        assert await own_seconds(running) < SLOW / 2
        writer.close()


async def test_nor_is_that_in_which_nobody_takes_a_stream(tmp_path: Path) -> None:
    much = word("x" * (1 << 20))
    script = [stream(word("one"), *[much] * 5, FINISH, DONE)]
    async with Provider(script) as provider, gateway(tmp_path, policies(provider.url)) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1 << 16)
        writer.write(raw_request(stream=True))
        await reader.readuntil(b"one")
        await asyncio.sleep(4 * SLOW)  # to pass so much on takes its time, too
        assert running.house.reception.in_flight, "all of it lies in the buffers between: send more"
        while b"[DONE]" not in await reader.read(1 << 20):
            pass
        assert await own_seconds(running) < 2 * SLOW
        writer.close()


@pytest.mark.parametrize("end", ["leaves", "breaks"])
async def test_the_last_wait_for_a_provider_is_no_time_of_ours(tmp_path: Path, end: str) -> None:
    go_on = asyncio.Event()
    script = [stream(word("one"), go_on, end=False)]
    async with Provider(script) as provider, gateway(tmp_path, policies(provider.url)) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(raw_request(stream=True))
        await reader.readuntil(b"one")
        await asyncio.sleep(SLOW)
        if end == "breaks":
            go_on.set()
            await reader.readuntil(b"upstream_stream_broken")
        writer.close()
        assert await own_seconds(running) < SLOW / 2


async def test_the_rest_that_a_provider_asked_for_is_no_time_of_ours_either(tmp_path: Path) -> None:
    busy = answer({"error": {"message": "slow down"}}, 429, retry_after="2")
    model = f"timeouts: {{total: {SLOW}s}}"
    async with Provider([busy]) as provider:
        async with gateway(tmp_path, policies(provider.url, model=model)) as running:
            assert (await running.chat()).status_code == 504
            assert await own_seconds(running) < SLOW / 2


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_hangs_up_is_counted_once_as_such(tmp_path: Path, streamed: bool) -> None:
    forever = asyncio.Event()
    act = stream(word("one"), forever) if streamed else hang()
    async with Provider([act]) as provider, gateway(tmp_path, policies(provider.url)) as running:
        async with moved(running) as what:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(raw_request(stream=streamed))
            if streamed:
                await reader.readuntil(b"one")
            else:
                async with asyncio.timeout(5):
                    while not provider.asked:
                        await asyncio.sleep(0.005)
            writer.close()
        expected = ended("client_cancelled", stream=str(streamed).lower()) | attempts("cancelled") | ONE_ROW
        assert expected.items() <= what.series.items()
        assert what.series["gateway_usage_estimated_total{model=smart}"] == 1
        assert "gateway_stream_truncated_total{model=smart}" not in what.series


async def test_a_rate_limit_counts_its_decisions(tmp_path: Path) -> None:
    rules = """
kind: rate-limits
rules:
  - {id: one-a-day, limit: 1, unit: requests, per: day}
  - {id: watched, limit: 1, unit: requests, per: day, mode: shadow}
"""
    async with Provider() as provider, gateway(tmp_path, policies(provider.url, more=rules)) as running:
        async with moved(running) as what:
            await running.chat()
        decisions = {
            "gateway_ratelimit_decisions_total{decision=allowed,limit=one-a-day}": 1,
            "gateway_ratelimit_decisions_total{decision=allowed,limit=watched}": 1,
        }
        assert what.series == ended("ok") | attempts("ok") | ANSWERED | ONE_ROW | decisions
        async with moved(running) as what:
            assert (await running.chat()).status_code == 429
        assert ended("rate_limited").items() <= what.series.items()
        assert what.series["gateway_ratelimit_decisions_total{decision=refused,limit=one-a-day}"] == 1
        assert not [key for key in what.series if "attempts" in key or "usage_events" in key]


async def test_calls_in_flight_are_a_gauge_and_those_past_the_cap_are_counted(tmp_path: Path) -> None:
    async with Provider([hang()]) as provider:
        async with gateway(tmp_path, policies(provider.url), max_in_flight=1) as running:
            async with moved(running) as what:
                first = asyncio.ensure_future(running.chat())
                async with asyncio.timeout(5):
                    while not provider.asked:
                        await asyncio.sleep(0.005)
                assert Scrape(await running.metrics()).value("gateway_inflight_requests") == 1
                assert (await running.chat()).status_code == 503
                first.cancel()
                await asyncio.gather(first, return_exceptions=True)
            turned_away = {"gateway_admission_rejected_total{reason=in_flight}": 1}
            assert (refused("overloaded", "_other") | turned_away).items() <= what.series.items()
            assert "gateway_inflight_requests" not in what.series, "0 again"


async def test_a_fault_of_the_gateway_is_counted_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> Any:
        raise ZeroDivisionError

    async with Provider() as provider, gateway(tmp_path, policies(provider.url)) as running:
        async with moved(running) as what:
            monkeypatch.setattr(Compatible, "request", fail)
            assert (await running.chat()).status_code == 500
            monkeypatch.undo()
        assert ended("gateway_error").items() <= what.series.items()
        async with moved(running) as what:
            monkeypatch.setattr(running.house.identify, "caller", fail)
            assert (await running.chat()).status_code == 500
        assert what.series == refused("gateway_error", "_other")


async def test_five_thousand_invented_names_paths_and_keys_add_no_series(tmp_path: Path) -> None:
    text = policies("URL").replace("mini:", '"wide-*": {targets: [{provider: p0}]}\n  mini:')
    async with Provider() as provider, gateway(tmp_path, text.replace("URL", provider.url)) as running:

        async def round(streams: Streams, number: int) -> None:
            """Everything that a client may make up."""
            known, made_up = f"bearer {KEY}", f"Bearer sk-{number}"
            about = {"user": f"u{number}", f"k{number}": "v", "team": f"t{number}"}
            chat, body = "/v1/chat/completions", {"messages": [], "user": f"u{number}"}
            await ask(streams, "POST", chat, known, body | {"model": f"made-up-{number}"})
            await ask(streams, "POST", chat, known, body | {"model": f"wide-{number}"}, json.dumps(about))
            await ask(streams, "POST", chat, made_up, body | {"model": "smart"})
            await ask(streams, "GET", f"/v1/made-up-{number}", known)
            await ask(streams, "GET", f"/v1/responses/resp_{number}", known)

        async def lane(numbers: range) -> None:
            streams = await asyncio.open_connection("127.0.0.1", running.port)
            for number in numbers:
                await round(streams, number)
            streams[1].close()

        await lane(range(1))
        before = await scrape(running)
        await asyncio.gather(*(lane(range(first, 1001, 4)) for first in range(1, 5)))
        after = await scrape(running)
        assert _calls(after) == _calls(before)
        wide = "gateway_requests_total"
        counted = after.value(wide, route="chat", model="wide-*", team="research", outcome="ok")
        assert counted == 1001, "a glob is one model"


def _calls(scrape: Scrape) -> set[Any]:
    """The series but for those of the loop's lag, of which there is none until a timer has fired."""
    return {key for key in scrape.series if "loop_lag" not in key[0]}


async def ask(
    streams: Streams, method: str, path: str, key: str, body: dict[str, Any] | None = None, about: str = "{}"
) -> None:
    """Over a connection that stays, and without a client: five thousand calls of httpx's take as many milliseconds."""
    reader, writer = streams
    raw = json.dumps(body).encode() if body else b""
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: {key}\r\nx-gateway-metadata: {about}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(raw)}\r\n\r\n"
    )
    writer.write(head.encode() + raw)
    answered = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", answered)
    assert length is not None
    await reader.readexactly(int(length[1]))


async def test_reasons_that_a_provider_makes_up_are_one(tmp_path: Path) -> None:
    def told(reason: str) -> dict[str, Any]:
        return {**CHAT, "choices": [{**CHAT["choices"][0], "finish_reason": reason}]}  # type: ignore[index]

    acts = [answer(told(reason)) for reason in ("length", "because", 'a"b\n')]
    async with Provider(acts) as provider, gateway(tmp_path, policies(provider.url)) as running:
        async with moved(running) as what:
            for _ in range(3):
                await running.chat()
        reasons = {key: value for key, value in what.series.items() if "finish_reason" in key}
        name = "gateway_finish_reason_total{model=smart,reason="
        assert reasons == {f"{name}length}}": 1, f"{name}_other}}": 2}


def test_teams_past_the_cap_are_counted_together() -> None:
    meters = Meters()
    recorder = Recorder(meters, Log("error", lambda: 0.0))
    for number in range(MOST_TEAMS + 3):
        caller = Caller("key", f"team-{number}")
        call = Call("chat", "openai.chat", "POST", "/chat/completions", b"", {}, "smart", False)
        recorder.record(Exchange("0" * 32, call, caller, "r", 0.0, 0.0), b"")
    teams = {labels[2]: count for labels, count in meters.requests.values.items()}
    assert (len(teams), teams["_other"]) == (MOST_TEAMS + 1, 3)
    assert meters.label_overflow.values == {("team",): 3}
