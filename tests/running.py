"""A whole gateway inside the test's event loop: real sockets on both sides, everything else as in `gateway serve`."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.app.house import House
from gateway.app.job import Job
from gateway.app.office import Office
from gateway.app.plan import Plan, prepare
from gateway.app.run import alone, listen, open_log
from gateway.core.meters import Meters
from gateway.edge.server import Server, server
from gateway.settings import Settings
from gateway.state.sql import ensure, open_engine
from gateway.telemetry.logs import Log
from gateway.usage.collector import Collector
from gateway.usage.ledger import Ledger

KEY = "sk-test-key-of-the-tests"
HASH = hashlib.sha256(KEY.encode()).hexdigest()
ACCESS = f"""
kind: access
teams: {{research: {{models: ["*"]}}, free: {{models: [mini], max_output_tokens: 100}}}}
keys:
  - {{name: tester, team: research, hash: "sha256:{HASH}"}}
  - {{name: poor, team: free, hash: "sha256:{hashlib.sha256(b"sk-poor").hexdigest()}"}}
"""


def policies(*targets: str, more: str = "", model: str = "") -> str:
    """One model `smart` with a target per address (`mini` has the first), and the teams of the tests."""
    providers = ", ".join(f'p{i}: {{type: compatible, base_url: "{url}"}}' for i, url in enumerate(targets))
    listed = ", ".join(f"{{provider: p{i}}}" for i in range(len(targets)))
    return f"""
kind: providers
providers: {{{providers}}}
---
kind: models
models:
  smart: {{targets: [{listed}]{", " if model else ""}{model}}}
  mini: {{targets: [{{provider: p0}}]}}
---
{ACCESS}
{"---" if more else ""}
{more}
"""


def plain_client(url: str, headers: Mapping[str, str] | None = None) -> httpx.AsyncClient:
    """For http:// alone: the authorities of a client that verifies take 16 ms to read."""
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=20, trust_env=False, verify=False)


@dataclass
class Running:
    house: House
    office: Office
    collector: Collector
    data: Server
    url: str
    admin_url: str
    port: int
    token: str
    folder: Path

    def client(self, key: str = KEY) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {key}"}
        return plain_client(self.url, headers)

    def admin(self) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {self.token}"}
        return plain_client(self.admin_url, headers)

    async def usage(self, by: str = "") -> Any:
        async with self.admin() as client:
            return (await client.get("/admin/v1/usage", params={"by": by} if by else {})).json()

    async def metrics(self) -> str:
        async with self.admin() as client:
            return (await client.get("/metrics")).text

    async def chat(self, model: str = "smart", **more: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}
        async with self.client() as client:
            return await client.post("/v1/chat/completions", json=body)


async def until_idle(running: Running) -> None:
    async with asyncio.timeout(5):
        while running.house.reception.in_flight:
            await asyncio.sleep(0.005)


class Kept:
    """The ledger kept by this very process: a gateway in a test needs none for it."""

    def __init__(self, plan: Plan, meters: Meters, log: Log) -> None:
        ledger = Ledger(open_engine(plan.ledger_url), log.now, ensure)
        self.collector = Collector(plan.data_dir / "spool", ledger, meters, log)
        self.report = self.collector.report
        self._days, self._now = plan.settings.usage_retention_days, log.now

    def jobs(self) -> list[Job]:
        return [partial(self.collector.run, self._days, self._now)]

    def degraded(self) -> list[str]:
        return ["sql"] if self.collector.failing else []

    async def look(self) -> None:
        """What is counted is counted here."""


@asynccontextmanager
async def gateway(
    tmp_path: Path, text: str, environ: Mapping[str, str] | None = None, **settings: Any
) -> AsyncIterator[Running]:
    """Serve these policies until the block ends. `environ` holds what is not a setting: OTEL_*, proxies."""
    folder, data_dir = tmp_path / "policies", tmp_path / "data"
    folder.mkdir(exist_ok=True)
    (folder / "gateway.yaml").write_text(text)
    prepare(data_dir)
    known = Settings(
        data_dir=data_dir, admin_token="admin-token-of-the-tests", **{"log_level": "error"} | settings
    )
    plan = Plan(known, folder, port=0, admin_port=0, environ=environ or {})
    async with AsyncExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(
                "SSL_CERT_FILE", os.devnull
            )  # it calls nobody outside: their authorities take 20 ms to read
            house = House(plan, open_log(plan), stack)
        kept = Kept(plan, house.meters, house.log)
        stack.push_async_callback(kept.collector.aclose)
        office = Office(plan, house, alone(house), kept, house.log)
        house.elsewhere = lambda: {"status": "ready", "degraded": office.degraded()}
        sockets = [listen("127.0.0.1", 0), listen("127.0.0.1", 0)]
        data, admin = server(house.app, 75, 1), server(office.app, 75, 1)
        sweeps = [each.sweep(known.header_timeout, known.body_timeout) for each in (data, admin)]
        tasks = [asyncio.ensure_future(job) for job in [*house.jobs(), *office.jobs(), *sweeps]]
        serving = [
            asyncio.ensure_future(one.serve(sockets=[sock]))
            for one, sock in zip((data, admin), sockets, strict=True)
        ]
        while not (data.started and admin.started):
            await asyncio.sleep(0.002)  # uvicorn tells it by a flag alone
        house.listening = True
        ports = [sock.getsockname()[1] for sock in sockets]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        try:
            yield Running(
                house, office, kept.collector, data, urls[0], urls[1], ports[0], known.admin_token, folder
            )
        finally:
            await ended([*serving, *tasks])
            await asyncio.gather(stop(data), stop(admin))


async def stop(one: Server) -> None:
    """At once: on its own way out uvicorn looks at the clock each tenth of a second."""
    for listening in one.servers:
        listening.close()
    connections: Any = one.server_state.connections
    for connection in list(connections):
        connection.drop()
    await ended(list(one.server_state.tasks))


async def ended(tasks: Sequence["asyncio.Future[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
