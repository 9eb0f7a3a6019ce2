"""The connection to Redis as something that is kept: made, watched, made again. Scripts run over it.

Away is what Redis is when there is no connection, and also after several replies in a row came too late: then
calls stop waiting for it, and one attempt per pause finds out when it is back, and quick. A Redis that refuses a
script (its memory is full, say) is no better for that call; whether it is away altogether the next sign of life tells.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import hiredis

from gateway.core.log import Log
from gateway.state.place import Place, moved
from gateway.state.resp import PATIENCE, Argument, Connection, RedisAway, RedisLate, Unheard, connect
from gateway.state.scripts import Script, load

CONNECT_PATIENCE = 0.5  # seconds until a connection must stand, and until a sign of life must be answered
FIRST_PAUSE, LONGEST_PAUSE = 0.15, 1.0  # seconds between attempts to connect
BEAT = 1.0  # seconds between signs of life
GONE_MICROSECONDS = 5_000_000  # a process that gave none for so long does not count
LATE_IN_A_ROW = 5
LATE_FOR = 1.0  # seconds in which none came in time
DEADLINE_SLACK = 20_000  # microseconds: how well our idea of Redis's clock may be off

TOO_SLOW = f"its replies take more than {PATIENCE * 1000:.0f} ms"

PREFIX = "gatehouse:v1:{l}:"  # one hash slot, so that one script may touch all buckets of a call

# What a refusal raises, and the reply of whoever speaks the protocol and is no Redis.
_NONSENSE = (hiredis.ReplyError, TypeError, ValueError)


class Lifeline:
    """`run` must be running. `back` is called whenever a connection stands again, and at every sign of life."""

    def __init__(
        self, place: Place, scripts: Sequence[Script], log: Log, back: Callable[[], None], least: int
    ) -> None:
        """`least`: how many processes share the store at any rate."""
        self._place, self._log, self._back, self._least = place, log, back, least
        self._beat = load("beat")
        self._scripts = (self._beat, *scripts)
        self._connection: Connection | None = None
        self._lost = asyncio.Event()
        self._late = 0  # replies in a row
        self._late_since = 0.0  # by the loop's clock
        self._slow = False  # given up for late replies, and not seen quick since
        self._refusing = False  # from a script that was refused to a sign of life with none refused before it
        self._refused = False  # since the last sign of life
        self._ahead = 0  # microseconds by which Redis's clock is ahead of the loop's
        self.id = secrets.token_hex(6)
        self.processes = least  # last seen sharing this store, ourselves included
        self.tried = asyncio.Event()  # the first attempt to connect is over, whatever came of it

    @property
    def connected(self) -> bool:
        return self._connection is not None and not self._connection.closed

    @property
    def well(self) -> bool:
        return self.connected and not self._refusing

    async def run(self) -> None:
        """Connect, stay connected, come back; until cancelled. `leave` then says the last word."""
        pause, told = FIRST_PAUSE, False
        while True:
            trouble = await self._connect()
            self.tried.set()
            if not trouble:
                if told:
                    self._log("info", "Redis is back: limits are shared again")
                trouble = await self._live()
                pause, told = FIRST_PAUSE, self._refusing
            if not told:
                told = True
                self._log("error", f"Redis is away ({trouble}): every rule does what its on_store_error says")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def ask_soon(self, script: Script, arguments: Sequence[Argument], unheard: Unheard) -> Any:
        """The reply of a script, while a call waits for it. Raises RedisLate, RedisAway."""
        connection = self._connection
        if connection is None:
            raise RedisAway("there is no connection")
        asked = connection.ask_soon(("EVALSHA", script.sha, *arguments), unheard)
        try:
            try:
                reply = await asked
            except hiredis.ReplyError as error:
                if not str(error).startswith("NOSCRIPT"):
                    raise
                asked = connection.ask_soon(("EVAL", script.text, *arguments), unheard)
                reply = await asked
        except asyncio.CancelledError:
            _hand_back(asked, unheard)
            raise
        except RedisLate:
            self._count_late(connection)
            raise
        except hiredis.ReplyError as error:
            self._count_refused(error)
            raise RedisAway(str(error)) from None
        self._late = 0
        return reply

    def tell(self, script: Script, arguments: Sequence[Argument], *, whole: bool) -> "asyncio.Future[Any]":
        """The reply of a script that no call waits for. `whole` sends its text, where Redis lost it.
        Raises RedisAway, hiredis.ReplyError."""
        connection = self._connection
        if connection is None:
            raise RedisAway("there is no connection")
        if whole:
            return connection.ask("EVAL", script.text, *arguments)
        return connection.ask("EVALSHA", script.sha, *arguments)

    def deadline(self, seconds: float) -> int:
        """The moment, by Redis's clock in microseconds, at which `seconds` from now are over."""
        return self._now() + self._ahead + int(seconds * 1_000_000) + DEADLINE_SLACK

    def heard(self, redis_now: int) -> None:
        """Redis told its time."""
        self._ahead = redis_now - self._now()

    async def leave(self) -> None:
        """The last word: this process counts no longer."""
        connection = self._connection
        if connection is not None and not connection.closed:
            with suppress(RedisAway, hiredis.ReplyError, TimeoutError):
                async with asyncio.timeout(CONNECT_PATIENCE):
                    await connection.ask("ZREM", PREFIX + "processes", self.id)
        self._drop()

    async def _connect(self) -> str:
        """Why the connection does not stand; empty when it does."""
        place = self._place
        try:
            async with asyncio.timeout(CONNECT_PATIENCE):
                try:
                    connection = await self._open(place)
                except hiredis.ReplyError as error:
                    owner = moved(place, str(error))
                    if owner is None:
                        raise
                    place = owner
                    connection = await self._open(place)
        except (OSError, RedisAway, RedisLate, *_NONSENSE) as error:  # OSError: TimeoutError, TLS included
            return f"{place}: {type(error).__name__} {error}".strip()
        self._connection, self._late, self._slow = connection, 0, False
        self._refusing = self._refused = False
        self._back()
        return ""

    async def _open(self, place: Place) -> Connection:
        clock = asyncio.get_running_loop().time
        self._lost.clear()
        connection = await connect(place, self._lost.set)
        try:
            await self._load(connection)
            began = clock()
            await self._give_sign(connection)
            if self._slow and clock() - began > PATIENCE:
                raise RedisLate(TOO_SLOW)
        except BaseException:
            connection.close()
            raise
        return connection

    async def _live(self) -> str:
        """Signs of life until the connection is lost; says how."""
        connection = self._connection
        assert connection is not None
        trouble = ""
        while not self._lost.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT):
                    await self._lost.wait()
                break
            try:
                async with asyncio.timeout(CONNECT_PATIENCE):
                    await self._give_sign(connection)
            except TimeoutError:
                trouble = "no sign of life"
                break
            except RedisAway:
                break
            except _NONSENSE as error:
                trouble = str(error)
                break
            self._heal()
        self._drop()
        return trouble or connection.why

    async def _load(self, connection: Connection) -> None:
        await asyncio.gather(*(connection.ask("SCRIPT", "LOAD", script.text) for script in self._scripts))

    async def _give_sign(self, connection: Connection) -> None:
        try:
            now, seen = await connection.ask(
                "EVALSHA", self._beat.sha, 1, PREFIX + "processes", self.id, GONE_MICROSECONDS
            )
        except hiredis.ReplyError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
            await self._load(connection)
            return
        self.heard(now)
        self.processes = max(self._least, seen)

    def _count_late(self, connection: Connection) -> None:
        """A Redis that is slow for a moment but answers is not away: only silence counts, or a time of late replies."""
        now = asyncio.get_running_loop().time()
        if not self._late:
            self._late_since = now
        self._late += 1
        given_up = now - connection.heard_at >= PATIENCE or now - self._late_since >= LATE_FOR
        if given_up and self._late >= LATE_IN_A_ROW and connection is self._connection:
            self._slow = True
            self._drop(TOO_SLOW)

    def _count_refused(self, error: hiredis.ReplyError) -> None:
        self._refused = True
        if not self._refusing:
            self._refusing = True
            self._log("error", f"Redis refuses a script: {error}")

    def _heal(self) -> None:
        """A sign of life is a script, too, and it was taken."""
        if self._refusing and not self._refused:
            self._refusing = False
            self._log("info", "Redis takes every script again: limits are shared again")
        self._refused = False
        self._back()

    def _drop(self, why: str = "the connection was closed") -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close(why)

    def _now(self) -> int:
        return int(asyncio.get_running_loop().time() * 1_000_000)


def _hand_back(asked: "asyncio.Future[Any]", unheard: Unheard) -> None:
    """A call that is cancelled in the turn of the loop in which its reply came never sees it. What has no reply yet is
    the connection's to tell."""
    if asked.cancelled() or not asked.done():
        return
    error = asked.exception()
    if not isinstance(error, RedisLate):
        unheard(None if isinstance(error, RedisAway) else error or asked.result())
