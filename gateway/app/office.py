"""The admin side of one data folder: the ledger, engines, tokens, the admin application."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from gateway.admin.base import Backoffice
from gateway.admin.routes import application
from gateway.app.job import Job, Running, lasting
from gateway.app.plan import Plan, engine_command, kept_secret
from gateway.config.policies import Policies
from gateway.config.snapshot import Engine, Snapshot
from gateway.core.address import Origin
from gateway.core.failure import Overloaded
from gateway.core.meters import Meters
from gateway.core.readiness import Readiness
from gateway.core.tally import Counts, merge
from gateway.edge.asgi import App
from gateway.edge.sanity import Sanity
from gateway.state.keystore import KeyStore
from gateway.telemetry.logs import Log
from gateway.telemetry.prometheus import of_engines, render
from gateway.upstream.client import Timing, Upstream
from gateway.upstream.engine_process import EngineProcess, lock_socket
from gateway.upstream.failures import UpstreamError


class DataProcesses(NamedTuple):
    """The data processes, one or many, as the office sees them."""

    counts: Callable[[], Awaitable[list[Counts]]]
    targets: Callable[[], Awaitable[list[dict[str, Any]]]]
    drain: Callable[[str, bool], Awaitable[None]]
    ready: Callable[[], Readiness]


class Ledger(Protocol):
    """Whoever keeps it, by running `jobs`."""

    def jobs(self) -> list[Job]: ...

    def degraded(self) -> list[str]:
        """What of it is away."""

    async def look(self) -> None:
        """Bring what is counted of it up to date."""

    async def report(self, by: list[str], since: float) -> dict[str, Any]: ...


class Host(Protocol):
    """What the office uses of the process that it is in."""

    policies: Policies
    keys: KeyStore
    meters: Meters
    upstream: Upstream


class Office:
    """Runs in the only data process, or in the parent of many."""

    def __init__(self, plan: Plan, host: Host, processes: DataProcesses, ledger: Ledger, log: Log) -> None:
        """Raises OSError where an engine of the policies is another gateway's: by the same socket this one's calls
        would reach that one."""
        for engine in host.policies.snapshot.tables.engines:
            os.close(lock_socket(engine.socket))
        self._host, self._processes, self._log = host, processes, log
        self.ledger = ledger
        self._engines: dict[Engine, tuple[EngineProcess, asyncio.Task[None]]] = {}
        self._changed, self._started = asyncio.Event(), asyncio.Event()
        host.policies.changed.append(lambda snapshot: self._changed.set())
        self._office = Backoffice(
            host.policies,
            host.keys,
            ledger.report,
            processes.targets,
            processes.drain,
            self._metrics,
            self.ready,
            lambda what, to: log("info", f"audit: {what}", object=to),
            time.time,
            plan.settings.admin_token or kept_secret(plan.data_dir, "admin-token"),
            plan.settings.metrics_token,
        )
        self.app: App = Sanity(application(self._office))

    def jobs(self) -> list[Running]:
        return lasting(self._log, *self.ledger.jobs(), self._keep_engines)

    def ready(self) -> Readiness:
        """The data side's word, and what only the office sees."""
        state = self._processes.ready()
        return {**state, "degraded": sorted({*state["degraded"], *self.degraded()})}

    def degraded(self) -> list[str]:
        """What the office sees to be away."""
        engines = [
            engine.provider for engine, (process, _) in self._engines.items() if process.state != "ready"
        ]
        sql = ["sql"] if self._host.keys.failing else []
        return [*{*sql, *self.ledger.degraded()}, *(f"engine:{provider}" for provider in engines)]

    @property
    def has_engines(self) -> bool:
        return bool(self._host.policies.snapshot.tables.engines)

    async def engines_ready(self) -> None:
        """Wait until every engine of the policies answers."""
        await self._started.wait()
        for process, _ in list(self._engines.values()):
            await process.ready.wait()

    async def _keep_engines(self) -> None:
        """Start and stop engines as the policies say; runs until cancelled, then stops them all."""
        try:
            while True:
                self._changed.clear()
                await self._match(self._host.policies.snapshot)
                self._started.set()
                await self._changed.wait()
        finally:
            await self._stop(list(self._engines))

    async def _match(self, snapshot: Snapshot) -> None:
        wanted = set(snapshot.tables.engines)
        await self._stop([engine for engine in self._engines if engine not in wanted])
        loop = asyncio.get_running_loop()
        for engine in wanted - set(self._engines):
            command = engine_command(engine.model, engine.socket, engine.flags)
            process = EngineProcess(command, engine.socket, self._host.upstream, self._log)
            self._engines[engine] = (process, loop.create_task(process.run()))

    async def _stop(self, engines: list[Engine]) -> None:
        tasks = [self._engines.pop(engine)[1] for engine in engines]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _metrics(self) -> bytes:
        await self.ledger.look()
        metrics = self._host.meters.all()
        counts = await self._processes.counts()
        text = await asyncio.to_thread(lambda: render(metrics, merge(metrics, counts)))
        engines = [engine for engine, (process, _) in self._engines.items() if process.state == "ready"]
        told = {engine.provider: await _engine_metrics(self._host.upstream, engine) for engine in engines}
        return text + of_engines(told)


async def _engine_metrics(upstream: Upstream, engine: Engine) -> bytes:
    """What the engine says of itself; nothing while it does not answer."""
    origin = Origin("unix", "localhost", 0, engine.socket)
    try:
        answer = await upstream.send(
            origin, b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n", b"", Timing(1, 2, 2)
        )
        body = await answer.body(1 << 20)
    except (UpstreamError, Overloaded):
        return b""
    return body if answer.status == 200 else b""
