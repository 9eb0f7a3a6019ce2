"""Run a gateway in one process: both ports, all jobs, and an orderly end."""

import asyncio
import gc
import logging
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

from gateway.app.house import House, settle
from gateway.app.ledger_client import LedgerClient
from gateway.app.office import DataProcesses, Office
from gateway.app.plan import Plan, kept_secret, prepare
from gateway.app.sighup import left_by_terminal
from gateway.config.policies import Policies
from gateway.core.tally import Counts, snapshot
from gateway.edge.server import Server, server
from gateway.state.fault import named_database
from gateway.telemetry.logs import Bridge, Log

# Called once everything listens, with the sockets of data and admin.
Announce = Callable[[Policies, Office, socket.socket, socket.socket], Coroutine[Any, Any, None]]

BACKLOG = 4096  # connections that wait to be taken
LAST_WORDS = 2.0  # seconds a cancelled call gets to end its stream
STARTER_TEAM = "default"


def raise_descriptor_limit() -> None:
    """Every call takes two descriptors; the soft limit is often 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def tune_interpreter() -> None:
    """Called once all is built. Calls leave no cycles behind, so the collector of cycles need not walk through
    thousands of living objects every few calls (30 us of a call); what lives for good is taken out of its
    sight. A thread (traces, logs, SQL) hands the interpreter over after a tenth of a millisecond instead of five."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    sys.setswitchinterval(0.0001)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens: of two on one port the second fails here. Raises OSError, naming the address."""
    try:
        return _listening(host, port)
    except OSError as error:
        told = f"{host} port {port} cannot be listened on: {error.strerror}; take another host or port"
        raise OSError(told) from None


def _listening(host: str, port: int) -> socket.socket:
    family, kind, number, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, number)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def stop_on_signal() -> asyncio.Event:
    """Set by SIGTERM or SIGINT, once."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def reload_on_sighup(stop: asyncio.Event, reload: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Has SIGHUP reload, or stop what its terminal has left."""
    loop, is_left = asyncio.get_running_loop(), left_by_terminal()
    tasks: set[asyncio.Task[Any]] = set()

    def hung_up() -> None:
        if is_left():
            return stop.set()
        task = loop.create_task(reload())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return None

    loop.add_signal_handler(signal.SIGHUP, hung_up)


def open_log(plan: Plan) -> Log:
    log = Log(plan.settings.log_level, time.time)
    logging.basicConfig(handlers=[Bridge(log)], level=logging.WARNING, force=True)
    return log


async def run_alone(plan: Plan, announce: Announce) -> None:
    """Serve until SIGTERM or SIGINT. Raises BadPolicies, OSError for a port or an engine that is taken or a
    database that fails, ValueError for a wrong variable."""
    prepare(plan.data_dir)
    log = open_log(plan)
    async with AsyncExitStack() as last, AsyncExitStack() as stack:
        data_socket = stack.enter_context(listen(plan.host, plan.port))
        admin_socket = stack.enter_context(listen(plan.admin_host, plan.admin_port))
        with named_database(plan.database_url, is_set=bool(plan.settings.database_url)):
            house = House(plan, log, stack)
            ledger = LedgerClient(plan, house.meters, log)
            last.push_async_callback(ledger.aclose)  # the spool is closed then
            office = Office(plan, house, alone(house), ledger, log)
            house.elsewhere = lambda: {"status": "ready", "degraded": office.degraded()}
            if plan.starter_key:
                kept = kept_secret(plan.data_dir, "starter-key", "gh-")
                await house.keys.adopt("starter", STARTER_TEAM, kept)
        settings = plan.settings
        data = server(house.app, settings.keep_alive, settings.drain_timeout)
        admin = server(office.app, settings.keep_alive, 1.0)
        await _serve(plan, house, office, (data, data_socket), (admin, admin_socket), announce)


def alone(house: House) -> DataProcesses:
    """The processes of one: the only data process answers for itself."""

    async def counts() -> list[Counts]:
        return [snapshot(house.meters.all())]

    async def targets() -> list[dict[str, Any]]:
        return house.breaker.report()

    async def drain(target: str, on: bool) -> None:
        house.breaker.drain(target, on)

    return DataProcesses(counts, targets, drain, house.standing)


async def _serve(
    plan: Plan,
    house: House,
    office: Office,
    data: tuple[Server, socket.socket],
    admin: tuple[Server, socket.socket],
    announce: Announce,
) -> None:
    """Run servers and jobs; on a signal let the data side finish first, then the rest."""
    stop = stop_on_signal()
    reload_on_sighup(stop, partial(house.policies.reload, tell=True))
    settings = plan.settings
    sweeps = [one.sweep(settings.header_timeout, settings.body_timeout) for one in (data[0], admin[0])]
    async with asyncio.TaskGroup() as group:
        jobs = [group.create_task(job) for job in [*house.jobs(), *office.jobs(), *sweeps]]
        serving = [group.create_task(one.serve(sockets=[sock])) for one, sock in (data, admin)]
        while not (data[0].started and admin[0].started):  # noqa: ASYNC110
            await asyncio.sleep(0.005)  # uvicorn tells it by a flag alone
        tune_interpreter()
        house.listening = True
        telling = group.create_task(announce(house.policies, office, data[1], admin[1]))
        await stop.wait()
        telling.cancel()
        house.draining = True
        house.log("info", "draining: no new connections, calls in flight finish")
        data[0].should_exit = True
        await serving[0]
        await settle(data[0].server_state.tasks, LAST_WORDS)
        admin[0].should_exit = True
        await serving[1]
        for job in jobs:
            job.cancel()
