"""The table of answers that are kept: a row for each turn of a conversation."""

from collections.abc import Sequence

import sqlalchemy as sql

from gateway.state.sql import at_length, ensure, reading, writing

MOST_TURNS = 1000  # of one conversation

_METADATA = sql.MetaData()
_ANSWERS = sql.Table(
    "answers",
    _METADATA,
    sql.Column("id", sql.String(64), primary_key=True),
    sql.Column("team", sql.String(256), nullable=False),
    sql.Column("created", sql.Float, nullable=False, index=True),
    sql.Column("previous", sql.String(64)),
    sql.Column("input", sql.LargeBinary, nullable=False),
    sql.Column("response", sql.LargeBinary, nullable=False),
    sql.Column("size", sql.Integer, nullable=False),
)

Turn = tuple[str, str, str | None, bytes, bytes]  # id, team, previous, input, response


class AnswerRows:
    """Synchronous: its callers give it a thread. Times are seconds since the epoch; what was made before `oldest` is
    not there. Raises DatabaseFault."""

    def __init__(self, engine: sql.Engine) -> None:
        self._engine = engine
        ensure(engine, _METADATA)

    def write(self, turns: Sequence[Turn], now: float) -> None:
        values = [
            {
                "id": id, "team": team, "created": now, "previous": previous,
                "input": input, "response": response, "size": len(input) + len(response),
            }
            for id, team, previous, input, response in turns
        ]  # fmt: skip
        with writing(self._engine) as connection:
            connection.execute(sql.insert(_ANSWERS), values)

    def change(self, id: str, team: str, response: bytes, more: int) -> None:
        """`more` bytes belong to it, too."""
        size = sql.func.length(_ANSWERS.c.input) + len(response) + more
        change = sql.update(_ANSWERS).where(_ANSWERS.c.id == id, _mine(team))
        with writing(self._engine) as connection:
            connection.execute(change.values(response=response, size=size))

    def read(self, id: str, team: str, oldest: float) -> list[Turn]:
        return self._turns(oldest, _mine(team), _ANSWERS.c.id == id)

    def conversation(self, id: str, team: str, oldest: float) -> list[Turn]:
        """That turn and those it goes on from, the first one first."""
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
        return self._turns(oldest, _ANSWERS.c.id == chain.c.id, order=chain.c.back.desc())

    def delete(self, id: str, team: str) -> None:
        with writing(self._engine) as connection:
            connection.execute(sql.delete(_ANSWERS).where(_ANSWERS.c.id == id, _mine(team)))

    def sweep(self, oldest: float, max_size: int) -> None:
        """Remove what is too old, then the oldest of what is too much (bytes)."""
        sizes = sql.select(
            _ANSWERS.c.id, sql.func.sum(_ANSWERS.c.size).over(order_by=_ANSWERS.c.created.desc()).label("sum")
        ).subquery()
        too_much = sql.select(sizes.c.id).where(sizes.c.sum > max_size)
        with writing(self._engine) as connection, at_length(connection):
            connection.execute(sql.delete(_ANSWERS).where(_ANSWERS.c.created < oldest))
            connection.execute(sql.delete(_ANSWERS).where(_ANSWERS.c.id.in_(too_much)))

    def _turns(
        self, oldest: float, *which: sql.ColumnElement[bool], order: sql.ColumnElement[int] | None = None
    ) -> list[Turn]:
        columns = [_ANSWERS.c[name] for name in ("id", "team", "previous", "input", "response")]
        query = sql.select(*columns).where(_ANSWERS.c.created >= oldest, *which).order_by(order)
        with reading(self._engine) as connection:
            return [(row[0], row[1], row[2], row[3], row[4]) for row in connection.execute(query)]


def _mine(team: str) -> sql.ColumnElement[bool]:
    return _ANSWERS.c.team == team
