"""Several data processes behind one port: the parent starts, watches and restarts them, and answers for all
on the admin port. It serves no calls itself."""

import asyncio
import signal
import socket
import sys
import time
from contextlib import AsyncExitStack, suppress
from typing import Any

import orjson

from gateway.app.control import LINE, Line
from gateway.app.house import tls_of
from gateway.app.job import lasting
from gateway.app.office import Office, Staff
from gateway.app.plan import Plan, kept_secret, prepare
from gateway.app.run import STARTER_TEAM, Announce, listen, open_log
from gateway.config.compile import Ground
from gateway.config.desk import Desk
from gateway.core.meters import Meters
from gateway.core.tally import Snapshot as Counts
from gateway.core.tally import snapshot
from gateway.edge.server import server
from gateway.state.fault import named_database
from gateway.state.keystore import KeyStore
from gateway.state.sql import open_engine
from gateway.telemetry.logs import Log
from gateway.upstream.client import Upstream

RESTART_PAUSE = 0.5
POLL = 0.25  # seconds between looks at how the workers are


class Worker:
    """One child process and the line to it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: asyncio.subprocess.Process | None = None
        self.line: Line | None = None
        self.state: dict[str, Any] = {"status": "starting", "policies": "", "degraded": []}


class Crew:
    """All workers."""

    def __init__(self, plan: Plan, listener: socket.socket, meters: Meters, log: Log) -> None:
        self._plan, self._listener, self._meters, self._log = plan, listener, meters, log
        self.workers = [Worker(number) for number in range(1, plan.workers + 1)]
        self.draining = False

    async def keep(self, worker: Worker) -> None:
        """Run one worker, and another in its place when it dies; returns when it ends while draining."""
        while True:
            code = await self._live(worker)
            if self.draining:
                return
            self._log("error", f"worker {worker.number} ended (exit code {code}); it is started again")
            await asyncio.sleep(RESTART_PAUSE)

    async def poll(self) -> None:
        """Keep the workers' own words on how they are; runs until cancelled."""
        while True:
            await asyncio.gather(*(self._ask_state(worker) for worker in self.workers))
            await asyncio.sleep(POLL)

    def ready(self) -> dict[str, Any]:
        states = [worker.state for worker in self.workers]
        status = "draining" if self.draining else "ready"
        if not self.draining and any(state["status"] != "ready" for state in states):
            status = "starting"
        degraded = sorted({name for state in states for name in state["degraded"]})
        return {"status": status, "policies": states[0]["policies"], "degraded": degraded}

    async def ask_all(self, what: str, **more: Any) -> list[Any]:
        """The answers of those that answer in time."""
        lines = [worker.line for worker in self.workers if worker.line is not None]
        came = await asyncio.gather(*(line.ask(what, **more) for line in lines), return_exceptions=True)
        return [one for one in came if not isinstance(one, BaseException)]

    def terminate(self) -> None:
        self.draining = True
        for worker in self.workers:
            if worker.process is not None:
                with suppress(ProcessLookupError):
                    worker.process.terminate()

    async def _live(self, worker: Worker) -> int:
        ours, theirs = socket.socketpair()
        facts = {
            "config": str(self._plan.config),
            "workers": self._plan.workers,
            "worker": worker.number,
            "listen": self._listener.fileno(),
            "control": theirs.fileno(),
        }
        worker.process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway.app.worker",
            orjson.dumps(facts).decode(),
            pass_fds=[self._listener.fileno(), theirs.fileno()],
        )
        theirs.close()
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=LINE)

        async def nothing(message: dict[str, Any]) -> None:
            return None

        worker.line = line = Line(reader, writer, nothing)
        await line.run()
        line.close()
        worker.line = None
        worker.state = {**worker.state, "status": "starting"}
        return await process.wait()

    async def _ask_state(self, worker: Worker) -> None:
        if worker.line is not None:
            with suppress(TimeoutError, asyncio.CancelledError):
                worker.state = await worker.line.ask("ready")


class Frame:
    """What the office needs of a data process, without the data side."""

    def __init__(self, plan: Plan, meters: Meters, log: Log, stack: AsyncExitStack) -> None:
        self.meters = meters
        self.desk = Desk(plan.config, Ground(plan.data_dir), meters, time.time, log)
        self.engine = open_engine(plan.database_url)
        stack.callback(self.engine.dispose)
        self.keys = KeyStore(self.engine, time.time, log)
        self.upstream = Upstream(tls=tls_of(plan))
        stack.push_async_callback(self.upstream.aclose)


async def run_crew(plan: Plan, announce: Announce) -> None:
    """Serve with several workers until SIGTERM or SIGINT. Raises like `run_alone`."""
    prepare(plan.data_dir)
    log = open_log(plan)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        listener = listen(plan.host, plan.port)
        listener.listen(4096)
        admin_socket = listen(plan.admin_host, plan.admin_port)
        meters = Meters()
        crew = Crew(plan, listener, meters, log)
        with named_database(plan.database_url, is_set=bool(plan.settings.database_url)):
            frame = Frame(plan, meters, log, stack)
            office = Office(plan, frame, _staff(crew, meters), log, stack)
            if plan.starter_key:
                kept = kept_secret(plan.data_dir, "starter-key", "gh-")
                await frame.keys.adopt("starter", STARTER_TEAM, kept)
        admin = server(office.app, plan.settings.keep_alive, 1.0)
        async with asyncio.TaskGroup() as group:
            ours = lasting(log, frame.desk.watch, frame.keys.keep_fresh, log.run, crew.poll)
            jobs = [group.create_task(job) for job in [*office.jobs(), *ours]]
            workers = [group.create_task(crew.keep(worker)) for worker in crew.workers]
            serving = group.create_task(admin.serve(sockets=[admin_socket]))
            while crew.ready()["status"] != "ready" and not stop.is_set():  # noqa: ASYNC110
                await asyncio.sleep(POLL / 5)
            telling = group.create_task(announce(frame.desk, office, listener, admin_socket))
            await stop.wait()
            telling.cancel()
            log("info", "draining: no new connections, calls in flight finish")
            listener.close()
            crew.terminate()
            await asyncio.gather(*workers)
            admin.should_exit = True
            await serving
            for job in jobs:
                job.cancel()


def _staff(crew: Crew, meters: Meters) -> Staff:
    async def counts() -> list[Counts]:
        return [snapshot(meters.all()), *await crew.ask_all("counts")]

    async def targets() -> list[dict[str, Any]]:
        rows: dict[str, dict[str, Any]] = {}
        for report in await crew.ask_all("targets"):
            for row in report:
                seen = rows.setdefault(row["target"], row)
                if seen is not row:
                    seen["in_flight"] += row["in_flight"]
                    if row["circuit"] != "closed":
                        seen["circuit"] = row["circuit"]
        return list(rows.values())

    async def drain(target: str, on: bool) -> None:
        await crew.ask_all("drain", target=target, on=on)

    return Staff(counts, targets, drain, crew.ready)
