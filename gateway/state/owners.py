"""Which team owns an object that a provider made: files, batches, responses, stored completions and the like."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import NamedTuple

from sqlalchemy import Column, Engine, Float, MetaData, String, Table, delete, select, update
from sqlalchemy.exc import SQLAlchemyError

from gateway.state.sql import InThread, ensure

REMEMBERED = 10_000  # owners kept in memory; the rest is asked of SQL
BEGUN = "begun"  # the kind of what goes on at the provider, and has not told yet what it took
AT_ONCE = 500  # ids of one query: databases bound the parameters of a statement

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

    def __init__(
        self, engine: Engine, wall_clock: Callable[[], float], in_thread: InThread = asyncio.to_thread
    ) -> None:
        self._engine, self._now, self._in_thread = engine, wall_clock, in_thread
        self._known: OrderedDict[str, Owner] = OrderedDict()
        # That of the database in use, which is loaded: those of the other would take 2.4 MB.
        self._insert = import_module(f"sqlalchemy.dialects.{engine.dialect.name}").insert
        ensure(engine, _METADATA)

    async def remember(self, ids: Sequence[str], owner: Owner, kind: str) -> None:
        """Returns once it is durable: a client may use an id as soon as it sees it."""
        new = [one for one in dict.fromkeys(ids) if one not in self._known and 0 < len(one) <= 256]
        if new:
            self._keep(await self._in_thread(self._write, new, owner, kind))

    async def among(self, ids: Sequence[str]) -> dict[str, Owner]:
        """The owners of those that are known, by id."""
        found = {one: owner for one in ids if (owner := self._known.get(one)) is not None}
        asked = [one for one in dict.fromkeys(ids) if one not in found and len(one) <= 256]
        if asked:
            read = await self._in_thread(self._read, asked)
            self._keep(read)
            found |= read
        return found

    async def forget(self, id: str) -> None:
        """The object is deleted."""
        self._known.pop(id, None)
        await self._in_thread(self._delete, id)

    async def settle(self, ids: Sequence[str]) -> bool:
        """Whether one of these was only begun so far: it has told now what it took, and is charged once. While SQL is
        away none is: it stays begun."""
        try:
            return await self._in_thread(self._settle, ids)
        except SQLAlchemyError:
            return False

    def _keep(self, owners: Mapping[str, Owner]) -> None:
        self._known |= owners
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _write(self, ids: Sequence[str], owner: Owner, kind: str) -> dict[str, Owner]:
        """Who owns them now: whoever was first."""
        rows = [
            {"id": one, "team": owner.team, "provider": owner.provider, "kind": kind, "created": self._now()}
            for one in ids
        ]
        with self._engine.begin() as connection:
            connection.execute(self._insert(_OWNERS).on_conflict_do_nothing(), rows)
        return self._read(ids)

    def _read(self, ids: Sequence[str]) -> dict[str, Owner]:
        query = select(_OWNERS.c.id, _OWNERS.c.team, _OWNERS.c.provider)
        found: dict[str, Owner] = {}
        with self._engine.connect() as connection:
            for at in range(0, len(ids), AT_ONCE):
                rows = connection.execute(query.where(_OWNERS.c.id.in_(ids[at : at + AT_ONCE])))
                found |= {row.id: Owner(row.team, row.provider) for row in rows}
        return found

    def _settle(self, ids: Sequence[str]) -> bool:
        begun = update(_OWNERS).where(_OWNERS.c.id.in_(ids), _OWNERS.c.kind == BEGUN).values(kind="")
        with self._engine.begin() as connection:
            return connection.execute(begun).rowcount > 0

    def _delete(self, id: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(delete(_OWNERS).where(_OWNERS.c.id == id))
