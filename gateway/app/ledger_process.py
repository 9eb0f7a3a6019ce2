"""The process that keeps the ledger: `python -m gateway.app.ledger_process FD`, started by the gateway alone.

A process of its own, so that rows and reports never hold the interpreter's lock when a call wants it; and the scheduler
gives it what nobody else wants of a core, as long as the ledger is no more than some seconds behind.
"""

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.app.control import Channel, receive_facts
from gateway.core.meters import Meters
from gateway.state.fault import DatabaseFault, named_database
from gateway.state.sql import at_length, ensure, faults, open_engine
from gateway.telemetry.logs import Log
from gateway.usage.collector import Collector
from gateway.usage.ledger import Ledger
from gateway.usage.reports import BadReport

LAST_SECONDS = 2.0  # that a gateway which is gone takes at most to let go of its spool
NICE = 5  # where it hurries: a quarter of a core that others want, too, and the rows of all its calls take a tenth


def main() -> int:
    # Who stops all processes of a group stops the gateway, too: nothing more comes when its channel ends.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(NICE)
    with asyncio.Runner() as runner:
        return runner.run(_run())


async def _run() -> int:
    try:
        facts, streams = await receive_facts()
    except ConnectionError:
        return 0
    log = Log(facts["log_level"], time.time)
    try:
        with named_database(facts["database"], is_set=facts["is_set"]):
            ledger = LedgerProcess(facts, log)
    except (OSError, ValueError) as error:
        log("error", f"the ledger cannot be opened: {error}")
        return 1
    listening = asyncio.create_task(Channel(streams, ledger.answer).run())
    collecting = asyncio.create_task(ledger.collector.run(facts["days"], time.time))
    ended, _ = await asyncio.wait({listening, collecting}, return_when=asyncio.FIRST_COMPLETED)
    for task in ended:
        if (why := task.exception()) is not None:
            log("error", f"the process that keeps the ledger failed: {why!r}")
    collecting.cancel()
    await ledger.collector.finish(LAST_SECONDS)
    await ledger.collector.aclose()
    return 0


class LedgerProcess:
    """The collector, and what is answered of it."""

    def __init__(self, facts: dict[str, Any], log: Log) -> None:
        """Raises DatabaseFault, ImportError for the driver of a database."""
        self._meters = Meters()
        with faults():
            ledger = Ledger(open_engine(facts["database"]), time.time, ensure, at_length, facts["earlier"])
        # Calls wait for its transactions where it shares an SQLite file with them: they must not take their time.
        leisure = _take_time if facts["alone"] else None
        self.collector = Collector(Path(facts["spool"]), ledger, self._meters, log, leisure)

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
            with faults():
                return {"report": await self.collector.report(by, since)}
        except BadReport as error:
            return {"bad": str(error)}
        except DatabaseFault as error:
            return {"fault": str(error)}


def _take_time() -> None:
    """Of the thread that asks, for good: who may not raise priorities could not undo it. No other policy lets whoever
    wakes have the core at once: even at nice 19 a thread that waited is owed milliseconds. Its price: while others want
    every core, this thread keeps the locks that it holds for seconds. Where a sandbox forbids it, the thread is no more
    than nice."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


if __name__ == "__main__":
    os._exit(main())  # the thread at leisure would be waited for
