"""Who may end a call early: its client, its clock, or a shutdown; all by cancelling its task."""

import asyncio
from typing import Literal

Reason = Literal["", "client", "timeout"]
TICK = 0.05  # seconds: how late a call's total timeout may strike
_OVERRAN = "overran"  # said by the cancellation itself, to whom it meets at work


class Watch:
    """One per call. A cancellation without a reason comes from outside: the process is shutting down."""

    __slots__ = ("_task", "deadline", "limit", "reason")

    def __init__(self, task: "asyncio.Task[object]", limit: float | None = None) -> None:
        """`limit` is the client's own bound in seconds: it may only shorten the lane's, else it is none."""
        self._task = task
        self.limit = limit
        self.deadline = 0.0
        self.reason: Reason = ""

    def hang_up(self) -> None:
        self.end("client")

    def uncancel(self) -> None:
        """The cancellation has become an error of its own: the task goes on to say so."""
        self._task.uncancel()

    def end(self, reason: Reason) -> None:
        if not self.reason and not self._task.done():
            self.reason = reason
            self._task.cancel(_OVERRAN if reason == "timeout" and self.limit is None else None)


def overran(ended: asyncio.CancelledError) -> bool:
    """Whether a call was ended by its own total timeout: a client that waits less, hangs up or is sent away with all
    others says nothing of the provider."""
    return ended.args == (_OVERRAN,)


class Deadlines:
    """The total timeouts of all calls of a process, looked at together: a timer for each call would cost 5 us,
    asyncio.timeout 4, a place in this set 0.2."""

    def __init__(self) -> None:
        self._running: set[Watch] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # asking for it is a system call

    def start(self, watch: Watch, seconds: float) -> None:
        """The call ends by "timeout" once `seconds` are over, or the client's own bound if that is shorter."""
        loop = self._loop = self._loop or asyncio.get_running_loop()
        if watch.limit is not None and watch.limit >= seconds:
            watch.limit = None
        watch.deadline = loop.time() + (seconds if watch.limit is None else watch.limit)
        self._running.add(watch)
        if self._timer is None:
            self._timer = loop.call_later(TICK, self._look, loop)

    def stop(self, watch: Watch) -> None:
        self._running.discard(watch)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for watch in [one for one in self._running if one.deadline <= now]:
            self._running.discard(watch)
            watch.end("timeout")
        self._timer = loop.call_later(TICK, self._look, loop) if self._running else None
