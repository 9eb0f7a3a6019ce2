"""Which team owns an object that a provider made: files, batches, responses, stored completions and the like."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sqlalchemy import Column, Engine, Float, MetaData, String, Table, delete, select
from sqlalchemy.dialects import postgresql, sqlite

REMEMBERED = 10_000  # owners kept in memory; the rest is asked of SQL

_METADATA = MetaData()
_OWNERS = Table(
    "owners",
    _METADATA,
    Column("id", String(256), primary_key=True),
    Column("team", String(128), nullable=False, index=True),
    Column("provider", String(128), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("created", Float, nullable=False),
)


class Owner(NamedTuple):
    team: str
    provider: str


class Owners:
    """All SQL runs in a thread. An id belongs to whoever it was remembered for first."""

    def __init__(self, engine: Engine, wall_clock: Callable[[], float]) -> None:
        self._engine, self._now = engine, wall_clock
        self._known: OrderedDict[str, Owner] = OrderedDict()
        self._insert = (postgresql if engine.dialect.name == "postgresql" else sqlite).insert
        _METADATA.create_all(engine)

    async def remember(self, ids: Sequence[str], owner: Owner, kind: str) -> None:
        """Returns once it is durable: a client may use an id as soon as it sees it."""
        new = [one for one in ids if one not in self._known and len(one) <= 256]
        if new:
            await asyncio.to_thread(self._write, new, owner, kind)
            for one in new:
                self._keep(one, owner)

    async def owner(self, id: str) -> Owner | None:
        known = self._known.get(id)
        if known is None:
            known = await asyncio.to_thread(self._read, id)
            if known is not None:
                self._keep(id, known)
        return known

    async def forget(self, id: str) -> None:
        """The object is deleted."""
        self._known.pop(id, None)
        await asyncio.to_thread(self._delete, id)

    def _keep(self, id: str, owner: Owner) -> None:
        self._known[id] = owner
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _write(self, ids: Sequence[str], owner: Owner, kind: str) -> None:
        rows = [
            {"id": one, "team": owner.team, "provider": owner.provider, "kind": kind, "created": self._now()}
            for one in dict.fromkeys(ids)
        ]
        with self._engine.begin() as connection:
            connection.execute(self._insert(_OWNERS).on_conflict_do_nothing(), rows)

    def _read(self, id: str) -> Owner | None:
        with self._engine.connect() as connection:
            row = connection.execute(
                select(_OWNERS.c.team, _OWNERS.c.provider).where(_OWNERS.c.id == id)
            ).first()
        return Owner(row.team, row.provider) if row is not None else None

    def _delete(self, id: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(delete(_OWNERS).where(_OWNERS.c.id == id))
