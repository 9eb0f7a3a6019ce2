"""Keys issued through the admin API: kept in SQL as hashes, looked up in memory, refreshed by version."""

import asyncio
import hashlib
import hmac
import secrets
import threading
from collections.abc import Awaitable, Callable, Mapping
from math import inf
from typing import Any

import sqlalchemy as sql
from sqlalchemy.exc import IntegrityError

from gateway.core.key import KeyFacts
from gateway.state.sql import ensure

PREFIX = "gh-"
REFRESH = 0.5  # seconds between looks for what another process issued or revoked

_METADATA = sql.MetaData()
_KEYS = sql.Table(
    "keys",
    _METADATA,
    sql.Column("id", sql.String(32), primary_key=True),
    sql.Column("name", sql.String(128), nullable=False, index=True),
    sql.Column("team", sql.String(128), nullable=False),
    sql.Column("hash", sql.String(64), nullable=False, unique=True),
    sql.Column("created", sql.Float, nullable=False),
    sql.Column("expires", sql.Float),
    sql.Column("revoked", sql.Boolean, nullable=False, default=False),
    sql.Column("replaced", sql.Boolean, nullable=False, default=False),  # its name has gone on to a newer key
    # Each change of a row adds one: the sum over all rows tells whether anything changed.
    sql.Column("revision", sql.Integer, nullable=False, default=1),
)
_REVISIONS = f"SELECT coalesce(sum(revision), 0) FROM {_KEYS.name}"
_IN_USE = sql.and_(_KEYS.c.revoked.is_(False), _KEYS.c.replaced.is_(False))
# Two processes that give a name away at the same moment: the database lets one of them. As a text, for an index that
# knows the words of a database loads them, which are 2.4 MB for one that is not in use.
_ONE_IN_USE = sql.text(
    "CREATE UNIQUE INDEX IF NOT EXISTS keys_in_use ON keys (name) WHERE NOT revoked AND NOT replaced"
)

Log = Callable[[str, str], None]


class KeyTaken(ValueError):
    """A key of that name is in use."""


class KeyExpired(ValueError):
    """A key that ended by itself has no successor: that would end with it."""


class NoSuchKey(LookupError):
    """No key of that name is in use."""


class KeyStore:
    """`find` never waits: the table lies in memory. All SQL runs in a thread."""

    def __init__(self, engine: sql.Engine, wall_clock: Callable[[], float], log: Log) -> None:
        self.changed: list[Callable[[], Awaitable[None]]] = []  # waited for after each change made here
        self._engine, self._now, self._log = engine, wall_clock, log
        self._by_hash: dict[str, KeyFacts] = {}
        self._loading = threading.Lock()
        self._seen = 0  # the sum of revisions that `_by_hash` shows
        self.failing = False
        ensure(engine, _METADATA, _ONE_IN_USE)
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
        return await asyncio.to_thread(self._list)

    async def keep_fresh(self) -> None:
        """See what other processes changed; runs until cancelled. While SQL is away, the last known stay."""
        while True:
            await asyncio.sleep(REFRESH)
            await self.look()

    async def look(self) -> None:
        """See what other processes changed, now."""
        try:
            await asyncio.to_thread(self._look)
            self.failing = False
        except Exception as error:  # whatever it is, a look must not be the last
            if not self.failing:
                self.failing = True
                self._log(
                    "error", f"issued keys cannot be read ({type(error).__name__}); the last known stay"
                )

    async def _tell(self) -> None:
        for told in self.changed:
            await told()

    def _create(self, name: str, team: str, expires: float | None, key: str) -> str:
        try:
            with self._engine.begin() as connection:
                ident = self._insert(connection, name, team, expires, key)
        except IntegrityError:
            raise KeyTaken(
                f'a key named "{name}" is in use; revoke or rotate it, or take another name'
            ) from None
        self._load()
        return ident

    def _adopt(self, name: str, team: str, key: str) -> None:
        with self._engine.connect() as connection:
            known = connection.execute(sql.select(_KEYS.c.id).where(_KEYS.c.hash == digest(key))).first()
        if known is None:
            self._create(name, team, None, key)

    def _rotate(self, name: str, overlap: float, key: str) -> str:
        with self._engine.begin() as connection:
            in_use = sql.and_(_KEYS.c.name == name, _IN_USE)
            old = connection.execute(sql.select(_KEYS).where(in_use)).first()
            if old is not None and old.expires is not None and old.expires <= self._now():
                raise KeyExpired(f'the key "{name}" has expired; revoke it, and make another of that name')
            ends = self._now() + overlap
            left = {"revoked": overlap <= 0, "replaced": True}
            if old is None or not _change(connection, sql.and_(in_use, _KEYS.c.id == old.id), left):
                raise NoSuchKey(f'there is no key "{name}"')
            if overlap > 0 and (old.expires is None or old.expires > ends):
                _change(connection, _KEYS.c.id == old.id, {"expires": ends})
            ident = self._insert(connection, name, old.team, old.expires, key)
        self._load()
        return ident

    def _insert(
        self, connection: sql.Connection, name: str, team: str, expires: float | None, key: str
    ) -> str:
        row = {"name": name, "team": team, "hash": digest(key), "created": self._now(), "expires": expires}
        ident = secrets.token_hex(8)
        connection.execute(sql.insert(_KEYS).values(id=ident, **row))
        return ident

    def _revoke(self, which: str) -> None:
        meant = sql.and_(sql.or_(_KEYS.c.name == which, _KEYS.c.id == which), _KEYS.c.revoked.is_(False))
        with self._engine.begin() as connection:
            if not _change(connection, meant, {"revoked": True}):
                raise NoSuchKey(f'there is no key "{which}"')
        self._load()

    def _list(self) -> list[dict[str, Any]]:
        columns = [_KEYS.c[name] for name in ("id", "name", "team", "created", "expires", "revoked")]
        with self._engine.connect() as connection:
            return [
                dict(row)
                for row in connection.execute(sql.select(*columns).order_by(_KEYS.c.created)).mappings()
            ]

    def _look(self) -> None:
        """Twice a second, and mostly for nothing: by the driver itself it takes a sixth of the time, which calls that
        come at the same moment wait for. Raises what the driver raises."""
        connection = self._engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute(_REVISIONS)
            [[seen]] = cursor.fetchall()
            cursor.close()
        finally:
            connection.close()
        if seen != self._seen:
            self._load()

    def _load(self) -> None:
        """One at a time: a look that began before a revocation must not have the last word."""
        wanted = sql.select(_KEYS.c.name, _KEYS.c.team, _KEYS.c.hash, _KEYS.c.expires).where(
            _KEYS.c.revoked.is_(False)
        )
        with self._loading, self._engine.connect() as connection:
            seen = connection.exec_driver_sql(_REVISIONS).scalar()
            if seen != self._seen:
                rows = connection.execute(wanted).all()
                self._by_hash = {
                    row.hash: KeyFacts(row.name, row.team, row.hash, row.expires) for row in rows
                }
                self._seen = int(seen or 0)


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _change(connection: sql.Connection, which: sql.ColumnElement[bool], values: Mapping[str, Any]) -> int:
    changed = sql.update(_KEYS).where(which).values(revision=_KEYS.c.revision + 1, **values)
    return connection.execute(changed).rowcount
