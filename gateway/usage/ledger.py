"""The account book in SQL: one row per call that reached a provider, whatever the number of its tries."""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    case,
    delete,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

BY = ("key", "team", "user", "model", "entry", "provider", "route", "target", "outcome")
RETENTION_BATCH = 5000  # rows deleted at a time: a long delete would hold up the writer

_METADATA = MetaData()
_USAGE = Table(
    "usage",
    _METADATA,
    Column("id", String(32), primary_key=True),
    Column("started", Float, nullable=False),
    Column("ended", Float),
    Column("key", String(256), nullable=False),
    Column("team", String(256), nullable=False),
    Column("user", String(256), nullable=False),
    Column("model", String(256), nullable=False),
    Column("entry", String(256), nullable=False),
    Column("provider", String(256), nullable=False),
    Column("target", String(600), nullable=False),
    Column("route", String(64), nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("status", Integer, nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("prompt", BigInteger, nullable=False),
    Column("completion", BigInteger, nullable=False),
    Column("cached", BigInteger, nullable=False),
    Column("reasoning", BigInteger, nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("policies", String(12), nullable=False),
    Column("metadata", Text, nullable=False),
    Column("attempts", Text, nullable=False),
    Index("usage_started", "started"),
)
_COLUMNS = tuple(column.name for column in _USAGE.columns)

Prepared = tuple[str, Callable[[Mapping[str, Any]], Any]]


class BadReport(ValueError):
    """A report that cannot be made; the message says what may be asked."""


class Ledger:
    """Synchronous: its callers give it a thread. Raises SQLAlchemyError where the database fails."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        _METADATA.create_all(self._engine)
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        new = dialect.insert(_USAGE)
        columns = {name: new.excluded[name] for name in _COLUMNS if name != "id"}
        self._replace = self._prepared(new.on_conflict_do_update(index_elements=["id"], set_=columns))
        self._keep = self._prepared(new.on_conflict_do_nothing())

    def absorb(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Write `end` events (and those of calls whose process died). The same event twice counts once; an
        `end` that comes late replaces the estimate."""
        rows = {one["id"]: one for one in events if one["outcome"] != "gateway_died"}
        lost = {one["id"]: one for one in events if one["id"] not in rows}
        with self._engine.begin() as connection:
            for (statement, row_of), found in ((self._keep, lost), (self._replace, rows)):
                if found:
                    connection.exec_driver_sql(statement, [row_of(one) for one in found.values()])

    def _prepared(self, statement: Any) -> "Prepared":
        """The statement's text, and how a row is written for this driver: handing rows to the driver itself
        costs 5 us a row where handing them to SQLAlchemy costs 20."""
        compiled = statement.compile(dialect=self._engine.dialect)
        if compiled.positional:
            in_order = itemgetter(*compiled.positiontup)
            return str(compiled), lambda one: in_order(_flat(one))
        return str(compiled), _flat

    def report(self, by: Sequence[str], since: float) -> dict[str, Any]:
        """Sums by the given columns from `since` (seconds since the epoch) on. Raises BadReport."""
        for name in by:
            if name not in BY:
                raise BadReport(f'usage cannot be told by "{name}"; there is {", ".join(BY)}')
        columns = [_USAGE.c[name] for name in by]
        sums = [
            func.count().label("calls"),
            func.coalesce(func.sum(_USAGE.c.prompt), 0).label("prompt_tokens"),
            func.coalesce(func.sum(_USAGE.c.completion), 0).label("completion_tokens"),
            func.coalesce(func.sum(case((_USAGE.c.estimated, 1), else_=0)), 0).label("estimated"),
        ]
        asked = select(*columns, *sums).where(_USAGE.c.started >= since)
        with self._engine.connect() as connection:
            found = connection.execute(asked.group_by(*columns).order_by(*columns)).mappings()
            rows = [_told(dict(row)) for row in found] if by else []
            total = connection.execute(select(*sums).where(_USAGE.c.started >= since)).mappings().one()
            return {"rows": rows, "total": _told(dict(total))}

    def calls(self, limit: int = 100) -> list[dict[str, Any]]:
        """The newest rows, for operators and tests."""
        with self._engine.connect() as connection:
            newest = select(_USAGE).order_by(_USAGE.c.started.desc()).limit(limit)
            return [dict(row) for row in connection.execute(newest).mappings()]

    def forget(self, before: float) -> int:
        """Delete rows older than `before`, some thousands at most; the number that went."""
        old = select(_USAGE.c.id).where(_USAGE.c.started < before).limit(RETENTION_BATCH)
        with self._engine.begin() as connection:
            return connection.execute(delete(_USAGE).where(_USAGE.c.id.in_(old))).rowcount

    def close(self) -> None:
        self._engine.dispose()


def _flat(one: Mapping[str, Any]) -> dict[str, Any]:
    attempts, metadata = orjson.dumps(one["attempts"]).decode(), orjson.dumps(one["metadata"]).decode()
    return {**one, "attempts": attempts, "metadata": metadata}


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    """Costs are unknown until prices are built: null, which is not nothing."""
    return {
        **{name: (int(v) if isinstance(v, int | bool) else v) for name, v in row.items()},
        "cost_usd": None,
    }
