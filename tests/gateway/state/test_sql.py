"""Databases as they are opened: SQLite files that several processes share."""

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sql

from gateway.state import sql as state_sql
from gateway.state.sql import THREADS, Threads, ensure, keep_tidy, open_engine

METADATA = sql.MetaData()
ROWS = sql.Table(
    "rows", METADATA, sql.Column("id", sql.Integer, primary_key=True), sql.Column("name", sql.Text)
)
sql.Index("rows_by_name", ROWS.c.name)


def test_sqlite_lets_readers_read_while_one_writes(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'state.db'}")
    ensure(engine, METADATA)
    with engine.begin() as writer, engine.connect() as reader:
        writer.execute(ROWS.insert().values(id=1, name="a"))
        assert reader.execute(sql.select(ROWS)).all() == []
    engine.dispose()


def test_many_may_make_the_same_tables_at_once(tmp_path: Path) -> None:
    engines = [open_engine(f"sqlite:///{tmp_path / 'state.db'}") for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda engine: ensure(engine, METADATA), engines))
    assert sql.inspect(engines[0]).has_table("rows")
    for engine in engines:
        ensure(engine, METADATA)
        engine.dispose()


def test_a_file_that_is_being_written_to_is_waited_for_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_sql, "BUSY", 0.05)
    file = tmp_path / "state.db"
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other:
        other.execute("CREATE TABLE rows (id)")
        other.execute("BEGIN IMMEDIATE")  # so that turning to WAL fails at once
        engine = open_engine(f"sqlite:///{file}")
        with pytest.raises(sql.exc.OperationalError, match="locked"):
            engine.connect()
        monkeypatch.setattr(state_sql, "BUSY", 5.0)
        threading.Timer(0.05, other.execute, ["COMMIT"]).start()
        with engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        engine.dispose()


async def test_a_sweep_that_fails_ends_neither_the_others_nor_the_job() -> None:
    swept, loop = asyncio.Event(), asyncio.get_running_loop()

    def fail() -> None:
        raise RuntimeError

    def sweep() -> None:
        loop.call_soon_threadsafe(swept.set)

    job = asyncio.ensure_future(keep_tidy(asyncio.to_thread, fail, sweep))
    async with asyncio.timeout(5):
        await swept.wait()
    assert not job.done()
    job.cancel()


async def test_threads_that_all_wait_for_a_database_keep_no_other_waiting() -> None:
    threads, go = Threads(), threading.Event()
    waiting = [asyncio.ensure_future(threads.run(go.wait, timeout=10)) for _ in range(THREADS + 1)]
    async with asyncio.timeout(5):
        assert await asyncio.to_thread(lambda: "told") == "told"
    assert not any(one.done() for one in waiting)
    go.set()
    assert all(await asyncio.gather(*waiting))
    threads.close()
