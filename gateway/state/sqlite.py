"""SQLite files that several processes share."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import quote

from gateway.state.fault import DatabaseFault

BUSY = 5.0  # seconds that one process waits for another's lock


@contextmanager
def faults() -> Iterator[None]:
    """Raises DatabaseFault for what SQLite raises."""
    try:
        yield
    except sqlite3.Error as error:
        raise DatabaseFault(str(error), type(error).__name__) from error


def open_file(path: str) -> sqlite3.Connection:
    """One that threads may take turns at. Raises DatabaseFault."""
    return _opened(path, begin)


def open_to_read(path: str) -> sqlite3.Connection:
    """One for a look: it takes no right to write and makes no file. Raises DatabaseFault.

    What nobody has open has no `-wal`, which only those can make who may write there. It is read as a file that does
    not change meanwhile (sqlite.org/wal.html, "Read-Only Databases").
    """
    unchanged = "" if os.path.exists(f"{path}-wal") else "&immutable=1"
    return _opened(f"file:{quote(os.fsencode(path))}?mode=ro{unchanged}", _look, uri=True)


def _opened(
    address: str, begin: Callable[[sqlite3.Connection], None], *, uri: bool = False
) -> sqlite3.Connection:
    """Raises DatabaseFault."""
    with faults():
        connection = sqlite3.connect(address, check_same_thread=False, uri=uri)
        try:
            begin(connection)
        except sqlite3.Error:
            connection.close()
            raise
    return connection


def begin(connection: sqlite3.Connection) -> None:
    """WAL mode, so that readers and the one writer do not wait for each other. Raises sqlite3.Error."""
    connection.execute(f"PRAGMA busy_timeout={BUSY * 1000:.0f}")
    _write_ahead(connection)
    connection.execute("PRAGMA synchronous=NORMAL")


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


def _look(connection: sqlite3.Connection) -> None:
    """A file is opened when something is asked of it. Raises sqlite3.Error."""
    connection.execute("PRAGMA schema_version")
