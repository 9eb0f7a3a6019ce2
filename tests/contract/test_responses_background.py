"""Responses in the background before providers that keep none: polled, followed, cancelled, from any worker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import BadRequestError
from sqlalchemy import text

from gateway.edge import background
from gateway.state.memory import MemoryAllowance
from tests.contract import test_messages
from tests.contract.test_responses_across import before, completion, sdk
from tests.running import Running, gateway
from tests.scripted import DONE, FINISH, USAGE, Provider, answer, hang, stream, word

ASKS = {"model": "m", "input": "hi", "background": True}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "QUICK", 0.05)


async def ended(client: httpx.AsyncClient, ident: str) -> Any:
    """The response once it is no longer under way."""
    async with asyncio.timeout(10):
        while (response := (await client.get(f"/v1/responses/{ident}")).json())["status"] in (
            "queued",
            "in_progress",
        ):
            await asyncio.sleep(0.01)
    return response


async def test_the_sdk_polls_a_response_that_outlives_its_call(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with sdk(tmp_path) as (client, provider, running):
        provider.script[:] = [stream(word("hel"), go, word("lo"), FINISH, USAGE, DONE)]
        made = await client.responses.create(model="m", input="hi", background=True)
        assert (made.status, made.background, made.output) == ("in_progress", True, [])
        with pytest.raises(BadRequestError, match="has not ended yet"):
            await client.responses.create(model="m", input="more", previous_response_id=made.id)
        go.set()
        while (polled := await client.responses.retrieve(made.id)).status == "in_progress":
            await asyncio.sleep(0.01)
        assert (polled.status, polled.output_text, polled.background) == ("completed", "hello", True)
        assert provider.asked[0].json.get("background") is None
        again = await client.responses.cancel(made.id)
        assert (again.status, again.output_text) == ("completed", "hello")
        provider.script[:] = [answer(completion({"content": "yes"}))]
        await client.responses.create(model="m", input="more", previous_response_id=made.id)
        assert [one["content"] for one in provider.asked[-1].json["messages"]] == ["hi", "hello", "more"]
        total = (await running.usage())["total"]
        assert (total["calls"], total["prompt_tokens"], total["estimated"]) == (2, 14, 0)


async def test_a_stream_is_followed_again_after_its_client_left(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with before(tmp_path) as (running, provider), running.client() as client:
        provider.script[:] = [stream(word("hel"), go, word("lo"), FINISH, USAGE, DONE)]
        async with client.stream("POST", "/v1/responses", json={**ASKS, "stream": True}) as reply:
            first = test_messages.events(await anext(reply.aiter_text()))[0]
            ident = first["response"]["id"]
        assert first["response"]["background"] is True
        follow = asyncio.ensure_future(client.get(f"/v1/responses/{ident}?stream=true&starting_after=1"))
        go.set()
        told = test_messages.events((await follow).text)
        assert [one["sequence_number"] for one in told] == list(range(2, len(told) + 2))
        assert told[-1]["type"] == "response.completed"
        assert (await ended(client, ident))["output"] == told[-1]["response"]["output"]
        whole = await client.get(
            f"/v1/responses/{ident}?stream=true"
        )  # from the book: nobody runs it any more
        assert test_messages.events(whole.text)[2:] == told
        assert (await running.usage())["total"]["calls"] == 1


async def test_a_response_is_cancelled_and_its_provider_left_at_once(tmp_path: Path) -> None:
    async with before(tmp_path) as (running, provider), running.client() as client:
        provider.script[:] = [hang()]
        made = (await client.post("/v1/responses", json=ASKS)).json()
        assert made["status"] == "queued"
        cancelled = (await client.post(f"/v1/responses/{made['id']}/cancel")).json()
        assert cancelled["status"] == "cancelled"
        async with asyncio.timeout(10):
            await provider.left.get()
        assert (await client.get(f"/v1/responses/{made['id']}")).json() == cancelled
        assert running.house.reception.in_flight == 0
        (row,) = (await running.usage(by="outcome"))["rows"]
        assert (row["outcome"], row["calls"], row["estimated"]) == ("client_cancelled", 1, 1)


async def test_what_is_refused_at_once_is_the_calls_own_answer(tmp_path: Path) -> None:
    async with before(tmp_path) as (running, provider), running.client() as client:
        provider.script[:] = [
            answer({"error": {"message": "too long", "type": "invalid_request_error"}}, 400)
        ]
        refused = await client.post("/v1/responses", json=ASKS)
        assert (refused.status_code, refused.json()["error"]["message"]) == (400, "too long")
        provider.script[:] = [answer({"error": {"message": "down"}}, 500)]
        refused = await client.post("/v1/responses", json=ASKS)
        assert refused.status_code == 500
        for body, param in (({"store": False}, "background"), ({"tools": "x"}, "tools")):
            refused = await client.post("/v1/responses", json={**ASKS, **body})
            assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
        assert running.house.reception.in_flight == 0


async def test_what_goes_wrong_later_is_a_failed_response(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with before(tmp_path) as (running, provider), running.client() as client:
        provider.script[:] = [stream(word("hel"), go, end=False)]
        made = (await client.post("/v1/responses", json={**ASKS})).json()
        go.set()
        failed = await ended(client, made["id"])
        assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")
        assert "broke" in failed["error"]["message"]


async def test_what_was_not_streamed_is_not_streamed_again(tmp_path: Path) -> None:
    async with before(tmp_path) as (running, provider), running.client() as client:
        provider.script[:] = [stream(word("x"), FINISH, DONE)]
        ident = (await client.post("/v1/responses", json=ASKS)).json()["id"]
        for query in ("stream=true", "stream=true&starting_after=x"):
            refused = await client.get(f"/v1/responses/{ident}?{query}")
            assert refused.status_code == 400


@asynccontextmanager
async def two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Running, Running, Provider]]:
    """Two workers and their one database."""
    monkeypatch.setattr(background, "TICK", 0.02)
    monkeypatch.setattr(background, "LOOK", 0.02)
    url = f"sqlite:///{tmp_path}/shared.db"
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with before(tmp_path / "one", database_url=url) as (one, provider):
        policy = (one.folder / "gateway.yaml").read_text()
        async with gateway(tmp_path / "two", policy, database_url=url) as other:
            yield one, other, provider


async def test_another_worker_tells_follows_and_cancels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = asyncio.Event()
    async with two(tmp_path, monkeypatch) as (one, other, provider):
        async with one.client() as client, other.client() as elsewhere:
            provider.script[:] = [
                stream(word("hel"), go, word("lo"), FINISH, USAGE, DONE),
                stream(word("x"), asyncio.Event()),
            ]
            async with client.stream("POST", "/v1/responses", json={**ASKS, "stream": True}) as reply:
                ident = test_messages.events(await anext(reply.aiter_text()))[0]["response"]["id"]
            assert (await elsewhere.get(f"/v1/responses/{ident}")).json()["status"] == "in_progress"
            follow = asyncio.ensure_future(elsewhere.get(f"/v1/responses/{ident}?stream=true"))
            await asyncio.sleep(0.05)
            go.set()
            told = test_messages.events((await follow).text)
            assert [event["sequence_number"] for event in told] == list(range(len(told)))
            assert told[-1]["type"] == "response.completed"
            made = (await client.post("/v1/responses", json={**ASKS})).json()
            cancelled = await elsewhere.post(f"/v1/responses/{made['id']}/cancel")
            assert cancelled.json()["status"] == "cancelled"
            assert (await client.get(f"/v1/responses/{made['id']}")).json()["status"] == "cancelled"


async def test_a_run_whose_process_died_is_told_to_have_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two(tmp_path, monkeypatch) as (one, other, provider):
        async with one.client() as client, other.client() as elsewhere:
            provider.script[:] = [stream(word("x"), asyncio.Event())]
            async with client.stream("POST", "/v1/responses", json={**ASKS, "stream": True}) as reply:
                ident = test_messages.events(await anext(reply.aiter_text()))[0]["response"]["id"]
            while not (await other.house.runs.told(ident, 0)):
                await asyncio.sleep(0.01)
            monkeypatch.setattr(other.house.runs, "_now", lambda: 1e12)
            lost = (await elsewhere.get(f"/v1/responses/{ident}")).json()
            assert (lost["status"], lost["error"]["code"]) == ("failed", "server_error")
            told = test_messages.events((await elsewhere.get(f"/v1/responses/{ident}?stream=true")).text)
            assert told[-1]["type"] == "response.failed"
            assert [event["sequence_number"] for event in told] == list(range(len(told)))


async def test_a_run_that_is_deleted_ends(tmp_path: Path) -> None:
    async with before(tmp_path) as (running, provider), running.client() as client:
        provider.script[:] = [hang()]
        ident = (await client.post("/v1/responses", json=ASKS)).json()["id"]
        assert (await client.delete(f"/v1/responses/{ident}")).json()["deleted"] is True
        async with asyncio.timeout(10):
            await provider.left.get()
        assert (await client.get(f"/v1/responses/{ident}")).status_code == 404


async def test_the_end_of_the_process_ends_a_run_honestly(tmp_path: Path) -> None:
    async with before(tmp_path) as (running, provider), running.client() as client:
        provider.script[:] = [hang()]
        made = (await client.post("/v1/responses", json=ASKS)).json()
        for task in list(running.data.server_state.tasks):
            task.cancel()  # as the server does when its drain time is over
        failed = await ended(client, made["id"])
        assert failed["error"]["message"].startswith("the gateway is shutting down")


async def test_what_cannot_be_kept_is_not_begun(tmp_path: Path) -> None:
    async with before(tmp_path) as (running, provider), running.client() as client:
        provider.script[:] = [hang()]
        assert await running.house.runs.look("none") is None
        with running.house.database.engine.begin() as connection:
            connection.execute(text("DROP TABLE runs"))
        refused = await client.post("/v1/responses", json=ASKS)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        async with asyncio.timeout(10):
            await provider.left.get()


async def test_only_so_many_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "MOST_RUNS", 1)
    async with before(tmp_path) as (running, provider), running.client() as client:
        provider.script[:] = [hang()]
        made = await client.post("/v1/responses", json=ASKS)
        assert (await client.post("/v1/responses", json=ASKS)).status_code == 503
        assert (await client.post(f"/v1/responses/{made.json()['id']}/cancel")).json()[
            "status"
        ] == "cancelled"
        assert (await client.get("/v1/responses/" + made.json()["id"])).status_code == 200


async def test_a_provider_of_responses_runs_its_own(tmp_path: Path) -> None:
    theirs = {"id": "resp_1", "object": "response", "status": "queued", "output": [], "background": True}
    async with before(tmp_path, "openai") as (running, provider), running.client() as client:
        provider.script[:] = [answer(theirs)]
        assert (await client.post("/v1/responses", json=ASKS)).json() == theirs
        assert provider.asked[0].json["background"] is True


async def test_the_sdk_follows_with_its_own_words(tmp_path: Path) -> None:
    async with sdk(tmp_path) as (client, provider, _):
        provider.script[:] = [stream(word("hel"), word("lo"), FINISH, USAGE, DONE)]
        seen = [
            event
            async for event in await client.responses.create(
                model="m", input="hi", background=True, stream=True
            )
        ]
        ident = seen[0].response.id  # type: ignore[union-attr]
        after = [
            event async for event in await client.responses.retrieve(ident, stream=True, starting_after=2)
        ]
        assert [one.type for one in after] == [one.type for one in seen[3:]]


async def test_an_answer_that_was_no_stream_is_told_as_one(tmp_path: Path) -> None:
    async with before(tmp_path) as (running, provider), running.client() as client:
        provider.script[:] = [answer(completion({"content": "whole"}))]
        told = test_messages.events((await client.post("/v1/responses", json={**ASKS, "stream": True})).text)
        assert (told[0]["type"], told[-1]["type"]) == ("response.created", "response.completed")
        assert "whole" in str(told[-1]["response"]["output"])
        again = await client.get(f"/v1/responses/{told[0]['response']['id']}?stream=true")
        assert test_messages.events(again.text) == told


@pytest.mark.parametrize(
    "odd", [{"tools": 5}, {"input": [5]}, {"text": "x"}, {"reasoning": 1}, {"tools": ["x"]}]
)
async def test_a_value_of_no_known_kind_is_the_callers_fault_however_long_limits_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: dict[str, Any]
) -> None:
    decided = asyncio.Event()

    async def patient(self: MemoryAllowance, claims: Any, hold: float) -> Any:
        await decided.wait()
        return self.take(claims)

    monkeypatch.setattr(background, "QUICK", 0.01)
    monkeypatch.setattr(MemoryAllowance, "reserve", patient)
    async with before(tmp_path) as (running, provider), running.client() as client:
        came = await client.post("/v1/responses", json={**ASKS, **odd})
        decided.set()
    assert came.status_code == 400, came.text
    assert not provider.asked


async def test_a_run_that_is_gone_when_its_end_is_asked_for_ends_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "TICK", 0.01)
    beats: asyncio.Queue[Any] = asyncio.Queue()

    async def beat(ids: Any, told: Any) -> set[str]:
        beats.put_nowait(ids)
        return {"resp_gone"}

    async with before(tmp_path) as (running, provider), running.client() as client:
        provider.script[:] = [hang()]
        made = (await client.post("/v1/responses", json=ASKS)).json()
        monkeypatch.setattr(running.house.runs, "beat", beat)
        async with asyncio.timeout(5):
            assert [await beats.get() for _ in range(3)] == [[made["id"]]] * 3
        monkeypatch.undo()
