"""Keys issued through the admin API: kept in SQL as hashes, looked up in memory, refreshed by version."""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Any

from sqlalchemy import Boolean, Column, Engine, Float, MetaData, String, Table, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from gateway.core.key import KeyFacts

PREFIX = "gh-"
REFRESH = 0.5  # seconds between looks for what another process issued or revoked

_METADATA = MetaData()
_KEYS = Table(
    "keys",
    _METADATA,
    Column("id", String(32), primary_key=True),
    Column("name", String(128), nullable=False, index=True),
    Column("team", String(128), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("created", Float, nullable=False),
    Column("expires", Float),
    Column("revoked", Boolean, nullable=False, default=False),
)

Log = Callable[[str, str], None]


class KeyTaken(ValueError):
    """A key of that name is in use."""


class NoSuchKey(LookupError):
    """No key of that name is in use."""


class KeyStore:
    """`find` never waits: the table lies in memory. All SQL runs in a thread."""

    def __init__(self, engine: Engine, wall_clock: Callable[[], float], log: Log) -> None:
        self._engine, self._now, self._log = engine, wall_clock, log
        self._by_hash: dict[str, KeyFacts] = {}
        self._failing = False
        _METADATA.create_all(engine)
        self._load()

    def find(self, hash: str) -> KeyFacts | None:
        """`hash` is the lower-case hex SHA-256 of the key a request presents."""
        facts = self._by_hash.get(hash)
        return facts if facts is not None and hmac.compare_digest(facts.hash, hash) else None

    async def create(self, name: str, team: str, expires: float | None = None) -> tuple[str, str]:
        """(id, key). The key is shown this once: only its hash is kept. Raises KeyTaken."""
        key = PREFIX + secrets.token_urlsafe(32)
        return await asyncio.to_thread(self._create, name, team, expires, key), key

    async def adopt(self, name: str, team: str, key: str) -> None:
        """Take a key that exists already (the starter key) unless it is known."""
        if self.find(hashlib.sha256(key.encode()).hexdigest()) is None:
            await asyncio.to_thread(self._create, name, team, None, key)

    async def revoke(self, name: str) -> None:
        """Effective here at once, in other processes within REFRESH. Raises NoSuchKey."""
        await asyncio.to_thread(self._revoke, name)

    async def rotate(self, name: str) -> tuple[str, str]:
        """A new key in the place of the old one, which ends at once. Raises NoSuchKey."""
        old = next((facts for facts in self._by_hash.values() if facts.name == name), None)
        if old is None:
            raise NoSuchKey(f'there is no key "{name}"')
        await self.revoke(name)
        return await self.create(name, old.team, old.expires)

    async def listed(self) -> list[dict[str, Any]]:
        return await asyncio.to_thread(self._list)

    async def keep_fresh(self) -> None:
        """See what other processes changed; runs until cancelled. While SQL is away, the last known stay."""
        while True:
            await asyncio.sleep(REFRESH)
            try:
                await asyncio.to_thread(self._load)
                self._failing = False
            except SQLAlchemyError as error:
                if not self._failing:
                    self._failing = True
                    self._log(
                        "error", f"issued keys cannot be read ({type(error).__name__}); the last known stay"
                    )

    def _create(self, name: str, team: str, expires: float | None, key: str) -> str:
        digest = hashlib.sha256(key.encode()).hexdigest()
        ident = secrets.token_hex(8)
        row = {"id": ident, "name": name, "team": team, "hash": digest, "expires": expires, "revoked": False}
        with self._engine.begin() as connection:
            taken = select(_KEYS.c.id).where(_KEYS.c.name == name, _KEYS.c.revoked.is_(False))
            if connection.execute(taken).first() is not None:
                raise KeyTaken(f'a key named "{name}" is in use; revoke or rotate it, or take another name')
            connection.execute(insert(_KEYS).values(created=self._now(), **row))
        self._load()
        return ident

    def _revoke(self, name: str) -> None:
        change = update(_KEYS).where(_KEYS.c.name == name, _KEYS.c.revoked.is_(False)).values(revoked=True)
        with self._engine.begin() as connection:
            if not connection.execute(change).rowcount:
                raise NoSuchKey(f'there is no key "{name}"')
        self._load()

    def _list(self) -> list[dict[str, Any]]:
        columns = [column for column in _KEYS.columns if column.name != "hash"]
        with self._engine.connect() as connection:
            return [
                dict(row) for row in connection.execute(select(*columns).order_by(_KEYS.c.created)).mappings()
            ]

    def _load(self) -> None:
        wanted = select(_KEYS.c.name, _KEYS.c.team, _KEYS.c.hash, _KEYS.c.expires).where(
            _KEYS.c.revoked.is_(False)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(wanted).all()
        self._by_hash = {row.hash: KeyFacts(row.name, row.team, row.hash, row.expires) for row in rows}
