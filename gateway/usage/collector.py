"""Carries usage events from the spool files of all processes, living and dead, into the ledger.

A file is read from its start and deleted once its process is gone and all of it is in the ledger. Rows are
keyed by the call's id, so reading a line twice (after a restart) changes nothing.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, OperationalError

from gateway.core.meters import Meters
from gateway.usage.event import BEGIN, ID, KIND, MOVED, died
from gateway.usage.ledger import Ledger
from gateway.usage.row import Event, NoRow, checked, parsed

PAUSE = 0.2  # seconds between looks
BETWEEN_LAST_LOOKS = 0.02
PATIENCE = 10.0  # seconds that the ledger may be behind before it is hurried
AT_ONCE = 512 << 10  # bytes read of one file at a time: what is taken apart is several times as large
AT_A_TIME = 1024  # events in one transaction
RETENTION_PAUSE = 3600.0
_UNWRITTEN = "the usage ledger cannot be written"

Log = Callable[[str, str], None]
Pace = Callable[[bool], None]  # whether the thread that calls it is to hurry


class File:
    """One spool file and how far it is read; `begun` holds the calls that have not ended yet."""

    __slots__ = ("begun", "failing", "line", "offset", "path", "told")

    def __init__(self, path: Path) -> None:
        self.path, self.offset, self.line = path, 0, 0
        self.failing = self.told = False  # it cannot be read; a line was dropped: each is said once
        self.begun: dict[bytes, bytes] = {}  # by id, the lines as they stand


class Collector:
    """One per data folder. All reading and writing happens in its own thread."""

    def __init__(
        self, folder: Path, ledger: Ledger, meters: Meters, log: Log, pace: Pace = lambda hurry: None
    ) -> None:
        self._folder, self._ledger = folder, ledger
        self._meters, self._log, self._pace = meters, log, pace
        self._files: dict[Path, File] = {}
        self._thread = ThreadPoolExecutor(1, "usage")
        self.failing = False
        self._waited_for = 0
        self.complete = time.perf_counter()  # what was spooled before then is in the ledger
        meters.usage_oldest.source = lambda: [((), time.perf_counter() - self.complete)]

    async def run(self, days: int, wall_clock: Callable[[], float]) -> None:
        """Collect until cancelled, and forget what is older than `days`."""
        due = 0.0
        loop = asyncio.get_running_loop()
        while True:
            await self._in_thread(self._collect)
            if loop.time() >= due:
                gone = await self._in_thread(lambda: self._forget(wall_clock() - days * 86400))
                due = loop.time() + (0.0 if gone else RETENTION_PAUSE)
            await asyncio.sleep(PAUSE)

    async def flush(self) -> None:
        """Bring everything spooled so far into the ledger."""
        await self._awaited(self._collect)

    async def report(self, by: list[str], since: float) -> dict[str, Any]:
        """The ledger's report, including what was spooled a moment ago. Raises BadReport."""
        await self.flush()
        report: dict[str, Any] = await self._awaited(lambda: self._ledger.report(by, since))
        return report

    async def finish(self, within: float) -> None:
        """Those that write are ending: collect until they have let go of their files, so many seconds at most."""
        ends = time.perf_counter() + within
        await self.flush()
        while self._files and time.perf_counter() < ends:
            await asyncio.sleep(BETWEEN_LAST_LOOKS)  # a lock that is let go tells nobody
            await self.flush()

    async def aclose(self) -> None:
        await self.flush()
        self._thread.shutdown()
        self._ledger.close()

    async def _awaited(self, work: Callable[[], Any]) -> Any:
        """Somebody waits for it: what is under way hurries, too."""
        self._waited_for += 1
        try:
            return await self._in_thread(work)
        finally:
            self._waited_for -= 1

    def _keep_pace(self) -> None:
        self._pace(self._waited_for > 0 or time.perf_counter() - self.complete > PATIENCE)

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _forget(self, before: float) -> int:
        try:
            return self._ledger.forget(before)
        except Exception as error:  # the database is away: tried again with the next look
            self._fail(self, _UNWRITTEN, error)
            return 0

    def _collect(self) -> None:
        """A file that cannot be read holds up none but itself."""
        backlog, began, whole = 0, time.perf_counter(), True
        self._keep_pace()
        try:
            paths = sorted(path for path in self._folder.glob("*.jsonl") if path.is_file())
            self._files = {path: self._files.get(path) or File(path) for path in paths}
            for file in list(self._files.values()):
                try:
                    backlog += self._read(file)
                    file.failing = False
                except (
                    FileNotFoundError
                ):  # the process of a gateway that was killed has brought it to its end
                    continue
                except (OperationalError, InterfaceError):  # the database is away: so it is for the next file
                    raise
                except Exception as error:
                    whole = False
                    self._fail(file, f"spool file {file.path.name!a} cannot be taken", error)
        except Exception as error:  # nothing must end the collector
            self._fail(self, _UNWRITTEN, error)
            return
        self.failing = False
        self._meters.usage_backlog.set(backlog)
        if whole:
            self.complete = began

    def _read(self, file: File) -> int:
        """Take what is new; the number of calls begun and not ended."""
        is_dead = _lock_is_free(file.path)  # asked before reading: what is read then is all there ever is
        with file.path.open("rb") as stream:
            stream.seek(file.offset)
            size = AT_ONCE
            while data := stream.read(size):
                written = data.find(b"\0")  # allocated, and not written yet
                whole = data.rfind(b"\n", 0, len(data) if written < 0 else written) + 1
                if whole:
                    self._take(file, data[:whole])
                    file.offset += whole
                    size = AT_ONCE
                elif written >= 0 or len(data) < size:
                    break
                else:
                    size *= 2  # one line longer than all that was read
                stream.seek(file.offset)
                self._keep_pace()
        if is_dead:
            self._finish(file)
            return 0
        return len(file.begun)

    def _finish(self, file: File) -> None:
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

    def _take(self, file: File, lines: bytes) -> None:
        """Pair beginnings and ends. A beginning is parsed only if its process dies before its end."""
        begun, number = dict(file.begun), file.line
        ends: list[Event] = []
        every = BytesIO(lines).readlines()  # finds the line ends four times as fast as a split
        for line in every:
            number += 1
            kind = line[KIND]
            if kind == BEGIN:
                begun[line[ID]] = line
                continue
            if kind == MOVED:
                begun.pop(line[ID], None)
                continue
            try:
                ends.append(checked(parsed(line)))
            except NoRow:
                self._drop(file, f"line {number}")
                continue
            begun.pop(line[ID], None)
        self._write(file, ends, self._ledger.absorb)
        file.begun, file.line = begun, number

    def _write(self, file: File, events: list[Event], into: Callable[[list[Event]], None]) -> None:
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

    def _write_one(self, file: File, one: Event, into: Callable[[list[Event]], None]) -> bool:
        """A row that the database refuses must not keep its neighbours out."""
        try:
            into([one])
        except Exception as error:
            if not _is_of_a_row(error):
                raise
            self._drop(file, f"call {one['id']!a} ({type(error).__name__})")
            return False
        return True

    def _drop(self, file: File, what: str) -> None:
        self._meters.usage_events.add(("ledger", "dropped"))
        if not file.told:
            file.told = True
            self._log("error", f"spool file {file.path.name!a}: {what} is no usage event and is dropped")

    def _fail(self, one: "Collector | File", told: str, error: Exception) -> None:
        """It is tried again with the next look, and told once until it goes well."""
        self._meters.usage_events.add(("ledger", "retried"))
        if not one.failing:
            one.failing = True
            self._log("error", f"{told} ({type(error).__name__}): events wait in the spool")


def _is_of_a_row(error: Exception) -> bool:
    """Whether a row is refused for what it holds: all else may be over a moment later."""
    return isinstance(error, DataError | IntegrityError | ArithmeticError | ValueError | TypeError)


def _lock_is_free(path: Path) -> bool:
    """Whether the process that wrote this file is gone: it held the lock for life."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
