"""The one way to open a database: SQLite in the data folder by default, whatever SQLAlchemy speaks else."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sqlalchemy import Engine, MetaData, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.schema import CreateIndex, CreateTable

SWEEP = 600.0  # seconds between looks for what is kept too long


def open_engine(url: str) -> Engine:
    """SQLite in WAL mode, so that readers and the one writer do not wait for each other."""
    engine = create_engine(make_url(url), pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _pragmas(connection: Any, record: Any) -> None:
            for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000"):
                connection.execute(f"PRAGMA {pragma}")

    return engine


def ensure(engine: Engine, tables: MetaData) -> None:
    """Make what is missing. Processes that start at the same moment may all ask for it."""
    with engine.begin() as connection:
        for table in tables.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in sorted(table.indexes, key=lambda index: str(index.name)):
                connection.execute(CreateIndex(index, if_not_exists=True))


async def keep_tidy(*sweeps: Callable[[], None]) -> None:
    """Let each remove what need not be kept; runs until cancelled. One that fails is tried with the next."""
    while True:
        for sweep in sweeps:
            with suppress(Exception):  # SQL is away, say: no sweep is worth the server
                await asyncio.to_thread(sweep)
        await asyncio.sleep(SWEEP)
