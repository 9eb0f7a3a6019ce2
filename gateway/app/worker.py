"""One of several data processes: `python -m gateway.app.worker PLAN`, started by the parent alone."""

import asyncio
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
import uvloop

from gateway.app.control import LINE, Line
from gateway.app.house import House, settle
from gateway.app.plan import Plan
from gateway.app.run import LAST_WORDS, open_log, raise_descriptor_limit, tune_interpreter
from gateway.core.tally import snapshot
from gateway.edge.server import server
from gateway.settings import from_environment


def main() -> int:
    facts = orjson.loads(sys.argv[1])
    plan = Plan(from_environment(), Path(facts["config"]), workers=facts["workers"], worker=facts["worker"])
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(plan, socket.socket(fileno=facts["listen"]), socket.socket(fileno=facts["control"])))
    return 0


async def _run(plan: Plan, listener: socket.socket, control: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # the terminal tells all; the parent tells us
    log = open_log(plan)
    settings = plan.settings
    async with AsyncExitStack() as stack:
        house = House(plan, log, stack)
        data = server(house.app, settings.keep_alive, settings.drain_timeout)
        reader, writer = await asyncio.open_unix_connection(sock=control, limit=LINE)
        line = Line(reader, writer, _answerer(house))

        async def listen_to_parent() -> None:
            await line.run()
            stop.set()

        async with asyncio.TaskGroup() as group:
            sweep = data.sweep(settings.header_timeout, settings.body_timeout)
            jobs = [group.create_task(job) for job in [*house.jobs(), sweep, listen_to_parent()]]
            serving = group.create_task(data.serve(sockets=[listener]))
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


def _answerer(house: House) -> Any:
    async def answer(message: dict[str, Any]) -> Any:
        asked = message["ask"]
        if asked == "counts":
            return snapshot(house.meters.all())
        if asked == "targets":
            return house.breaker.report()
        if asked == "drain":
            house.breaker.drain(message["target"], message["on"])
        elif asked == "ready":
            return house.ready()
        return {"pid": os.getpid()}

    return answer


if __name__ == "__main__":
    sys.exit(main())
