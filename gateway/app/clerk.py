"""The process that keeps the ledger: `python -m gateway.app.clerk FACTS`, started by the gateway alone.

A process of its own, so that rows and reports never hold the interpreter's lock when a call wants it; and the scheduler
gives it what nobody else wants of a core, as long as the ledger is no more than some seconds behind.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from gateway.app.control import Line, ends
from gateway.core.meters import Meters
from gateway.state.fault import DatabaseFault, reason
from gateway.state.sql import open_engine
from gateway.telemetry.logs import Log
from gateway.usage.collector import Collector
from gateway.usage.ledger import BadReport, Ledger

BEGIN_SECONDS = 30.0
LAST_SECONDS = 2.0  # that a gateway which is gone takes at most to let go of its spool
NICE = 5  # where it hurries: a quarter of a core that others want, too, and the rows of all its calls take a tenth


def main() -> int:
    facts = orjson.loads(sys.argv[1])
    # Who stops all processes of a group or a terminal stops the gateway, too: nothing more comes when its line ends.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICE)
    with asyncio.Runner() as runner:
        return runner.run(_run(socket.socket(fileno=facts["control"])))


async def _run(control: socket.socket) -> int:
    opened: asyncio.Future[Clerk] = asyncio.get_running_loop().create_future()

    async def answer(message: dict[str, Any]) -> Any:
        return await (await opened).answer(message)

    line = Line(await ends(control), answer)
    listening = asyncio.create_task(line.run())
    try:
        begin = await line.ask("begin", within=BEGIN_SECONDS)
    except (ConnectionError, TimeoutError):  # the gateway is gone already, or hangs
        return 0
    log = Log(begin["log_level"], time.time)
    try:
        clerk = Clerk(begin, log)
    except (DatabaseFault, ImportError) as error:
        log("error", f"the ledger cannot be opened ({reason(error)})")
        return 1
    opened.set_result(clerk)
    collecting = asyncio.create_task(clerk.collector.run(begin["days"], time.time))
    await asyncio.wait({listening, collecting}, return_when=asyncio.FIRST_COMPLETED)
    collecting.cancel()
    await clerk.collector.finish(LAST_SECONDS)
    await clerk.collector.aclose()
    return 0


class Clerk:
    """The collector, and what is answered of it."""

    def __init__(self, begin: dict[str, Any], log: Log) -> None:
        """Raises DatabaseFault, ImportError for the driver of a database."""
        self._meters = Meters()
        ledger = Ledger(open_engine(begin["database"]))
        # Calls wait for its transactions where it shares an SQLite file with them: they must not take their time.
        leisure = _take_time if begin["alone"] else None
        self.collector = Collector(Path(begin["spool"]), ledger, self._meters, log, leisure)

    async def answer(self, message: dict[str, Any]) -> Any:
        if message["ask"] == "report":
            return await self._report(message["by"], message["since"])
        counted = {
            labels[1]: n for labels, n in self._meters.usage_events.values.items() if labels[0] == "ledger"
        }
        backlog = sum(self._meters.usage_backlog.read().values())
        collector = self.collector
        return {
            "failing": collector.failing,
            "complete": collector.complete,
            "backlog": backlog,
            "events": counted,
        }

    async def _report(self, by: list[str], since: float) -> dict[str, Any]:
        try:
            return {"report": await self.collector.report(by, since)}
        except BadReport as error:
            return {"bad": str(error)}
        except DatabaseFault as error:
            return {"fault": reason(error)}


def _take_time() -> None:
    """Of the thread that asks, for good: who may not raise priorities could not undo it. Where a sandbox forbids it,
    the thread is no more than nice."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


if __name__ == "__main__":
    sys.exit(main())
