"""An append-only file of usage events, written before a call leaves: what is begun survives kill -9.

A write reaches the kernel before `begin` returns, which is all that the death of a process can test; the
file is synced once a second for the death of a machine. The collector carries the events into the ledger.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from gateway.core.exchange import Exchange
from gateway.core.meters import Meters
from gateway.usage.event import begun, ended

ROTATE = 16 << 20  # bytes of one file
FLUSH = 0.02  # seconds an `end` may wait for company
SYNC = 1.0

Log = Callable[[str, str], None]


class Spool:
    """One per process. Made inside a running loop."""

    def __init__(self, folder: Path, worker: str, meters: Meters, log: Log) -> None:
        self._folder, self._worker = folder, worker
        self._meters, self._log = meters, log
        self._loop = asyncio.get_running_loop()
        self._pending: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._open: dict[str, bytes] = {}  # begin lines of calls in flight, carried over at a rotation
        self._size = 0
        self._fd = -1
        self._complained = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        self._turn_page()

    def begin(self, exchange: Exchange) -> None:
        """Write down that this call is about to leave. One write(2), with the ends that wait."""
        line = begun(exchange)
        self._open[exchange.id] = line
        self._pending.append(line)
        self._flush()

    def end(self, exchange: Exchange) -> bytes:
        """Note how the call ended; written within 20 ms, or with the next `begin`. The line, for the log."""
        line = ended(exchange, self._open.pop(exchange.id))
        self._pending.append(line)
        if self._timer is None:
            self._timer = self._loop.call_later(FLUSH, self._flush_late)
        return line

    async def sync(self) -> None:
        """Bring the file to the disk once a second; runs until cancelled."""
        while True:
            await asyncio.sleep(SYNC)
            if self._fd >= 0:
                await asyncio.to_thread(os.fdatasync, self._fd)

    def close(self) -> None:
        """Write what is pending and let go of the file: from now on the collector may finish it."""
        if self._timer is not None:
            self._timer.cancel()
        self._flush()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def flush(self) -> None:
        """Write what is pending now."""
        self._flush()

    def _flush_late(self) -> None:
        # Not cancelled by a flush in between: one timer for 20 ms costs less than one for each call.
        self._timer = None
        self._flush()

    def _flush(self) -> None:
        lines, self._pending = self._pending, []
        if not lines:
            return
        data = lines[0] if len(lines) == 1 else b"".join(lines)
        try:
            written = os.write(self._fd, data)
            if written < len(data):
                # A line was cut off: end it, so that the next one is whole.
                os.write(self._fd, b"\n")
                raise OSError("only a part was written")
        except OSError as error:
            self._meters.usage_events.add(("spool", "dropped"), len(lines))
            self._complain(error)
            return
        self._meters.usage_events.add(("spool", "written"), len(lines))
        self._size += len(data)
        if self._size > ROTATE:
            self._turn_page()

    def _turn_page(self) -> None:
        """Start the next file; calls in flight are begun again in it, so that each file stands alone."""
        old = self._fd
        path = self._folder / f"{self._worker}-{os.getpid()}-{time.monotonic_ns()}.jsonl"
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)  # held while this process lives: the collector asks for it
        self._size = 0
        if self._open:
            os.write(self._fd, b"".join(self._open.values()))
        if old >= 0:
            os.close(old)

    def _complain(self, error: OSError) -> None:
        now = self._loop.time()
        if now - self._complained > 60 or not self._complained:
            self._complained = now
            self._log("error", f"usage events cannot be written ({error.strerror or error}): they are lost")
