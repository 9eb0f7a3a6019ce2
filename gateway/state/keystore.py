"""Keys issued through the admin API: kept in SQL as hashes, looked up in memory, refreshed by version."""

import asyncio
import hashlib
import hmac
import secrets
import threading
from collections.abc import Awaitable, Callable
from math import inf
from typing import TYPE_CHECKING, Any

from gateway.core.key import KeyFacts
from gateway.core.log import Log
from gateway.core.pace import until
from gateway.state.database import Database

if TYPE_CHECKING:
    from gateway.state.rows.keys import KeyRows

PREFIX = "gh-"
REFRESH = 0.5  # seconds between looks for what another process issued or revoked

_TABLE = "keys"
_REVISIONS = "SELECT coalesce(sum(revision), 0) FROM keys"
_GOOD = "SELECT name, team, hash, expires FROM keys WHERE NOT revoked"
_KNOWN = "SELECT id FROM keys WHERE hash = '{}'"


class KeyStore:
    """`find` never waits: the table lies in memory. All SQL runs in a thread."""

    def __init__(self, database: Database, wall_clock: Callable[[], float], log: Log) -> None:
        """Raises DatabaseFault."""

        def rows() -> "KeyRows":
            from gateway.state.rows.keys import KeyRows

            return KeyRows(database.engine, wall_clock)

        self.changed: list[Callable[[], Awaitable[None]]] = []  # waited for after each change made here
        self._database, self._log = database, log
        self._rows = database.later(rows)
        self._by_hash: dict[str, KeyFacts] = {}
        self._loading = threading.Lock()
        self._seen = 0  # the sum of revisions that `_by_hash` shows
        self._is_there = False  # the table
        self.failing = False
        self._load()

    def find(self, hash: str) -> KeyFacts | None:
        """`hash` is the lower-case hex SHA-256 of the key a request presents."""
        facts = self._by_hash.get(hash)
        return facts if facts is not None and hmac.compare_digest(facts.hash, hash) else None

    def named(self, name: str) -> KeyFacts | None:
        """The one that is good for longest, where a rotation left two."""
        found = [facts for facts in self._by_hash.values() if facts.name == name]
        return max(found, key=lambda facts: inf if facts.expires is None else facts.expires, default=None)

    async def create(self, name: str, team: str, expires: float | None = None) -> tuple[str, str]:
        """(id, key). The key is shown this once: only its hash is kept. Raises KeyTaken."""
        key = PREFIX + secrets.token_urlsafe(32)
        ident = await asyncio.to_thread(self._create, name, team, expires, key)
        await self._tell()
        return ident, key

    async def adopt(self, name: str, team: str, key: str) -> None:
        """Take a key that exists already (the starter key), unless it was ever known: what was revoked stays so.
        Raises KeyTaken."""
        await asyncio.to_thread(self._adopt, name, team, key)

    async def revoke(self, which: str) -> None:
        """By name (with what `rotate` left of it) or id. Effective here and where `changed` tells it at once, in
        other processes within REFRESH. Raises NoSuchKey."""
        await asyncio.to_thread(self._revoke, which)
        await self._tell()

    async def rotate(self, name: str, overlap: float = 0.0) -> tuple[str, str]:
        """(id, key) of a new key in the place of the old one, which is good for `overlap` seconds more.
        Raises NoSuchKey, KeyExpired."""
        key = PREFIX + secrets.token_urlsafe(32)
        ident = await asyncio.to_thread(self._rotate, name, overlap, key)
        await self._tell()
        return ident, key

    async def listed(self) -> list[dict[str, Any]]:
        return await asyncio.to_thread(lambda: self._rows().listed())

    async def keep_fresh(self) -> None:
        """See what other processes changed; runs until cancelled. While SQL is away, the last known stay."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(until(loop.time(), REFRESH, 0.1))
            await self.look()

    async def look(self) -> None:
        """See what other processes changed, now."""
        try:
            await asyncio.to_thread(self._look)
            self.failing = False
        except Exception as error:  # whatever it is, a look must not be the last
            if not self.failing:
                self.failing = True
                self._log("error", f"issued keys cannot be read ({error}); the last known stay")

    async def _tell(self) -> None:
        for told in self.changed:
            await told()

    def _create(self, name: str, team: str, expires: float | None, key: str) -> str:
        ident = self._rows().create(name, team, expires, digest(key))
        self._load()
        return ident

    def _adopt(self, name: str, team: str, key: str) -> None:
        if not self._has_table() or not self._database.read(_KNOWN.format(digest(key))):
            self._create(name, team, None, key)

    def _rotate(self, name: str, overlap: float, key: str) -> str:
        ident = self._rows().rotate(name, overlap, digest(key))
        self._load()
        return ident

    def _revoke(self, which: str) -> None:
        self._rows().revoke(which)
        self._load()

    def _look(self) -> None:
        """Raises DatabaseFault, as `_load` does."""
        if self._revisions() != self._seen:
            self._load()

    def _load(self) -> None:
        """One at a time: a look that began before a revocation must not have the last word."""
        with self._loading:
            seen = self._revisions()
            if seen != self._seen:
                good = [KeyFacts(*row) for row in self._database.read(_GOOD)]
                self._by_hash = {facts.hash: facts for facts in good}
                self._seen = seen

    def _revisions(self) -> int:
        if not self._has_table():
            return 0
        [[seen]] = self._database.read(_REVISIONS)
        return int(seen)

    def _has_table(self) -> bool:
        self._is_there = self._is_there or self._database.has(_TABLE)
        return self._is_there


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
