"""An append-only file of usage events, written before a call leaves: what is begun survives kill -9.

What is written is the kernel's before `begin` returns, which is all that the death of a process can test; the
file is synced once a second for the death of a machine. The collector carries the events into the ledger.
While the disk is full, lines wait in memory, up to a bound, and are written in their order when there is room.
"""

import asyncio
import fcntl
import os
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

from gateway.core.exchange import Exchange
from gateway.core.log import Log
from gateway.core.meters import Meters
from gateway.core.pace import until
from gateway.usage.append_file import AppendFile
from gateway.usage.event import begun, ended, moved

ROTATE = 16 << 20  # bytes of one file
SYNC = 1.0  # seconds
MOST_WAITING = 8 << 20  # bytes of lines that found no room: some 10,000
AT_ONCE = 200  # of them written before calls get their turn


class Spool:
    """One per process."""

    def __init__(self, folder: Path, worker: str, meters: Meters, log: Log) -> None:
        """Raises OSError where the folder cannot be written."""
        self._folder, self._worker = folder, worker
        self._meters, self._log = meters, log
        self._written = meters.usage_events.at(("spool", "written"))
        self._open: dict[str, bytes] = {}  # begin lines of calls in flight, carried over at a rotation
        self._waiting: deque[bytes] = deque()
        self._waiting_size = 0
        self._losing = False  # since the disk was full, more came than can wait
        meters.usage_waiting.source = lambda: [((), float(len(self._waiting)))]
        folder.mkdir(parents=True, exist_ok=True)
        self._file = self._new_file()

    @property
    def is_full(self) -> bool:
        """Whether events wait in memory for room on the disk."""
        return bool(self._waiting)

    def begin(self, exchange: Exchange) -> None:
        """Write down that this call is about to leave."""
        line = self._open[exchange.id] = begun(exchange)
        self._write(line)

    def end(self, exchange: Exchange) -> bytes:
        """Write down how the call ended. The line, for the log."""
        line = ended(exchange, self._open.pop(exchange.id))
        self._write(line)
        return line

    async def sync(self) -> None:
        """Bring the file, and what waits for room, to the disk once a second; runs until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(until(loop.time(), SYNC, 0.15))
            while self._catch_up():  # noqa: ASYNC110
                await asyncio.sleep(0)  # no event to wait for: calls have their turn in between
            with suppress(OSError):  # the file was rotated meanwhile; a broken disk is told by the next write
                await asyncio.to_thread(os.fdatasync, self._file.fd)

    def close(self) -> None:
        """Let go of the file: from now on the collector may finish it. What still finds no room is lost."""
        while self._catch_up():
            pass
        if self._waiting:
            self._lose(len(self._waiting))
        self._file.close()

    def _write(self, line: bytes) -> None:
        if self._waiting:
            self._keep(line)
            return
        try:
            self._append(line)
        except OSError as error:
            self._log(
                "error", f"usage events cannot be written ({error.strerror or error}): they wait in memory"
            )
            self._keep(line)

    def _append(self, line: bytes) -> None:
        if self._file.size > ROTATE:
            self._rotate()
        self._file.append(line)
        self._written.n += 1

    def _keep(self, line: bytes) -> None:
        if self._waiting_size + len(line) > MOST_WAITING:
            self._lose(1)
            return
        self._waiting.append(line)
        self._waiting_size += len(line)

    def _catch_up(self) -> bool:
        """Write some of what waits; whether there is more, and room for it."""
        for _ in range(min(AT_ONCE, len(self._waiting))):
            try:
                self._append(self._waiting[0])
            except OSError:
                return False
            self._waiting_size -= len(self._waiting.popleft())
            if not self._waiting:
                self._losing = False
                self._log("info", "usage events are written again")
        return bool(self._waiting)

    def _rotate(self) -> None:
        """Start the next file; calls in flight are begun again in it, so that each file stands alone."""
        file = self._new_file()
        try:
            if self._open:
                file.append(b"".join(self._open.values()))
        except OSError:
            file.close()  # empty, and let go: the collector removes it
            raise
        with suppress(OSError):  # no room for these lines: until they end, the calls are taken for lost
            self._file.append(moved(self._open))
        self._file.close()
        self._file = file

    def _new_file(self) -> AppendFile:
        """It has its name once it is locked: what is not locked is taken for a dead process's."""
        path = self._folder / f"{self._worker}-{os.getpid()}-{time.monotonic_ns()}.jsonl"
        unnamed = path.with_suffix(".new")
        file = AppendFile(unnamed)
        try:
            fcntl.flock(file.fd, fcntl.LOCK_EX)  # held while this process lives: the collector asks for it
            unnamed.rename(path)
        except OSError:
            file.close()
            unnamed.unlink(missing_ok=True)
            raise
        return file

    def _lose(self, count: int) -> None:
        self._meters.usage_events.add(("spool", "dropped"), count)
        if not self._losing:
            self._losing = True
            self._log("error", "usage events found no room, on the disk or in memory: they are lost")
