"""Who may end a call early: its client, its clock, or a shutdown; all by cancelling its task."""

import asyncio
from typing import Literal

Reason = Literal["", "client", "timeout"]


class Watch:
    """One per call. A cancellation without a reason comes from outside: the process is shutting down."""

    __slots__ = ("_task", "_timer", "limit", "reason")

    def __init__(self, task: "asyncio.Task[object]", limit: float | None = None) -> None:
        """`limit` is the client's own bound in seconds: it may only shorten the lane's."""
        self._task = task
        self.limit = limit
        self._timer: asyncio.TimerHandle | None = None
        self.reason: Reason = ""

    def start(self, seconds: float) -> None:
        """One timer for the whole call: 2 us, where asyncio.timeout costs 4 and a task per wait 3."""
        if self.limit is not None:
            seconds = min(seconds, self.limit)
        self._timer = self._task.get_loop().call_later(seconds, self._end, "timeout")

    def hang_up(self) -> None:
        self._end("client")

    def forgive(self) -> None:
        """The cancellation has become an error of its own: the task goes on to say so."""
        self._task.uncancel()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, reason: Reason) -> None:
        if not self.reason and not self._task.done():
            self.reason = reason
            self._task.cancel()
