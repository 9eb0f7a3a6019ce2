"""The ledger as the gateway sees it: a process of its own keeps it, which is started, asked and let go here."""

import asyncio
import signal
import time
from contextlib import suppress
from math import inf
from typing import Any

from gateway.app.control import Channel, Process, start
from gateway.app.job import Job
from gateway.app.plan import Plan
from gateway.core.failure import DatabaseAway, Overloaded
from gateway.core.meters import Meters
from gateway.core.pace import until
from gateway.telemetry.logs import Log
from gateway.usage.reports import BadReport

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a restart, doubled while it keeps dying
POLL = 1.0  # seconds between looks at how it is
START_SECONDS = 5.0  # that a report waits where there is none
REPORT_SECONDS = 60.0
GRACE = 5.0  # seconds in which it brings the last events into the ledger; what is left is the next start's
# One that leaves so many looks in turn unanswered hangs: no report takes as long. Looks and not time: all of us may
# have slept meanwhile.
LOOKS, LOOK_SECONDS = 30, 2.0
DEATH = 1.0  # seconds that one which was killed is waited for


class LedgerClient:
    """One per data folder. What its process counts is counted in `meters`."""

    def __init__(self, plan: Plan, meters: Meters, log: Log) -> None:
        self._plan, self._meters, self._log = plan, meters, log
        self._failing = self._away = False  # it cannot write; it has ended and is to be started again
        self._life: tuple[Process, Channel] | None = None
        self._lives = asyncio.Event()
        self._missed = -inf  # looks since it last answered; it may take its time to begin
        self._seen: dict[str, float] = {}  # the counts of this life that `meters` has already
        self._complete = time.perf_counter()  # the clock of the machine: the same in every process
        meters.usage_oldest.source = lambda: [((), time.perf_counter() - self._complete)]

    def jobs(self) -> list[Job]:
        return [self._keep, self._watch]

    def degraded(self) -> list[str]:
        return ["ledger"] if self._away else ["sql"] if self._failing else []

    async def look(self) -> None:
        """Bring `meters` up to date, if the process answers."""
        if (life := self._life) is None:
            return
        with suppress(TimeoutError, ConnectionError):
            told = await life[1].ask("state", LOOK_SECONDS)
            if life is self._life:
                self._take(told)

    async def report(self, by: list[str], since: float) -> dict[str, Any]:
        """The ledger's report, including what was spooled a moment ago. Raises BadReport, Overloaded,
        DatabaseAway."""
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._lives.wait()
            if (life := self._life) is None:
                raise ConnectionError
            told = await life[1].ask("report", REPORT_SECONDS, by=by, since=since)
        except (TimeoutError, ConnectionError):
            raise Overloaded(
                "the process that keeps the ledger does not answer; ask again in a moment",
                code="ledger_unavailable",
            ) from None
        self._missed = 0
        if "bad" in told:
            raise BadReport(told["bad"])
        if "fault" in told:
            raise DatabaseAway(told["fault"])
        report: dict[str, Any] = told["report"]
        return report

    async def _keep(self) -> None:
        """Keep a process at it until cancelled."""
        pause = FIRST_PAUSE
        while True:
            born = time.perf_counter()
            try:
                end = f"ended (exit code {await self._live()})"
            except OSError as error:  # no memory or descriptor for it now: calls go on, and wait in the spool
                end = f"could not be started ({error.strerror})"
            self._away = True
            if time.perf_counter() - born > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            self._log("error", f"the process that keeps the ledger {end}; next start in {pause:g} s")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _live(self) -> int:
        settings = self._plan.settings
        facts = {
            "spool": str(self._plan.data_dir / "spool"),
            "database": self._plan.ledger_url,
            "is_set": bool(settings.database_url),
            "earlier": self._plan.earlier_ledger,
            "alone": not settings.database_url.startswith("sqlite"),
            "days": settings.usage_retention_days,
            "log_level": settings.log_level,
        }
        process, streams = await start("gateway.app.ledger_process", facts)
        channel = Channel(streams)
        self._life, self._seen, self._missed = (process, channel), {}, -inf
        self._lives.set()
        await channel.run()
        return await self._end(process, channel)

    async def aclose(self) -> None:
        """Let it bring what there is into the ledger and end; called when nothing more is spooled."""
        if self._life is not None:
            await self._end(*self._life)

    async def _end(self, process: Process, channel: Channel) -> int:
        self._life = None
        self._lives.clear()
        channel.close()  # this is how it knows
        with suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                return await process.ended()
        process.kill()
        with suppress(TimeoutError):  # to die, too, a thread at leisure needs a core that nobody else wants
            async with asyncio.timeout(DEATH):
                await process.ended()
        return -signal.SIGKILL

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._missed += 1
            await self.look()
            if self._missed == LOOKS and self._life is not None:
                self._log("error", "the process that keeps the ledger hangs: it is killed")
                self._life[0].kill()
            await asyncio.sleep(until(loop.time(), POLL, 0.4))

    def _take(self, told: dict[str, Any]) -> None:
        self._away, self._missed = False, 0
        self._failing, self._complete = told["failing"], told["complete"]
        self._meters.usage_backlog.set(told["backlog"])
        for result, count in told["events"].items():
            self._meters.usage_events.add(("ledger", result), count - self._seen.get(result, 0))
        self._seen = told["events"]
