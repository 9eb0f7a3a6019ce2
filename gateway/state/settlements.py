"""What is to be said to Redis after a call: queued, sent without anybody waiting, said again until it is heard."""

import asyncio
import re
from collections import deque
from typing import Any, NamedTuple

import hiredis

from gateway.core.tally import Counter
from gateway.state.lifeline import Lifeline
from gateway.state.resp import Argument, RedisAway
from gateway.state.scripts import Script

MOST_QUEUED = 10_000  # past it the oldest is dropped: its reservation expires by itself
MOST_ON_THE_WAY = 256  # so that a queue that waited out an outage holds up no call that waits for its claims
LAST_WORDS = 1.0  # seconds at shutdown

# A Redis that refuses everything for now (it fails over, loads, is full, gives our slot away) has done nothing of what
# it was told. Redis 6 says why in the middle of the message.
_FOR_NOW = re.compile(
    r"(?:^|-)(?:READONLY|MISCONF|NOREPLICAS|LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MOVED|ASK|BUSY|OOM) "
)

Arguments = tuple[Argument, ...]


class Settlement(NamedTuple):
    """Arguments of settle.lua. `again`: what may be said a second time where it is not known whether the first
    was heard (requests keep no open reservation: saying those twice would count twice)."""

    arguments: Arguments
    again: Arguments | None


class Settlements:
    """`store_errors` counts what had to be dropped."""

    def __init__(self, lifeline: Lifeline, script: Script, store_errors: Counter) -> None:
        self._lifeline, self._script, self._errors = lifeline, script, store_errors
        self._queue: deque[Settlement] = deque()
        self._on_the_way: set[asyncio.Future[Any]] = set()
        self._held = False  # Redis refused for now: the queue waits for a sign of life

    def add(self, settlement: Settlement) -> None:
        """Never waits."""
        self._wait(settlement)
        self.send()

    def send(self) -> None:
        while (
            self._queue
            and not self._held
            and self._lifeline.connected
            and len(self._on_the_way) < MOST_ON_THE_WAY
        ):
            self._say(self._queue.popleft(), whole=False)

    def resume(self) -> None:
        """Redis gave a sign of life: it may take again what it refused."""
        self._held = False
        self.send()

    async def aclose(self) -> None:
        """Say what is queued, as far as Redis listens."""
        self.resume()
        try:
            async with asyncio.timeout(LAST_WORDS):
                while self._on_the_way and self._lifeline.connected:
                    await asyncio.wait(self._on_the_way)
        except TimeoutError:
            pass

    def _say(self, settlement: Settlement, *, whole: bool) -> None:
        asked = self._lifeline.tell(self._script, settlement.arguments, whole=whole)
        self._on_the_way.add(asked)
        asked.add_done_callback(lambda done: self._said(done, settlement))

    def _said(self, asked: "asyncio.Future[Any]", settlement: Settlement) -> None:
        self._on_the_way.discard(asked)
        if asked.cancelled():
            return
        error = asked.exception()
        if isinstance(error, RedisAway) and settlement.again is not None:
            self._wait(Settlement(settlement.again, settlement.again))
        elif isinstance(error, hiredis.ReplyError):
            self._refused(settlement, str(error))
        self.send()

    def _refused(self, settlement: Settlement, why: str) -> None:
        lost = why.startswith("NOSCRIPT")
        if lost and self._lifeline.connected:
            self._say(settlement, whole=True)
        elif lost or _FOR_NOW.search(why):
            self._held = True
            self._wait(settlement)
        else:
            self._errors.add(("settlement_dropped",))

    def _wait(self, settlement: Settlement) -> None:
        self._queue.append(settlement)
        if len(self._queue) > MOST_QUEUED:
            self._queue.popleft()
            self._errors.add(("settlement_dropped",))
