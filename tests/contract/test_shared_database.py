"""Gateways on several machines that share a PostgreSQL: one body of keys, objects, answers and calls."""

import asyncio
from pathlib import Path

from tests.postgres_server import PostgresServer
from tests.running import gateway, policies
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
