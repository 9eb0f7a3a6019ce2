"""The account book in SQL: one row per call that reached a provider, whatever the number of its tries."""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from itertools import chain
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import Boolean, Connection, Engine, MetaData, String, delete, func, select

from gateway.usage import sums
from gateway.usage.earlier import take_over
from gateway.usage.reports import BY, BadReport
from gateway.usage.row import Event
from gateway.usage.tables import COUNTS, METADATA, SPAN, USAGE, moment

RETENTION_BATCH = 5000  # rows deleted at a time: a long delete would hold up the writer

_COLUMNS = tuple(column.name for column in USAGE.columns)
_LENGTHS = [(column.name, column.type.length) for column in USAGE.columns
            if isinstance(column.type, String) and column.type.length]  # fmt: skip
# Rows written by one statement: to begin one costs more than a row does.
ROWS = 64
_VALUES = re.compile(r"VALUES (\([^)]*\))")

# What is added up, and how reports call it.
_TOLD = dict(
    zip(COUNTS, ("calls", "prompt_tokens", "completion_tokens", "estimated", "search_units"), strict=True)
)

Write = Callable[[Connection, list[Event]], None]
Make = Callable[[Engine, MetaData], None]
AtLength = Callable[[Connection], AbstractContextManager[Any]]


class Ledger:
    """Synchronous: its callers give it a thread. Raises SQLAlchemyError where the database fails."""

    def __init__(
        self,
        engine: Engine,
        wall_clock: Callable[[], float],
        make: Make,
        at_length: AtLength = nullcontext,
        earlier: str = "",
    ) -> None:
        """`make` makes what the tables lack, also where others do so at the same moment. `at_length` is around what no
        call waits for, and may have more time for a statement than others. `earlier` is the SQLite file in which a
        version before this kept its ledger: a new one begins with its rows."""
        self._engine, self._now, self._at_length = engine, wall_clock, at_length
        make(engine, METADATA)
        with engine.connect() as connection:
            if earlier and not sums.has_begun(connection):
                take_over(connection, earlier)
            sums.begin(connection)
            connection.commit()
        # The words of the database in use, which are loaded: those of the other would take 2.4 MB.
        new = import_module(f"sqlalchemy.dialects.{engine.dialect.name}").insert(USAGE)
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
            if sums.is_past(least := min(once), self._now()) or sums.holds(connection, least):
                sums.reopen(connection, least)

    def report(self, by: Sequence[str], since: float) -> dict[str, Any]:
        """Sums by the given columns from `since` (seconds since the epoch) on. Raises BadReport."""
        for name in by:
            if name not in BY:
                raise BadReport(f'usage cannot be told by "{name}"; there is {", ".join(BY)}')
        source = sums.counted(by, since)
        columns = [source.c[name] for name in by]
        added = [func.coalesce(func.sum(source.c[name]), 0).label(told) for name, told in _TOLD.items()]
        asked = select(*columns, *added).group_by(*columns).order_by(*columns)
        with self._engine.connect() as connection, self._at_length(connection):
            rows = [_in_words(by, row) for row in connection.execute(asked)]
        total = {told: sum(row[told] for row in rows) for told in _TOLD.values()}
        return {"rows": [_told(row) for row in rows] if by else [], "total": _told(total)}

    def sum_up(self) -> bool:
        """Make one of the sums that reports are made from; whether there was one to make."""
        with self._engine.begin() as connection, self._at_length(connection):
            return sums.sum_up(connection, self._now())

    def calls(self, limit: int = 100) -> list[dict[str, Any]]:
        """The newest rows, for operators and tests."""
        with self._engine.connect() as connection:
            newest = select(USAGE).order_by(USAGE.c.id.desc()).limit(limit)
            return [dict(row) for row in connection.execute(newest).mappings()]

    def forget(self, before: float) -> int:
        """Delete rows older than `before`, to some hours, and some thousands at most; the number that went."""
        with self._engine.begin() as connection, self._at_length(connection):
            sums.forget(connection, before)
            old = select(USAGE.c.id).where(USAGE.c.id < moment(before)[:SPAN]).limit(RETENTION_BATCH)
            return connection.execute(delete(USAGE).where(USAGE.c.id.in_(old))).rowcount

    def close(self) -> None:
        self._engine.dispose()


def _writer(statement: Any, engine: Engine) -> Write:
    """How rows are written by this driver itself: through SQLAlchemy a row costs three times as much."""
    compiled = statement.compile(dialect=engine.dialect)
    text = str(compiled)
    if not compiled.positional:
        return lambda connection, events: _execute(connection, text, [_fitted(_flat(one)) for one in events])
    in_order = itemgetter(*compiled.positiontup)
    flags = [column.name for column in USAGE.columns if isinstance(column.type, Boolean)]
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


def _in_words(by: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    """Postgres sums to decimals, which cannot be said in JSON."""
    names = zip((*by, *_TOLD.values()), row, strict=True)
    return {name: value if isinstance(value, str) else int(value) for name, value in names}


def _told(row: dict[str, Any]) -> dict[str, Any]:
    """Costs are unknown until prices are built: null, which is not nothing. Search units are told of those who
    have some."""
    if not row["search_units"]:
        del row["search_units"]
    return {**row, "cost_usd": None}
