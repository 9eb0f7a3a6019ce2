"""Databases as they are opened: SQLite files that several processes share."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sqlalchemy as sql

from gateway.state.sql import ensure, open_engine

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


def test_many_may_make_the_same_tables_at_once(database_url: str) -> None:
    engines = [open_engine(database_url) for _ in range(8)]
    for engine in engines:
        engine.connect().close()  # what is slow about the first comes before
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda engine: ensure(engine, METADATA), engines))
    assert sql.inspect(engines[0]).has_table("rows")
    for engine in engines:
        ensure(engine, METADATA)
        engine.dispose()


def test_a_table_of_an_earlier_version_gets_the_columns_it_lacks(database_url: str) -> None:
    engine = open_engine(database_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE rows (id INTEGER PRIMARY KEY)")
    ensure(engine, METADATA)
    with engine.begin() as connection:
        connection.execute(ROWS.insert().values(id=1, name="a"))
        assert connection.execute(sql.select(ROWS)).all() == [(1, "a")]
    engine.dispose()
