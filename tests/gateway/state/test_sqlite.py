"""SQLite files as they are opened, while others write to them."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from gateway.state import sqlite
from gateway.state.fault import DatabaseFault
from gateway.state.sqlite import open_file


def test_a_file_that_is_being_written_to_is_waited_for_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY", 0.05)
    file = tmp_path / "state.db"
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other:
        other.execute("CREATE TABLE rows (id)")
        other.execute("BEGIN IMMEDIATE")  # so that turning to WAL fails at once
        with pytest.raises(DatabaseFault, match="locked"):
            open_file(str(file))
        monkeypatch.setattr(sqlite, "BUSY", 5.0)
        threading.Timer(0.05, other.execute, ["COMMIT"]).start()
        with closing(open_file(str(file))) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    file.write_bytes(b"garbage" * 1000)
    with pytest.raises(DatabaseFault, match="file is not a database") as told:
        open_file(str(file))
    assert told.value.kind == "DatabaseError"
