"""The table of owners: a row for each object that a provider made."""

from collections.abc import Callable, Sequence
from importlib import import_module

from sqlalchemy import Column, Engine, Float, MetaData, String, Table, delete, select, update

from gateway.state.sql import ensure, reading, writing

AT_ONCE = 500  # ids of one query: databases bound the parameters of a statement

_METADATA = MetaData()
_OWNERS = Table(
    "owners",
    _METADATA,
    Column("id", String(256), primary_key=True),
    Column("team", String(256), nullable=False, index=True),
    Column("provider", String(256), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("created", Float, nullable=False),
)

Found = dict[str, tuple[str, str]]  # team and provider, by id


class OwnerRows:
    """Synchronous: its callers give it a thread. Raises DatabaseFault."""

    def __init__(self, engine: Engine, wall_clock: Callable[[], float]) -> None:
        self._engine, self._now = engine, wall_clock
        # That of the database in use, which is loaded: those of the other would take 2.4 MB.
        self._insert = import_module(f"sqlalchemy.dialects.{engine.dialect.name}").insert
        ensure(engine, _METADATA)

    def write(self, ids: Sequence[str], team: str, provider: str, kind: str) -> Found:
        """Who owns them now: whoever was first."""
        rows = [
            {"id": one, "team": team, "provider": provider, "kind": kind, "created": self._now()}
            for one in ids
        ]
        with writing(self._engine) as connection:
            connection.execute(self._insert(_OWNERS).on_conflict_do_nothing(), rows)
        return self.read(ids)

    def read(self, ids: Sequence[str]) -> Found:
        query = select(_OWNERS.c.id, _OWNERS.c.team, _OWNERS.c.provider)
        found: Found = {}
        with reading(self._engine) as connection:
            for at in range(0, len(ids), AT_ONCE):
                rows = connection.execute(query.where(_OWNERS.c.id.in_(ids[at : at + AT_ONCE])))
                found |= {row.id: (row.team, row.provider) for row in rows}
        return found

    def change(self, ids: Sequence[str], old: str, new: str) -> bool:
        """Whether one of these was of the kind `old`; it is `new` now."""
        changed = update(_OWNERS).where(_OWNERS.c.id.in_(ids), _OWNERS.c.kind == old).values(kind=new)
        with writing(self._engine) as connection:
            return connection.execute(changed).rowcount > 0

    def delete(self, id: str) -> None:
        with writing(self._engine) as connection:
            connection.execute(delete(_OWNERS).where(_OWNERS.c.id == id))
