"""The allowance of many processes: buckets in Redis, one round trip per call, shared by calls of one moment.

While Redis is away each rule does what its `on_store_error` says (see stopgap); nobody waits for Redis longer
than PATIENCE.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from hashlib import blake2b
from itertools import count
from typing import Any

from gateway.core.claim import NO_GRANT, Claim, Grant, Standing
from gateway.core.log import Log
from gateway.core.meters import Meters
from gateway.state.bucket import LARGEST, MICROSECONDS, Shortage, refuse, standing
from gateway.state.lifeline import PREFIX, Lifeline
from gateway.state.place import Place
from gateway.state.resp import PATIENCE, Argument, RedisAway, RedisLate
from gateway.state.scripts import load
from gateway.state.settlements import Settlement, Settlements
from gateway.state.stopgap import Stopgap

MOST_KEYS = 20_000  # names of buckets kept ready

GRANTED, TOO_LATE = 1, -1


class RedisAllowance:
    """Implements `Allowance`. `run` keeps the connection; it must be running. `processes`: how many share the store as
    far as we know by ourselves."""

    def __init__(self, place: Place, meters: Meters, log: Log, processes: int = 1) -> None:
        self._decisions = meters.decisions
        self._reserve, settle = load("bucket", "reserve"), load("bucket", "settle")
        self._lifeline = Lifeline(place, (self._reserve, settle), log, self._come_back, processes)
        self._settlements = Settlements(self._lifeline, settle, meters.store_errors)
        self._stopgap = Stopgap(meters)
        self._open: set[str] = set()
        self._numbers = count(1)
        self._keys: dict[tuple[str, str, str], tuple[bytes, bytes]] = {}

    @property
    def degraded(self) -> list[str]:
        return [] if self._lifeline.well else ["redis"]

    @property
    def processes(self) -> int:
        """How many were last seen sharing this store: a local share is one of so many."""
        return self._lifeline.processes

    async def run(self) -> None:
        """Until cancelled."""
        await self._lifeline.run()

    async def reserve(self, claims: Sequence[Claim], hold: float) -> Grant:
        if not claims:
            return NO_GRANT
        lifeline = self._lifeline
        if not lifeline.connected and not await self._first_connection():
            return self._stopgap.take(claims, lifeline.processes)
        grant_id = f"{lifeline.id}-{next(self._numbers):x}"
        arguments: list[Argument] = [2 * len(claims), *self._names(claims), grant_id]
        arguments += [int(hold * MICROSECONDS), lifeline.deadline(PATIENCE)]
        for limit, _, amount in claims:
            arguments += [limit.limit, limit.per * MICROSECONDS, min(amount, LARGEST)]
            arguments += ["e" if limit.mode == "enforce" else "s", "-" if limit.unit == "requests" else "h"]
        passed: list[Grant] = []
        undo = partial(self._undo, grant_id, claims, passed)
        try:
            answer = await lifeline.ask_soon(self._reserve, arguments, undo)
        except RedisLate:
            grant = self._stopgap.take(claims, lifeline.processes)
            passed.append(grant)
            return grant
        except RedisAway:
            undo(None)
            return self._stopgap.take(claims, lifeline.processes)
        if answer[0] == TOO_LATE:
            lifeline.heard(answer[1])
            return self._stopgap.take(claims, lifeline.processes)
        return self._granted(grant_id, claims, answer)

    def settle(self, grant: Grant, tokens: int) -> None:
        if grant.id in self._open:
            self._open.remove(grant.id)
            used = min(max(tokens, 0), LARGEST)
            self._say(grant.id, [claim for claim in grant.claims if claim.limit.unit != "requests"], used)
        else:
            self._stopgap.settle(grant, tokens)

    def release(self, grant: Grant) -> None:
        if grant.id in self._open:
            self._open.remove(grant.id)
            self._say(grant.id, grant.claims, 0)
        else:
            self._stopgap.release(grant)

    async def aclose(self) -> None:
        """Write what is queued, then close."""
        await self._settlements.aclose()
        await self._lifeline.leave()

    def _come_back(self) -> None:
        self._settlements.resume()

    async def _first_connection(self) -> bool:
        """At the start of the process, calls wait for the first connection as long as for a reply."""
        tried = self._lifeline.tried
        if not tried.is_set():
            try:
                async with asyncio.timeout(PATIENCE):
                    await tried.wait()
            except TimeoutError:
                return False
        return self._lifeline.connected

    def _granted(self, grant_id: str, claims: Sequence[Claim], answer: Sequence[int]) -> Grant:
        """Raises LimitReached, NeverFits."""
        taken: list[Claim] = []
        standings: list[Standing] = []
        short: list[Shortage] = []
        for at, claim in enumerate(claims):
            fits, used, carry = answer[3 * at + 2 : 3 * at + 5]
            if used * 2 > claim.limit.limit or self._stopgap.heard:
                self._stopgap.hear(claim, used)
            if fits:
                taken.append(claim)
            elif claim.limit.mode == "shadow":
                self._decisions.add((claim.limit.rule, "shadow_refused"))
            else:
                short.append(Shortage(claim, used, carry))
            if claim.limit.mode == "enforce":
                standings.append(standing(claim.limit, used, carry))
        if short:
            raise refuse(short, self._decisions)
        for claim in taken:
            self._decisions.add((claim.limit.rule, "allowed"))
        self._open.add(grant_id)
        return Grant(grant_id, tuple(taken), tuple(standings))

    def _undo(self, grant_id: str, claims: Sequence[Claim], passed: Sequence[Grant], answer: Any) -> None:
        """Nobody waits for this grant any more: give back what was taken. No answer: what may have been. A call that
        has `passed` by another grant is a request even so, and counts as one."""
        taken = claims
        if isinstance(answer, list) and answer[0] == GRANTED:
            taken = [claim for claim, fits in zip(claims, answer[2::3], strict=True) if fits]
        elif answer is not None:
            taken = ()
        if passed or answer is None:
            taken = [claim for claim in taken if claim.limit.unit != "requests"]
        self._say(grant_id, taken, 0)

    def _say(self, grant_id: str, claims: Sequence[Claim], tokens: int) -> None:
        """Queue that of these claims only `tokens` were used."""
        if not claims:
            return
        whole = self._settling(grant_id, claims, tokens)
        again: tuple[Argument, ...] | None = whole
        held = [claim for claim in claims if claim.limit.unit != "requests"]
        if len(held) < len(claims):
            again = self._settling(grant_id, held, tokens) if held else None
        self._settlements.add(Settlement(whole, again))

    def _settling(self, grant_id: str, claims: Sequence[Claim], tokens: int) -> tuple[Argument, ...]:
        arguments: list[Argument] = [2 * len(claims), *self._names(claims), grant_id]
        for limit, _, amount in claims:
            change = (tokens if limit.unit == "tokens" else 0) - amount
            held = "-" if limit.unit == "requests" else "h"
            arguments += [limit.limit, limit.per * MICROSECONDS, amount, change, held]
        return tuple(arguments)

    def _names(self, claims: Sequence[Claim]) -> list[bytes]:
        """Two keys per claim: the bucket, its open reservations."""
        names: list[bytes] = []
        for limit, bucket, _ in claims:
            known = (limit.rule, limit.unit, bucket)
            pair = self._keys.get(known)
            if pair is None:
                if len(self._keys) >= MOST_KEYS:
                    self._keys.clear()
                pair = self._keys[known] = _key_pair(*known)
            names += pair
        return names


def _key_pair(rule: str, unit: str, bucket: str) -> tuple[bytes, bytes]:
    """Names come from callers and policies: hashed, they can neither reach another slot nor another bucket."""
    name = "\0".join((rule, unit, bucket)).encode("utf-8", "surrogatepass")
    key = (PREFIX + blake2b(name, digest_size=16).hexdigest()).encode()
    return key, key + b":open"
