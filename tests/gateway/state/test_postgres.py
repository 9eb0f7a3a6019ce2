"""A real PostgreSQL that hangs: in a lock that another session holds, or since its processes stand still."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

import psycopg
import pytest
import sqlalchemy as sql

from gateway.state import postgres
from gateway.state.database import Database
from gateway.state.fault import DatabaseFault
from gateway.state.sql import at_length, open_engine, reading, writing
from tests.postgres_server import PostgresServer


@contextmanager
def opened(url: str) -> Iterator[sql.Engine]:
    engine = open_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


@pytest.fixture
def url(postgres_server: PostgresServer) -> str:
    url = postgres_server.fresh()
    with opened(url) as engine, writing(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE rows (id INTEGER)")
    return url


@pytest.fixture
def engine(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[sql.Engine]:
    """One that is given up soon."""
    monkeypatch.setattr(postgres, "LOCKED", 0.1)
    monkeypatch.setattr(postgres, "PATIENCE", 0.3)
    monkeypatch.setattr(postgres, "GRACE", 0.2)
    with opened(url) as engine:
        yield engine


def count(engine: sql.Engine) -> Any:
    with reading(engine) as connection:
        return connection.exec_driver_sql("SELECT count(*) FROM rows").scalar_one()


def shown(engine: sql.Engine, name: str) -> Any:
    with reading(engine) as connection:
        return connection.exec_driver_sql(f"SHOW {name}").scalar_one()


def test_a_lock_that_another_session_holds_is_given_up_and_waited_for_by_nobody(
    engine: sql.Engine, url: str
) -> None:
    with opened(url) as another, another.connect() as other:
        other.exec_driver_sql("LOCK TABLE rows")
        with pytest.raises(DatabaseFault, match=r"^canceling statement due to lock timeout$"):
            count(engine)
        waiting = other.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE NOT granted").scalar_one()
        assert waiting == 0, "the server has ended it, too"
    assert count(engine) == 0, "the same connection goes on"


def test_a_statement_that_takes_too_long_is_ended_but_not_one_that_may(engine: sql.Engine) -> None:
    with pytest.raises(DatabaseFault, match="due to statement timeout"), reading(engine) as connection:
        connection.exec_driver_sql("SELECT pg_sleep(10)")
    with reading(engine) as connection, at_length(connection):
        connection.exec_driver_sql("SELECT pg_sleep(0.8)")
    assert shown(engine, "statement_timeout") == "300ms", "one transaction's time is no other's"
    with reading(engine) as connection:
        assert connection.connection.dbapi_connection.patience == pytest.approx(0.5)  # type: ignore[union-attr]


def test_a_server_that_stands_still_in_a_statement_is_given_up(
    engine: sql.Engine, postgres_server: PostgresServer
) -> None:
    with pytest.raises(DatabaseFault, match=r"the server has said nothing for 0\.5 s"):
        with reading(engine) as connection:
            connection.exec_driver_sql("SELECT 1")
            with postgres_server.frozen():
                connection.exec_driver_sql("SELECT 1")


def test_a_connection_that_stands_still_gives_way_to_another(
    engine: sql.Engine, postgres_server: PostgresServer
) -> None:
    assert count(engine) == 0
    with postgres_server.frozen():
        began = time.monotonic()
        assert count(engine) == 0
        assert time.monotonic() - began < 5


def test_one_that_goes_on_talking_may_take_its_time(url: str) -> None:
    with opened(url) as engine, engine.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        driver.patience = 0.5
        rows = connection.exec_driver_sql(
            "SELECT repeat('x', 9000), pg_sleep(0.2) FROM generate_series(1, 5)"
        )
        assert len(rows.all()) == 5


def test_what_an_operator_says_stays(engine: sql.Engine, url: str, postgres_server: PostgresServer) -> None:
    assert (shown(engine, "lock_timeout"), shown(engine, "statement_timeout")) == ("100ms", "300ms")
    theirs = f"{url}&options=-c%20lock_timeout%3D7s%20-c%20statement_timeout%3D8s&connect_timeout=9"
    with opened(theirs) as engine, reading(engine) as connection, at_length(connection):
        driver: Any = connection.connection.dbapi_connection
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar_one() == "7s"
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar_one() == "8s"
        assert driver.patience == pytest.approx(8.2)
        assert "connect_timeout=9" in driver.info.dsn


def test_what_an_operator_does_not_bound_is_waited_for(engine: sql.Engine, url: str) -> None:
    with opened(f"{url}&options=-c%20statement_timeout%3D0") as engine, reading(engine) as connection:
        driver: Any = connection.connection.dbapi_connection
        assert driver.patience == inf
        connection.exec_driver_sql("SELECT pg_sleep(0.8)")


def test_a_connection_that_cannot_be_bounded_is_let_go(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_BOUND", "SELECT no_such_function(%s, %s, %s)")
    with pytest.raises(DatabaseFault, match="no_such_function"), opened(url) as engine:
        count(engine)
    monkeypatch.undo()
    with psycopg.connect(url) as one:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        assert one.execute(query).fetchone() == (1,)


def test_a_connection_that_is_in_use_at_the_end_ends_with_its_use(url: str) -> None:
    database = Database(url)
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    with reading(database.engine) as connection:
        driver: Any = connection.connection.dbapi_connection
        database.close()
        assert connection.exec_driver_sql(query).scalar_one() == 1
    assert driver.closed
