"""Responses that were made here, kept for their team: what `store`, `previous_response_id` and retrieval need
where the provider behind a model keeps none. Conversations are chains of rows, each with its own turn alone."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import sqlalchemy as sql
from sqlalchemy.exc import SQLAlchemyError

from gateway.state.sql import InThread, ensure

MOST_TURNS = 1000  # of one conversation
DAY = 86400.0  # seconds

_METADATA = sql.MetaData()
_ANSWERS = sql.Table(
    "answers",
    _METADATA,
    sql.Column("id", sql.String(64), primary_key=True),
    sql.Column("team", sql.String(128), nullable=False),
    sql.Column("created", sql.Float, nullable=False, index=True),
    sql.Column("previous", sql.String(64)),
    sql.Column("input", sql.LargeBinary, nullable=False),
    sql.Column("response", sql.LargeBinary, nullable=False),
    sql.Column("size", sql.Integer, nullable=False),
)


class Kept(NamedTuple):
    """One turn. `input` is the JSON list of its items, `response` the JSON object as it was told."""

    id: str
    team: str
    previous: str | None
    input: bytes
    response: bytes


class NotKept(Exception):
    """The database did not take an answer."""


class Answers:
    """All SQL runs in a thread. To another team an answer is not there."""

    def __init__(
        self,
        engine: sql.Engine,
        wall_clock: Callable[[], float],
        retention_days: int,
        max_size: int,
        in_thread: InThread = asyncio.to_thread,
    ) -> None:
        self._engine, self._now, self._in_thread = engine, wall_clock, in_thread
        self._days, self._max_size = retention_days, max_size
        self._next: tuple[list[Kept], asyncio.Future[None]] | None = None  # what is written in the next turn
        self._turn = asyncio.Lock()
        ensure(engine, _METADATA)

    @property
    def keeps(self) -> bool:
        """Whether anything is kept at all."""
        return self._days > 0

    async def keep(self, kept: Kept) -> None:
        """Returns once every worker can read it. All that come while others are written are written together, and
        whoever waits no longer takes none of them along. Raises NotKept."""
        if self._next is None:
            rows: list[Kept] = []
            self._next = rows, asyncio.ensure_future(self._write_all(rows))
        rows, written = self._next
        rows.append(kept)
        await asyncio.shield(written)

    async def change(self, id: str, team: str, response: bytes, more: int = 0) -> None:
        """What is told of an answer now; none where it is gone. `more` bytes belong to it, too. Raises NotKept."""
        try:
            await self._in_thread(self._change, id, team, response, more)
        except SQLAlchemyError as error:
            raise NotKept(type(error).__name__) from error

    async def conversation(self, id: str, team: str) -> list[Kept]:
        """The answer and what it goes on from, the oldest first; none where it is not the team's."""
        return await self._in_thread(self._conversation, id, team)

    async def find(self, id: str, team: str) -> Kept | None:
        found = await self._in_thread(self._read, id, team)
        return found[0] if found else None

    async def forget(self, id: str, team: str) -> None:
        await self._in_thread(self._delete, id, team)

    def sweep(self) -> None:
        """Remove what is too old, then the oldest of what is too much."""
        sizes = sql.select(
            _ANSWERS.c.id, sql.func.sum(_ANSWERS.c.size).over(order_by=_ANSWERS.c.created.desc()).label("sum")
        ).subquery()
        too_much = sql.select(sizes.c.id).where(sizes.c.sum > self._max_size)
        with self._engine.begin() as connection:
            connection.execute(sql.delete(_ANSWERS).where(_ANSWERS.c.created < self._oldest()))
            connection.execute(sql.delete(_ANSWERS).where(_ANSWERS.c.id.in_(too_much)))

    def _oldest(self) -> float:
        return self._now() - self._days * DAY

    async def _write_all(self, rows: list[Kept]) -> None:
        async with self._turn:
            self._next = None
            try:
                await self._in_thread(self._write, rows)
            except SQLAlchemyError as error:
                raise NotKept(type(error).__name__) from error

    def _write(self, rows: list[Kept]) -> None:
        now = self._now()
        values = [
            {**one._asdict(), "created": now, "size": len(one.input) + len(one.response)} for one in rows
        ]
        with self._engine.begin() as connection:
            connection.execute(sql.insert(_ANSWERS), values)

    def _change(self, id: str, team: str, response: bytes, more: int) -> None:
        size = sql.func.length(_ANSWERS.c.input) + len(response) + more
        change = sql.update(_ANSWERS).where(_ANSWERS.c.id == id, _mine(team))
        with self._engine.begin() as connection:
            connection.execute(change.values(response=response, size=size))

    def _read(self, id: str, team: str) -> list[Kept]:
        return self._rows(_mine(team), _ANSWERS.c.id == id)

    def _conversation(self, id: str, team: str) -> list[Kept]:
        link, first = _ANSWERS.alias(), sql.literal(0).label("back")
        chain = (
            sql.select(_ANSWERS.c.id, _ANSWERS.c.previous, first)
            .where(_ANSWERS.c.id == id, _mine(team))
            .cte(recursive=True)
        )
        chain = chain.union_all(
            sql.select(link.c.id, link.c.previous, chain.c.back + 1).where(
                link.c.id == chain.c.previous, link.c.team == team, chain.c.back < MOST_TURNS
            )
        )
        return self._rows(_ANSWERS.c.id == chain.c.id, order=chain.c.back.desc())

    def _rows(
        self, *which: sql.ColumnElement[bool], order: sql.ColumnElement[int] | None = None
    ) -> list[Kept]:
        columns = [_ANSWERS.c[name] for name in Kept._fields]
        query = sql.select(*columns).where(_ANSWERS.c.created >= self._oldest(), *which).order_by(order)
        with self._engine.connect() as connection:
            return [Kept(*row) for row in connection.execute(query)]

    def _delete(self, id: str, team: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(sql.delete(_ANSWERS).where(_ANSWERS.c.id == id, _mine(team)))


def _mine(team: str) -> sql.ColumnElement[bool]:
    return _ANSWERS.c.team == team
