"""A file that is only appended to, through memory: what is written survives the process, at the cost of a copy.

A mapped page belongs to the kernel as a written one does, and needs no write(2) (6 us of a call). Space is
allocated before it is touched: a full disk is an OSError here and never a SIGBUS. What is not written yet reads
as zeros, so a reader stops at the first of them, also where a line is only half copied.
"""

import mmap
import os
from pathlib import Path

WINDOW = 256 << 10  # bytes mapped at a time, at least
_PAGE = mmap.ALLOCATIONGRANULARITY


class AppendFile:
    """One open file. `size` counts the bytes written. Raises OSError where there is no room."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.size = 0
        self._map: mmap.mmap | None = None
        self._start = self._end = 0  # of the window, in the file

    def append(self, data: bytes) -> None:
        """`data` holds no zero byte. All of it is written, or nothing."""
        end = self.size + len(data)
        if end > self._end:
            self._move(end)
        assert self._map is not None
        start = self._start
        self._map[self.size - start : end - start] = data
        self.size = end

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None
        os.ftruncate(self.fd, self.size)
        os.close(self.fd)

    def _move(self, end: int) -> None:
        start = self.size - self.size % _PAGE
        length = max(WINDOW, end - start)
        length += -length % _PAGE
        os.posix_fallocate(self.fd, start, length)
        window = mmap.mmap(self.fd, length, offset=start)
        if self._map is not None:
            self._map.close()
        self._map, self._start, self._end = window, start, start + length
