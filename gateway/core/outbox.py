"""What is written within one round of the event loop leaves together.

A write wakes a process on the same machine that waits for it, which costs the writer some 10 us (on a virtual machine);
of several writes one after the other all but the first find it awake. With 64 busy connections a call takes 0.78 of the
processor's time by that (docs/benchmarks.md).
"""

from collections.abc import Callable
from typing import Any

MOST = 16  # writes that wait for others: the first of them waits while as many calls are worked on


class Outbox:
    """One for all sockets of a kind. The first write of a round leaves at once: it may be the only one.

    Who writes to a transport past its outbox, or closes it, calls `flush` before."""

    __slots__ = ("_call_soon", "_is_open", "_waiting")

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        """`call_soon` of the event loop: what it is given runs in the next round."""
        self._call_soon = call_soon
        self._is_open = False
        self._waiting: list[tuple[Any, bytes]] = []

    def write(self, transport: Any, data: bytes) -> None:
        """Of an asyncio transport. Nothing is said where it has closed meanwhile: it tells so itself."""
        if not self._is_open:
            self._is_open = True
            self._call_soon(self._end_round)
            transport.write(data)
            return
        self._waiting.append((transport, data))
        if len(self._waiting) >= MOST:
            self.flush()

    def flush(self) -> None:
        """Write all that waits."""
        waiting, self._waiting = self._waiting, []
        for transport, data in waiting:
            if not transport.is_closing():
                transport.write(data)

    def _end_round(self) -> None:
        self._is_open = False
        if self._waiting:
            self.flush()
