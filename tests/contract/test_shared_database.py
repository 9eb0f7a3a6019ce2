"""Gateways that share a PostgreSQL have one body of keys, objects, answers and calls; one that hangs holds up none."""

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.gateway.app.serving import TOKEN, Serving, serving
from tests.postgres_server import PostgresServer
from tests.redis_server import RedisServer
from tests.running import gateway, plain_client, policies
from tests.scripted import CHAT, Provider, answer


async def test_what_one_gateway_was_told_the_other_knows(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    url = postgres_server.fresh()
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    async with Provider([answer(CHAT)]) as provider:
        text = policies(provider.url)
        async with (
            gateway(one, text, database_url=url) as here,
            gateway(other, text, database_url=url) as there,
            here.admin() as admin,
        ):
            made = await admin.post("/admin/v1/keys", json={"name": "ci", "team": "research"})
            key = made.json()["key"]
            async with here.client(key) as mine, there.client(key) as theirs, asyncio.timeout(10):
                while (await theirs.get("/v1/models")).status_code != 200:
                    await asyncio.sleep(0.02)  # what another gateway issued comes unannounced
                said = await mine.post("/v1/responses", json={"model": "smart", "input": "hi"})
                again = {"model": "smart", "input": "and?", "previous_response_id": said.json()["id"]}
                assert (await theirs.post("/v1/responses", json=again)).status_code == 200
                told = [one["content"] for one in provider.asked[-1].json["messages"]]
                assert told == ["hi", "hello", "and?"]
                await admin.delete("/admin/v1/keys/ci")
                while (await theirs.get("/v1/models")).status_code != 401:
                    await asyncio.sleep(0.02)
            await here.usage()  # each brings its own calls into the ledger
            assert (await there.usage())["total"]["calls"] == 2


async def asked(one: Serving, method: str, path: str, **more: Any) -> tuple[int, Any]:
    async with plain_client(one.admin_url, {"authorization": f"Bearer {TOKEN}"}) as admin:
        response = await admin.request(method, path, **more)
        return response.status_code, response.json()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_while_the_database_hangs_calls_go_on_and_nothing_is_lost(
    workers: str, tmp_path: Path, postgres_server: PostgresServer, session_redis: RedisServer
) -> None:
    url = postgres_server.fresh()
    environ = {
        "GATEWAY_DATABASE_URL": f"{url}&options=-c%20lock_timeout%3D200%20-c%20statement_timeout%3D400",
        "GATEWAY_REDIS_URL": session_redis.url,
    }
    new = {"name": "ci", "team": "research"}
    async with (
        Provider([answer(CHAT)]) as provider,
        serving(tmp_path, policies(provider.url), "--workers", workers, **environ) as one,
    ):
        _, made = await asked(one, "POST", "/admin/v1/keys", json=new)
        assert (await one.chat()).status_code == 200
        assert (await one.admin("/admin/v1/usage"))["total"]["calls"] == 1
        with psycopg.connect(url) as other:
            other.execute("LOCK TABLE keys, usage")
            async with one.client(made["key"]) as client:
                assert (await client.get("/v1/models")).status_code == 200, "the keys known last are good"
            assert (await one.chat()).status_code == 200
            for method, path in (
                ("GET", "/keys"),
                ("POST", "/keys"),
                ("DELETE", "/keys/ci"),
                ("GET", "/usage"),
            ):
                status, told = await asked(one, method, f"/admin/v1{path}", json=new)
                assert (status, told["error"]["code"]) == (503, "database_unavailable")
            assert "lock timeout" in told["error"]["message"]
        with postgres_server.frozen():
            assert (await one.chat()).status_code == 200
            for path in ("keys", "usage"):
                assert (await asked(one, "GET", f"/admin/v1/{path}"))[0] == 200, "it takes new connections"
        async with asyncio.timeout(
            20
        ):  # who stood still with rows half written kept others from writing them
            while (await one.admin("/admin/v1/usage"))["total"]["calls"] < 3:
                await asyncio.sleep(0.05)
    with psycopg.connect(url) as other:
        assert other.execute("SELECT count(*) FROM usage").fetchone() == (3,)
