"""The tables of what is made in the background: a row for each run, and the pieces that it told."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sql

from gateway.state.sql import at_length, ensure, reading, writing

_METADATA = sql.MetaData()
_RUNS = sql.Table(
    "runs",
    _METADATA,
    sql.Column("id", sql.String(64), primary_key=True),
    sql.Column("beat", sql.Float, nullable=False),
    sql.Column("ends", sql.Boolean, nullable=False),
    sql.Column("streams", sql.Boolean, nullable=False),
)
_TOLD = sql.Table(
    "run_events",
    _METADATA,
    sql.Column("id", sql.String(64), primary_key=True),
    sql.Column("number", sql.Integer, primary_key=True),  # of the first of these events
    sql.Column("events", sql.LargeBinary, nullable=False),
)
_ANSWERS = sql.table("answers", sql.column("id"))


class RunRows:
    """Synchronous: its callers give it a thread. Times are seconds since the epoch. Raises DatabaseFault."""

    def __init__(self, engine: sql.Engine) -> None:
        self._engine = engine
        ensure(engine, _METADATA)

    def insert(self, id: str, now: float, *, streams: bool) -> None:
        with writing(self._engine) as connection:
            connection.execute(sql.insert(_RUNS).values(id=id, beat=now, ends=False, streams=streams))

    def end(self, id: str) -> None:
        with writing(self._engine) as connection:
            connection.execute(sql.update(_RUNS).where(_RUNS.c.id == id).values(ends=True))

    def delete(self, id: str) -> None:
        with writing(self._engine) as connection:
            for table in (_RUNS, _TOLD):
                connection.execute(sql.delete(table).where(table.c.id == id))

    def beat(self, ids: Sequence[str], told: Mapping[str, tuple[int, bytes]], now: float) -> set[str]:
        """Those of `ids` that are to end, or gone. All of it or nothing: what was noted once is not noted again."""
        rows = [{"id": id, "number": number, "events": events} for id, (number, events) in told.items()]
        alive = sql.update(_RUNS).where(_RUNS.c.id.in_(ids)).values(beat=now)
        going = sql.select(_RUNS.c.id).where(_RUNS.c.id.in_(ids), _RUNS.c.ends.is_(False))
        with writing(self._engine) as connection:
            connection.execute(alive)
            if rows:
                connection.execute(sql.insert(_TOLD).values(rows))
            return set(ids) - set(connection.execute(going).scalars())

    def look(self, id: str) -> tuple[float, bool] | None:
        """Its last beat, and whether it streams."""
        query = sql.select(_RUNS.c.beat, _RUNS.c.streams).where(_RUNS.c.id == id)
        with reading(self._engine) as connection:
            row = connection.execute(query).first()
        return (row[0], row[1]) if row else None

    def told(self, id: str, since: int) -> list[tuple[int, bytes]]:
        """From the piece on that holds event `since`."""
        first = sql.select(sql.func.max(_TOLD.c.number)).where(_TOLD.c.id == id, _TOLD.c.number <= since)
        query = sql.select(_TOLD.c.number, _TOLD.c.events).where(
            _TOLD.c.id == id, _TOLD.c.number >= sql.func.coalesce(first.scalar_subquery(), 0)
        )
        with reading(self._engine) as connection:
            return [(row[0], row[1]) for row in connection.execute(query.order_by(_TOLD.c.number))]

    def sweep(self, lost_before: float) -> None:
        """Remove runs without an answer that were not heard of since, and what belongs to no run."""
        answers = sql.select(_ANSWERS.c.id)
        lost = (_RUNS.c.beat < lost_before) & _RUNS.c.id.not_in(answers)
        with writing(self._engine) as connection, at_length(connection):
            connection.execute(sql.delete(_RUNS).where(lost))
            connection.execute(sql.delete(_TOLD).where(_TOLD.c.id.not_in(sql.select(_RUNS.c.id))))
