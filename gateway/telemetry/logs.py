"""One JSON line per event, buffered: a log that is slow or gone never holds up a call."""

import asyncio
import logging
import os
import re
import select
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from gateway.core.pace import until

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
FLUSH = 0.5  # seconds
SLOW = 1.0  # seconds in which a sink must take a piece; else the rest waits for the next look
AT_ONCE = 64 << 10  # bytes written before calls that wait for the core have their turn: some 0.1 ms
BUFFER = 4 << 20  # bytes that wait for a sink that does not take them; more is dropped and counted

# What JSON lets stand and a terminal obeys: C1 controls (U+009B begins what ESC [ does), separators of lines, and marks
# that turn the direction of what is read.
_STEERS = re.compile(rb"\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]")


class Log:
    """Lines go to `fd` (standard error). `secrets` are values that no free text may show."""

    def __init__(self, level: str, wall_clock: Callable[[], float], fd: int = 2) -> None:
        self._least = LEVELS[level]
        self.now, self._fd = wall_clock, fd
        self.writes_calls = self._least <= LEVELS["info"]
        self._lines: list[bytes] = []  # with their line breaks
        self._size = 0
        self._secrets: tuple[str, ...] = ()
        self._is_running = False
        self.dropped = 0

    def hide(self, secrets: Iterable[str]) -> None:
        """Replace these values by *** from now on; longer ones first, lest a part of one stays."""
        self._secrets = tuple(sorted({one for one in secrets if len(one) >= 8}, key=len, reverse=True))

    def __call__(self, level: str, message: str, **fields: Any) -> None:
        """An event of the house: a reload, a breaker, an engine. Written at once until `run` writes."""
        if LEVELS[level] >= self._least:
            texts = {name: self.clean(one) for name, one in fields.items() if isinstance(one, str)}
            told = {"time": self.now(), "level": level, "msg": self.clean(message)}
            self.line({**told, **fields, **texts})
            if not self._is_running:
                self.flush()

    def event(self, kind: bytes, line: bytes) -> None:
        """Queue a line that is JSON already, line break included, under this name."""
        if self._size > BUFFER:
            self.dropped += 1
            return
        self._lines.append(b'{"level":"info","msg":"%b",%b' % (kind, line[1:]))
        self._size += len(line)

    def line(self, fields: dict[str, Any]) -> None:
        """Queue one line. JSON escapes control characters: nothing in a field can forge a line."""
        if self._size > BUFFER:
            self.dropped += 1
            return
        line = orjson.dumps(fields, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE)
        self._lines.append(line)
        self._size += len(line)

    def clean(self, text: str) -> str:
        """Without secrets, and without what is no UTF-8 (in names of files, for one)."""
        text = text.encode(errors="backslashreplace").decode()
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, "***")
        return text

    async def run(self) -> None:
        """Write what is queued twice a second, in a thread: a sink may be slow. Runs until cancelled."""
        self._is_running, loop = True, asyncio.get_running_loop()
        try:
            while True:
                await asyncio.sleep(until(loop.time(), FLUSH, 0.6))
                if self._lines:
                    await asyncio.to_thread(self.flush)
        finally:
            self._is_running = False

    def flush(self) -> None:
        """Write what is queued, as far as the sink takes it: a pipe that nobody reads must not keep the process."""
        lines, self._lines, self._size = self._lines, [], 0
        if not lines:
            return
        data, at, due = _shown(b"".join(lines)), 0, 0
        try:
            while at < len(data) and self._takes():
                at += os.write(self._fd, data[at : _piece_end(data, at)])
                if at > due:
                    due += AT_ONCE
                    os.sched_yield()  # to calls that wait for the core
        except OSError:
            self.dropped += len(lines)
            return
        if rest := data[at:]:
            self._lines.insert(0, rest)
            self._size += len(rest)

    def _takes(self) -> bool:
        """Whether a piece of PIPE_BUF bytes can be written without waiting, now or in a moment."""
        sink = select.poll()
        sink.register(self._fd, select.POLLOUT)
        return bool(sink.poll(SLOW * 1000))


def _shown(lines: bytes) -> bytes:
    """With what steers a terminal in JSON's escapes."""
    if lines.isascii():
        return lines
    return _STEERS.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), lines)


def _piece_end(data: bytes, at: int) -> int:
    """Where a piece ends that begins there. Other processes write to the same sink: a pipe takes so many bytes in one
    step (POSIX, write), and between two steps there may stand what others say, so that a piece is of whole lines."""
    most = at + select.PIPE_BUF
    return data.rfind(b"\n", at, most) + 1 or most


class Bridge(logging.Handler):
    """The standard library's loggers (uvicorn's among them), through the same lines."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info:
            fields["error"] = self._log.clean(logging.Formatter().formatException(record.exc_info))
        self._log(level if level in LEVELS else "error", record.getMessage(), **fields)
