"""One of several data processes: `python -m gateway.app.worker FD`, started by the parent alone."""

import asyncio
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import uvloop

from gateway.app.control import Answerer, Channel, receive_facts
from gateway.app.house import House, settle
from gateway.app.plan import Plan
from gateway.app.run import LAST_WORDS, open_log, raise_descriptor_limit, tune_interpreter
from gateway.config.policies import Originals
from gateway.core.tally import snapshot
from gateway.edge.server import server
from gateway.settings import from_environment
from gateway.telemetry.logs import Log

KEYS_SECONDS = 1.0
BEGIN_SECONDS = 30.0  # a parent that is about to start a hundred workers has much to say


def main() -> int:
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run())
    return 0


async def _run() -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    try:
        facts, streams = await receive_facts()
    except ConnectionError:
        return
    settings = from_environment()
    plan = Plan(settings, Path(facts["config"]), workers=facts["workers"], worker=facts["worker"])
    log = open_log(plan)
    built: asyncio.Future[House] = loop.create_future()
    channel = Channel(streams, _answerer(built))

    async def listen_to_parent() -> None:
        await channel.run()
        stop.set()

    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        listening = group.create_task(listen_to_parent())
        try:
            begin = await channel.ask("begin", within=BEGIN_SECONDS)
        except ConnectionError:  # the parent is gone already
            return
        house = _house(plan, log, stack, begin)
        built.set_result(house)
        data = server(house.app, settings.keep_alive, settings.drain_timeout)
        sweep = data.sweep(settings.header_timeout, settings.body_timeout)
        jobs = [listening, *(group.create_task(job) for job in [*house.jobs(), sweep])]
        serving = group.create_task(data.serve(sockets=[socket.socket(fileno=facts["listen"])]))
        while not data.started:  # noqa: ASYNC110
            await asyncio.sleep(0.005)  # uvicorn tells it by a flag alone
        tune_interpreter()
        house.listening = True
        await stop.wait()
        house.draining = True
        data.should_exit = True
        await serving
        await settle(data.server_state.tasks, LAST_WORDS)
        for job in jobs:
            job.cancel()


def _house(plan: Plan, log: Log, stack: AsyncExitStack, begin: dict[str, Any]) -> House:
    """It begins as the parent stands: the folder may be bad by now, and an operator may have drained targets."""
    house = House(plan, log, stack, Originals(**begin["originals"]))
    house.elsewhere = lambda: {"status": "starting", "degraded": []}  # until the parent tells
    for target in begin["drained"]:
        house.breaker.drain(target, True)
    return house


def _answerer(built: "asyncio.Future[House]") -> Answerer:
    async def answer(message: dict[str, Any]) -> Any:
        asked, house = message["ask"], await built
        if asked == "counts":
            return snapshot(house.meters.all())
        if asked == "targets":
            return house.breaker.report()
        if asked == "drain":
            house.breaker.drain(message["target"], message["on"])
        elif asked == "reload":
            await house.policies.reload(tell=True)
        elif asked == "keys":
            with suppress(TimeoutError):  # a database that hangs: other questions wait behind this one
                async with asyncio.timeout(KEYS_SECONDS):
                    await house.keys.look()
        elif asked == "ready":
            elsewhere = message["elsewhere"]
            house.elsewhere = lambda: elsewhere
            return house.standing()
        return {"pid": os.getpid()}

    return answer


if __name__ == "__main__":
    sys.exit(main())
