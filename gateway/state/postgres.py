"""PostgreSQL that hangs, and how long it is waited for: it ends by itself what takes too long (another session holds a
lock, say), and one that says nothing, for it stands still or the way to it is cut, is given up here."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from math import inf
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Connection

TAKEN = 5  # seconds in which it takes a connection; its library would wait for ever
LOCKED = 4.0  # seconds for a lock; less than for a statement, so that it is told what was in the way
PATIENCE = 5.0  # seconds for a statement
LONG = 60.0  # seconds for one that no call waits for; nobody waits longer for a report
GRACE = 1.0  # seconds past that in which it must have said that it ended it

# What the address, the role or the server's files say stays: "default" is nobody's word, a "session"'s is ours
# (postgresql.org/docs/current/view-pg-settings.html).
_BOUND = (
    "SELECT set_config(name, %s, %s) FROM pg_settings WHERE name = %s AND source IN ('default', 'session')"
)
_HOLDS = "SELECT extract(epoch FROM current_setting('statement_timeout')::interval)"

Run = Callable[..., Any]  # a statement and its parameters
Result = TypeVar("Result")


class Patient(psycopg.Connection[Any]):
    """One that ends when the server, asked for something, is silent for more than `patience` seconds."""

    patience = PATIENCE + GRACE

    def wait(self, gen: PQGen[Result], *args: Any, **named: Any) -> Result:
        """As psycopg has it. Raises psycopg.OperationalError."""
        return super().wait(self._heard(gen), *args, **named)

    def _heard(self, gen: PQGen[Result]) -> Generator[Any, Any, Result]:
        ready, ends = None, time.monotonic() + self.patience
        while True:
            try:
                wanted = gen.send(ready)  # type: ignore[arg-type]
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            ready = yield wanted
            if ready:
                ends = time.monotonic() + self.patience
            elif time.monotonic() > ends:
                self.pgconn.finish()
                raise psycopg.OperationalError(f"the server has said nothing for {self.patience:g} s")


def connect(*args: Any, **named: Any) -> Patient:
    """As psycopg connects. Raises psycopg.Error."""
    connection = Patient.connect(*args, **{"connect_timeout": TAKEN, **named})
    try:
        _bound(connection.execute, "lock_timeout", LOCKED, until_its_end=False)
        _bound(connection.execute, "statement_timeout", PATIENCE, until_its_end=False)
        connection.patience = _patience(connection.execute)
        connection.commit()
    except psycopg.Error:
        connection.close()
        raise
    return connection


@contextmanager
def at_length(connection: Connection) -> Iterator[None]:
    """In this transaction a statement may take LONG. Raises SQLAlchemyError."""
    driver: Any = connection.connection.dbapi_connection
    usual = driver.patience
    _bound(connection.exec_driver_sql, "statement_timeout", LONG, until_its_end=True)
    driver.patience = _patience(connection.exec_driver_sql)
    try:
        yield
    finally:
        driver.patience = usual


def _bound(run: Run, name: str, seconds: float, *, until_its_end: bool) -> None:
    """Have the server end what takes longer, for good or until the transaction's end."""
    run(_BOUND, (f"{seconds * 1000:.0f}", until_its_end, name))


def _patience(run: Run) -> float:
    """Seconds that the server may be silent, as it bounds its statements now."""
    (most,) = run(_HOLDS).fetchone()
    return float(most) + GRACE if most else inf
