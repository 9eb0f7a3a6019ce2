"""The allowance of many processes: buckets in Redis, one round trip per call, shared by calls of one moment.

While Redis is away each rule does what its `on_store_error` says: a local share of the limit, no limit, or a
refusal. Nobody waits for it longer than PATIENCE.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from hashlib import blake2b, sha1
from importlib.resources import files
from itertools import count
from typing import Any

import hiredis

from gateway.core.claim import NOTHING, Claim, Grant
from gateway.core.failure import StoreGone
from gateway.core.meters import Meters
from gateway.state.bucket import LARGEST, Shortage, refuse, standing
from gateway.state.memory import MemoryAllowance
from gateway.state.resp import Argument, Connection, Place, RedisAway, connect

PATIENCE = 0.04  # seconds a call waits for Redis
CONNECT_PATIENCE = 0.5
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0  # seconds between attempts to connect
BEAT = 1.0  # seconds between signs of life
GONE = 5.0  # seconds without one after which a process no longer counts
MOST_SETTLEMENTS = 50_000  # settlements that wait for Redis to come back; `hold` repairs what is dropped
MARK_MS = 600_000

_PREFIX = "gatehouse:v1:{l}:"  # one hash slot, so that one script may touch all buckets of a call
_PROCESSES = _PREFIX + "processes"

Log = Callable[[str, str], None]


class RedisAllowance:
    """Implements `Allowance`. `run` keeps the connection; it must be running."""

    def __init__(self, place: Place, meters: Meters, log: Log) -> None:
        self._place, self._log = place, log
        self._decisions, self._store_errors = meters.decisions, meters.store_errors
        self._reserve, self._settle = _Script("reserve.lua"), _Script("settle.lua")
        self._local = MemoryAllowance(meters)
        self._connection: Connection | None = None
        self._lost = asyncio.Event()
        self._id = secrets.token_hex(6)
        self._numbers = count(1)
        self._processes = 1
        self._settlements: deque[tuple[Argument, ...]] = deque(maxlen=MOST_SETTLEMENTS)
        self._sending: set[asyncio.Future[Any]] = set()
        self.connected = asyncio.Event()

    @property
    def degraded(self) -> list[str]:
        return [] if self.connected.is_set() else ["redis"]

    async def run(self) -> None:
        """Connect, stay connected, come back; until cancelled."""
        pause = FIRST_PAUSE
        while True:
            self._lost.clear()
            try:
                await self._open()
            except (RedisAway, hiredis.ReplyError) as error:
                if pause == FIRST_PAUSE:
                    self._log(
                        "error", f"Redis is away ({error}): every rule does what its on_store_error says"
                    )
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            if pause > FIRST_PAUSE:
                self._log("info", "Redis is back: limits are shared again")
            pause = FIRST_PAUSE
            await self._live()

    async def reserve(self, claims: Sequence[Claim], hold: float) -> Grant:
        if not claims:
            return NOTHING
        if not self.connected.is_set():
            return self._without_store(claims)
        grant_id = f"{self._id}-{next(self._numbers)}"
        arguments: list[Argument] = [len(claims), *map(_key, claims), grant_id, int(hold * 1000), ""]
        for limit, _, amount in claims:
            arguments += [limit.limit, limit.per * 1000, amount, "1" if limit.mode == "enforce" else "0"]
        try:
            answer = await self._eval(self._reserve, arguments)
        except RedisAway:
            return self._without_store(claims)
        return self._granted(grant_id, claims, answer)

    def settle(self, grant: Grant, tokens: int) -> None:
        used = min(max(tokens, 0), LARGEST)
        self._close_grant(grant, lambda claim: used - claim.amount if claim.limit.unit == "tokens" else 0)
        self._local.settle(grant, tokens)

    def release(self, grant: Grant) -> None:
        self._close_grant(grant, lambda claim: -claim.amount)
        self._local.release(grant)

    async def aclose(self) -> None:
        """Write what is queued, then close."""
        self._send_settlements()
        if self._sending:
            await asyncio.wait(self._sending, timeout=1.0)
        if self._connection is not None:
            self._connection.close()

    async def _open(self) -> None:
        connection = await connect(self._place, self._lost.set, CONNECT_PATIENCE)
        for script in (self._reserve, self._settle):
            await connection.ask(["SCRIPT", "LOAD", script.text], CONNECT_PATIENCE)
        self._connection = connection
        self.connected.set()
        self._send_settlements()

    async def _live(self) -> None:
        """Signs of life until the connection is lost."""
        assert self._connection is not None
        while not self._lost.is_set():
            try:
                await self._beat(self._connection)
                async with asyncio.timeout(BEAT):
                    await self._lost.wait()
            except TimeoutError:
                continue
            except (RedisAway, hiredis.ReplyError):
                break
        self.connected.clear()
        self._connection.close()
        self._connection = None

    async def _beat(self, connection: Connection) -> None:
        seconds, _ = await connection.ask(["TIME"], CONNECT_PATIENCE)
        now = int(seconds)
        connection.tell(["ZADD", _PROCESSES, now, self._id], CONNECT_PATIENCE)
        connection.tell(["ZREMRANGEBYSCORE", _PROCESSES, "-inf", now - 3600], CONNECT_PATIENCE)
        seen = await connection.ask(["ZCOUNT", _PROCESSES, now - int(GONE), "+inf"], CONNECT_PATIENCE)
        self._processes = max(1, int(seen))

    async def _eval(self, script: "_Script", arguments: Sequence[Argument]) -> Any:
        connection = self._connection
        if connection is None:
            raise RedisAway("not connected")
        try:
            return await connection.ask(["EVALSHA", script.sha, *arguments], PATIENCE)
        except hiredis.ReplyError as error:
            if str(error).startswith("NOSCRIPT"):
                return await connection.ask(["EVAL", script.text, *arguments], PATIENCE)
            self._log("error", f"Redis refuses the script: {error}")
            raise RedisAway(str(error)) from None

    def _granted(self, grant_id: str, claims: Sequence[Claim], answer: Sequence[Any]) -> Grant:
        rows = [
            (claim, bool(answer[at]), int(answer[at + 1]), int(answer[at + 2]) * 1000)
            for claim, at in zip(claims, range(1, len(answer), 3), strict=True)
        ]
        if not answer[0]:
            refused = [
                Shortage(claim, used, carry)
                for claim, fits, used, carry in rows
                if not fits and claim.limit.mode == "enforce"
            ]
            raise refuse(refused, self._decisions)
        for claim, fits, _, _ in rows:
            self._decisions.add((claim.limit.rule, "allowed" if fits else "shadow_refused"))
        taken = tuple(claim for claim, fits, _, _ in rows if fits)
        standings = tuple(
            standing(c.limit, used, carry) for c, _, used, carry in rows if c.limit.mode == "enforce"
        )
        return Grant(grant_id, taken, standings)

    def _without_store(self, claims: Sequence[Claim]) -> Grant:
        """Each rule's own word for a store that is away. Raises StoreGone, LimitReached."""
        local = []
        for claim in claims:
            limit = claim.limit
            self._store_errors.add((limit.on_store_error,))
            if limit.mode == "shadow" or limit.on_store_error == "allow":
                continue
            if limit.on_store_error == "refuse":
                raise StoreGone(
                    f'rule "{limit.rule}" refuses calls while its store is away; try again shortly',
                    rule=limit.rule,
                )
            local.append(self._share(claim))
        return self._local.take(local)

    def _share(self, claim: Claim) -> Claim:
        """This process's part of a limit. A claim that is larger than the part takes all of it."""
        limit = claim.limit
        part = max(1, limit.limit // self._processes)
        mine = type(limit)(limit.rule, limit.unit, part, limit.per, limit.mode, limit.on_store_error)
        return Claim(mine, claim.bucket, min(claim.amount, part))

    def _close_grant(self, grant: Grant, change: Callable[[Claim], int]) -> None:
        if not grant.id.startswith(self._id):
            return
        changes = [(c, "x" if c.limit.unit == "concurrent" else change(c)) for c in grant.claims]
        changes = [(claim, by) for claim, by in changes if by]
        if not changes:
            return
        keys: list[Argument] = [f"{_PREFIX}settled:{grant.id}", *(_key(claim) for claim, _ in changes)]
        self._settlements.append((len(keys), *keys, grant.id, MARK_MS, *(by for _, by in changes)))
        if self.connected.is_set():
            self._send_settlements()

    def _send_settlements(self) -> None:
        """Never waits: what fails is queued again, until the queue is full."""
        connection = self._connection
        while connection is not None and not connection.closed and self._settlements:
            arguments = self._settlements.popleft()
            asked = connection.ask(["EVALSHA", self._settle.sha, *arguments], CONNECT_PATIENCE)
            self._sending.add(asked)
            asked.add_done_callback(lambda done, arguments=arguments: self._sent(done, arguments))  # type: ignore[misc]

    def _sent(self, asked: "asyncio.Future[Any]", arguments: tuple[Argument, ...]) -> None:
        self._sending.discard(asked)
        if asked.cancelled():
            return
        error = asked.exception()
        if isinstance(error, RedisAway):
            self._settlements.append(arguments)
        elif isinstance(error, hiredis.ReplyError) and self._connection is not None:
            # The scripts were flushed: the text itself, this once.
            self._connection.tell(["EVAL", self._settle.text, *arguments], CONNECT_PATIENCE)


class _Script:
    def __init__(self, name: str) -> None:
        self.text = files("gateway.state").joinpath("scripts", name).read_bytes()
        self.sha = sha1(self.text, usedforsecurity=False).hexdigest()


def _key(claim: Claim) -> str:
    """Names come from callers and policies: hashed, they can neither reach another slot nor another bucket."""
    limit = claim.limit
    digest = blake2b(f"{limit.rule}\0{limit.unit}\0{claim.bucket}".encode(), digest_size=16)
    return _PREFIX + digest.hexdigest()
