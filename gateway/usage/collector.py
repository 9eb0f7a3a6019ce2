"""Carries usage events from the spool files of all processes, living and dead, into the ledger.

A file is deleted once its process is gone and all of it is in the ledger. Rows are keyed by the call's id, so reading a
line twice (after a restart) changes nothing.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, OperationalError

from gateway.core.log import Log
from gateway.core.meters import Meters
from gateway.usage.event import died
from gateway.usage.ledger import Ledger
from gateway.usage.row import Event, NoRow, checked, parsed
from gateway.usage.spool_file import Piece, SpoolFile, read

PAUSE = 0.2  # seconds between looks
BETWEEN_LAST_LOOKS = 0.02
PATIENCE = 10.0  # seconds that the ledger may be behind before it is hurried
# Bytes read of one file at a time; what is taken apart is several times as large. At leisure few, so that who begins to
# hurry need not wait long for one who does not; and so that the core is given way after half a millisecond: the
# scheduler may let even the least of threads have it until the next tick (4 ms) while a call waits.
AT_LEISURE, HURRIED = 32 << 10, 512 << 10
AT_A_TIME = 128  # events in one transaction
TIDY_PAUSE = 3600.0  # seconds
_UNWRITTEN = "the usage ledger cannot be written"

P = ParamSpec("P")
Result = TypeVar("Result")


class Collector:
    """One per data folder. It works in one of two threads: at leisure, where the scheduler may let it wait while others
    want the core, or in a hurry."""

    def __init__(
        self,
        folder: Path,
        ledger: Ledger,
        meters: Meters,
        log: Log,
        leisure: Callable[[], None] | None = None,
    ) -> None:
        """`leisure` is called once, by the thread that is to take its time: it need not be able to hurry again. Nobody
        else should write to the database then, who would wait for its transactions."""
        self._folder, self._ledger = folder, ledger
        self._meters, self._log = meters, log
        self._files: dict[Path, SpoolFile] = {}
        self._leisure = ThreadPoolExecutor(1, "usage-leisure", leisure)
        self._hurry = ThreadPoolExecutor(1, "usage")
        self._waited_for = 0  # how many want it sooner
        self._turn = threading.Lock()  # one looks at a time, also where nobody waits for its end any more
        self.failing = False
        # What was spooled before then is in the ledger. Of an earlier life nobody knows yet: the first look is not at
        # leisure, nor is all that takes its time once only.
        self.complete = time.perf_counter() - PATIENCE
        meters.usage_oldest.source = lambda: [((), time.perf_counter() - self.complete)]

    async def run(self, days: int, wall_clock: Callable[[], float]) -> None:
        """Collect until cancelled, forget what is older than `days`, and sum up what is past."""
        due = 0.0
        loop = asyncio.get_running_loop()
        while True:
            more = False
            if self._is_late():
                more = await _by(self._hurry, self._look, HURRIED)
            else:
                await _by(self._leisure, self._look_at_leisure)
            if loop.time() >= due:
                is_more = await _by(self._hurry, self._tidy, wall_clock() - days * 86400)
                due = loop.time() + (0.0 if is_more else TIDY_PAUSE)
            if not more:  # or the look failed: what is away now is not back at once
                await asyncio.sleep(PAUSE)

    async def flush(self) -> None:
        """Bring everything spooled so far into the ledger: somebody waits for it."""
        self._waited_for += 1
        try:
            while await _by(self._hurry, self._look, HURRIED):
                pass
        finally:
            self._waited_for -= 1

    async def report(self, by: list[str], since: float) -> dict[str, Any]:
        """The ledger's report, including what was spooled a moment ago. Raises BadReport."""
        await self.flush()
        return await _by(self._hurry, self._ledger.report, by, since)

    async def finish(self, within: float) -> None:
        """Those that write are ending: collect until they have let go of their files, so many seconds at most."""
        ends = time.perf_counter() + within
        await self.flush()
        while self._files and time.perf_counter() < ends:
            await asyncio.sleep(BETWEEN_LAST_LOOKS)  # a lock that is let go tells nobody
            await self.flush()

    async def aclose(self) -> None:
        await self.flush()
        self._leisure.shutdown(wait=False)  # it takes its time for that, too
        await _by(self._hurry, self._close)
        self._hurry.shutdown()

    def _close(self) -> None:
        with self._turn:
            self._ledger.close()

    def _is_late(self) -> bool:
        return time.perf_counter() - self.complete > PATIENCE

    def _look_at_leisure(self) -> None:
        """Piece by piece, until there is no more or it is wanted sooner."""
        while self._look(AT_LEISURE) and not (self._waited_for or self._is_late()):
            os.sched_yield()

    def _look(self, most: int) -> bool:
        """Take `most` bytes of each file; whether there is more. A file that cannot be read holds up no other."""
        with self._turn:
            try:
                return self._look_at_all(most)
            except Exception as error:  # nothing must end the collector
                self._fail(self, _UNWRITTEN, error)
                return False

    def _look_at_all(self, most: int) -> bool:
        began, whole, more = time.perf_counter(), True, False
        self._files = self._found()
        for file in list(self._files.values()):
            try:
                piece = read(file, most)
                if most == AT_LEISURE:
                    os.sched_yield()
                self._keep(file, piece)
                more |= piece.more
                file.failing = False
            except FileNotFoundError:
                continue  # the process of a gateway that was killed has brought it to its end
            except (OperationalError, InterfaceError):  # the database is away: so it is for the next file
                raise
            except Exception as error:
                whole = False
                self._fail(file, f"spool file {file.path.name!a} cannot be taken", error)
        self.failing = False
        self._meters.usage_backlog.set(sum(len(file.begun) for file in self._files.values()))
        if whole and not more:
            self.complete = began
        return more

    def _found(self) -> dict[Path, SpoolFile]:
        paths = sorted(path for path in self._folder.glob("*.jsonl") if path.is_file())
        return {path: self._files.get(path) or SpoolFile(path) for path in paths}

    def _tidy(self, before: float) -> bool:
        """Forget some of what is older than `before`, or else sum up some of what is past; whether there is more."""
        try:
            return self._ledger.forget(before) > 0 or self._ledger.sum_up()
        except Exception as error:  # the database is away: tried again with the next look
            self._fail(self, _UNWRITTEN, error)
            return False

    def _keep(self, file: SpoolFile, piece: Piece) -> None:
        self._write(file, piece.ends, self._ledger.absorb)
        for number in piece.odd:
            self._drop(file, f"line {number}")
        file.begun, file.offset, file.line = piece.begun, piece.offset, piece.line
        if piece.is_over:
            self._finish(file)

    def _finish(self, file: SpoolFile) -> None:
        """The process is gone: what it began has no other end."""
        lost: list[Event] = []
        for line in file.begun.values():
            try:
                lost.append(checked(died(parsed(line))))
            except (NoRow, KeyError):
                self._drop(file, "one that begins a call")
        self._write(file, lost, self._ledger.keep)
        file.begun = {}
        file.path.unlink(missing_ok=True)
        del self._files[file.path]

    def _write(self, file: SpoolFile, events: list[Event], into: Callable[[list[Event]], None]) -> None:
        for start in range(0, len(events), AT_A_TIME):
            batch = events[start : start + AT_A_TIME]
            try:
                into(batch)
                written = len(batch)
            except Exception as error:
                if not _is_of_a_row(error):
                    raise
                written = sum(self._write_one(file, one, into) for one in batch)
            self._meters.usage_events.add(("ledger", "written"), written)

    def _write_one(self, file: SpoolFile, one: Event, into: Callable[[list[Event]], None]) -> bool:
        """A row that the database refuses must not keep its neighbours out."""
        try:
            into([one])
        except Exception as error:
            if not _is_of_a_row(error):
                raise
            self._drop(file, f"call {one['id']!a} ({type(error).__name__})")
            return False
        return True

    def _drop(self, file: SpoolFile, what: str) -> None:
        self._meters.usage_events.add(("ledger", "dropped"))
        if not file.told:
            file.told = True
            self._log("error", f"spool file {file.path.name!a}: {what} is no usage event and is dropped")

    def _fail(self, one: "Collector | SpoolFile", told: str, error: Exception) -> None:
        """It is tried again with the next look, and told once until it goes well."""
        self._meters.usage_events.add(("ledger", "retried"))
        if not one.failing:
            one.failing = True
            self._log("error", f"{told} ({type(error).__name__}): events wait in the spool")


async def _by(
    thread: ThreadPoolExecutor, work: Callable[P, Result], *args: P.args, **named: P.kwargs
) -> Result:
    return await asyncio.get_running_loop().run_in_executor(thread, partial(work, *args, **named))


def _is_of_a_row(error: Exception) -> bool:
    """Whether a row is refused for what it holds: all else may be over a moment later."""
    return isinstance(error, DataError | IntegrityError | ArithmeticError | ValueError | TypeError)
