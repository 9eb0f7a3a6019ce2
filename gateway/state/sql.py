"""The one way to open a database: SQLite in the data folder by default, whatever SQLAlchemy speaks else."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeVar

from sqlalchemy import Engine, MetaData, TextClause, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.schema import CreateIndex, CreateTable

BUSY = 5.0  # seconds that one process waits for another's lock
SWEEP = 600.0  # seconds between looks for what is kept too long
THREADS = 8  # fewer than an engine has connections, so that one is left for whoever looks at keys

P = ParamSpec("P")
Result = TypeVar("Result")


def open_engine(url: str) -> Engine:
    """SQLite in WAL mode, so that readers and the one writer do not wait for each other."""
    engine = create_engine(make_url(url), pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _pragmas(connection: Any, record: Any) -> None:
            connection.execute(f"PRAGMA busy_timeout={BUSY * 1000:.0f}")
            _write_ahead(connection)
            connection.execute("PRAGMA synchronous=NORMAL")

    return engine


def _write_ahead(connection: sqlite3.Connection) -> None:
    """For the first to turn to WAL SQLite has every other one fail at once, whatever its patience. Raises
    sqlite3.OperationalError after BUSY."""
    ends = time.monotonic() + BUSY
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > ends:
                raise
            time.sleep(0.01)


def ensure(engine: Engine, tables: MetaData, *more: TextClause) -> None:
    """Make what is missing. Processes that start at the same moment may all ask for it; `more` must allow that."""
    with engine.begin() as connection:
        for table in tables.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in sorted(table.indexes, key=lambda index: str(index.name)):
                connection.execute(CreateIndex(index, if_not_exists=True))
        for statement in more:
            connection.execute(statement)


class InThread(Protocol):
    """As `asyncio.to_thread` has it."""

    def __call__(
        self, work: Callable[P, Result], /, *args: P.args, **more: P.kwargs
    ) -> Coroutine[Any, Any, Result]: ...


class Threads:
    """Those in which SQL runs that calls wait for: while a database is locked they all wait, and nothing else does that
    runs in a thread. Policies are read, keys looked at and logs written in others."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, "sql")

    async def run(self, work: Callable[P, Result], /, *args: P.args, **more: P.kwargs) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(work, *args, **more))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


async def keep_tidy(in_thread: InThread, *sweeps: Callable[[], None]) -> None:
    """Let each remove what need not be kept; runs until cancelled. One that fails is tried with the next."""
    while True:
        for sweep in sweeps:
            with suppress(Exception):  # SQL is away, say: no sweep is worth the server
                await in_thread(sweep)
        await asyncio.sleep(SWEEP)
