"""The tables of the ledger: a row per call, and sums over spans of time that are past."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

from gateway.usage.reports import BY

METADATA = MetaData()
USAGE = Table(
    "usage",
    METADATA,
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
# Users are as many as their calls may be: sums by them would save nothing.
SUMMED_BY = tuple(name for name in BY if name != "user")
COUNTS = ("calls", "prompt", "completion", "estimated", "search_units")
SPAN = 6  # digits of an id's time: 4.7 hours
SUMS = Table(
    "usage_sums",
    METADATA,
    Column("span", String(SPAN), nullable=False, index=True),
    *(Column(name, USAGE.c[name].type, nullable=False) for name in SUMMED_BY),
    *(Column(name, BigInteger, nullable=False) for name in COUNTS),
)
# One row: all calls of earlier spans than `until` are in the sums, and none of later ones.
SUMMED = Table(
    "usage_summed",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("until", String(SPAN), nullable=False),
)


def moment(seconds: float) -> str:
    """The least id of a call that began then (since the epoch): one begins with its call's milliseconds, in hex."""
    return f"{max(int(seconds * 1000), 0):012x}"
