"""The tables of owners: a row for each object that a provider made, and one for what is not charged to its end yet."""

from collections.abc import Callable, Sequence
from importlib import import_module

from sqlalchemy import BigInteger, Column, Engine, Float, MetaData, String, Table, delete, select

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
_BEGUN = Table(
    "begun",
    _METADATA,
    Column("id", String(256), primary_key=True),
    Column("charged", BigInteger, nullable=False),
)

Found = dict[str, tuple[str, str]]  # team and provider, by id


class OwnerRows:
    """Synchronous: its callers give it a thread. Raises DatabaseFault."""

    def __init__(self, engine: Engine, wall_clock: Callable[[], float]) -> None:
        self._engine, self._now = engine, wall_clock
        # That of the database in use, which is loaded: those of the other would take 2.4 MB.
        self._insert = import_module(f"sqlalchemy.dialects.{engine.dialect.name}").insert
        ensure(engine, _METADATA)

    def write(
        self, ids: Sequence[str], team: str, provider: str, kind: str, charged: int | None = None
    ) -> Found:
        """Who owns them now: whoever was first. `charged`: for what is only begun, so much."""
        rows = [
            {"id": one, "team": team, "provider": provider, "kind": kind, "created": self._now()}
            for one in ids
        ]
        with writing(self._engine) as connection:
            connection.execute(self._insert(_OWNERS).on_conflict_do_nothing(), rows)
            if charged is not None:
                begun = [{"id": one, "charged": charged} for one in ids]
                connection.execute(self._insert(_BEGUN).on_conflict_do_nothing(), begun)
        return self.read(ids)

    def read(self, ids: Sequence[str]) -> Found:
        query = select(_OWNERS.c.id, _OWNERS.c.team, _OWNERS.c.provider)
        found: Found = {}
        with reading(self._engine) as connection:
            for at in range(0, len(ids), AT_ONCE):
                rows = connection.execute(query.where(_OWNERS.c.id.in_(ids[at : at + AT_ONCE])))
                found |= {row.id: (row.team, row.provider) for row in rows}
        return found

    def settle(self, ids: Sequence[str]) -> int | None:
        """What was charged for one of these when it was begun; None where all was settled before."""
        these = _BEGUN.c.id.in_(ids)
        with writing(self._engine) as connection:
            charged = connection.execute(select(_BEGUN.c.charged).where(these)).scalar()
            removed = connection.execute(delete(_BEGUN).where(these)).rowcount
        return charged if removed > 0 else None  # of those who come at once only the first removes it

    def delete(self, id: str) -> None:
        with writing(self._engine) as connection:
            for table in (_OWNERS, _BEGUN):
                connection.execute(delete(table).where(table.c.id == id))
