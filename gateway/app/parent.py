"""Several data processes behind one port: the parent starts, watches and restarts them, and answers for all
on the admin port. It serves no calls itself."""

import asyncio
import socket
import time
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from gateway.app.crew import POLL, Crew
from gateway.app.house import check_environment
from gateway.app.job import lasting
from gateway.app.ledger_client import LedgerClient
from gateway.app.office import DataProcesses, Office
from gateway.app.plan import Plan, kept_secret, prepare
from gateway.app.run import STARTER_TEAM, Announce, listen, open_log, reload_on_sighup, stop_on_signal
from gateway.config.compiler import CompileOptions
from gateway.config.policies import Policies
from gateway.core.meters import Meters
from gateway.core.tally import Counts, snapshot
from gateway.edge.server import server
from gateway.state.database import Database
from gateway.state.fault import named_database
from gateway.state.keystore import KeyStore
from gateway.telemetry.logs import Log
from gateway.upstream.client import Upstream, trusting


class Frame:
    """What the office needs of a data process, without the data side."""

    def __init__(self, plan: Plan, meters: Meters, log: Log, stack: AsyncExitStack) -> None:
        self.meters = meters
        self.policies = Policies(plan.config, CompileOptions(plan.data_dir), meters, time.time, log)
        self.database = Database(plan.database_url)
        stack.callback(self.database.close)
        self.keys = KeyStore(self.database, time.time, log)
        self.upstream = Upstream(tls=trusting(plan.environ.get("SSL_CERT_FILE")))
        stack.push_async_callback(self.upstream.aclose)


async def run_crew(plan: Plan, announce: Announce) -> None:
    """Serve with several workers until SIGTERM or SIGINT. Raises like `run_alone`."""
    check_environment(plan)
    prepare(plan.data_dir)
    log = open_log(plan)
    stop = stop_on_signal()
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(listen(plan.host, plan.port))
        admin_socket = stack.enter_context(listen(plan.admin_host, plan.admin_port))
        frame, crew, office = await _open(plan, listener, log, stack)
        reload_on_sighup(stop, crew.reload)
        settings = plan.settings
        admin = server(office.app, settings.keep_alive, 1.0)
        async with asyncio.TaskGroup() as group:
            sweep = partial(admin.sweep, settings.header_timeout, settings.body_timeout)
            ours = (
                frame.policies.watch,
                frame.keys.keep_fresh,
                log.run,
                partial(crew.poll, office.degraded),
                sweep,
            )
            jobs = [group.create_task(job) for job in [*office.jobs(), *lasting(log, *ours)]]
            workers = [group.create_task(crew.keep(worker)) for worker in crew.workers]
            serving = group.create_task(admin.serve(sockets=[admin_socket]))
            while crew.ready()["status"] != "ready" and not stop.is_set():  # noqa: ASYNC110
                await asyncio.sleep(POLL / 5)
            telling = group.create_task(announce(frame.policies, office, listener, admin_socket))
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


async def _open(
    plan: Plan, listener: socket.socket, log: Log, stack: AsyncExitStack
) -> tuple[Frame, Crew, Office]:
    """What runs beside the workers, none of it begun. Raises like `run_alone`."""
    meters = Meters()
    with named_database(plan.database_url, is_set=bool(plan.settings.database_url)):
        frame = Frame(plan, meters, log, stack)
        crew = Crew(plan, listener, frame.policies, meters, log)
        frame.keys.changed.append(crew.take_keys)
        ledger = LedgerClient(plan, meters, log)
        stack.push_async_callback(ledger.aclose)
        office = Office(plan, frame, _data_processes(crew, meters), ledger, log)
        if plan.starter_key:
            kept = kept_secret(plan.data_dir, "starter-key", "gh-")
            await frame.keys.adopt("starter", STARTER_TEAM, kept)
    return frame, crew, office


def _data_processes(crew: Crew, meters: Meters) -> DataProcesses:
    async def counts() -> list[Counts]:
        return [snapshot(meters.all()), *await crew.counts()]

    async def targets() -> list[dict[str, Any]]:
        rows: dict[str, dict[str, Any]] = {}
        for report in await crew.ask_all("targets"):
            for row in report:
                seen = rows.setdefault(row["target"], row)
                if seen is not row:
                    seen["in_flight"] += row["in_flight"]
                    seen["cooling_s"] = max(seen["cooling_s"], row["cooling_s"])
                    seen["drained"] = seen["drained"] and row["drained"]
                    if row["circuit"] != "closed":
                        seen["circuit"] = row["circuit"]
        return list(rows.values())

    return DataProcesses(counts, targets, crew.drain, crew.ready)
