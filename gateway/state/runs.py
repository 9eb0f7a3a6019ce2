"""Responses that are made in the background: who may still end them, whether their process lives, and what they have
told so far. Any worker can read it; the answer itself lies with the other answers."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import sqlalchemy as sql
from sqlalchemy.exc import SQLAlchemyError

from gateway.state.answers import NotKept
from gateway.state.sql import InThread, ensure

LOST_AFTER = 60.0  # seconds without a sign of life after which the process of a run is taken for dead

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

Told = Mapping[str, tuple[int, bytes]]  # by run: the number of the first event, and events as they are sent


class Sign(NamedTuple):
    """Of a run: whether its process lives, and whether it tells its events."""

    lives: bool
    streams: bool


class Runs:
    """All SQL runs in a thread. Whose an id is, is asked elsewhere."""

    def __init__(
        self, engine: sql.Engine, wall_clock: Callable[[], float], in_thread: InThread = asyncio.to_thread
    ) -> None:
        self._engine, self._now, self._in_thread = engine, wall_clock, in_thread
        ensure(engine, _METADATA)

    async def begin(self, id: str, *, streams: bool) -> None:
        """Raises NotKept."""
        row = sql.insert(_RUNS).values(id=id, beat=self._now(), ends=False, streams=streams)
        await self._in_thread(self._do, row)

    async def beat(self, ids: Sequence[str], told: Told) -> set[str]:
        """Note that these are alive and what they told; returns those that are to end. Raises NotKept."""
        return await self._in_thread(self._beat, list(ids), told)

    async def end(self, id: str) -> None:
        """Ask whoever runs it to end it. Raises NotKept."""
        await self._in_thread(self._do, sql.update(_RUNS).where(_RUNS.c.id == id).values(ends=True))

    async def forget(self, id: str) -> None:
        """A run that is under way ends, too. Raises NotKept."""
        both = (sql.delete(table).where(table.c.id == id) for table in (_RUNS, _TOLD))
        await self._in_thread(self._do, *both)

    async def look(self, id: str) -> Sign | None:
        """None where no run is known by this id."""
        return await self._in_thread(self._look, id)

    async def told(self, id: str, since: int) -> list[tuple[int, bytes]]:
        """Pieces that hold events from number `since` on, in their order, each with the number of its first."""
        return await self._in_thread(self._told, id, since)

    def sweep(self) -> None:
        """Remove what no answer belongs to any more."""
        answers = sql.select(_ANSWERS.c.id)
        lost = (_RUNS.c.beat < self._now() - LOST_AFTER) & _RUNS.c.id.not_in(answers)
        with self._engine.begin() as connection:
            connection.execute(sql.delete(_RUNS).where(lost))
            connection.execute(sql.delete(_TOLD).where(_TOLD.c.id.not_in(sql.select(_RUNS.c.id))))

    def _do(self, *statements: sql.Executable) -> None:
        with self._writing() as connection:
            for statement in statements:
                connection.execute(statement)

    @contextmanager
    def _writing(self) -> Iterator[sql.Connection]:
        """Raises NotKept."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise NotKept(type(error).__name__) from error

    def _beat(self, ids: list[str], told: Told) -> set[str]:
        rows = [{"id": id, "number": number, "events": events} for id, (number, events) in told.items()]
        alive = sql.update(_RUNS).where(_RUNS.c.id.in_(ids)).values(beat=self._now())
        going = sql.select(_RUNS.c.id).where(_RUNS.c.id.in_(ids), _RUNS.c.ends.is_(False))
        with self._writing() as connection:  # all of it or nothing: what was noted once is not noted again
            connection.execute(alive)
            if rows:
                connection.execute(sql.insert(_TOLD).values(rows))
            return set(ids) - set(connection.execute(going).scalars())

    def _look(self, id: str) -> Sign | None:
        with self._engine.connect() as connection:
            row = connection.execute(
                sql.select(_RUNS.c.beat, _RUNS.c.streams).where(_RUNS.c.id == id)
            ).first()
        return Sign(row[0] > self._now() - LOST_AFTER, row[1]) if row else None

    def _told(self, id: str, since: int) -> list[tuple[int, bytes]]:
        first = sql.select(sql.func.max(_TOLD.c.number)).where(_TOLD.c.id == id, _TOLD.c.number <= since)
        query = sql.select(_TOLD.c.number, _TOLD.c.events).where(
            _TOLD.c.id == id, _TOLD.c.number >= sql.func.coalesce(first.scalar_subquery(), 0)
        )
        with self._engine.connect() as connection:
            return [(row[0], row[1]) for row in connection.execute(query.order_by(_TOLD.c.number))]
