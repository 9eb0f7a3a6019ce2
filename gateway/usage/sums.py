"""Sums of what is past, so that a report need not read every call: by spans of some hours, made once they are over.

The row of `usage_summed` is held by who sums up, and by who writes a call that may have been summed up already: whoever
comes second knows of the first.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Subquery,
    case,
    delete,
    func,
    insert,
    literal,
    select,
    union_all,
    update,
)

from gateway.usage.tables import COUNTS, SPAN, SUMMED, SUMMED_BY, SUMS, USAGE, moment

# Seconds since a span ended until it is summed up, by a clock that may be as much before those of other machines.
LATE = 3600.0
_COUNTED: dict[str, ColumnElement[Any]] = {
    "calls": literal(1),
    "estimated": case((USAGE.c.estimated, 1), else_=0),
    **{name: USAGE.c[name] for name in ("prompt", "completion", "search_units")},
}


def has_begun(connection: Connection) -> bool:
    """Whether `begin` was called for this database."""
    return connection.execute(select(SUMMED.c.id)).first() is not None


def begin(connection: Connection) -> None:
    """For a database in which nothing was summed up yet."""
    new = import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert(SUMMED)
    connection.execute(new.on_conflict_do_nothing(), {"id": 0, "until": _named(0)})


def is_past(id: str, now: float) -> bool:
    """Whether the span of this call may have been summed up by anybody; `now` in seconds since the epoch."""
    return id[:SPAN] < moment(now)[:SPAN]


def holds(connection: Connection, id: str) -> bool:
    """Whether the span of this call is summed up. One that is not past was so by a clock that ran ahead."""
    until: str = connection.exec_driver_sql(f"SELECT until FROM {SUMMED.name}").scalar_one()
    return id[:SPAN] < until


def reopen(connection: Connection, id: str) -> None:
    """A call of this id or later is written in this transaction: what was summed up from its span on is to be again."""
    span = _named(_number(id))
    earlier = case((SUMMED.c.until > span, span), else_=SUMMED.c.until)
    connection.execute(update(SUMMED).values(until=earlier))
    connection.execute(delete(SUMS).where(SUMS.c.span >= span))


def sum_up(connection: Connection, now: float) -> bool:
    """Sum up the oldest span that is over and is not yet; whether there was one."""
    connection.execute(update(SUMMED).values(until=SUMMED.c.until))  # from here on it is ours
    until = connection.execute(select(SUMMED.c.until)).scalar_one()
    over = moment(now - LATE)[:SPAN]
    left = (USAGE.c.id >= until) & (USAGE.c.id < over)
    first = connection.execute(select(func.min(USAGE.c.id)).where(left)).scalar()
    if first is None:
        return False
    span = max(_number(until), _number(first))
    begun, ended = _named(span), _named(span + 1)
    columns = [USAGE.c[name] for name in SUMMED_BY]
    sums = [func.sum(_COUNTED[name]) for name in COUNTS]
    past = (
        select(literal(begun), *columns, *sums)
        .where(USAGE.c.id >= begun, USAGE.c.id < ended)
        .group_by(*columns)
    )
    connection.execute(insert(SUMS).from_select(["span", *SUMMED_BY, *COUNTS], past))
    connection.execute(update(SUMMED).values(until=ended))
    return True


def forget(connection: Connection, before: float) -> None:
    """Of spans that ended before then (seconds since the epoch)."""
    connection.execute(delete(SUMS).where(SUMS.c.span < moment(before)[:SPAN]))


def counted(by: Sequence[str], begins: float) -> Subquery:
    """What is to be added up of calls since `begins` (seconds since the epoch), with these columns of theirs: sums of
    whole spans, and the calls before and after them. For one statement, as all of it must be true at one moment."""
    if not set(by) <= set(SUMMED_BY):
        return _calls(by, USAGE.c.id >= moment(begins)).subquery()
    first = _named(_number(moment(begins)) + 1)
    rest = select(case((SUMMED.c.until > first, SUMMED.c.until), else_=first)).scalar_subquery()
    sums = select(*(SUMS.c[name] for name in (*by, *COUNTS))).where(SUMS.c.span >= first)
    before = _calls(by, USAGE.c.id >= moment(begins), USAGE.c.id < first)
    after = _calls(by, USAGE.c.id >= rest)
    return union_all(sums, before, after).subquery()


def _calls(by: Sequence[str], *which: ColumnElement[bool]) -> Select[Any]:
    counts = [_COUNTED[name].label(name) for name in COUNTS]
    return select(*(USAGE.c[name] for name in by), *counts).where(*which)


def _number(id: str) -> int:
    """Of the span that an id is of; 0 of one that is none of ours."""
    try:
        return int(id[:SPAN], 16)
    except ValueError:
        return 0


def _named(number: int) -> str:
    return f"{number:0{SPAN}x}"
