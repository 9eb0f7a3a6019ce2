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

import orjson

from gateway.core.meters import Meters
from gateway.usage.event import died
from gateway.usage.ledger import ROWS, Ledger, is_row, unhurried

PAUSE = 0.2  # seconds between looks
AT_ONCE = 512 << 10  # bytes read of one file at a time: what is taken apart is several times as large
AT_A_TIME = 1024  # events in one transaction
RETENTION_PAUSE = 3600.0

Log = Callable[[str, str], None]
Event = dict[str, Any]


class File:
    """One spool file and how far it is read; `begun` holds the calls that have not ended yet."""

    __slots__ = ("begun", "offset", "path")

    def __init__(self, path: Path) -> None:
        self.path, self.offset = path, 0
        self.begun: dict[bytes, bytes] = {}  # by id, the lines as they stand


class Collector:
    """One per data folder. All reading and writing happens in its own thread."""

    def __init__(self, folder: Path, ledger: Ledger, meters: Meters, log: Log) -> None:
        self._folder, self._ledger = folder, ledger
        self._meters, self._log = meters, log
        self._files: dict[Path, File] = {}
        self._thread = ThreadPoolExecutor(1, "usage")
        self._failing = False
        self._complete = time.perf_counter()  # what was spooled before then is in the ledger
        meters.usage_oldest.source = lambda: [((), time.perf_counter() - self._complete)]

    async def run(self, days: int, wall_clock: Callable[[], float]) -> None:
        """Collect until cancelled, and forget what is older than `days`."""
        due = 0.0
        loop = asyncio.get_running_loop()
        while True:
            await self.flush()
            if loop.time() >= due:
                gone = await self._in_thread(lambda: self._forget(wall_clock() - days * 86400))
                due = loop.time() + (0.0 if gone else RETENTION_PAUSE)
            await asyncio.sleep(PAUSE)

    async def flush(self) -> None:
        """Bring everything spooled so far into the ledger."""
        await self._in_thread(self._collect)

    async def report(self, by: list[str], since: float) -> dict[str, Any]:
        """The ledger's report, including what was spooled a moment ago. Raises BadReport."""
        await self.flush()
        report: dict[str, Any] = await self._in_thread(lambda: self._ledger.report(by, since))
        return report

    async def aclose(self) -> None:
        await self.flush()
        self._thread.shutdown()
        self._ledger.close()

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _forget(self, before: float) -> int:
        try:
            return self._ledger.forget(before)
        except Exception as error:  # the database is away: tried again with the next look
            self._fail(error)
            return 0

    def _collect(self) -> None:
        backlog, began, failed = 0, time.perf_counter(), False
        for path in sorted(self._folder.glob("*.jsonl")):
            file = self._files.setdefault(path, File(path))
            try:
                backlog += self._read(file)
            except Exception as error:  # whatever it is must end neither the collector nor the other files
                self._fail(error)
                failed = True
        if not failed:
            self._failing, self._complete = False, began
        self._meters.usage_backlog.set(backlog)

    def _read(self, file: File) -> int:
        """Take what is new; the number of calls begun and not ended."""
        is_dead = _lock_is_free(file.path)  # asked before reading: what is read then is all there ever is
        with file.path.open("rb") as stream:
            stream.seek(file.offset)
            while data := stream.read(AT_ONCE):
                written = data.find(b"\0")  # allocated, and not written yet
                whole = data.rfind(b"\n", 0, len(data) if written < 0 else written) + 1
                if not whole:
                    break
                self._take(file, data[:whole])
                file.offset += whole
                stream.seek(file.offset)
        if is_dead:
            begun = [begin for begin in map(_parsed, file.begun.values()) if begin]
            lost = [died(begin) for begin in begun if "prompt_estimate" in begin]
            self._drop(len(begun) - len(lost))
            self._write(lost, self._ledger.keep)
            file.path.unlink()
            del self._files[file.path]
            return 0
        return len(file.begun)

    def _take(self, file: File, lines: bytes) -> None:
        """Pair beginnings and ends. A beginning is parsed only if its process dies before its end."""
        begun = dict(file.begun)
        ends: list[Event] = []
        every = BytesIO(lines).readlines()  # finds the line ends four times as fast as a split
        for some in unhurried(every, 2 * ROWS):
            for line in some:
                if line[39:53] == b'","e":"begin",':
                    begun[line[7:39]] = line
                else:
                    try:
                        ends.append(orjson.loads(line))
                    except orjson.JSONDecodeError:
                        self._drop(1)
                        continue
                    begun.pop(line[7:39], None)
        self._write(ends, self._ledger.absorb)
        file.begun = begun

    def _write(self, events: list[Event], into: Callable[[list[Event]], None]) -> None:
        for start in range(0, len(events), AT_A_TIME):
            batch = events[start : start + AT_A_TIME]
            try:
                into(batch)
            except Exception:
                # The database is away; unless there is something among them that no call has left.
                rows = [one for one in batch if is_row(one)]
                if len(rows) == len(batch):
                    raise
                self._drop(len(batch) - len(rows))
                batch = rows
                into(batch)
            self._meters.usage_events.add(("ledger", "written"), len(batch))

    def _drop(self, count: int) -> None:
        """Nothing of ours: somebody wrote into the folder."""
        if count:
            self._meters.usage_events.add(("ledger", "dropped"), count)
            self._log("error", f"{count} lines of the usage spool are no events of a call, and are dropped")

    def _fail(self, error: Exception) -> None:
        self._meters.usage_events.add(("ledger", "retried"))
        if not self._failing:
            self._failing = True
            self._log(
                "error",
                f"the usage ledger cannot be written ({type(error).__name__}): events wait in the spool",
            )


def _parsed(line: bytes) -> Event:
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return event if isinstance(event, dict) else {}


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
