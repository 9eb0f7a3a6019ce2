"""The table of issued keys: a row for each, with the hash alone."""

import secrets
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sql
from sqlalchemy.exc import IntegrityError

from gateway.core.key import KeyExpired, KeyTaken, NoSuchKey
from gateway.state.sql import ensure, reading, writing

_METADATA = sql.MetaData()
_KEYS = sql.Table(
    "keys",
    _METADATA,
    sql.Column("id", sql.String(32), primary_key=True),
    sql.Column("name", sql.String(128), nullable=False, index=True),
    sql.Column("team", sql.String(256), nullable=False),
    sql.Column("hash", sql.String(64), nullable=False, unique=True),
    sql.Column("created", sql.Float, nullable=False),
    sql.Column("expires", sql.Float),
    sql.Column("revoked", sql.Boolean, nullable=False, default=False),
    sql.Column("replaced", sql.Boolean, nullable=False, default=False),  # its name has gone on to a newer key
    # Each change of a row adds one: the sum over all rows tells whether anything changed.
    sql.Column("revision", sql.Integer, nullable=False, default=1),
)
_IN_USE = sql.and_(_KEYS.c.revoked.is_(False), _KEYS.c.replaced.is_(False))
# Two processes that give a name away at the same moment: the database lets one of them. As a text, for an index that
# knows the words of a database loads them, which are 2.4 MB for one that is not in use.
_ONE_IN_USE = sql.text(
    "CREATE UNIQUE INDEX IF NOT EXISTS keys_in_use ON keys (name) WHERE NOT revoked AND NOT replaced"
)


class KeyRows:
    """Synchronous: its callers give it a thread. Raises DatabaseFault."""

    def __init__(self, engine: sql.Engine, wall_clock: Callable[[], float]) -> None:
        self._engine, self._now = engine, wall_clock
        ensure(engine, _METADATA, _ONE_IN_USE)

    def create(self, name: str, team: str, expires: float | None, hash: str) -> str:
        """The id of the new row. Raises KeyTaken."""
        with writing(self._engine) as connection:
            return self._insert(connection, name, team, expires, hash)

    def rotate(self, name: str, overlap: float, hash: str) -> str:
        """The id of the row in the place of the old one. Raises NoSuchKey, KeyExpired."""
        with writing(self._engine) as connection:
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
            return self._insert(connection, name, old.team, old.expires, hash)

    def revoke(self, which: str) -> None:
        """Raises NoSuchKey."""
        meant = sql.and_(sql.or_(_KEYS.c.name == which, _KEYS.c.id == which), _KEYS.c.revoked.is_(False))
        with writing(self._engine) as connection:
            if not _change(connection, meant, {"revoked": True}):
                raise NoSuchKey(f'there is no key "{which}"')

    def listed(self) -> list[dict[str, Any]]:
        columns = [_KEYS.c[name] for name in ("id", "name", "team", "created", "expires", "revoked")]
        with reading(self._engine) as connection:
            return [
                dict(row)
                for row in connection.execute(sql.select(*columns).order_by(_KEYS.c.created)).mappings()
            ]

    def _insert(
        self, connection: sql.Connection, name: str, team: str, expires: float | None, hash: str
    ) -> str:
        row = {"name": name, "team": team, "hash": hash, "created": self._now(), "expires": expires}
        ident = secrets.token_hex(8)
        try:
            connection.execute(sql.insert(_KEYS).values(id=ident, **row))
        except IntegrityError:
            raise KeyTaken(
                f'a key named "{name}" is in use; revoke or rotate it, or take another name'
            ) from None
        return ident


def _change(connection: sql.Connection, which: sql.ColumnElement[bool], values: Mapping[str, Any]) -> int:
    changed = sql.update(_KEYS).where(which).values(revision=_KEYS.c.revision + 1, **values)
    return connection.execute(changed).rowcount
