"""A database that is opened at the start and loaded when it is written to: SQLAlchemy is 13 MB of each process and a
fifth of a second of its start, and most processes only look for changed keys, which the driver alone can do."""

import sqlite3
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from gateway.state.sqlite import faults, open_file, open_to_read

if TYPE_CHECKING:
    from sqlalchemy import Engine

_FILE = "sqlite:///"

Rows = TypeVar("Rows")


def is_id(text: str, most: int) -> bool:
    """Whether a row of at most so many characters can be named so: Postgres has no NUL in its texts."""
    return 0 < len(text) <= most and "\0" not in text


class Later(Generic[Rows]):
    """What is made when it is first asked for, once, by whatever thread."""

    def __init__(self, make: Callable[[], Rows]) -> None:
        self._make, self._lock = make, threading.Lock()
        self._made: Rows | None = None

    @property
    def is_made(self) -> bool:
        return self._made is not None

    def __call__(self) -> Rows:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made


class Database:
    """SQLite in the data folder by default, else another file or PostgreSQL. One per process."""

    def __init__(self, url: str, *, to_read: bool = False) -> None:
        """`to_read` is for a look at what is there now: it takes rights to read a file and its folder, and no more.
        Raises DatabaseFault, and ImportError for a driver that is not installed."""
        self._url = url
        self._engine = Later(self._open)
        self._turn = threading.Lock()
        self._file: sqlite3.Connection | None = None
        if url.startswith(_FILE) and url != _FILE and "?" not in url:
            self._file = (open_to_read if to_read else open_file)(url.removeprefix(_FILE))
        else:
            self._engine()

    @property
    def engine(self) -> "Engine":
        """Raises DatabaseFault."""
        return self._engine()

    def later(self, make: Callable[[], Rows]) -> Later[Rows]:
        """What speaks SQL, for when it is needed; at once where there is no file that can be looked at without, so that
        whoever starts it is told what is wrong. Raises DatabaseFault then."""
        rows = Later(make)
        if self._file is None:
            rows()
        return rows

    def has(self, table: str) -> bool:
        """Whether there is anything to be read of it: the tables of a file are made when they are written to."""
        if self._file is None:
            return True
        return bool(self.read(f"SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '{table}'"))

    def read(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query; of a file by the driver itself: that takes a sixth of the time, too, which calls that
        come at the same moment wait for. Raises DatabaseFault."""
        if self._file is not None:
            with self._turn, faults():
                return self._file.execute(query).fetchall()
        from gateway.state.sql import reading

        with reading(self.engine) as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query)]

    def close(self) -> None:
        if self._file is not None:
            with self._turn:
                self._file.close()
        if self._engine.is_made:
            from gateway.state.sql import close_engine

            close_engine(self.engine)

    def _open(self) -> "Engine":
        from gateway.state.sql import open_engine

        return open_engine(self._url)
