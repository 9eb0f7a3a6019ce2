"""The account book in SQL: one row per call that reached a provider, whatever the number of its tries."""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from itertools import chain
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    case,
    delete,
    func,
    inspect,
    not_,
    select,
)
from sqlalchemy.schema import CreateColumn

from gateway.usage.asked import BY, BadReport

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
    Column("search_units", BigInteger, nullable=False, server_default="0"),
    Column("estimated", Boolean, nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("policies", String(12), nullable=False),
    Column("metadata", Text, nullable=False),
    Column("attempts", Text, nullable=False),
    sqlite_with_rowid=False,  # ids sort by time: the table is its own index, and a row costs one tree, not three
)
_COLUMNS = tuple(column.name for column in _USAGE.columns)
_LENGTHS = [(column.name, column.type.length) for column in _USAGE.columns
            if isinstance(column.type, String) and column.type.length]  # fmt: skip
# Rows written by one statement: to begin one costs more than a row does.
ROWS = 64
_VALUES = re.compile(r"VALUES (\([^)]*\))")

Event = dict[str, Any]
Write = Callable[[Connection, list[Event]], None]
AtLength = Callable[[Connection], AbstractContextManager[Any]]


class Ledger:
    """Synchronous: its callers give it a thread. Raises SQLAlchemyError where the database fails."""

    def __init__(self, engine: Engine, at_length: AtLength = nullcontext) -> None:
        """`at_length` is around what no call waits for, and may have more time for a statement than others."""
        self._engine, self._at_length = engine, at_length
        _METADATA.create_all(self._engine)
        _widen(self._engine)
        # The words of the database in use, which are loaded: those of the other would take 2.4 MB.
        new = import_module(f"sqlalchemy.dialects.{engine.dialect.name}").insert(_USAGE)
        columns = {name: new.excluded[name] for name in _COLUMNS if name != "id"}
        self._replace = _writer(new.on_conflict_do_update(index_elements=["id"], set_=columns), engine)
        self._keep = _writer(new.on_conflict_do_nothing(), engine)

    def absorb(self, events: list[Event]) -> None:
        """Write `end` events. The same event twice counts once; one that comes late replaces an estimate."""
        self._write(events, self._replace)

    def keep(self, events: list[Event]) -> None:
        """Write what is known of calls whose process died, unless their end is known already."""
        self._write(events, self._keep)

    def _write(self, events: list[Event], write: Write) -> None:
        once = {one["id"]: one for one in events}
        with self._engine.begin() as connection:
            write(connection, list(once.values()))

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
            func.coalesce(func.sum(_USAGE.c.search_units), 0).label("search_units"),
        ]
        asked = select(*columns, *sums).where(_since(since))
        with self._engine.connect() as connection, self._at_length(connection):
            found = connection.execute(asked.group_by(*columns).order_by(*columns)).mappings()
            rows = [_told(dict(row)) for row in found] if by else []
            total = connection.execute(select(*sums).where(_since(since))).mappings().one()
            return {"rows": rows, "total": _told(dict(total))}

    def calls(self, limit: int = 100) -> list[dict[str, Any]]:
        """The newest rows, for operators and tests."""
        with self._engine.connect() as connection:
            newest = select(_USAGE).order_by(_USAGE.c.id.desc()).limit(limit)
            return [dict(row) for row in connection.execute(newest).mappings()]

    def forget(self, before: float) -> int:
        """Delete rows older than `before`, some thousands at most; the number that went."""
        old = select(_USAGE.c.id).where(not_(_since(before))).limit(RETENTION_BATCH)
        with self._engine.begin() as connection, self._at_length(connection):
            return connection.execute(delete(_USAGE).where(_USAGE.c.id.in_(old))).rowcount

    def close(self) -> None:
        self._engine.dispose()


def _widen(engine: Engine) -> None:
    """Add the columns that a table made by an earlier version lacks."""
    there = {column["name"] for column in inspect(engine).get_columns(_USAGE.name)}
    with engine.begin() as connection:
        for column in _USAGE.columns:
            if column.name not in there:
                made = CreateColumn(column).compile(dialect=engine.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {_USAGE.name} ADD COLUMN {made}")


def _writer(statement: Any, engine: Engine) -> Write:
    """How rows are written by this driver itself: through SQLAlchemy a row costs three times as much."""
    compiled = statement.compile(dialect=engine.dialect)
    text = str(compiled)
    if not compiled.positional:
        return lambda connection, events: _execute(connection, text, [_fitted(_flat(one)) for one in events])
    in_order = itemgetter(*compiled.positiontup)
    flags = [column.name for column in _USAGE.columns if isinstance(column.type, Boolean)]
    head, values, tail = _VALUES.split(text, 1)
    many = f"{head}VALUES {', '.join([values] * ROWS)}{tail}"

    def numbered(one: Event) -> Event:
        """SQLite has no truth values: its driver looks for a way to write each (0.3 us)."""
        for name in flags:
            one[name] = int(one[name])
        return one

    def write(connection: Connection, events: list[Event]) -> None:
        for start in range(0, len(events), ROWS):
            some = events[start : start + ROWS]
            rows = [in_order(numbered(_flat(one))) for one in some]
            if len(rows) == ROWS:
                rows = [tuple(chain.from_iterable(rows))]
            _execute(connection, many if len(some) == ROWS else text, rows)

    return write


def _execute(connection: Connection, text: str, rows: list[Any]) -> None:
    if rows:
        connection.exec_driver_sql(text, rows)


def _flat(one: Event) -> Event:
    """Lists and objects as text, in place; of search units only reranks tell."""
    one.setdefault("search_units", 0)
    for name in ("attempts", "metadata"):
        if not isinstance(one[name], str):
            one[name] = orjson.dumps(one[name]).decode()
    return one


def _fitted(one: Event) -> Event:
    """Texts as long as their columns are, in place: only SQLite takes longer ones, others refuse the row."""
    for name, most in _LENGTHS:
        if len(one[name]) > most:
            one[name] = one[name][:most]
    return one


def _since(moment: float) -> "ColumnElement[bool]":
    """Rows from `moment` (seconds since the epoch) on: an id begins with its call's milliseconds, in hex."""
    return _USAGE.c.id >= f"{max(int(moment * 1000), 0):012x}"


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """Costs are unknown until prices are built: null, which is not nothing. Search units are told of those who
    have some."""
    # Names are SQLAlchemy's own kind of text, and Postgres sums to decimals: neither can be said in JSON.
    told = {str(name): v if isinstance(v, str) else int(v) for name, v in row.items()}
    if not told["search_units"]:
        del told["search_units"]
    return {**told, "cost_usd": None}
